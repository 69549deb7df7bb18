"""Blocks against plain NumPy. Backend-agnostic: `test_backends.py` runs this file on JAX as well."""

import itertools
import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_googlenet import GoogLeNet
from keras_googlenet.network.architecture import Conv, Inception, MaxPool
from keras_googlenet.network.layers import apply_stage, local_response_norm, max_pool
from keras_googlenet.network.variants import VARIANTS


def computed(function, x, shape=None):
    inputs = keras.Input(shape or x.shape[1:])
    return np.asarray(keras.Model(inputs, function(inputs))(x))


def reference_ceil_pool(x, size):
    """Caffe's max pool of stride 2: rounded up, windows cut at the edge."""
    height, width = (-(-(side - size) // 2) + 1 for side in x.shape[1:3])
    rows = [
        [x[:, 2 * i : 2 * i + size, 2 * j : 2 * j + size].max(axis=(1, 2)) for j in range(width)]
        for i in range(height)
    ]
    return np.array(rows).transpose(2, 0, 1, 3)


@pytest.mark.parametrize("known", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize(
    ("size", "sides"),
    [
        *itertools.product((2, 3), [(2, 2), (3, 3), (4, 4), (7, 7), (8, 8), (6, 9), (9, 6)]),
        *itertools.product((4, 5), [(7, 7), (14, 14), (8, 9)]),  # where Keras's "same" has one more
    ],
)
def test_max_pool_rounds_as_caffe(size, sides, known, random):
    x = random.random((2, *sides, 3), dtype="float32")
    shape = x.shape[1:] if known else (None, None, 3)
    result = computed(lambda t: max_pool(t, MaxPool("pool", size)), x, shape)
    np.testing.assert_array_equal(result, reference_ceil_pool(x, size))


def reference_lrn(x, size=5, alpha=1e-4, beta=0.75, k=1.0):
    """Krizhevsky et al. (2012), section 3.3, with alpha divided by the size, as in Caffe."""
    x = x.astype("float64")
    scale = np.full_like(x, k)
    for channel in range(x.shape[-1]):
        near = x[..., max(0, channel - size // 2) : channel + size // 2 + 1]
        scale[..., channel] += alpha / size * (near**2).sum(axis=-1)
    return x / scale**beta


@pytest.mark.parametrize("shape", [(5, 4, 16), (None, None, 16)], ids=["static", "dynamic"])
def test_local_response_norm_is_caffe_s(shape, random):
    x = random.normal(0, 50, (2, 5, 4, 16)).astype("float32")
    result = computed(lambda t: local_response_norm(t, "norm"), x, shape)
    np.testing.assert_allclose(result, reference_lrn(x), rtol=1e-5)


def test_local_response_norm_is_float32_under_mixed_precision(random):
    # Squares of large activations: in bfloat16 the result would be off by up to 1 in 256.
    x = np.round(random.normal(0, 50, (1, 3, 3, 16))).astype("float32")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        result = computed(lambda t: local_response_norm(t, "norm"), x)
    finally:
        keras.config.set_dtype_policy(before)
    assert result.dtype == "float32"
    np.testing.assert_allclose(result, reference_lrn(x), rtol=1e-5)


def test_first_convolution_is_padded_by_3_on_every_side(random):
    """A kernel with a single 1 in its corner reads the pixel 3 up and 3 left of each window's center."""
    x = random.random((1, 8, 8, 1), dtype="float32")
    inputs = keras.Input(x.shape[1:])
    stage = Conv("conv", filters=1, kernel=7, stride=2, padding=3)
    model = keras.Model(inputs, apply_stage(inputs, stage, VARIANTS["paper"]))
    kernel = np.zeros((7, 7, 1, 1), "float32")
    kernel[0, 0] = 1
    model.set_weights([kernel, np.zeros(1, "float32")])
    expected = np.zeros((4, 4), "float32")
    expected[2:, 2:] = x[0, 1:5:2, 1:5:2, 0]
    np.testing.assert_allclose(np.asarray(model(x))[0, ..., 0], expected, rtol=1e-6)


@pytest.mark.parametrize("variant", ["paper", "bn", "torchvision", "v2"])
def test_inception_concatenates_1x1_3x3_5x5_and_pool(variant):
    """Zero every branch but one: the block's output is zero outside that branch's channels."""
    row = Inception("3a", 2, 3, 4, 5, 6, 7)
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, apply_stage(inputs, row, VARIANTS[variant]))
    assert model.output_shape == (None, 4, 4, 2 + 4 + 6 + 7)
    x = np.ones((1, 4, 4, 3), "float32")
    edges = np.cumsum([0, 2, 4, 6, 7])
    third = "5x5" if VARIANTS[variant].branch_5x5 == "5x5" else "3x3b"
    for index, branch in enumerate(("1x1", "3x3", third, "pool_proj")):
        for layer in model.layers:
            if isinstance(layer, keras.layers.Conv2D):
                name = layer.name.removeprefix("inception_3a_").removesuffix("_reduce")
                live = name.partition("_")[0] == branch.partition("_")[0]  # its reduction as well
                layer.set_weights([np.full_like(w, live) for w in layer.get_weights()])
        result = np.asarray(model(x))[0]
        assert (result[..., edges[index] : edges[index + 1]] > 0).all()
        assert result.sum() == pytest.approx(result[..., edges[index] : edges[index + 1]].sum())


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("variant", ["paper", "bn"])
def test_linear_reductions_have_no_relu(variant, linear):
    architecture = replace(VARIANTS[variant], linear_reductions=linear)
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, apply_stage(inputs, Inception("3a", 2, 3, 4, 5, 6, 7), architecture))
    after = model.get_layer("inception_3a_3x3").input  # what the reduction gives
    source = keras.Model(inputs, after)
    for layer in source.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([np.full_like(w, -1) for w in layer.get_weights()])
    result = np.asarray(source(np.ones((1, 4, 4, 3), "float32")))
    assert (result < 0).all() if linear else (result == 0).all()


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * np.vectorize(lambda value: 0.5 * (1 + math.erf(value / math.sqrt(2))))(x),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, batch_norm, random):
    """A convolution that passes its input on, in inference: a fresh norm changes next to nothing."""
    architecture = replace(VARIANTS["bn"], activation=activation, batch_norm=batch_norm)
    inputs = keras.Input((5, 5, 3))
    model = keras.Model(inputs, apply_stage(inputs, Conv("conv", 3, kernel=1), architecture))
    conv = model.get_layer("conv")
    conv.set_weights([np.eye(3).reshape(1, 1, 3, 3), *([] if batch_norm else [np.zeros(3)])])
    x = random.normal(0, 2, (2, 5, 5, 3)).astype("float32")
    np.testing.assert_allclose(model(x), ACTIVATIONS[activation](x), atol=5e-3)


def test_the_pool_before_the_classifier():
    architecture = VARIANTS["short"].scaled(1 / 8)
    for kind in ("avg", "max"):
        model = GoogLeNet(variant=replace(architecture, head_pool=kind), input_shape=(32, 32, 3), classes=4)
        pool = model.get_layer(f"{kind}_pool")
        x = np.random.default_rng(0).random((2, 32, 32, 3), "float32")
        maps, pooled = keras.Model(model.input, [pool.input, pool.output])(x)
        expected = {"avg": np.mean, "max": np.max}[kind](np.asarray(maps), axis=(1, 2))
        np.testing.assert_allclose(pooled, expected, rtol=1e-5)


def test_a_pool_that_needs_neutral_zeros_follows_a_relu():
    """With known sides Keras pads with minus infinity, with unknown ones zeros are added."""
    pool = MaxPool("pool1", 3, 2, "ceil")
    for sides in ((None, None), (28, 31)):
        assert max_pool(keras.Input((*sides, 3)), pool) is not None
        with pytest.raises(ValueError, match="With silu, the input's height and width should be known"):
            max_pool(keras.Input((*sides, 3)), pool, "silu")
    assert max_pool(keras.Input((28, 28, 3)), pool, "silu") is not None
    with pytest.raises(ValueError, match="With silu, pool1 should be padded by 'same' or 'ceil'"):
        max_pool(keras.Input((28, 28, 3)), MaxPool("pool1", 3, 2, 1), "silu")
