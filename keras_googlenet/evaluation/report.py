"""An evaluation's folder: figures as JSON, pictures, and a page that shows both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from keras_googlenet.evaluation.page import card, data_uri, escape, filled, image, thumbnail
from keras_googlenet.evaluation.plots import (
    by_recall,
    plot_calibration,
    plot_classes,
    plot_confusion,
    plot_mistakes,
)
from keras_googlenet.evaluation.results import (
    ClassRow,
    Evaluation,
    Mistake,
    confusions,
)
from keras_googlenet.names import TOP_K

EVALUATION = "evaluation.json"
REPORT = "report.html"
SHOWN_CONFUSIONS = 8
SMALL_GAP = 0.02  # between confidence and accuracy


def write_report(evaluation: Evaluation, pictures: Sequence[np.ndarray], folder: Path) -> None:
    """Fill an evaluation's folder.

    Args:
        evaluation: What was found.
        pictures: uint8 pixels (height, width, 1 or 3) of each mistake.
        folder: An existing, empty folder: it gets `evaluation.json`, `confusion.png`, `calibration.png`,
            `classes.png`, `mistakes.png` and `report.html`.
    """
    names = [row.name for row in evaluation.classes]
    pictures = [thumbnail(picture) for picture in pictures]
    (folder / EVALUATION).write_text(evaluation.to_json())
    plot_confusion(np.array(evaluation.confusion), names, folder / "confusion.png")
    plot_calibration(evaluation.calibration, evaluation.ece, folder / "calibration.png")
    plot_classes(evaluation.classes, folder / "classes.png")
    plot_mistakes(evaluation.mistakes, pictures, folder / "mistakes.png")
    charts = {name: (folder / f"{name}.png").read_bytes() for name in ("confusion", "calibration")}
    (folder / REPORT).write_text(page(evaluation, pictures, charts), encoding="utf-8")


def page(evaluation: Evaluation, pictures: Sequence[np.ndarray], charts: dict[str, bytes]) -> str:
    """The report, as self-contained HTML.

    Args:
        evaluation: What was found.
        pictures: uint8 pixels of each mistake, small enough to embed.
        charts: PNG files `confusion` and `calibration`.
    """
    models = ", ".join(model.name for model in evaluation.models)
    return filled(
        "report_template.html",
        title=escape(f"Evaluation of {models}"),
        images=escape(_images(evaluation)),
        protocol=escape(evaluation.protocol),
        cards="\n".join(card(*headline) for headline in _headlines(evaluation)),
        mistakes=_mistakes(evaluation.mistakes, pictures),
        confusions=_confusions(evaluation),
        classes="\n".join(_class(row) for row in by_recall(evaluation.classes)),
        calibration_words=escape(_calibration_words(evaluation)),
        details="\n".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _details(evaluation)),
        command=escape(evaluation.command),
        **{name: data_uri("png", png) for name, png in charts.items()},
    )


def _images(evaluation: Evaluation) -> str:
    part = "" if evaluation.part == "all" else f"{evaluation.part} "
    classes = len(evaluation.classes)
    return f"{evaluation.images:,} {part}images of {evaluation.data} in {classes:,} classes"


def _headlines(evaluation: Evaluation) -> Iterable[tuple[str, str, str]]:
    """What a card says: a name, a figure, a remark."""
    for name, share, published in (
        ("top-1", evaluation.top1, evaluation.published_top1),
        (f"top-{TOP_K}", evaluation.top5, evaluation.published_top5),
    ):
        if name == "top-1" or len(evaluation.classes) > TOP_K:
            remark = "of the images right" if name == "top-1" else f"right among the best {TOP_K}"
            yield name, f"{share:.1%}", remark if published is None else f"published: {published:.1%}"
    if evaluation.one_view_top1 is not None:
        yield "top-1, one view", f"{evaluation.one_view_top1:.1%}", f"of the {evaluation.views} averaged"
    yield "loss", f"{evaluation.loss:.3f}", "mean cross-entropy"
    yield "calibration error", f"{evaluation.ece:.3f}", "0 is best"
    yield "time", f"{evaluation.seconds:,.1f} s", f"{evaluation.images / evaluation.seconds:,.0f} images/s"


def _mistakes(mistakes: Sequence[Mistake], pictures: Sequence[np.ndarray]) -> str:
    if not mistakes:
        return "<p>None: every image was right.</p>"
    figures = [_mistake(*pair) for pair in zip(mistakes, pictures, strict=True)]
    return (
        '<p class="faint">Images given to a wrong class, the most confident first.</p>\n'
        '<div class="mistakes">\n' + "\n".join(figures) + "\n</div>"
    )


def _mistake(mistake: Mistake, picture: np.ndarray) -> str:
    return (
        f"<figure>{image(picture, mistake.file or f'image {mistake.index}')}"
        f"<figcaption><b>{escape(mistake.predicted)} {mistake.probability:.1%}</b>"
        f"true: {escape(mistake.true)}</figcaption></figure>"
    )


def _confusions(evaluation: Evaluation) -> str:
    rows = [
        f'<tr><td>{escape(true)} → {escape(predicted)}</td><td class="number">{images:,}</td></tr>'
        for true, predicted, images in confusions(evaluation, SHOWN_CONFUSIONS)
    ]
    return f"<table><tbody>{''.join(rows)}</tbody></table>" if rows else "<p>None.</p>"


def _class(row: ClassRow) -> str:
    bars = "".join(_bar(name, getattr(row, name)) for name in ("recall", "precision"))
    return f'<tr><td>{escape(row.name)}</td><td class="number">{row.images:,}</td>{bars}</tr>'


def _bar(name: str, share: float | None) -> str:
    if share is None:
        return '<td class="bar">&ndash;</td>'
    return f'<td class="bar {name}" style="--share: {share:.1%}">{share:.1%}</td>'


def _calibration_words(evaluation: Evaluation) -> str:
    confidence = sum(row.count * row.confidence for row in evaluation.calibration) / evaluation.images
    gap = confidence - evaluation.top1
    tendency = "about right" if abs(gap) < SMALL_GAP else "too sure" if gap > 0 else "not sure enough"
    return (
        f"The highest probability is {confidence:.1%} on average, and {evaluation.top1:.1%} of the answers "
        f"are right: on the whole, {tendency}. A well calibrated network's bars end on the diagonal."
    )


def _details(evaluation: Evaluation) -> Iterable[tuple[str, str]]:
    for model in evaluation.models:
        size = f"{model.height} x {model.width} x {model.channels}"
        yield "network", f"{model.name}: {model.variant}, images of {size}"
    if len(evaluation.models) > 1:
        yield "ensemble", "the networks' probabilities are averaged"
    yield "images", _images(evaluation)
    yield "protocol", evaluation.protocol
