"""An inspection's page: counts, sizes, copies and pictures of each data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.data.inspection import PARTS, Place, image_name, parts_of, pixels
from keras_googlenet.data.parts import ImageData
from keras_googlenet.evaluation.page import card, data_uri, escape, filled, image, thumbnail

SHOWN_PAIRS = 24  # of near-duplicates
SHOWN_FILES = 50  # that cannot be read

Pair = tuple[Place, Place]


def write_page(
    report: dict[str, Any],
    sets: dict[str, ImageData],
    pairs: dict[str, list[Pair]],
    sheets: dict[str, Path],
    scatter: Path,
    page: Path,
) -> None:
    """Write the page of an inspection.

    Args:
        report: What `inspection.json` holds.
        sets: The data by name.
        pairs: Its near-duplicates, by the data's name.
        sheets: Its contact sheet, the same.
        scatter: The picture of features.
        page: HTML file to write.
    """
    sections = [_section(name, report["sets"][name], sets[name], pairs[name], sheets[name]) for name in sets]
    page.write_text(
        filled(
            "inspection_template.html",
            title=escape(f"Images of {' and '.join(sets)}"),
            sets="\n".join(sections),
            features=f"{escape(report['features']['network'])}, {report['features']['projection'].upper()}",
            scatter=data_uri("png", scatter.read_bytes()),
        ),
        encoding="utf-8",
    )


def _section(name: str, found: dict[str, Any], data: ImageData, pairs: list[Pair], sheet: Path) -> str:
    cards = "\n".join(card(*headline) for headline in _headlines(found))
    return f"""<h2 class="set">{escape(name)}</h2>
<div class="cards">
{cards}
</div>
<section>
<h2>Some training images of each class</h2>
<div class="wide"><img alt="Contact sheet" src="{data_uri("png", sheet.read_bytes())}"></div>
</section>
<section>
<h2>Copies of the same picture</h2>
{_pairs(data, pairs)}
</section>
<section>
<h2>Classes</h2>
<div class="scroll">
<table>
<thead><tr><th>class</th>{"".join(f'<th class="number">{part}</th>' for part in PARTS)}</tr></thead>
<tbody>
{_classes(found)}
</tbody>
</table>
</div>
</section>
{_corrupt(found["corrupt"])}"""


def _headlines(found: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    """What a card says: a name, a figure, a remark."""
    counts = found["images"]
    parts = ", ".join(f"{part} {counts[part]:,}" for part in PARTS)
    yield "images", f"{sum(counts.values()):,}", f"{parts}; {len(found['classes']):,} classes"
    sizes = found["sizes"]
    height, width = sizes["median"]
    ends = " to ".join("{} x {}".format(*sizes[which]) for which in ("smallest", "largest"))
    yield "median size", f"{height} x {width}", f"height x width in pixels; {ends}"
    yield "gray", f"{found['channels']['gray']:,}", f"and {found['channels']['color']:,} in color"
    where = ", ".join(f"{count:,} {place}" for place, count in found["near_duplicates"].items() if count)
    yield "pairs of copies", f"{found['near_duplicate_pairs']:,}", where or "none found"
    leaked = found["leakage"]["test in train"] + found["leakage"]["validation in train"]
    yield "held-out images in train", f"{leaked:,}", "with the same pixels"
    yield "unreadable files", f"{len(found['corrupt']):,}", "left out"


def _pairs(data: ImageData, pairs: Sequence[Pair]) -> str:
    if not pairs:
        return "<p>None found.</p>"
    parts = parts_of(data)
    shown = sorted(pairs, key=lambda pair: pair[0][0] == pair[1][0])[:SHOWN_PAIRS]  # across parts first
    figures = []
    for pair in shown:
        names = [image_name(part, parts[part], index) for part, index in pair]
        pictures = [_picture(data, place, name) for place, name in zip(pair, names, strict=True)]
        words = "<br>".join(
            f"{part}: {escape(data.class_names[parts[part].labels[index]])}" for part, index in pair
        )
        figures.append(f'<figure class="pair">{"".join(pictures)}<figcaption>{words}</figcaption></figure>')
    return (
        '<p class="faint">Re-encoded, resized, cropped or brightness-changed copies; pairs across parts '
        f"first. near_duplicates.csv lists all {len(pairs):,}. <code>train --group-duplicates</code> keeps "
        "copies in one part, and <code>train --groups FILE</code> the groups of a CSV file.</p>\n"
        f'<div class="pairs">\n{"".join(figures)}\n</div>'
    )


def _picture(data: ImageData, place: Place, name: str) -> str:
    part, index = place
    return image(thumbnail(np.ascontiguousarray(pixels(parts_of(data)[part], index))), name)


def _classes(found: dict[str, Any]) -> str:
    return "\n".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f'<td class="number">{counts[part]:,}</td>' for part in PARTS)
        + "</tr>"
        for name, counts in found["classes"].items()
    )


def _corrupt(names: Sequence[str]) -> str:
    if not names:
        return ""
    rows = "".join(f"<li>{escape(name)}</li>" for name in names[:SHOWN_FILES])
    more = f"<p>and {len(names) - SHOWN_FILES:,} more</p>" if len(names) > SHOWN_FILES else ""
    return f"<section>\n<h2>Files that cannot be read</h2>\n<ul>{rows}</ul>{more}\n</section>"
