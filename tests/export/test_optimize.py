import hashlib
import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_networks import narrow, with_random_statistics
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from keras_googlenet import Architecture, GoogLeNet, export_saved_model
from keras_googlenet.export.optimize import BandNormalization, optimized
from keras_googlenet.export.provenance import weights, weights_sha256
from keras_googlenet.network.surgery import strip_aux
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.session import SavedModelSession


def close(ours, theirs, tolerance=1e-5):
    """Relative to the largest value."""
    return np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.fixture(scope="module")
def tiny(tiny_variant):
    model = GoogLeNet(
        variant=Architecture.from_json(tiny_variant.read_text()), input_shape=(28, 28, 3), classes=3
    )
    return with_random_statistics(model, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("variant", "channels"), [("paper", 1), ("residual", 1), *((v, 3) for v in VARIANTS)]
)
def test_every_variant_answers_as_before(variant, channels, random):
    architecture = narrow(VARIANTS[variant])
    model = GoogLeNet(
        variant=architecture,
        input_shape=(64, 64, channels),
        classes=7,
        classifier_activation=None,
    )
    with_random_statistics(model, random)
    x = random.normal(0, 1, (2, 64, 64, channels)).astype("float32")
    fast = optimized(model, "float32")
    logits = model(x, training=False).numpy()
    assert close(fast(x).numpy(), logits)
    np.testing.assert_allclose(
        keras.ops.softmax(fast(x)).numpy(), keras.ops.softmax(logits).numpy(), atol=1e-5
    )
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in fast.layers)
    half = optimized(model, "bfloat16")
    assert close(half(x).numpy(), logits, 0.05)
    assert half.layers[-1].dtype == "float32"


def test_the_model_itself_stays_as_it_is(tiny, random):
    x = random.normal(0, 1, (1, 28, 28, 3)).astype("float32")
    before, names = tiny(x, training=False).numpy(), [layer.name for layer in tiny.layers]
    optimized(strip_aux(tiny), "bfloat16")
    assert [layer.name for layer in tiny.layers] == names
    np.testing.assert_array_equal(tiny(x, training=False), before)


def test_windows_are_summed_by_a_matrix_in_bfloat16_alone(random):
    """Activations so large that the normalization counts."""
    model = GoogLeNet(
        variant=narrow(VARIANTS["paper"]), input_shape=(64, 64, 3), classes=7, classifier_activation=None
    )
    x = random.normal(0, 500, (2, 64, 64, 3)).astype("float32")
    fast = optimized(model, "bfloat16")
    norms = {layer.name for layer in fast.layers if isinstance(layer, BandNormalization)}
    assert norms == {"pool1_norm1", "conv2_norm2"}
    logits = model(x, training=False).numpy()
    assert close(fast(x).numpy(), logits, 0.03)
    block = keras.Model(fast.inputs[0], fast.get_layer("conv2_norm2").output)
    expected = keras.Model(model.inputs[0], model.get_layer("conv2_norm2").output)
    assert close(block(x).numpy().astype("float32"), expected(x).numpy(), 0.03)
    in_float32 = optimized(model, "float32")
    assert not any(isinstance(layer, BandNormalization) for layer in in_float32.layers)


def test_a_window_is_as_wide_as_it_is(random):
    """Not only the paper's, and not only a symmetric one."""
    x = np.abs(random.normal(0, 1, (1, 2, 2, 6))).astype("float32")
    squares = np.pad(x**2, ((0, 0), (0, 0), (0, 0), (1, 1)))
    sums = 0.5 * squares[..., :-2] + 0.3 * squares[..., 1:-1] + 0.1 * squares[..., 2:]
    found = BandNormalization([0.5, 0.3, 0.1], 2.0)(x)
    np.testing.assert_allclose(found, x * (2 + sums) ** -0.75, rtol=1e-5)


def test_what_cannot_be_folded_stays(random):
    """A norm of what others read too, one after no convolution, a capped ReLU."""
    inputs = keras.Input((8, 8, 3))
    shared = layers.Conv2D(4, 3, name="shared")(inputs)
    one = layers.BatchNormalization(name="one")(shared)
    x = layers.Concatenate()([one, shared])
    x = layers.Conv2D(4, 1, name="before_capped")(x)
    x = layers.ReLU(max_value=0.5, name="capped")(x)
    x = layers.BatchNormalization(name="alone")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(4, 1, activation="tanh", name="tanh")(x)
    x = layers.BatchNormalization(name="after_tanh")(x)
    x = layers.DepthwiseConv2D(2, use_bias=False)(x)
    outputs = layers.BatchNormalization(scale=False, center=False, name="after_depthwise")(x)
    model = with_random_statistics(keras.Model(inputs, outputs), random)
    fast = optimized(model, "float32")
    assert [layer.name for layer in fast.layers][1:] == [layer.name for layer in model.layers][1:]
    x = random.normal(0, 1, (2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(fast(x), model(x, training=False), rtol=1e-5, atol=1e-6)


def operations(folder):
    """The op types in a version's graph."""
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    return [node.op for node in graph.node] + [
        node.op for function in graph.library.function for node in function.node_def
    ]


@pytest.fixture(scope="module")
def versions(tiny, tmp_path_factory):
    """By level, an export."""
    directory = tmp_path_factory.mktemp("models") / "m"
    return {
        level: export_saved_model(tiny, directory, optimize=level, warmup_batch_sizes=(1,), cam=True)
        for level in ("none", "fold", "cpu")
    }


@pytest.mark.ci
def test_levels_answer_alike(versions, random):
    x = random.uniform(0, 255, (3, 28, 28, 3)).astype("float32")
    answers = {
        name: SavedModelSession(folder).run("tensor", {"images": x}) for name, folder in versions.items()
    }
    for level in ("fold", "cpu"):
        np.testing.assert_allclose(
            answers[level]["probabilities"], answers["none"]["probabilities"], atol=1e-5
        )
        np.testing.assert_array_equal(answers[level]["classes"], answers["none"]["classes"])


@pytest.mark.ci
def test_what_each_level_holds(versions, tiny):
    """Each weight of the main path is there once: the trained, the folded, or the folded as constants."""
    main = strip_aux(tiny)
    folded = optimized(main, "float32")
    stored = {
        level: sorted(
            str(values.shape) for name, values in weights(folder).items() if "save_counter" not in name
        )
        for level, folder in versions.items()
    }
    assert stored["none"] == sorted(str(tuple(weight.shape)) for weight in main.weights)
    assert stored["fold"] == stored["cpu"] == sorted(str(tuple(weight.shape)) for weight in folded.weights)
    assert len(stored["fold"]) < len(stored["none"])
    assert {name for name in weights(versions["cpu"]) if "save_counter" not in name} == {
        f"weights/{weight.path}" for weight in folded.weights
    }
    normalized = "FusedBatchNormV3"
    assert (normalized in operations(versions["none"])) or "Rsqrt" in operations(versions["none"])
    for level in ("fold", "cpu"):
        assert not {normalized, "Rsqrt"} & set(operations(versions[level]))
        convolutions = [operations(versions[each]).count("Conv2D") for each in ("none", level)]
        assert convolutions[0] == convolutions[1]
    assert "ReadVariableOp" in operations(versions["fold"])
    assert "ReadVariableOp" not in operations(versions["cpu"])


@pytest.mark.ci
def test_the_hash_of_constants_can_be_computed_again(versions):
    folder = versions["cpu"]
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    constants = {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for function in saved.meta_graphs[0].graph_def.library.function
        for node in function.node_def
        if node.name.startswith("weights/")
    }
    prefix = str(folder / "variables/variables")
    for name, _ in tf.train.list_variables(prefix):
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
            constants[name] = tf.train.load_variable(prefix, name)
    digests = [
        hashlib.sha256(f"{values.dtype} {values.shape}\n".encode() + values.tobytes()).hexdigest() + "\n"
        for values in constants.values()
    ]
    whole = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    told = json.loads((folder / "assets.extra/provenance.json").read_text())
    assert told["weights_sha256"] == whole == weights_sha256(folder)
    assert told["optimize"] == "cpu"


def test_bfloat16_holds_its_convolutions_in_bfloat16(tiny):
    half = optimized(strip_aux(tiny), "bfloat16")
    dtypes = {weight.path: weight.dtype for weight in half.weights}
    assert {dtype for path, dtype in dtypes.items() if not path.startswith("main/")} == {"bfloat16"}
    assert {dtype for path, dtype in dtypes.items() if path.startswith("main/")} == {"float32"}


def test_linear_reductions_stay_linear(random):
    architecture = narrow(replace(VARIANTS["bn"], linear_reductions=True))
    model = GoogLeNet(variant=architecture, input_shape=(64, 64, 3), classes=3)
    with_random_statistics(model, random)
    x = random.normal(0, 1, (1, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(optimized(model, "float32")(x), model(x, training=False), atol=1e-5)
