"""The networks of the comparison, against counts and shapes that others publish or that follow by hand."""

import math

import keras
import numpy as np
import pytest

from keras_googlenet.network.classics import VGG11, AlexNet, NiN

FACTORIES = {"nin": NiN, "alexnet": AlexNet, "vgg11": VGG11}
# Of AlexNet and VGG-11 the smallest that leave a pixel, so that their first fully connected layer is small
SMALL = {"nin": (80, 80, 3), "alexnet": (63, 63, 3), "vgg11": (32, 32, 3)}


def small(name, **arguments):
    """The network at a small input."""
    return FACTORIES[name](input_shape=SMALL[name], **{"classes": 7} | arguments)


def conv(inputs, filters, kernel):
    """Parameters of a convolution with biases."""
    return kernel * kernel * inputs * filters + filters


def nin(channels, classes, blocks):
    """Parameters of a NiN, block by block."""
    total = 0
    for filters, kernel in (*blocks, (classes, 3)):
        total += conv(channels, filters, kernel) + 2 * conv(filters, filters, 1)
        channels = filters
    return total


def test_parameters_at_1000_classes():
    # torchvision's vgg11; AlexNet with 96-256-384-384-256 channels, ungrouped, and 6 x 6 x 256 features.
    assert VGG11().count_params() == 132_863_336
    assert AlexNet().count_params() == 62_378_344
    assert NiN().count_params() == nin(3, 1000, [(96, 11), (256, 5), (384, 3)]) == 7_439_608


def test_parameters_of_d2l_nin():
    assert NiN(10, variant="d2l").count_params() == nin(1, 10, [(24, 3), (64, 3), (96, 4)]) == 149_542


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        # Dive into Deep Learning prints these for NiN at 224 pixels
        (
            lambda: NiN(10),
            {
                "nin1_1x1_b": (54, 54, 96),
                "pool1": (26, 26, 96),
                "nin2_1x1_b": (26, 26, 256),
                "pool2": (12, 12, 256),
                "nin3_1x1_b": (12, 12, 384),
                "pool3": (5, 5, 384),
                "nin4_1x1_b": (5, 5, 10),
                "avg_pool": (10,),
            },
        ),
        (
            lambda: NiN(10, variant="d2l"),
            {
                "nin1_3x3": (26, 26, 24),
                "pool1": (12, 12, 24),
                "nin2_3x3": (7, 7, 64),
                "pool2": (3, 3, 64),
                "nin3_4x4": (1, 1, 96),
                "nin4_3x3": (1, 1, 10),
                "main": (10,),
            },
        ),
        # Krizhevsky et al. (2012): 55, 27, 13, 6
        (
            lambda: AlexNet(10),
            {
                "conv1_11x11_s4": (55, 55, 96),
                "pool1": (27, 27, 96),
                "conv2_5x5": (27, 27, 256),
                "pool2": (13, 13, 256),
                "conv5_3x3": (13, 13, 256),
                "pool5": (6, 6, 256),
                "flatten": (9216,),
                "fc6": (4096,),
                "fc7": (4096,),
                "main": (10,),
            },
        ),
        (
            lambda: VGG11(10, (64, 64, 3)),
            {
                "conv1_1": (64, 64, 64),
                "conv2_1": (32, 32, 128),
                "conv3_2": (16, 16, 256),
                "conv4_2": (8, 8, 512),
                "conv5_2": (4, 4, 512),
                "pool5": (2, 2, 512),
                "flatten": (2048,),
            },
        ),
    ],
    ids=["nin", "nin-d2l", "alexnet", "vgg11"],
)
def test_shapes(model, shapes):
    model = model()
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes


@pytest.mark.parametrize("name", FACTORIES)
def test_order_of_the_top(name):
    kinds = [type(layer).__name__ for layer in small(name).layers]
    if name == "nin":
        assert kinds[-6:] == ["Dropout", "Conv2D", "Conv2D", "Conv2D", "GlobalAveragePooling2D", "Activation"]
    else:
        assert kinds[-6:] == ["Flatten", "Dense", "Dropout", "Dense", "Dropout", "Dense"]


@pytest.mark.parametrize("name", FACTORIES)
def test_outputs(name, random):
    images = random.uniform(-1, 1, (2, *SMALL[name])).astype("float32")
    probabilities = np.asarray(small(name)(images))
    assert probabilities.shape == (2, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    logits = np.asarray(small(name, classifier_activation=None)(images))
    assert not np.allclose(logits.sum(axis=1), 1)


def test_nin_takes_any_size():
    model = NiN(7, (None, None, 3))
    for side in (67, 96):
        assert model(np.zeros((1, side, side, 3), "float32")).shape == (1, 7)


def test_a_training_step_changes_every_weight(random):
    keras.utils.set_random_seed(0)
    model = NiN(10, variant="d2l", dropout=0.0)
    model.compile(keras.optimizers.SGD(0.05), loss="sparse_categorical_crossentropy")
    before = [np.array(v) for v in model.trainable_variables]
    model.train_on_batch(random.random((64, 28, 28, 1)).astype("float32"), np.arange(64) % 10)
    changed = [(np.asarray(v) != old).any() for v, old in zip(model.trainable_variables, before, strict=True)]
    assert all(changed)


@pytest.mark.parametrize("name", FACTORIES)
def test_dropout(name):
    model = small(name, dropout=0.25)
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    expected = {"main_dropout": 0.25} if name == "nin" else {"fc6_dropout": 0.25, "main_dropout": 0.25}
    assert rates == expected


@pytest.mark.parametrize("name", FACTORIES)
def test_output_is_float32_under_mixed_precision(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(name)
    finally:
        keras.config.set_dtype_policy(before)
    output = model(np.zeros((1, *SMALL[name]), "float32"))
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert next(x for x in model.layers if isinstance(x, keras.layers.Conv2D)).compute_dtype == "bfloat16"


@pytest.mark.parametrize("name", FACTORIES)
def test_configuration_round_trip(name):
    model = small(name)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert model.name == copy.name == name
    assert [math.prod(w.shape) for w in copy.weights] == [math.prod(w.shape) for w in model.weights]


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        (NiN, {"variant": "cifar"}, r"one of \['d2l', 'imagenet'\].*variant='cifar'"),
        (NiN, {"variant": "d2l", "input_shape": (16, 28, 1)}, "at least 17 x 17 .*Received: 16 x 28"),
        (NiN, {"classes": 0}, "classes=0"),
        (NiN, {"dropout": 1.0}, r"dropout=1\.0"),
        (AlexNet, {"input_shape": (62, 63, 3)}, "at least 63 x 63 .*Received: 62 x 63"),
        (AlexNet, {"input_shape": (None, None, 3)}, r"known in full.*\(None, None, 3\)"),
        (AlexNet, {"classes": 2.5}, r"classes=2\.5"),
        (VGG11, {"input_shape": (31, 32, 3)}, "at least 32 x 32 .*Received: 31 x 32"),
        (VGG11, {"input_shape": (224, 224)}, r"input_shape=\(224, 224\)"),
    ],
)
def test_wrong_arguments(factory, arguments, message):
    with pytest.raises(ValueError, match=message):
        factory(**arguments)
