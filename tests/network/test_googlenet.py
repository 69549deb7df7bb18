"""The factory. Backend-agnostic: `test_backends.py` runs this file on JAX as well."""

import math

import keras
import numpy as np
import pytest

from keras_googlenet import GoogLeNet
from keras_googlenet.network.architecture import TABLE_1, sides
from keras_googlenet.network.variants import VARIANTS

# Parameters at 1000 classes: main head, auxiliary heads as well, no top.
PARAMETERS = {
    "paper": (6_998_552, 13_378_280, 5_973_552),
    "bn": (7_020_392, 13_400_888, 5_995_392),
    "torchvision": (6_639_464, 13_019_960, 5_614_464),
    "slim": (6_632_184, 6_632_184, 5_607_184),
    "d2l": (6_998_552, 6_998_552, 5_973_552),
    "listing": (6_617_624, 12_997_352, 5_592_624),
    "slides": (6_994_392, 7_905_192, 5_969_392),
    "naive": (97_541_224, 104_290_360, 92_596_224),
    "v2": (7_308_328, 13_688_824, 6_283_328),
    "residual": (10_238_248, 16_618_744, 9_213_248),
    "small_images": (6_900_968, 13_281_464, 5_875_968),
    "light_stem": (7_008_360, 10_243_128, 5_983_360),
    "short": (3_495_424, 3_495_424, 2_726_424),
}
# What their authors count: no moving statistics, main head and with auxiliary heads.
PUBLISHED_TRAINABLE = {"torchvision": (6_624_904, 13_004_888), "paper": (6_998_552, 13_378_280)}
SIDES = {"slides": 32, "small_images": 32, "light_stem": 32, "short": 32}  # pixels; 224 for the rest


def narrow(variant):
    """The variant with an eighth of its channels: the same layers, quickly."""
    return VARIANTS[variant].scaled(1 / 8)


SMALL = {"input_shape": (80, 80, 3), "classes": 7}


def test_every_variant_has_pinned_parameters():
    assert set(PARAMETERS) == set(VARIANTS)


QUICK = ("paper", "bn")


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=() if name in QUICK else pytest.mark.ci) for name in PARAMETERS]
)
def test_parameters(variant):
    side = SIDES.get(variant, 224)
    shape = (side, side, 3)
    models = (
        GoogLeNet(variant=variant, input_shape=shape, aux_heads=False),
        GoogLeNet(variant=variant, input_shape=shape),
        GoogLeNet(variant=variant, input_shape=shape, include_top=False),
    )
    assert tuple(model.count_params() for model in models) == PARAMETERS[variant]
    if variant in PUBLISHED_TRAINABLE:
        counts = [sum(math.prod(v.shape) for v in model.trainable_variables) for model in models[:2]]
        assert tuple(counts) == PUBLISHED_TRAINABLE[variant]


def test_defaults_are_the_paper_s():
    model = GoogLeNet()
    assert model.name == "googlenet"
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == [(None, 1000)] * 3
    assert model.output_names == ["main", "aux1", "aux2"]
    assert model.get_layer("aux1_pool").output.shape == (None, 4, 4, 512)
    assert model.get_layer("aux2_pool").output.shape == (None, 4, 4, 528)
    rates = {name: model.get_layer(f"{name}_dropout").rate for name in model.output_names}
    assert rates == {"main": 0.4, "aux1": 0.7, "aux2": 0.7}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(79, 79), (96, 80), (97, 122)])
def test_built_shapes_are_the_computed_ones(variant, size):
    model = GoogLeNet(input_shape=(*size, 3), classes=7, variant=narrow(variant))
    computed = [sides(VARIANTS[variant], side) for side in size]
    for row in VARIANTS[variant].blocks:
        shape = model.get_layer(f"inception_{row.name}_output").output.shape
        assert shape[1:3] == (computed[0][row.name], computed[1][row.name])


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"naive", "short"}))
def test_built_channels_are_table_1_s(variant):
    model = GoogLeNet(include_top=False, variant=variant)
    for row in TABLE_1:
        assert model.get_layer(f"inception_{row.name}_output").output.shape[-1] == row.filters


def test_layers_are_named_after_the_paper():
    model = GoogLeNet(**SMALL)
    for name in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool", "pool_proj", "output"):
        model.get_layer(f"inception_4a_{name}")
    kernels = {n: model.get_layer(f"inception_4a_{n}").kernel.shape[:2] for n in ("1x1", "3x3", "5x5")}
    assert kernels == {"1x1": (1, 1), "3x3": (3, 3), "5x5": (5, 5)}


@pytest.mark.parametrize("variant", ["paper", "bn"])
def test_convolutions_have_biases_or_batch_norm(variant):
    model = GoogLeNet(**SMALL, variant=variant)
    kinds = [type(layer).__name__ for layer in model.layers]
    biased = {layer.use_bias for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    norms = [layer.name for layer in model.layers if layer.name.endswith(("norm1", "norm2"))]
    if variant == "paper":
        assert biased == {True}
        assert norms == ["pool1_norm1", "conv2_norm2"]
        assert "BatchNormalization" not in kinds
    else:
        assert biased == {False}
        assert norms == []
        assert kinds.count("BatchNormalization") == kinds.count("Conv2D") == 59


def test_initial_biases_are_the_bvlc_model_s():
    model = GoogLeNet(**SMALL)
    assert (np.asarray(model.get_layer("inception_3a_1x1").bias) == np.float32(0.2)).all()
    assert (np.asarray(model.get_layer("aux1_fc").bias) == np.float32(0.2)).all()
    assert (np.asarray(model.get_layer("main").bias) == 0).all()


# Compiling a step takes XLA 20 s; the other variants are made of the same layers.
NARROW = [] if keras.backend.backend() == "jax" else sorted(set(VARIANTS) - {"paper", "bn"})


@pytest.mark.parametrize(
    "variant",
    [
        "paper",
        pytest.param("bn", marks=pytest.mark.ci),
        *(pytest.param(narrow(name), marks=pytest.mark.slow) for name in NARROW),
    ],
    ids=["paper", "bn", *NARROW],
)
def test_a_training_step_changes_every_trainable_weight(variant, random):
    keras.utils.set_random_seed(0)
    model = GoogLeNet(**SMALL, variant=variant, dropout=0, aux_dropout=0)
    heads = len(model.outputs)
    loss = "sparse_categorical_crossentropy"
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=[loss] * heads,
        loss_weights=[1, 0.3, 0.3][:heads],
        metrics=[["accuracy"]] * heads,
    )
    before = [np.array(v) for v in model.trainable_variables]
    x = random.uniform(-1, 1, (7, 80, 80, 3)).astype("float32")
    y = np.arange(7)
    logs = model.train_on_batch(x, [y] * heads, return_dict=True)
    if heads == 3:
        assert {"loss", "main_accuracy", "aux1_accuracy", "aux2_loss"} <= set(logs)
        weighted = logs["main_loss"] + 0.3 * logs["aux1_loss"] + 0.3 * logs["aux2_loss"]
        assert float(logs["loss"]) == pytest.approx(float(weighted), rel=1e-4)
    unchanged = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if (np.asarray(variable) == old).all()
    ]
    assert unchanged == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_classifiers_are_float32_under_mixed_precision(variant):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = GoogLeNet(**SMALL, variant=narrow(variant))
    finally:
        keras.config.set_dtype_policy(before)
    outputs = model(np.zeros((1, 80, 80, 3), "float32"))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    assert {keras.backend.standardize_dtype(output.dtype) for output in outputs} == {"float32"}
    assert model.get_layer("inception_4a_1x1").compute_dtype == "bfloat16"


def test_without_auxiliary_heads_any_size_may_come():
    model = GoogLeNet(input_shape=(None, None, 3), classes=7, aux_heads=False)
    for side in (31, 50, 96):
        assert model(np.zeros((1, side, side, 3), "float32")).shape == (1, 7)


def test_logits():
    model = GoogLeNet(**SMALL, aux_heads=False, classifier_activation=None)
    assert model.get_layer("main").activation is keras.activations.linear


@pytest.mark.parametrize("channels", [1, 4])
def test_no_top_any_channels(channels):
    model = GoogLeNet(include_top=False, input_shape=(None, None, channels))
    assert model.output_shape == (None, None, None, 1024)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooling(pooling):
    assert GoogLeNet(include_top=False, pooling=pooling).output_shape == (None, 1024)


def test_input_tensor():
    inputs = keras.Input((100, 100, 1))
    stem = keras.layers.Conv2D(4, 3)(inputs)
    model = GoogLeNet(input_tensor=stem, include_top=False)
    assert model.inputs[0] is inputs
    side = sides(VARIANTS["paper"], 98)["5b"]
    assert model.output_shape == (None, side, side, 1024)


@pytest.mark.parametrize("variant", VARIANTS)
def test_configuration_round_trip(variant):
    model = GoogLeNet(**SMALL, variant=narrow(variant))
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]
    assert copy.output_names == model.output_names


def test_weights_from_a_file(tmp_path):
    model = GoogLeNet(**SMALL)
    model.save_weights(tmp_path / "some.weights.h5")
    copy = GoogLeNet(**SMALL, weights=tmp_path / "some.weights.h5")
    for old, new in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (78, 79, 3)}, "at least 79 x 79 .* Received: 78 x 79"),
        ({"input_shape": (31, 30, 3), "aux_heads": False}, "at least 31 x 31 .* Received: 31 x 30"),
        ({"input_shape": (30, 30, 3), "include_top": False}, "at least 31 x 31 .* Received: 30 x 30"),
        ({"input_shape": (None, None, 3)}, "height and width should be known"),
        ({"input_shape": (96, 96)}, "input_shape=.96, 96."),
        ({"input_shape": (96, 96, None)}, "known number of channels"),
        ({"variant": "resnet"}, "one of .*'bn'.*'paper'.*variant='resnet'"),
        ({"weights": "no/such.weights.h5"}, "weights='no/such.weights.h5'"),
        ({"pooling": "mean"}, "pooling='mean'"),
        ({"classes": 0}, "classes=0"),
        ({"classes": 2.5}, "classes=2.5"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"aux_dropout": -0.1}, "aux_dropout=-0.1"),
        ({"input_tensor": np.zeros((1, 96, 96, 3))}, "Keras tensor"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GoogLeNet(**arguments)
