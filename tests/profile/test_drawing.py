"""The drawing of a network: its rows are the counted ones, and its file holds them as text."""

import re

import pytest

from keras_googlenet.names import block_layer
from keras_googlenet.network.cost import InputSize, stage_costs
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.profile.drawing import block, draw_architecture, rows


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_shapes_are_the_counted_ones(name):
    architecture = VARIANTS[name]
    side = architecture.input_size
    counted = {row.name: row for row in stage_costs(architecture, InputSize(side, side, 3, 10))}
    blocks = [row for row in rows(architecture, 10, side) if row.name]
    assert [row.name for row in blocks] == [row.name for row in architecture.blocks]
    for row in blocks:
        height, width, channels = counted[block_layer(row.name)].output_shape
        assert row.output == f"{height} x {width} x {channels}"
    assert [row.head.name for row in blocks if row.head] == [h.name for h in architecture.auxiliary_heads]


def test_branches_of_the_paper():
    first = VARIANTS["paper"].blocks[0]
    assert [[text for text, _ in branch] for branch in block(VARIANTS["paper"], first)] == [
        ["1 x 1, 64"],
        ["1 x 1, 96", "3 x 3, 128"],
        ["1 x 1, 16", "5 x 5, 32"],
        ["3 x 3 max pool", "1 x 1, 32"],
    ]
    assert len(block(VARIANTS["residual"], first)) == 5
    assert [text for text, _ in block(VARIANTS["v2"], first)[2]] == ["1 x 1, 16", "3 x 3, 32", "3 x 3, 32"]


def test_file(tmp_path):
    draw_architecture(VARIANTS["paper"], tmp_path / "paper.svg", classes=7)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "paper.svg").read_text())
    for expected in ("3a", "5b", "1 x 1, 96", "28 x 28 x 256", "7 classes", "aux2"):
        assert expected in texts


@pytest.mark.ci
def test_command(command, tmp_path):
    code, _, error = command("profile", "--variant", "short", "--drawing", tmp_path / "short.png")
    assert (code, error) == (0, "")
    assert (tmp_path / "short.png").read_bytes().startswith(b"\x89PNG")
    for options, message in (
        (["--drawing", tmp_path / "a.txt"], "expected --drawing to end in .png"),
        (["--drawing", tmp_path / "short.png"], "exists"),
        (["--compare", "--drawing", tmp_path / "a.png"], "shows one network"),
    ):
        code, out, error = command("profile", *options)
        assert (code, out) == (2, "")
        assert message in error
