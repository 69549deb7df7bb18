"""A drawing of a network, one box per layer of the stem and one row of branches per block. Needs no Keras."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from keras_googlenet.names import block_layer
from keras_googlenet.network.architecture import (
    BRANCH_5X5_KERNELS,
    Architecture,
    AuxiliaryHead,
    Conv,
    Inception,
    LocalResponseNorm,
    MaxPool,
    output_side,
)
from keras_googlenet.network.cost import InputSize, stage_costs

COLORS = {"conv": "#cfe2f7", "pool": "#f9d3cf", "norm": "#e3e3e3", "head": "#fbeab5", "plain": "#ffffff"}
BLOCK, EDGE, FAINT = "#f4f6f9", "#51606f", "#5d6878"
BOX, GAP, ROW = 0.62, 0.18, 0.42  # heights in units, and inches per unit
WIDTH, CENTER, WIDE, NARROW = 12.2, 4.6, 7.6, 3.2  # in inches


@dataclass(frozen=True)
class Row:
    """A row of the drawing.

    Attributes:
        branches: Columns side by side, each the boxes from top to bottom: their text and kind of color.
        output: The shape of what leaves it.
        name: Of a block.
        head: The auxiliary head that branches off after it.
    """

    branches: tuple[tuple[tuple[str, str], ...], ...]
    output: str = ""
    name: str = ""
    head: AuxiliaryHead | None = field(default=None)


def rows(architecture: Architecture, classes: int, side: int) -> list[Row]:
    """The rows of a network, from the image to the classes."""
    heads = {head.block: head for head in architecture.auxiliary_heads}
    found = [Row(((("image", "plain"),),), f"{side} x {side} x 3")]
    counted = stage_costs(architecture, InputSize(side, side, 3, classes))
    of_blocks = {row.name: row.output_shape for row in counted}
    channels = 3
    for stage in architecture.stages:
        side = output_side(stage, side)
        if isinstance(stage, Conv):
            channels = stage.filters
            text = f"{stage.kernel} x {stage.kernel} convolution, {channels}{_stride(stage.stride)}"
            branches: tuple[tuple[tuple[str, str], ...], ...] = (((text, "conv"),),)
        elif isinstance(stage, MaxPool):
            text = f"{stage.size} x {stage.size} max pool{_stride(stage.stride)}"
            branches = (((text, "pool"),),)
        elif isinstance(stage, LocalResponseNorm):
            branches = ((("local response normalization", "norm"),),)
        else:
            branches = block(architecture, stage)
            channels = of_blocks[block_layer(stage.name)][2]
        is_block = isinstance(stage, Inception)
        name = stage.name if is_block else ""
        found.append(Row(branches, f"{side} x {side} x {channels}", name, heads.get(stage.name)))
    pool = "average" if architecture.head_pool == "avg" else "max"
    dropout = f", dropout {architecture.dropout:.0%}" if architecture.dropout else ""
    found.append(Row((((f"global {pool} pool{dropout}", "pool"),),), f"{channels}"))
    found.append(Row(((("dense and softmax: main", "head"),),), f"{classes} classes"))
    return found


def block(architecture: Architecture, row: Inception) -> tuple[tuple[tuple[str, str], ...], ...]:
    """The four branches of an Inception block."""
    kernels = BRANCH_5X5_KERNELS[architecture.branch_5x5]
    convolutions = [[(1, row.conv_1x1)], [(3, row.conv_3x3)], [(kernel, row.conv_5x5) for kernel in kernels]]
    if architecture.reductions:
        convolutions[1].insert(0, (1, row.reduce_3x3))
        convolutions[2].insert(0, (1, row.reduce_5x5))
    branches = [[(f"{size} x {size}, {count}", "conv") for size, count in one] for one in convolutions]
    pool = [("3 x 3 max pool", "pool")]
    if architecture.reductions:
        pool.append((f"1 x 1, {row.pool_proj}", "conv"))
    shortcut = [[("shortcut", "plain")]] if architecture.residual else []
    return tuple(tuple(branch) for branch in (*branches, pool, *shortcut))


def draw_architecture(
    architecture: Architecture, path: Path, *, classes: int = 1000, size: int | None = None
) -> None:
    """Draw a network.

    Args:
        architecture: The network.
        path: Picture file to write, PNG, PDF or SVG by its name.
        classes: Number of classes.
        size: Side of the input in pixels; by default the network's own.

    Raises:
        ValueError: The input is too small for the network.
    """
    drawn = rows(architecture, classes, size or architecture.input_size)
    heights = [_height(row) for row in drawn]
    total = sum(heights) + GAP * len(heights) + 1
    figure = Figure(figsize=(WIDTH, total * ROW))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(total, 0))
    axes.set_axis_off()
    axes.text(
        CENTER,
        0.4,
        f"{architecture.name}: {architecture.description}",
        ha="center",
        va="center",
        weight="bold",
    )
    top = 0.9
    for row, height in zip(drawn, heights, strict=True):
        _draw_row(axes, row, top, height)
        if row is not drawn[-1]:
            _arrow(axes, (CENTER, top + height), (CENTER, top + height + GAP))
        top += height + GAP
    with rc_context({"svg.fonttype": "none"}):  # text stays text
        figure.savefig(path, dpi=120)


def _stride(stride: int) -> str:
    return f", stride {stride}" if stride > 1 else ""


def _height(row: Row) -> float:
    boxes = max(map(len, row.branches))
    return boxes * BOX + (boxes - 1) * GAP + (2 * GAP if row.name else 0)


def _draw_row(axes: Axes, row: Row, top: float, height: float) -> None:
    if row.name:
        _box(axes, CENTER - WIDE / 2, top, WIDE, height, BLOCK)
        axes.text(
            CENTER - WIDE / 2 - 0.15, top + height / 2, row.name, ha="right", va="center", weight="bold"
        )
        top, height = top + GAP, height - 2 * GAP
    columns = len(row.branches)
    width = (WIDE - GAP) / columns - GAP if row.name else NARROW
    left = CENTER - (columns * width + (columns - 1) * GAP) / 2
    for column, boxes in enumerate(row.branches):
        x = left + column * (width + GAP)
        # The last box of each branch stands on one line: there the branches are joined.
        y = top + height - len(boxes) * BOX - (len(boxes) - 1) * GAP
        for number, (text, kind) in enumerate(boxes):
            _box(axes, x, y, width, BOX, COLORS[kind])
            axes.text(x + width / 2, y + BOX / 2, text, ha="center", va="center", fontsize=9)
            if number:
                _arrow(axes, (x + width / 2, y - GAP), (x + width / 2, y))
            y += BOX + GAP
    right = CENTER + (WIDE if row.name else NARROW) / 2
    axes.text(right + 0.15, top + height / 2, row.output, va="center", fontsize=9, color=FAINT)
    if row.head is not None:
        _draw_head(axes, row.head, right, top + height / 2)


def _draw_head(axes: Axes, head: AuxiliaryHead, right: float, y: float) -> None:
    pool = (
        f"pool to {head.adaptive}" if head.adaptive is not None else f"average pool {head.pool} x {head.pool}"
    )
    text = f"{head.name}\n{pool}\n1 x 1, {head.filters}\ndense {head.units}"
    axes.annotate(
        text,
        xy=(right + 1.4, y),
        xytext=(right + 2.55, y),
        fontsize=8,
        ha="center",
        va="center",
        bbox={"boxstyle": "round", "facecolor": COLORS["head"], "edgecolor": EDGE},
        arrowprops={"arrowstyle": "<|-", "color": EDGE},
    )


def _box(axes: Axes, x: float, y: float, width: float, height: float, color: str) -> None:
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, style, facecolor=color, edgecolor=EDGE, linewidth=0.8)
    )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": EDGE, "lw": 0.8})
