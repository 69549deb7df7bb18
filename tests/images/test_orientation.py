"""Photos as phones store them: every way into the network gives the upright picture, as Pillow turns it."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from conformance.server import preview
from PIL import Image, ImageOps

from keras_googlenet import Preprocessing, export_saved_model
from keras_googlenet.data import augment, loading, numpy_batches, training_batches
from keras_googlenet.data.batch_spec import BatchSpec
from keras_googlenet.data.inspection import pixels as inspected
from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.parts import Part
from keras_googlenet.data.prepare import prepare
from keras_googlenet.images import exif, exif_graph
from keras_googlenet.images.decoder import decoder
from keras_googlenet.images.numpy import decode
from keras_googlenet.images.tensorflow import seen_regions
from keras_googlenet.inference.classifier import Classifier, load
from keras_googlenet.serving import Client
from keras_googlenet.serving.client.images import encode

HEIGHT, WIDTH, SIDE = 48, 64, 16
PREPROCESSING = Preprocessing(SIDE, SIDE)
KINDS = {  # file format, order of EXIF's bytes, how it is saved
    "jpeg, little-endian": ("JPEG", "<", {"quality": 95, "subsampling": 0}),
    "jpeg, big-endian": ("JPEG", ">", {"quality": 95, "subsampling": 0}),
    "png": ("PNG", "<", {}),
    "webp": ("WEBP", ">", {"lossless": True}),
}
OF_A_CODEC = 6  # levels of 255 that JPEG may differ by


@pytest.fixture(scope="module")
def picture():
    """A smooth picture without any symmetry, uint8."""
    small = np.random.default_rng(7).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def stored(picture, kind, orientation):
    """A file that shows `picture` upright, its pixels stored another way round."""
    file_format, order, options = KINDS[kind]
    # The inverse of an orientation is itself, but for the quarter turns.
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    tags = Image.Exif()
    tags.endian = order
    tags[0x010F] = "a maker"
    tags[exif.TAG] = orientation
    file = io.BytesIO()
    Image.fromarray(exif.upright(picture, inverse)).save(file, file_format, exif=tags, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def files(picture):
    """All of them, by format and orientation; Pillow turns each to the picture."""
    found = {(kind, turned): stored(picture, kind, turned) for kind in KINDS for turned in exif.ORIENTATIONS}
    for encoded in found.values():
        turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))
        np.testing.assert_allclose(turned.astype(int), picture, atol=OF_A_CODEC)
    return found


def test_orientations_are_found(files):
    for (_, turned), encoded in files.items():
        assert exif.orientation(encoded) == turned
        assert int(exif_graph.orientation(encoded)) == turned


def test_both_decoders(files, picture):
    by_tensorflow, as_it_is = decoder(), decoder(turns=False)
    for encoded in files.values():
        for pixels in (decode(encoded, 3), by_tensorflow(encoded, 3)):
            assert pixels.shape == picture.shape
            np.testing.assert_allclose(pixels.astype(int), picture, atol=OF_A_CODEC)
        as_stored = as_it_is(encoded, 3)
        np.testing.assert_array_equal(decode(encoded, 3, turns=False), as_stored)
        assert (as_stored.shape == picture.shape) == (exif.orientation(encoded) < exif.TRANSPOSED)


def test_a_crop_of_a_file_is_turned(files, picture):
    """Of the whole area, so that there is one."""
    for encoded in files.values():
        found = augment._random_crop(tf.constant(encoded), PREPROCESSING, 1.0, tf.constant([1, 2], tf.int64))
        np.testing.assert_allclose(found.numpy().astype(int), picture, atol=OF_A_CODEC)


def test_batches(files):
    part = Part(list(files.values()), np.zeros(len(files), "int32"))
    upright = Part(decode(files["png", 1], 3)[np.newaxis], np.zeros(1, "int32"))
    expected = PREPROCESSING.normalize(numpy_batches.load(upright, 0, PREPROCESSING))
    tolerance = 2 * OF_A_CODEC / 255
    order = Order(part.count, part.count, 0, 1)
    spec = BatchSpec(classes=2, outputs=1)
    for batches in (
        loading.batches(part, PREPROCESSING, batch_size=7),
        numpy_batches.batches(part, PREPROCESSING, batch_size=7),
        training_batches.training_batches(part, PREPROCESSING, order, Cursor(), spec),
        numpy_batches.training_batches(part, PREPROCESSING, order, Cursor(), spec),
    ):
        found = 0
        for images, _ in batches:
            for image in np.asarray(images):
                np.testing.assert_allclose(image, expected, atol=tolerance)
                found += 1
            if found >= part.count:
                break
        assert found == part.count


def test_inspection_and_preparation(files, picture, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    suffixes = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
    for number, ((kind, _), encoded) in enumerate(files.items()):
        (folder / f"{number}.{suffixes[KINDS[kind][0]]}").write_bytes(encoded)
    prepare(folder, tmp_path / "smaller", size=HEIGHT // 2)
    prepare(folder, tmp_path / "same", size=HEIGHT)
    half = np.asarray(Image.fromarray(picture).resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.BOX))
    for name, expected in (("smaller", half), ("same", picture)):
        made = sorted((tmp_path / name).iterdir())
        assert len(made) == len(files)
        for path in made:
            turned = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
            assert turned.size == expected.shape[1::-1]
            assert np.abs(np.asarray(turned).astype(int) - expected).mean() < OF_A_CODEC
    part = Part(list(files.values()), np.zeros(len(files), "int32"))
    for index in range(part.count):
        np.testing.assert_allclose(inspected(part, index).astype(int), picture, atol=OF_A_CODEC)


@pytest.fixture(scope="module")
def classifier():
    """A network that tells the four quarters of an image from each other."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(SIDE // 2)(inputs))
    kernel = keras.initializers.Constant(np.random.default_rng(1).normal(0, 2, (12, 4)))
    outputs = keras.layers.Dense(4, "softmax", kernel_initializer=kernel, name="main")(x)
    return Classifier("quarters", keras.Model(inputs, outputs), tuple("abcd"), PREPROCESSING)


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "quarters"
    export_saved_model(
        classifier.model, folder, class_names=classifier.class_names, preprocessing=PREPROCESSING
    )
    return folder


def test_the_exported_graph_and_the_classifier(files, classifier, exported):
    """The client makes PNG of WebP, and sends the rest as it is."""
    served, sent = load(exported), list(files.values())
    assert served.preprocessing == PREPROCESSING
    (upright,) = classifier.predict(files["png", 1])
    for predictions in (served.predict(sent), classifier.predict(sent)):
        for one in predictions:
            np.testing.assert_allclose(one.probabilities, upright.probabilities, atol=0.05)
    assert encode(files["jpeg, big-endian", 6], "one").data == files["jpeg, big-endian", 6]


@pytest.mark.ci
def test_a_server_over_rest_and_grpc(files, classifier, exported):
    (upright,) = classifier.predict(files["png", 1])
    with preview(exported) as server:
        for url in (f"{server.rest}/v1/models/quarters", f"grpc://{server.grpc}/v1/models/quarters"):
            with Client(url) as client:
                for one in client.predict(files.values()):
                    np.testing.assert_allclose(one.probabilities, upright.probabilities, atol=0.05)


def test_runs_of_before_keep_their_meaning(files, classifier):
    old = Preprocessing.from_dict({"height": SIDE, "width": SIDE})
    assert not old.turns
    assert Preprocessing.from_dict(PREPROCESSING.to_dict()).turns
    as_stored = Classifier("old", classifier.model, classifier.class_names, old)
    sideways = files["png", 6]
    (one,), (other,) = as_stored.predict(sideways), classifier.predict(sideways)
    assert not np.allclose(one.probabilities, other.probabilities, atol=0.05)


def test_damage_means_no_rotation_and_both_readers_agree(files):
    random = np.random.default_rng(3)
    graph = exif_graph.orientation
    for encoded in files.values():
        for _ in range(6):
            damaged = bytearray(encoded)
            for _ in range(random.integers(1, 6)):
                damaged[random.integers(0, 150)] = random.integers(0, 256)
            damaged = bytes(damaged[: random.integers(4, len(damaged))])
            found = exif.orientation(damaged)
            assert found in exif.ORIENTATIONS
            assert int(graph(damaged)) == found


@pytest.mark.parametrize(
    "tiff",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",  # a directory beyond the end
        b"MM\0*\0\0\0\x08\xff\xff",  # of more entries than there are
        b"MM\0*\0\0\0\x08\0\1\x01\x12\0\x03\0\0\0\x01\0\x09\0\0",  # orientation 9
        b"MM\0*\0\0\0\x08\0\1\x01\x12\0\x04\0\0\0\x01\0\x06\0\0",  # of another type
    ],
)
def test_directories_that_are_none(tiff):
    segment = exif.EXIF + tiff
    jpeg = b"\xff\xd8\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + b"\xff\xda\0\0"
    assert exif.orientation(jpeg) == exif.UPRIGHT
    assert int(exif_graph.orientation(jpeg)) == exif.UPRIGHT


def test_many_segments_end():
    """A file of empty segments, which would take a graph long."""
    jpeg = b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000 + b"\xff\xe1\0\x08Exif\0\0"
    assert exif.orientation(jpeg) == int(exif_graph.orientation(jpeg)) == exif.UPRIGHT


@pytest.mark.parametrize("turns", ["exif", "stored"])
@pytest.mark.parametrize("keep_aspect", [False, True])
def test_the_region_that_is_seen_is_of_the_upright_picture(files, keep_aspect, turns):
    size = Preprocessing(SIDE, SIDE, crop_fraction=0.8, keep_aspect=keep_aspect, orientation=turns)
    encoded = [content for (kind, _), content in files.items() if kind != "webp"]
    expected = [size.region(*decode(one, 3, turns=size.turns).shape[:2]) for one in encoded]
    np.testing.assert_allclose(seen_regions(tf.constant(encoded), size), expected, atol=1e-6)
    assert len(set(expected)) == 1 + (keep_aspect and not size.turns)  # upright they are alike
