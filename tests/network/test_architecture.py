import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_googlenet.network.architecture import TABLE_1, Architecture, Inception, fits, sides, smallest_input
from keras_googlenet.network.variants import VARIANTS

OUTPUT_CHANNELS = {
    "3a": 256,
    "3b": 480,
    "4a": 512,
    "4b": 512,
    "4c": 512,
    "4d": 528,
    "4e": 832,
    "5a": 832,
    "5b": 1024,
}


def test_table_1_adds_up_to_the_paper_s_output_column():
    assert {row.name: row.filters for row in TABLE_1} == OUTPUT_CHANNELS


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"slides", "small_images", "light_stem", "short"}))
def test_sides_at_224_are_the_paper_s(variant):
    after = sides(VARIANTS[variant], 224)
    names = ("conv1_7x7_s2", "pool1_3x3_s2", "conv2_3x3", "pool2_3x3_s2", "3b", "4a", "4e", "5b")
    assert [after[name] for name in names] == [112, 56, 56, 28, 28, 14, 14, 7]


# Sides in pixels, with auxiliary heads and without.
SMALLEST = {
    "paper": (79, 31),
    "bn": (79, 31),
    "torchvision": (15, 15),
    "slim": (1, 1),
    "d2l": (1, 1),
    "listing": (65, 1),
    "slides": (13, 5),
    "naive": (79, 31),
    "v2": (79, 31),
    "residual": (79, 31),
    "small_images": (10, 4),
    "light_stem": (20, 8),
    "short": (9, 9),
}


def test_smallest_inputs():
    found = {
        name: tuple(smallest_input(architecture, aux_heads=aux_heads) for aux_heads in (True, False))
        for name, architecture in VARIANTS.items()
    }
    assert found == SMALLEST


@pytest.mark.parametrize("architecture", VARIANTS.values(), ids=VARIANTS)
def test_json_round_trip(architecture):
    assert Architecture.from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stages": [{"type": "Pool"}]}', '{"stages": 3}'])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match="Expected the JSON of an Architecture"):
        Architecture.from_json(text)


def test_width_1_changes_nothing_and_others_keep_multiples_of_8():
    paper = VARIANTS["paper"]
    assert paper.scaled(1) == paper
    half = paper.scaled(0.5)
    assert half.blocks[0] == Inception("3a", 32, 48, 64, 8, 16, 16)
    assert all(
        count % 8 == 0 and count >= 8 for block in paper.scaled(0.3).blocks for count in block.channels
    )
    with pytest.raises(ValueError, match="received 0"):
        paper.scaled(0)


def test_other_channels():
    paper = VARIANTS["paper"]
    rows = [Inception(row.name, 8, 8, 8, 8, 8, 8) for row in paper.blocks]
    assert paper.with_channels(rows).blocks == tuple(rows)
    assert paper.with_channels(paper.blocks) == paper
    with pytest.raises(ValueError, match="Expected a row for each of"):
        paper.with_channels(rows[1:])
    narrow = paper.with_channels({"3a": (8, 8, 8, 8, 8, 8)})
    assert narrow.blocks == (Inception("3a", 8, 8, 8, 8, 8, 8), *paper.blocks[1:])
    for wrong in ({"9z": (8,) * 6}, {"3a": (8,) * 5}):
        with pytest.raises(ValueError, match="six channels for some of the blocks"):
            paper.with_channels(wrong)


@given(side=st.integers(1, 600), aux_heads=st.booleans())
def test_every_side_from_the_smallest_on_fits(side, aux_heads):
    architecture = VARIANTS["paper"]
    smallest = smallest_input(architecture, aux_heads=aux_heads)
    assert fits(architecture, side, aux_heads=aux_heads) == (side >= smallest)


def test_a_head_at_a_block_that_is_gone_is_named():
    fields = json.loads(VARIANTS["bn"].to_json())
    fields["stages"] = [stage for stage in fields["stages"] if stage["name"] != "4d"]
    with pytest.raises(ValueError, match=r"Expected the block of aux2 to be one of 3a, .*; received '4d'"):
        Architecture.from_json(json.dumps(fields))
