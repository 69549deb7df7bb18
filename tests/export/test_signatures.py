"""What the signatures of an exported version answer, and what they refuse whoever serves them."""

import io
import struct
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from keras_googlenet import Architecture, GoogLeNet, Preprocessing, UserError
from keras_googlenet.export.network import served_network
from keras_googlenet.export.signatures import signatures
from keras_googlenet.network.classics import AlexNet, NiN
from keras_googlenet.run import folder as run_folder
from keras_googlenet.session import SavedModelSession

SIDE = 80
BYTES = ("string", [-1])
RATED = {"classes": ("string", [-1, 2]), "scores": ("float32", [-1, 2])}
FULL = RATED | {"probabilities": ("float32", [-1, 2])}
DECLARED = {
    "serving_default": ("images", BYTES, FULL),
    "tensor": ("images", ("float32", [-1, SIDE, SIDE, 3]), FULL),
    "tensor_uint8": ("images", ("uint8", [-1, SIDE, SIDE, 3]), FULL),
    "classify": ("inputs", BYTES, RATED),
    "features": ("images", BYTES, {"features": ("float32", [-1, 208])}),
    "labels": ("indices", ("int64", [-1]), {"labels": ("string", [-1])}),
}


@pytest.fixture(scope="module")
def session(exported):
    return SavedModelSession(exported)


@pytest.fixture(scope="module")
def ask(exported):
    """Runs a signature with no check outside of the graph, as a server does: placeholders take any shape."""
    saved_model = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    (meta,) = saved_model.meta_graphs
    fed = {name: meta.signature_def[name].inputs[DECLARED[name][0]].name for name in DECLARED}
    for node in meta.graph_def.node:
        if f"{node.name}:0" in fed.values():
            node.attr["shape"].shape.Clear()
            node.attr["shape"].shape.unknown_rank = True
            del node.attr["_output_shapes"]
    with tf.Graph().as_default():
        session = tf.compat.v1.Session()
        tf.compat.v1.train.import_meta_graph(meta).restore(session, str(exported / "variables/variables"))

    def run(name, value):
        outputs = meta.signature_def[name].outputs
        return session.run({key: info.name for key, info in outputs.items()}, {fed[name]: value})

    return run


@pytest.fixture(scope="module")
def encoded(image_folder):
    paths = [image_folder / name / f"{index}.png" for name in CLASSES for index in range(2)]
    return np.array([path.read_bytes() for path in paths], object)


@pytest.fixture(scope="module")
def tiny(tiny_variant):
    """A model of the family for images of 28 pixels, with random weights."""

    def build(**options):
        keras.utils.set_random_seed(3)
        variant = Architecture.from_json(tiny_variant.read_text())
        return GoogLeNet(variant=variant, input_shape=(28, 28, 1), **({"classes": 7} | options))

    return build


def tensor(network, pixels):
    return signatures(network)["tensor"].function(tf.constant(pixels))


def examples(encoded, name="image/encoded"):
    def serialized(image):
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
        return tf.train.Example(features=tf.train.Features(feature={name: feature})).SerializeToString()

    return np.array([serialized(image) for image in encoded], object)


def value_of(name, encoded):
    """A good input of a signature."""
    if name == "labels":
        return np.array([1, 0])
    if name.startswith("tensor"):
        return np.zeros((2, SIDE, SIDE, 3), DECLARED[name][1][0])
    return examples(encoded) if name == "classify" else encoded


def test_signatures_declare_their_types(session):
    declared = {}
    for name, signature in session.signatures.items():
        assert signature.method_name == "tensorflow/serving/predict"
        infos = {
            key: (tf.dtypes.as_dtype(info.dtype).name, [dim.size for dim in info.tensor_shape.dim])
            for key, info in [*signature.inputs.items(), *signature.outputs.items()]
        }
        (argument,) = signature.inputs
        declared[name] = (argument, infos.pop(argument), infos)
    assert declared == DECLARED


# --- answers -------------------------------------------------------------------------------------


def test_uint8_pixels_get_the_answer_of_their_floats(session, random):
    pixels = random.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    by_float = session.run("tensor", {"images": pixels.astype("float32")})
    by_uint8 = session.run("tensor_uint8", {"images": pixels})
    assert by_float.keys() == by_uint8.keys()
    np.testing.assert_array_equal(by_uint8["probabilities"], by_float["probabilities"])


def test_classify_answers_as_the_bytes_do(session, encoded):
    by_bytes = session.run("serving_default", {"images": encoded})
    classified = session.run("classify", {"inputs": examples(encoded)})
    np.testing.assert_array_equal(classified["classes"], by_bytes["classes"])
    np.testing.assert_allclose(classified["scores"], by_bytes["scores"], atol=1e-6)


def test_features_are_what_the_classifier_is_given(session, encoded, finished_run):
    run = run_folder.load(finished_run)
    decoded = [tf.image.resize(tf.io.decode_png(image, 3), (SIDE, SIDE)) for image in encoded]
    averages = keras.Model(run.model.inputs, run.model.get_layer("avg_pool").output)
    expected = averages.predict(run.preprocessing.normalize(np.stack(decoded)), verbose=0)
    features = session.run("features", {"images": encoded})["features"]
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_labels_tell_the_order_of_probabilities(session, encoded):
    answer = session.run("serving_default", {"images": encoded})
    best = answer["probabilities"].argmax(axis=1)
    np.testing.assert_array_equal(session.run("labels", {"indices": best})["labels"], answer["classes"][:, 0])
    names = session.run("labels", {"indices": np.arange(2)})["labels"]
    assert [name.decode() for name in names] == list(CLASSES)


def test_an_image_is_answered_the_same_in_any_batch(session, encoded):
    together = session.run("serving_default", {"images": encoded})["probabilities"]
    alone = [
        session.run("serving_default", {"images": encoded[i : i + 1]})["probabilities"][0] for i in range(4)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def pillow(pixels, kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", ["serving_default", "features", "classify"])
def test_each_format_is_answered_as_its_pixels(ask, random, name):
    pixels = np.repeat(random.integers(0, 256, (SIDE, 10, 3), dtype=np.uint8), SIDE // 10, axis=1)
    jpeg = pillow(pixels, "JPEG")
    files = [
        pillow(np.asarray(Image.open(io.BytesIO(jpeg))), "PNG"), jpeg,
        *(pillow(pixels, *kind) for kind in (["PNG"], ["BMP"], ["BMP", "RGBA"])),
        pillow(pixels, "WEBP", lossless=True),
    ]  # fmt: skip
    answer = ask(name, examples(files) if name == "classify" else np.array(files, object))
    by_pixels = ask("tensor_uint8", pixels[np.newaxis])
    for key, rows in answer.items():
        for row, expected in zip(rows, [rows[0]] * 2 + [by_pixels.get(key, rows[2:])[0]] * 4, strict=True):
            if rows.dtype == object:
                assert list(row) == list(expected)
            else:
                np.testing.assert_allclose(row, expected, atol=1e-5)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DECLARED)
def test_an_empty_batch_is_refused(ask, encoded, name):
    good = value_of(name, encoded)
    assert all(len(output) == len(good) for output in ask(name, good).values())
    with pytest.raises(tf.errors.InvalidArgumentError, match="batch of one row at least"):
        ask(name, good[:0])


@pytest.mark.parametrize("name", DECLARED)
def test_another_rank_is_refused(ask, encoded, name):
    good = value_of(name, encoded)
    for wrong in (good[0], good[np.newaxis]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="is not compatible with expected shape"):
            ask(name, wrong)


@pytest.mark.parametrize("name", ["tensor", "tensor_uint8"])
@pytest.mark.parametrize("shape", [(), (80,), (80, 80, 3), (1, 80, 80), (1, 80, 81, 3), (1, 80, 80, 1)])
def test_another_shape_is_refused(ask, name, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="is not compatible with expected shape"):
        ask(name, np.zeros(shape, DECLARED[name][1][0]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(ask, value):
    """One is enough, for a max pool may drop it and the answer looks like any other."""
    pixels = np.zeros((2, SIDE, SIDE, 3), "float32")
    pixels[1, 40, 50, 0] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Inf|NaN"):
        ask("tensor", pixels)


def test_an_answer_that_is_no_number_is_refused(tiny):
    model = tiny()
    model.get_layer("main").bias.assign([np.nan] * 7)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Inf|NaN"):
        tensor(served_network(model), np.zeros((1, 28, 28, 1), "float32"))


@pytest.mark.parametrize("indices", [[2], [0, -1], [2**40]])
def test_indices_that_are_no_class_are_refused(ask, indices):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected indices from 0 to 1"):
        ask("labels", np.array(indices))


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


BLACK = np.zeros((8, 8, 3), np.uint8)
ANIMATED = {"save_all": True, "append_images": [Image.new("RGB", (8, 8), "white")]}
NOT_SERVED = {
    "empty": b"", "text": b"hello", "jpeg_start": b"\xff\xd8\xff", "png_start": b"\x89PNG\r\n\x1a\n",
    "large_png": png_header(20000, 20000), "gif": pillow(BLACK, "GIF"), "cut_bmp": pillow(BLACK, "BMP")[:60],
    "palette_bmp": pillow(BLACK, "BMP", "P"), "cut_webp": pillow(BLACK, "WEBP")[:24],
    "animated_webp": pillow(BLACK, "WEBP", **ANIMATED), "tiff": pillow(BLACK, "TIFF"), "cut_png": None,
}  # fmt: skip


@pytest.mark.parametrize("name", ["serving_default", "features", "classify"])
@pytest.mark.parametrize("image", NOT_SERVED.values(), ids=NOT_SERVED)
def test_bytes_that_are_no_image_are_refused(ask, encoded, name, image):
    image = encoded[0][:-20] if image is None else image
    batch = [encoded[0], image]
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask(name, examples(batch) if name == "classify" else np.array(batch, object))


def test_examples_without_an_image_are_refused(ask, encoded):
    for wrong in (examples(encoded, "image"), np.array([b"no example"], object)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            ask("classify", wrong)


# --- networks ------------------------------------------------------------------------------------


def test_cam_explains_the_best_class(tiny, random):
    """Zhou et al. 2016: the map's mean and the class's bias are the class's logit."""
    model = tiny(classifier_activation=None)
    bias = random.normal(size=7).astype("float32")
    model.get_layer("main").bias.assign(bias)
    pixels = random.integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    encoded = tf.constant([tf.io.encode_png(image).numpy() for image in pixels])
    network = served_network(model, class_names="abcdefg", cam=True)
    answer = signatures(network, cam=True)["cam"].function(encoded)
    logits = model.predict(Preprocessing(28, 28, 1).normalize(pixels.astype("float32")), verbose=0)
    maps = model.get_layer("avg_pool").input
    assert answer["cam"].shape == (3, *maps.shape[1:3])
    assert answer["cam"].dtype == tf.float32
    best = logits.argmax(axis=1)
    np.testing.assert_allclose(np.mean(answer["cam"], (1, 2)) + bias[best], logits.max(axis=1), atol=1e-5)
    assert [name.decode() for name in answer["classes"].numpy()] == ["abcdefg"[index] for index in best]
    assert answer["maps"].shape == (3, 5, *maps.shape[1:3])
    order = np.argsort(-logits, axis=1)[:, :5]
    expected = np.take_along_axis(logits, order, axis=1) - bias[order]
    np.testing.assert_allclose(np.mean(answer["maps"], (2, 3)), expected, atol=1e-5)
    probabilities = keras.ops.softmax(logits)
    np.testing.assert_allclose(answer["scores"], np.max(probabilities, axis=1), atol=1e-6)


def test_cam_tells_which_part_of_the_image_it_covers(tiny):
    size = Preprocessing(28, 28, 1, crop_fraction=0.5, keep_aspect=True)
    network = served_network(tiny(), size, "abcdefg", cam=True)
    encoded = [tf.io.encode_png(np.zeros((*sides, 1), np.uint8)).numpy() for sides in [(56, 140), (56, 56)]]
    answer = signatures(network, cam=True)["cam"].function(tf.constant(encoded))
    np.testing.assert_allclose(answer["region"], [[0.25, 0.4, 0.75, 0.6], [0.25, 0.25, 0.75, 0.75]])
    whole = served_network(tiny(), class_names="abcdefg", cam=True)
    answer = signatures(whole, cam=True)["cam"].function(tf.constant(encoded))
    np.testing.assert_array_equal(answer["region"], [[0, 0, 1, 1]] * 2)


@pytest.mark.parametrize("network", [lambda: AlexNet(5, (67, 67, 3)), lambda: NiN(5, variant="d2l")])
def test_cam_needs_an_average_before_the_classifier(network):
    with pytest.raises(UserError, match="global average or max pool and a Dense layer"):
        served_network(network(), cam=True)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_probabilities_are_the_softmax_of_logits_over_the_temperature(tiny, random, activation, temperature):
    pixels = random.uniform(0, 255, (3, 28, 28, 1)).astype("float32")
    logits = tiny(classifier_activation=None).predict((pixels - 127.5) / 127.5, verbose=0) / temperature
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    network = served_network(tiny(classifier_activation=activation), temperature=temperature)
    np.testing.assert_allclose(tensor(network, pixels)["probabilities"], expected, atol=1e-6)


def test_small_probabilities_survive_the_temperature(tiny):
    """Where a softmax gives 0, its logarithm would forget the order of classes."""
    model = tiny()
    model.get_layer("main").kernel.assign(np.zeros_like(model.get_layer("main").kernel))
    model.get_layer("main").bias.assign([0, 200, 400, 0, 0, 0, 0])
    probabilities = tensor(served_network(model, temperature=100), np.zeros((1, 28, 28, 1), "float32"))
    np.testing.assert_allclose(probabilities["probabilities"][0, 1], np.exp(2) / (np.exp(4) + np.exp(2) + 5))


def test_other_activations_are_answered_as_they_are(tiny, random):
    model = tiny(classifier_activation="sigmoid")
    pixels = random.uniform(0, 255, (3, 28, 28, 1)).astype("float32")
    expected = model.predict((pixels - 127.5) / 127.5, verbose=0)
    np.testing.assert_allclose(tensor(served_network(model), pixels)["probabilities"], expected, atol=1e-6)
    with pytest.raises(UserError, match='softmax or logits, got "sigmoid"'):
        served_network(model, temperature=2)


def test_the_model_is_left_as_it_was(tiny, random):
    model = tiny()
    pixels = random.normal(size=(2, 28, 28, 1)).astype("float32")
    before = model.predict(pixels, verbose=0)
    served_network(model, precision="bfloat16")
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), before)
    assert model.get_layer("main").activation is keras.activations.softmax
