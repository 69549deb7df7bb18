"""The checks that every Keras Application passes, over all variants and both data formats."""

import keras
import numpy as np
import pytest
from conftest import run_python

from keras_googlenet import GoogLeNet
from keras_googlenet.network.variants import VARIANTS

NAIVE_FEATURES = 192 + 4752  # the stem's channels, passed on by every pool, and all 1x1, 3x3 and 5x5


def shape(height, width, channels):
    first = keras.config.image_data_format() == "channels_first"
    return (channels, height, width) if first else (height, width, channels)


def features(variant):
    return FEATURES.get(variant, 1024)


FEATURES = {"naive": NAIVE_FEATURES, "short": 768}  # of the others: 1024
LANDING = {*FEATURES, "slim"}  # those that are built unlike the rest


def case(variant, data_format):
    mark = pytest.mark.ci if variant in LANDING and data_format == "channels_last" else pytest.mark.slow
    return pytest.param(variant, data_format, marks=() if variant == "paper" else mark)


@pytest.fixture
def data_format(request):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(request.param)
    yield request.param
    keras.config.set_image_data_format(before)


@pytest.mark.parametrize(
    ("variant", "data_format"),
    [case(variant, order) for variant in VARIANTS for order in ("channels_last", "channels_first")],
    indirect=["data_format"],
)
def test_conforms(variant, data_format):
    for channels in (1, 4):
        model = GoogLeNet(variant=variant, include_top=False, input_shape=shape(None, None, channels))
        assert model.output_shape == (None, *shape(None, None, features(variant)))

    model = GoogLeNet(variant=variant, include_top=False, input_shape=shape(123, 123, 3))
    assert model.output_shape[1 if data_format == "channels_first" else -1] == features(variant)

    inputs = keras.Input(shape(200, 200, 4))
    stem = keras.layers.Conv2D(3, 3, padding="same")(inputs)
    model = GoogLeNet(variant=variant, include_top=False, input_tensor=stem)
    assert model.inputs[0] is inputs

    model = GoogLeNet(variant=variant, include_top=False, pooling="max")
    assert model.output_shape == (None, features(variant))

    model = GoogLeNet(variant=variant, input_shape=shape(80, 80, 3), aux_heads=False)
    assert model.layers[-1].activation is keras.activations.softmax
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert len(copy.weights) == len(model.weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variants",
    [("paper",), pytest.param(("bn", "residual", "torchvision"), marks=pytest.mark.slow)],
    ids=str,
)
def test_both_data_formats_compute_the_same(variants):
    """On JAX: TensorFlow has no channels-first convolution on the CPU."""
    code = f"""
import keras, numpy as np
from keras_googlenet import GoogLeNet
from keras_googlenet.network.variants import VARIANTS
x = np.random.default_rng(0).normal(size=(2, 84, 79, 3)).astype("float32")
for name in {variants}:
    small = VARIANTS[name].scaled(1 / 8)
    last = GoogLeNet(variant=small, input_shape=(84, 79, 3), classes=5, name="m")
    keras.config.set_image_data_format("channels_first")
    first = GoogLeNet(variant=small, input_shape=(3, 84, 79), classes=5, name="m")
    keras.config.set_image_data_format("channels_last")
    first.set_weights(last.get_weights())
    for a, b in zip(last.predict(x), first.predict(x.transpose(0, 3, 1, 2))):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5)
print("same")
"""
    assert run_python(code, env={"KERAS_BACKEND": "jax"}).split()[-1] == "same"


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(variant, marks=pytest.mark.ci if variant == "torchvision" else pytest.mark.slow)
        for variant in sorted(set(VARIANTS) - {"paper", "bn"})
    ],
)
def test_saved_and_loaded(variant, tmp_path, random):
    model = GoogLeNet(variant=VARIANTS[variant].scaled(1 / 8), input_shape=(80, 80, 3), classes=5)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    x = random.normal(size=(1, 80, 80, 3)).astype("float32")
    outputs = (keras.tree.flatten(m.predict(x, verbose=0)) for m in (model, copy))
    for ours, theirs in zip(*outputs, strict=True):
        np.testing.assert_array_equal(ours, theirs)
