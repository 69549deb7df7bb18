import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_googlenet.architecture import TABLE_1, VARIANTS, fits, sides, smallest_input

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


@pytest.mark.parametrize("variant", VARIANTS)
def test_sides_at_224_are_the_paper_s(variant):
    after = sides(VARIANTS[variant], 224)
    names = ("conv1_7x7_s2", "pool1_3x3_s2", "conv2_3x3", "pool2_3x3_s2", "3b", "4a", "4e", "5b")
    assert [after[name] for name in names] == [112, 56, 56, 28, 28, 14, 14, 7]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("aux_heads", "smallest"), [(True, 79), (False, 31)])
def test_smallest_input(variant, aux_heads, smallest):
    assert smallest_input(VARIANTS[variant], aux_heads=aux_heads) == smallest


@given(side=st.integers(1, 600), aux_heads=st.booleans())
def test_every_side_from_the_smallest_on_fits(side, aux_heads):
    architecture = VARIANTS["paper"]
    smallest = smallest_input(architecture, aux_heads=aux_heads)
    assert fits(architecture, side, aux_heads=aux_heads) == (side >= smallest)
