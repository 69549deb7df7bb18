import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from small_networks import narrow, with_random_statistics

from keras_googlenet import Architecture, GoogLeNet, UserError, export_saved_model
from keras_googlenet.export import parallel
from keras_googlenet.export.network import served_network
from keras_googlenet.export.optimize import optimized
from keras_googlenet.export.parallel import split_batches, split_layers
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.session import SavedModelSession


@pytest.fixture(scope="module")
def tiny(tiny_variant):
    model = GoogLeNet(
        variant=Architecture.from_json(tiny_variant.read_text()), input_shape=(28, 28, 3), classes=3
    )
    return with_random_statistics(model, np.random.default_rng(1))


@pytest.fixture
def everything_is_long(monkeypatch):
    """Convolutions of networks as small as these are divided too."""
    monkeypatch.setattr(parallel, "LONG", {"float32": 0, "bfloat16": 0})
    monkeypatch.setattr(parallel, "FEWEST_FILTERS", 1)


@pytest.mark.usefixtures("everything_is_long")
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_answers_as_before(variant, random):
    model = GoogLeNet(
        variant=narrow(VARIANTS[variant]), input_shape=(64, 64, 3), classes=7, classifier_activation=None
    )
    with_random_statistics(model, random)
    before, rounded = optimized(model, "float32"), optimized(model, "bfloat16")
    x = random.normal(0, 1, (2, 64, 64, 3)).astype("float32")
    expected, nearly = before(x), rounded(x)
    for cores in (2, 3):
        after = split_layers(before, cores)
        np.testing.assert_allclose(after(x), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            split_layers(rounded, cores)(x), nearly, rtol=0.02, atol=0.02 * np.abs(expected).max()
        )
        assert len(convolutions(after)) > 1.5 * len(convolutions(before))
        assert sum(weight.numpy().size for weight in after.weights) == before.count_params()


def convolutions(model):
    return [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]


def test_long_convolutions_alone_are_divided_and_their_parts_are_put_together_once():
    """At 224 pixels: the stem's two in bfloat16, and those of a concatenation go into it as they are."""
    model = GoogLeNet(variant="bn", input_shape=(224, 224, 3), classes=7, aux_heads=False)
    names = {
        precision: {layer.name for layer in convolutions(split_layers(optimized(model, precision), 2))}
        for precision in ("float32", "bfloat16")
    }
    assert {"conv1_7x7_s2_0", "conv1_7x7_s2_1", "conv2_3x3_0", "conv2_3x3_1", "inception_3b_3x3_1"} <= (
        names["bfloat16"]
    )
    assert {"inception_3a_3x3", "inception_4a_1x1", "inception_5b_3x3"} <= names["bfloat16"]
    assert {"inception_3a_3x3_0", "inception_4a_1x1", "inception_5b_3x3_0"} <= names["float32"]
    split = split_layers(optimized(model, "bfloat16"), 2)
    producers = {id(layer.output): layer for layer in split.layers}
    pools = [producers[id(tensor)] for tensor in split.get_layer("pool3_3x3_s2").input]
    # Each branch is pooled by itself, the one of most work first.
    branches = [producers[id(pool.input)].name for pool in pools]
    assert branches[:2] == ["inception_3b_3x3_0", "inception_3b_3x3_1"]
    assert len(branches) == 5


@pytest.mark.ci
@pytest.mark.usefixtures("everything_is_long")
def test_features_and_maps_keep_their_channels(tiny, tmp_path, random):
    """What others read has the order of the trained network, and each image its own answer."""
    options = {"warmup_batch_sizes": (1, 2), "cam": True}
    plain = export_saved_model(tiny, tmp_path / "plain", **options)
    divided = export_saved_model(tiny, tmp_path / "divided", cores=3, optimize="cpu", **options)
    files = [tf.io.encode_png(random.integers(0, 256, (28, 28, 3)).astype("uint8")).numpy() for _ in range(7)]
    one, other = SavedModelSession(plain), SavedModelSession(divided)
    for count in (1, 2, 3, 4, 7):
        for signature in ("serving_default", "features", "cam"):
            expected = one.run(signature, {"images": files[:count]})
            for name, values in other.run(signature, {"images": files[:count]}).items():
                if values.dtype == object:
                    assert values.tolist() == expected[name].tolist()
                else:
                    np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-5)
    assert json.loads((divided / "assets.extra/provenance.json").read_text())["cores"] == 3


@given(count=st.integers(1, 20), cores=st.integers(1, 6))
@settings(max_examples=25)
def test_shares_are_as_even_as_can_be_and_stay_in_order(count, cores):
    sizes = []

    def answer(images):
        def note(numbers):
            sizes.append(len(numbers))
            return numbers

        return {"numbers": tf.ensure_shape(tf.numpy_function(note, [images], tf.float32), [None])}

    numbers = np.arange(count, dtype="float32")
    divided = tf.function(split_batches(answer, cores), input_signature=[tf.TensorSpec([None], tf.float32)])
    np.testing.assert_array_equal(divided(numbers)["numbers"], numbers)
    assert sum(sizes) == count
    assert max(sizes) == -(-count // cores)


@pytest.mark.parametrize("optimize", ["fold", "cpu"])
def test_no_share_waits_for_another(optimize, tiny):
    """Neither for its answer nor, by a control edge, for a check in it."""
    graph = served_network(tiny, optimize=optimize, cores=3).function().get_concrete_function().graph
    shares = [each for each in graph.get_operations() if "PartitionedCall" in each.type or "If" in each.type]
    assert len(shares) == 3
    for share in shares:
        assert not set(shares) & set(ancestors(share))


def ancestors(operation):
    """All that an operation waits for."""
    found, waiting = set(), [operation]
    while waiting:
        current = waiting.pop()
        before = [tensor.op for tensor in current.inputs] + list(current.control_inputs)
        new = set(before) - found
        found |= new
        waiting += new
    return found


def test_wrong_cores(tiny, tmp_path):
    with pytest.raises(UserError, match="expected `cores` to be at least 1, got 0"):
        export_saved_model(tiny, tmp_path / "m", cores=0)
    with pytest.raises(UserError, match="expected `optimize` fold or cpu for 2 cores, got none"):
        export_saved_model(tiny, tmp_path / "m", cores=2, optimize="none")
    assert not (tmp_path / "m").exists()


def test_a_network_of_other_layers_is_left_as_it_is(random):
    """Channels of which a sum, a grouped convolution or the output reads are not reordered."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 1, name="short")(inputs)
    x = layers.Concatenate()([x, layers.Conv2D(8, 3, padding="same", name="long")(inputs)])
    x = layers.Conv2D(12, 3, groups=4, padding="same")(x)
    y = layers.Concatenate()([x, layers.Conv2D(12, 3, padding="same")(inputs)])
    x = layers.Add()([y, layers.MaxPooling2D(3, 1, "same")(y)])
    model = keras.Model(inputs, x)
    with_random_statistics(model, random)
    x = random.normal(0, 1, (2, 8, 8, 4)).astype("float32")
    np.testing.assert_allclose(split_layers(model, 2)(x), model(x), rtol=1e-5, atol=1e-5)
