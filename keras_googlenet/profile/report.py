"""Counts for people: text tables, CSV, and answers to the textbooks' questions."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_googlenet.names import block_layer
from keras_googlenet.profile.printed import CLASSES, PRINTED, SIZE, value
from keras_googlenet.profile.table import NetworkCost, TableRow, table_1
from keras_googlenet.text import text_table

WIDTH = 100  # characters of a line of an answer


def table_1_text(rows: Sequence[TableRow]) -> str:
    """The table of one network, its sums, and its depth."""
    lines = [
        [
            row.type,
            row.patch,
            _shape(row),
            row.depth or "",
            _number(row.parameters),
            _number(row.macs),
            row.printed_parameters,
            row.printed_macs,
            row.note,
        ]
        for row in rows
    ]
    depth = sum(row.depth for row in rows)
    parameters, macs = sum(row.parameters for row in rows), sum(row.macs for row in rows)
    lines.append(["total", "", "", depth, _number(parameters), _number(macs), "", "", ""])
    header = ["type", "patch/stride", "output", "depth", "parameters", "multiply-adds"]
    table = text_table([*header, "paper params", "paper ops", "counted against the paper"], lines)
    deepest = f"{depth} layers with parameters on the longest path"
    return f"{table}\n\n{deepest}, {sum(row.depth_with_pools for row in rows)} with the pools.\n"


def comparison_text(rows: Sequence[NetworkCost]) -> str:
    """The table of networks."""
    header = ["network", "input", "depth", "parameters", "multiply-adds", "activations", "in dense layers"]
    lines = [
        [
            row.network,
            row.input_size,
            row.depth,
            _number(row.parameters),
            _number(row.macs),
            _number(row.activations),
            f"{row.dense_share:.1%}",
            row.smallest_input or "",
            row.smallest_input_with_heads or "",
        ]
        for row in rows
    ]
    table = text_table([*header, "smallest input", "with heads"], lines)
    legend = (
        "Main path, one image; inputs in pixels a side. Parameters include the moving statistics of batch "
        "normalization; activations are the values that convolutions and dense layers put out."
    )
    return f"{table}\n\n{textwrap.fill(legend, WIDTH)}\n"


def answers_text(answers: dict[str, str]) -> str:
    """Questions and answers, wrapped."""
    return "\n".join(f"{question}\n{textwrap.fill(answer, WIDTH)}\n" for question, answer in answers.items())


def answers(rows: Sequence[NetworkCost], classes: int = CLASSES) -> dict[str, str]:
    """The textbooks' questions, each with an answer computed from the counts.

    Args:
        rows: Of `compare(classes)`.
        classes: Number of classes that the networks have.
    """
    of = {row.network: row for row in rows}
    paper = table_1("paper", classes, SIZE)
    full_resolution = table_1("small_images", classes, SIZE)
    return {
        "Why are NiN and GoogLeNet small?": _why_small(of),
        "Has GoogLeNet 12 times fewer parameters than AlexNet?": _against_alexnet(of),
        "What does a large first convolution buy?": _first_convolution(paper, full_resolution),
        "What do the 1x1 reductions save?": _reductions(of),
        "How small may the input be?": _smallest_input(of),
    }


def write_csv(rows: Sequence[TableRow] | Sequence[NetworkCost], path: Path) -> None:
    """The rows, a column for each of their fields.

    Raises:
        FileExistsError: `path` exists.
    """
    records = [asdict(row) | _derived(row) for row in rows]
    with path.open("x", newline="") as file:
        writer = csv.DictWriter(file, records[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def _why_small(of: dict[str, NetworkCost]) -> str:
    rows = [of[name] for name in ("AlexNet", "VGG-11", "NiN", "paper")]
    share = [f"{row.dense_share:.0%}" for row in rows]
    total = [_short(row.parameters) for row in rows]
    rest = [_short(row.parameters - row.dense_parameters) for row in rows]
    return (
        f"Fully connected layers hold {share[0]} of AlexNet's {total[0]} parameters and {share[1]} of "
        f"VGG-11's {total[1]}, but {share[2]} of NiN's {total[2]} and {share[3]} of GoogLeNet's {total[3]}: "
        "these two average each channel over the whole image, so no large fully connected layer follows. "
        f"What is left without those layers is much alike: {rest[0]}, {rest[1]}, {rest[2]} and {rest[3]}."
    )


def _against_alexnet(of: dict[str, NetworkCost]) -> str:
    alexnet, vgg, googlenet = of["AlexNet"], of["VGG-11"], of["paper"]
    features = googlenet.parameters - googlenet.dense_parameters
    printed = sum(value(parameters) for parameters, _ in PRINTED.values())
    return (
        f"{alexnet.parameters / googlenet.parameters:.1f} times: {alexnet.parameters:,} in AlexNet (one "
        f"column) against {googlenet.parameters:,}; {alexnet.parameters / features:.1f} times without "
        "GoogLeNet's classifier. The parameters that the paper's Table 1 prints add up to "
        f"{_short(printed)}, which gives {alexnet.parameters / printed:.1f}; 12 would take a network of "
        f"{_short(alexnet.parameters / 12)}. Against VGG-11 it is "
        f"{vgg.parameters / googlenet.parameters:.1f} times. In multiply-adds GoogLeNet costs "
        f"{googlenet.macs / alexnet.macs:.2f} times AlexNet and {googlenet.macs / vgg.macs:.2f} times VGG-11."
    )


def _first_convolution(paper: Sequence[TableRow], full_resolution: Sequence[TableRow]) -> str:
    block = [row.name for row in paper].index(block_layer("3a"))
    stem = sum(row.macs for row in paper[:block])
    total, total_full = (sum(row.macs for row in rows) for rows in (paper, full_resolution))
    first, first_full = paper[0], full_resolution[0]
    return (
        f"A {first.patch} convolution and the pools behind it bring {SIZE} pixels down to "
        f"{paper[block].output_shape[0]} before the first block. That convolution costs {_short(first.macs)} "
        f"multiply-adds and the whole stem {_short(stem)}, {stem / total:.0%} of the network's "
        f"{_short(total)}. With the stem of small_images, one {first_full.patch} convolution of "
        f"{_short(first_full.macs)}, the blocks start at {first_full.output_shape[0]} pixels, and the "
        f"network costs {_short(total_full)}: {total_full / total:.0f} times as much."
    )


def _reductions(of: dict[str, NetworkCost]) -> str:
    side, inputs, filters, between = 28, 192, 32, 16  # pixels and channels, as in 3a
    straight = side**2 * inputs * 5**2 * filters
    reduce, conv = side**2 * inputs * between, side**2 * between * 5**2 * filters
    through = reduce + conv
    naive, reduced = of["naive"], of["bn"]
    return (
        f"A 5x5 convolution of {inputs} to {filters} channels at {side} x {side} costs {straight:,} "
        f"multiply-adds; through a 1x1 of {between} channels {reduce:,} + {conv:,} = {through:,}, a factor "
        f"of {straight / through:.1f}. The whole network without reductions (naive) has "
        f"{_short(naive.parameters)} parameters and {_short(naive.macs)} multiply-adds against "
        f"{_short(reduced.parameters)} and {_short(reduced.macs)} with them (bn): the pool of a naive block "
        "passes all its channels on, so each block is wider than the one before."
    )


def _smallest_input(of: dict[str, NetworkCost]) -> str:
    paper, d2l = of["paper"], of["d2l"]
    return (
        f"{paper.smallest_input} pixels a side for the paper's network, or nothing is left for its last max "
        f"pool; {paper.smallest_input_with_heads} with its auxiliary heads, whose average pools need 5 x 5 "
        f"pixels. Where each pool is padded, as in d2l, {d2l.smallest_input} will do."
    )


def _derived(row: TableRow | NetworkCost) -> dict[str, Any]:
    if isinstance(row, TableRow):
        return {"output_shape": _shape(row)}
    return {"dense_share": round(row.dense_share, 4)}


def _shape(row: TableRow) -> str:
    return "x".join(map(str, row.output_shape))


def _number(count: int) -> str:
    return f"{count:,}" if count else ""


def _short(count: float) -> str:
    """Three digits and a unit: 6.80M."""
    unit, suffix = next(((10**e, s) for e, s in ((9, "G"), (6, "M"), (3, "K")) if count >= 10**e), (1, ""))
    scaled = count / unit
    return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{suffix}"
