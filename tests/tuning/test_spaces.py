"""The spaces: the paper's network by default, and networks that build for every sample."""

import random
from dataclasses import replace

import pytest

from keras_googlenet import Architecture, GoogLeNet
from keras_googlenet.network.variants import BN, NAIVE, PAPER, SHORT, V2, VARIANTS
from keras_googlenet.tuning.spaces import SPACES, SearchSpace

COUNTS = {"stage_width": 4, "branch_ratio": 3 * 6, "block": 54}


@pytest.mark.parametrize("name", SPACES)
def test_the_defaults_are_the_paper_s_network(name):
    space = SearchSpace(name, (PAPER,))
    assert len(space.parameters) == COUNTS[name]
    assert space.architecture(space.defaults) == PAPER
    assert all(parameter.default in parameter.values for parameter in space.parameters)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SPACES)
def test_the_defaults_are_the_base_itself(name, variant):
    for base in (VARIANTS[variant], VARIANTS[variant].scaled(0.3)):
        space = SearchSpace(name, (base,))
        assert space.architecture(space.defaults) == base


def test_counts_that_are_no_multiples_of_8_are_kept_by_default():
    odd = PAPER.with_channels([replace(block, conv_1x1=block.conv_1x1 + 3) for block in PAPER.blocks])
    for name in SPACES:
        space = SearchSpace(name, (odd,))
        assert space.architecture(space.defaults) == odd


@pytest.mark.parametrize("name", SPACES)
def test_every_sample_is_an_architecture_with_json(name):
    space, source = SearchSpace(name, (BN,)), random.Random(0)
    seen = set()
    for _ in range(200):
        architecture = space.architecture(space.sample(source))
        assert Architecture.from_json(architecture.to_json()) == architecture
        assert all(count >= 8 and count % 8 == 0 for row in architecture.blocks for count in row.channels)
        assert [row.name for row in architecture.blocks] == [row.name for row in BN.blocks]
        seen.add(architecture.stages)
    assert len(seen) > 170


def test_samples_are_small_and_large_and_not_all_middling():
    space, source = SearchSpace("block", (BN,)), random.Random(0)
    whole = sum(sum(block.channels) for block in BN.blocks)
    sizes = [
        sum(sum(block.channels) for block in space.architecture(space.sample(source)).blocks) / whole
        for _ in range(500)
    ]
    for low, high in ((0.2, 0.6), (0.6, 1.0), (1.0, 1.5)):
        assert sum(low <= size < high for size in sizes) > 80


def test_a_stage_s_width_is_on_all_its_channels():
    space = SearchSpace("stage_width", (PAPER,))
    sample = space.architecture(space.defaults | {"width/4": 0.5, "width/stem": 0.25})
    half = PAPER.scaled(0.5)
    for row, old, halved in zip(sample.blocks, PAPER.blocks, half.blocks, strict=True):
        assert row == (halved if row.name.startswith("4") else old)
    assert [s.filters for s in sample.stages if hasattr(s, "filters") and hasattr(s, "kernel")] == [
        16,
        16,
        48,
    ]


def test_a_branch_s_ratio_is_on_one_column_of_a_stage():
    space = SearchSpace("branch_ratio", (PAPER,))
    sample = space.architecture(space.defaults | {"ratio/5/3x3_reduce": 1.5})
    for row, old in zip(sample.blocks, PAPER.blocks, strict=True):
        wide = round(old.reduce_3x3 * 1.5)
        assert row == (replace(old, reduce_3x3=wide) if row.name in ("5a", "5b") else old)


def test_a_block_s_count_is_its_own():
    space = SearchSpace("block", (PAPER,))
    sample = space.architecture(space.defaults | {"4c/pool_proj": 88})
    (changed,) = [row for row, old in zip(sample.blocks, PAPER.blocks, strict=True) if row != old]
    assert (changed.name, changed.channels) == ("4c", (128, 128, 256, 24, 64, 88))


def test_the_naive_block_has_no_reductions_to_choose():
    assert len(SearchSpace("block", (NAIVE,)).parameters) == 27
    assert len(SearchSpace("branch_ratio", (NAIVE,)).parameters) == 9


def test_variants_and_numbers_of_the_training():
    space = SearchSpace("stage_width", (BN, V2), (("dropout", 0.4), ("learning_rate", 0.02)))
    assert space.architecture(space.defaults) == BN
    assert space.architecture(space.defaults | {"variant": "v2"}) == V2
    assert space.architecture(space.defaults | {"dropout": 0.2}).dropout == 0.2
    (rate,) = [parameter for parameter in space.parameters if parameter.name == "learning_rate"]
    assert 0.02 in rate.values
    assert rate.default == 0.02


@pytest.mark.parametrize("name", SPACES)
def test_a_variant_may_lack_stages_of_the_first_and_have_others(name):
    """In the space "block", counts are the first's where both have a block."""
    for first, second in ((SHORT, BN), (BN, SHORT)):
        space = SearchSpace(name, (first, second))
        for values in (space.defaults, space.sample(random.Random(1))):
            assert space.architecture(values | {"variant": second.name}).blocks
        if name != "block":
            assert space.architecture(space.defaults | {"variant": second.name}) == second


def test_numbers_that_a_wire_format_rounded_are_the_parameter_s_own():
    import numpy as np

    space = SearchSpace("stage_width", (BN,), (("dropout", 0.4), ("learning_rate", 0.01)))
    values = space.sample(random.Random(1)) | {"tuner/epochs": 3}
    rounded = {
        name: float(np.float32(value)) if isinstance(value, float) else value
        for name, value in values.items()
    }
    assert rounded != values
    assert space.exact(rounded) == values


@pytest.mark.parametrize("name", SPACES)
def test_googlenet_takes_a_sample(name):
    """Weights are counted by name and shape, against the network of the same rows by hand."""
    space = SearchSpace(name, (BN,))
    sample = space.architecture(space.sample(random.Random(2)))
    model = GoogLeNet(variant=sample, input_shape=(80, 80, 1), classes=3)
    for row in sample.blocks:
        assert model.get_layer(f"inception_{row.name}_3x3").filters == row.conv_3x3
        assert model.get_layer(f"inception_{row.name}_output").output.shape[-1] == row.filters
