"""The picture of networks' costs: parameters against multiply-adds."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from keras_googlenet.profile.printed import SIZE
from keras_googlenet.profile.table import NetworkCost

DPI = 120
MARKER_POINTS = 7
NEIGHBORHOOD = 60  # pixels
TURNS = [sign * math.radians(degrees) for degrees in range(0, 181, 15) for sign in (1, -1)]
DISTANCES = range(12, 200, 6)  # points from a marker to its label


def plot_costs(rows: Sequence[NetworkCost], path: Path) -> None:
    """Parameters against multiply-adds, both logarithmic, each network named.

    Args:
        rows: Of `costs.compare`.
        path: Picture file to write, PNG, PDF or SVG by its name.
    """
    costs_figure(rows).savefig(path, dpi=DPI)


def costs_figure(rows: Sequence[NetworkCost]) -> Figure:
    """The figure of `plot_costs`, its labels placed so that none is over another, a marker or the legend."""
    figure = Figure(figsize=(10, 7), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for is_googlenet, label in ((True, "GoogLeNet and its variants"), (False, "classics")):
        chosen = [row for row in rows if (row.smallest_input is not None) == is_googlenet]
        axes.plot(
            [row.macs for row in chosen],
            [row.parameters for row in chosen],
            "o" if is_googlenet else "s",
            markersize=MARKER_POINTS,
            alpha=0.7,
            label=label,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.15, y=0.1)
    axes.set_xlabel("multiply-adds for one image")
    axes.set_ylabel("parameters")
    axes.set_title(f"Main path; images of {SIZE} pixels unless noted")
    axes.grid(alpha=0.3, which="both")
    legend = axes.legend(loc="upper left")
    figure.draw_without_rendering()  # settles the layout, which the places of the labels depend on
    figure.set_layout_engine("none")
    _label(axes, rows, legend)
    return figure


def _label(axes: Axes, rows: Sequence[NetworkCost], legend: Legend) -> None:
    """Name each network next to its marker, or as near as there is room; one label for equal ones."""
    half = MARKER_POINTS * DPI / 72 / 2
    groups: dict[tuple[float, float], list[NetworkCost]] = {}
    for row in rows:
        point = tuple(axes.transData.transform((row.macs, row.parameters)))
        same = (other for other in groups if math.dist(point, other) < half)
        groups.setdefault(next(same, point), []).append(row)
    markers = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in groups]
    taken = [*markers, legend.get_window_extent()]
    inside = axes.get_window_extent()
    for group, marker in zip(groups.values(), markers, strict=True):
        label = axes.annotate(
            ", ".join(map(_name, group)),
            (group[0].macs, group[0].parameters),
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "lw": 0.6, "alpha": 0.5, "shrinkA": 0, "shrinkB": 3},
        )
        others = [other for other in markers if other is not marker]
        taken.append(_place(label, _away(marker, others), taken, inside))


def _name(row: NetworkCost) -> str:
    return row.network if row.input_size == SIZE else f"{row.network} ({row.input_size} pixels)"


def _place(label: Annotation, start: float, taken: Sequence[Bbox], inside: Bbox) -> Bbox:
    """Move the label to the nearest place that nothing has taken, from the direction `start` on.

    Returns:
        The label's final position, in pixels.
    """
    width = text_box(label).width * 72 / DPI / 2  # half of it, in points
    for distance, turn in itertools.product(DISTANCES, TURNS):
        across, up = math.cos(start + turn), math.sin(start + turn)
        label.set_position((across * (distance + width), up * distance))
        box = text_box(label)
        if inside.contains(*box.min) and inside.contains(*box.max) and not box.count_overlaps(taken):
            break
    return box


def _away(marker: Bbox, others: Sequence[Bbox]) -> float:
    """The direction that leads from a marker away from its neighbors; to the right where it has none."""
    x, y = _center(marker)
    steps = [(x - other_x, y - other_y) for other_x, other_y in map(_center, others)]
    near = [step for step in steps if math.hypot(*step) < NEIGHBORHOOD]
    weights = [math.hypot(*step) ** -2 for step in near]
    across, up = (
        (sum(map(operator.mul, weights, along)) for along in zip(*near, strict=True)) if near else (1, 0)
    )
    return math.atan2(up, across)


def _center(box: Bbox) -> tuple[float, float]:
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2


def text_box(label: Annotation) -> Bbox:
    """Where the label's text is in the picture, in pixels, with a little room; its line not included."""
    figure: Any = label.get_figure(root=True)  # with an Agg canvas, whose renderer measures text
    label.update_positions(figure.canvas.get_renderer())
    return Text.get_window_extent(label).padded(2)
