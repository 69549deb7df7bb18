"""Facts about a data set: counts, sizes, channels, copies."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from statistics import median
from typing import Any

import numpy as np

from keras_googlenet.data.near_duplicates import near_duplicates, thumbnail
from keras_googlenet.data.parts import ImageData, Part
from keras_googlenet.data.threads import in_threads
from keras_googlenet.errors import UserError
from keras_googlenet.images.numpy import decode_any_size

PARTS = ("train", "validation", "test")
LISTED = 5  # of duplicates, and of corrupt files on the terminal

Place = tuple[str, int]  # of an image: its part and index


def parts_of(data: ImageData) -> dict[str, Part]:
    """The parts by name."""
    return {name: getattr(data, name) for name in PARTS}


def pixels(part: Part, index: int) -> np.ndarray:
    """One image, uint8 RGB (height, width, 3), or (height, width, 1) if it is gray, in any storage format.

    Raises:
        ValueError: It is corrupt.
    """
    image = part.images[index]
    if isinstance(image, np.ndarray):
        found = image
    else:
        encoded = image if isinstance(image, bytes) else image.read_bytes()
        found = decode_any_size(encoded)
    if found.shape[-1] == 3 and (found == found[..., :1]).all():
        return found[..., :1]
    return found


def image_name(part_name: str, part: Part, index: int) -> str:
    """An image's file; or its part and number, where it has none."""
    return str(part.files[index]) if part.files else f"{part_name} {index}"


@dataclass(frozen=True)
class ImageFacts:
    """One image: where it is, its size in pixels, a digest that equal pixels share, and its thumbnail."""

    place: Place
    name: str
    height: int
    width: int
    gray: bool
    digest: bytes
    thumbnail: np.ndarray


def inspect_images(data: ImageData) -> tuple[dict[str, Any], list[tuple[Place, Place]]]:
    """Look at every image of a data set.

    Images are duplicates if they have the same pixels, and near-duplicates if `near_duplicates` finds that
    they show the same picture.

    Returns:
        What was found, of JSON types: `images` (by part), `classes` (by class, then part), `sizes`
        (`smallest`, `median`, `largest`: height and width in pixels, by area; the median of each),
        `aspect_ratios` (width divided by height), `channels` (`gray`, `color`), `duplicates` (by part:
        images that repeat an earlier one), `leakage` (`"test in train"` and so on: images that another part
        has as well), `examples` (the first few pairs of both), `near_duplicate_pairs` (of all parts
        together), `near_duplicates` (the same by part, and by pair of parts), `corrupt` (names). And the
        pairs of near-duplicates, duplicates among them.

    Raises:
        UserError: No image can be read.
    """
    looked_at = list(look(parts_of(data)))
    facts = [image for image in looked_at if isinstance(image, ImageFacts)]
    if not facts:
        raise UserError("expected images, and none can be read")
    corrupt = [*data.skipped, *(name for name in looked_at if isinstance(name, str))]
    by_area = sorted(facts, key=lambda image: image.height * image.width)
    ratios = [image.width / image.height for image in facts]
    gray = sum(image.gray for image in facts)
    parts = parts_of(data)
    counts = {name: np.bincount(p.labels, minlength=len(data.class_names)) for name, p in parts.items()}
    pairs = copies(parts, facts)
    report = {
        "images": {name: part.count for name, part in parts.items()},
        "classes": {
            class_name: {part: int(of_label[label]) for part, of_label in counts.items()}
            for label, class_name in enumerate(data.class_names)
        },
        "sizes": {
            "smallest": [by_area[0].height, by_area[0].width],
            "median": [round(median(i.height for i in facts)), round(median(i.width for i in facts))],
            "largest": [by_area[-1].height, by_area[-1].width],
        },
        "aspect_ratios": {
            "smallest": round(min(ratios), 3),
            "median": round(median(ratios), 3),
            "largest": round(max(ratios), 3),
        },
        "channels": {"gray": gray, "color": len(facts) - gray},
        **_duplicates(facts),
        "near_duplicate_pairs": len(pairs),
        "near_duplicates": _by_parts(pairs),
        "corrupt": corrupt,
    }
    return report, pairs


def look(parts: Mapping[str, Part]) -> Iterator[ImageFacts | str]:
    """Every image's facts, or the name of a corrupt one, in order."""
    places = [(name, index) for name, part in parts.items() for index in range(part.count)]

    def facts_of(place: Place) -> ImageFacts | str:
        part_name, index = place
        name = image_name(part_name, parts[part_name], index)
        try:
            found = np.ascontiguousarray(pixels(parts[part_name], index))
        except ValueError:
            return name
        height, width, channels = found.shape
        digest = blake2b(f"{height} {width} ".encode(), digest_size=16)
        digest.update(found.data)
        return ImageFacts(place, name, height, width, channels == 1, digest.digest(), thumbnail(found))

    return in_threads(facts_of, places, "looking at images")


def _duplicates(facts: list[ImageFacts]) -> dict[str, Any]:
    by_digest: dict[bytes, dict[str, list[str]]] = defaultdict(lambda: {name: [] for name in PARTS})
    for image in facts:
        by_digest[image.digest][image.place[0]].append(image.name)
    within = dict.fromkeys(PARTS, 0)
    across = dict.fromkeys(itertools.combinations(PARTS, 2), 0)
    examples: dict[str, list[tuple[str, str]]] = {"duplicates": [], "leakage": []}
    for names in by_digest.values():
        for part, found in names.items():
            within[part] += max(len(found) - 1, 0)
            examples["duplicates"] += [(found[0], other) for other in found[1:]]
        for old, new in across:
            if names[old] and names[new]:
                across[old, new] += len(names[new])
                examples["leakage"].append((names[old][0], names[new][0]))
    return {
        "duplicates": within,
        "leakage": {f"{new} in {old}": count for (old, new), count in across.items()},
        "examples": {kind: [list(pair) for pair in pairs[:LISTED]] for kind, pairs in examples.items()},
    }


def copies(parts: Mapping[str, Part], facts: Sequence[ImageFacts]) -> list[tuple[Place, Place]]:
    """Pairs of images that show the same picture; of equal images, each with the first one only."""
    first: dict[bytes, ImageFacts] = {}
    pairs = [
        (earlier.place, image.place)
        for image in facts
        if (earlier := first.setdefault(image.digest, image)) is not image
    ]
    different = list(first.values())

    def load(index: int) -> np.ndarray:
        part, at = different[index].place
        return pixels(parts[part], at)

    order = list(parts)
    if not different:
        return []
    found = near_duplicates(np.stack([image.thumbnail for image in different]), load)
    pairs += [(different[one].place, different[other].place) for one, other in found]
    return sorted(pairs, key=lambda pair: [(order.index(part), index) for part, index in pair])


def _by_parts(pairs: list[tuple[Place, Place]]) -> dict[str, int]:
    names = {(part, part): f"within {part}" for part in PARTS}
    names |= {(old, new): f"{new} in {old}" for old, new in itertools.combinations(PARTS, 2)}
    counts = dict.fromkeys(names.values(), 0)
    for (one, _), (other, _) in pairs:
        counts[names[one, other]] += 1
    return counts


def table(name: str, report: dict[str, Any]) -> str:
    """What `inspect_images` found, for people to read."""
    width = max(len("class"), *map(len, report["classes"]))
    head = " ".join(f"{part:>10}" for part in PARTS)
    lines = [
        f"{name}: {sum(report['images'].values()):,} images in {len(report['classes'])} classes",
        f"{'class':{width}} {head}",
    ]
    for row, counts in {**report["classes"], "": report["images"]}.items():
        lines.append(f"{row:{width}} " + " ".join(f"{counts[part]:10,}" for part in PARTS))

    sizes = ", ".join(f"{which} {height} x {width}" for which, (height, width) in report["sizes"].items())
    ratios = ", ".join(f"{which} {ratio:.2f}" for which, ratio in report["aspect_ratios"].items())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report["channels"].items())
    within = ", ".join(f"{count:,} within {part}" for part, count in report["duplicates"].items())
    across = ", ".join(f"{count:,} of {pair}" for pair, count in report["leakage"].items())
    near = ", ".join(f"{count:,} {where}" for where, count in report["near_duplicates"].items() if count)
    lines += [
        f"{'height x width':18} {sizes}",
        f"{'width / height':18} {ratios}",
        f"{'channels':18} {kinds}",
        f"{'duplicates':18} {within}",
        *_listed(report["examples"]["duplicates"], sum(report["duplicates"].values())),
        f"{'leakage':18} {across}",
        *_listed(report["examples"]["leakage"], sum(report["leakage"].values())),
        f"{'near-duplicates':18} {near or 'none'}",
        f"{'corrupt files':18} {len(report['corrupt']):,}",
        *_listed([[name] for name in report["corrupt"]], len(report["corrupt"])),
    ]
    return "\n".join(lines) + "\n"


def _listed(rows: list[list[str]], count: int) -> list[str]:
    more = [f"  and {count - LISTED:,} more"] if count > LISTED else []
    return [f"  {' = '.join(row)}" for row in rows[:LISTED]] + more
