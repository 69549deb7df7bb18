"""The layers that a run on TensorFlow trains with compute what Keras's do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_googlenet import UserError
from keras_googlenet.training import kernels
from keras_googlenet.training.kernels import (
    FROZEN_WEIGHTS,
    FastConv2D,
    FusedBatchNormalization,
    with_fast_layers,
    with_keras_layers,
)

SHAPE = (6, 5, 16)


def copies(*layers) -> tuple[keras.Model, keras.Model]:
    """A network of Keras's layers, and its fast copy."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(SHAPE), *layers])
    model = keras.Model(model.inputs, model.outputs)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(1, 0.5, variable.shape))
    return model, with_fast_layers(model)


def step(model, x, upstream, in_graph=True):
    """Outputs, gradients of the images and the weights, and the statistics that a step leaves."""
    x = tf.constant(x)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        variables = [variable.value for variable in model.trainable_variables]
        return [y, *tape.gradient(loss, [x, *variables])]

    values = tf.function(run)() if in_graph else run()
    results = [np.array(tf.cast(value, tf.float32)) for value in values]
    return results + [np.array(variable) for variable in model.non_trainable_variables]


def check_alike(model, fast, channels, rtol) -> None:
    """In a graph as `fit` makes one, and eagerly, as callbacks and people call a network."""
    random = np.random.default_rng(2)
    x = random.normal(2, 3, (4, *SHAPE)).astype("float32")
    upstream = random.normal(size=(4, *SHAPE[:2], channels)).astype("float32")
    for in_graph in (True, False):
        theirs = step(model, x, upstream, in_graph)
        for ours, expected in zip(step(fast, x, upstream, in_graph), theirs, strict=True):
            assert ours.shape == expected.shape
            assert np.abs(ours - expected).max() <= rtol * np.abs(expected).max()
    for training in (True, False):  # without a tape
        ours, expected = (np.array(tf.cast(each(x, training=training), tf.float32)) for each in (fast, model))
        assert np.abs(ours - expected).max() <= rtol * np.abs(expected).max()


def test_every_layer_of_ours_is_among_those_compared():
    own = {
        kind
        for kind in vars(kernels).values()
        if isinstance(kind, type) and issubclass(kind, keras.Layer) and kind.__module__ == kernels.__name__
    }
    assert own == set(kernels.KERAS) == {FusedBatchNormalization, FastConv2D}


@pytest.mark.parametrize("channels", [4, 24])
def test_batch_normalization_of_other_channels_than_multiples_of_16(channels):
    """Outputs, moments and gradients, against the formula in float32."""
    random = np.random.default_rng(3)
    x = tf.cast(random.normal(2, 3, (5, 6, 8, channels)), "bfloat16")
    upstream = tf.cast(random.normal(size=x.shape), "bfloat16")
    scale, offset = (tf.constant(random.normal(1, 0.5, channels), "float32") for _ in range(2))

    def results(function, kind):
        values = [tf.cast(x, kind), scale, offset]
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = function(*values)
        return [*outputs, *tape.gradient(outputs[0], values, tf.cast(upstream, kind))]

    def of_keras(x, scale, offset):
        mean, variance = tf.nn.moments(x, (0, 1, 2))
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-3), mean, variance

    expected = results(of_keras, "float32")
    pieces = kernels._pieces(x)
    assert pieces == 16 // np.gcd(16, channels)
    found = results(lambda *values: kernels.normalize_in_pieces(*values, 1e-3, pieces), "bfloat16")
    for ours, theirs in zip(found, expected, strict=True):
        error = np.abs(np.array(tf.cast(ours, "float32")) - theirs).max() / np.abs(theirs).max()
        assert error <= (1e-5 if ours.dtype == "float32" else 0.01)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(("policy", "rtol"), [("float32", 1e-5), ("mixed_bfloat16", 0.02)])
def test_batch_normalization(scale, policy, rtol):
    """Its moving variance too, which is the batch's own and not that of a sample."""
    layer = keras.layers.BatchNormalization(scale=scale, momentum=0.5, dtype=policy)
    model, fast = copies(layer)
    assert type(fast.layers[1]) is FusedBatchNormalization
    check_alike(model, fast, 16, rtol)


def test_batch_normalization_in_pieces():
    model, fast = copies(
        keras.layers.Conv2D(24, 1, use_bias=False, dtype="mixed_bfloat16"),
        keras.layers.BatchNormalization(momentum=0.5, dtype="mixed_bfloat16"),
    )
    check_alike(model, fast, 24, 0.02)


def test_frozen_batch_normalization_stays_as_it_is():
    layer = keras.layers.BatchNormalization()
    layer.trainable = False
    model, fast = copies(layer)
    check_alike(model, fast, 16, 1e-6)
    assert (np.array(fast.non_trainable_variables[0]) == np.array(model.non_trainable_variables[0])).all()


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("policy", "rtol"), [("float32", 1e-5), ("mixed_bfloat16", 0.02)])
def test_convolutions(size, bias, policy, rtol):
    layer = keras.layers.Conv2D(
        8, size, padding="same", activation="relu" if bias else None, use_bias=bias, dtype=policy
    )
    model, fast = copies(layer)
    assert type(fast.layers[1]) is FastConv2D
    check_alike(model, fast, 8, rtol)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8, 8, 4), {"kernel_size": 3, "padding": "same"}),  # a larger map
        ((6, 6, 4), {"kernel_size": 3, "padding": "valid"}),
        ((6, 6, 4), {"kernel_size": 1, "strides": 2}),
        ((6, 6, 4), {"kernel_size": 2, "padding": "same"}),
        ((6, 6, 4), {"kernel_size": 1, "groups": 2}),
        ((6, 6, 4), {"kernel_size": 3, "padding": "same", "dilation_rate": 2}),
        ((None, None, 4), {"kernel_size": 1}),
    ],
)
def test_other_convolutions_stay_keras_s(shape, options):
    inputs = keras.Input(shape)
    fast = with_fast_layers(keras.Model(inputs, keras.layers.Conv2D(4, **options)(inputs)))
    assert type(fast.layers[1]) is keras.layers.Conv2D


def test_what_is_saved_holds_keras_s_layers_alone():
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 1, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.BatchNormalization(name="flat")(keras.layers.Flatten()(x))  # of no images
    model = keras.Model(inputs, x)
    fast = with_fast_layers(model)
    assert [layer.name for layer in fast.layers[1:]] == [layer.name for layer in model.layers[1:]]
    assert type(fast.get_layer("flat")) is keras.layers.BatchNormalization
    back = with_keras_layers(fast)
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in model.layers]
    for saved, expected in zip(back.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, expected)


def test_a_server_s_environment_is_refused(monkeypatch):
    """In it a network trains on gradients of weights that it has no more."""
    monkeypatch.setenv(FROZEN_WEIGHTS, "1")
    with pytest.raises(UserError, match=f"{FROZEN_WEIGHTS} is for a server"):
        copies(keras.layers.Conv2D(8, 1))
    monkeypatch.setenv(FROZEN_WEIGHTS, "0")
    copies(keras.layers.Conv2D(8, 1))
