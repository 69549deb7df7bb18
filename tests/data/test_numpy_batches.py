"""Batches made with NumPy are those of tf.data, but for the random numbers of augmentation."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_googlenet import UserError
from keras_googlenet.data import feed
from keras_googlenet.data import loading as pipeline
from keras_googlenet.data import numpy_batches as numpy_pipeline
from keras_googlenet.data import parts as data_parts
from keras_googlenet.data import training_batches as training
from keras_googlenet.data.batch_spec import BatchSpec
from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.parts import Part
from keras_googlenet.data.sources import load_data
from keras_googlenet.images import decoder
from keras_googlenet.images.spec import Preprocessing

SMALL = Preprocessing(16, 16, 3)
ATOL = 1e-4  # of -1..1: a hundredth of a level
LEVEL = 1.01 / 127.5  # training images are rounded to whole levels, and a half may go either way

EPOCHS = 2
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (41, 20, 24, 3), "uint8")
PART = Part(IMAGES, np.arange(41, dtype="int32") % 3)
ORDER = Order(PART.count, 8, seed=3, epochs=EPOCHS)


def numpy_batches(cursor=None, part=PART, preprocessing=SMALL, order=ORDER, classes=3, **options):
    """The batches to go, from `cursor` on."""
    cursor = cursor or Cursor()
    return list(
        numpy_pipeline.training_batches(
            part, preprocessing, order, cursor, BatchSpec(classes=classes, **options)
        )
    )


def assert_same(batch, expected, **tolerance):
    """Nested tuples of arrays, of the same shapes and types."""
    assert isinstance(batch, tuple) == isinstance(expected, tuple)
    if isinstance(batch, tuple):
        assert len(batch) == len(expected)
        for one, other in zip(batch, expected, strict=True):
            assert_same(one, other, **tolerance)
        return
    expected = np.asarray(expected)
    assert (batch.dtype, batch.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(batch, expected, **tolerance)


# --- evaluation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"classes": 3}, {"classes": 4, "outputs": 3}], ids=str)
def test_evaluation_batches_are_those_of_tf_data(options):
    ours = numpy_pipeline.batches(PART, SMALL, batch_size=16, **options)
    expected = list(pipeline.batches(PART, SMALL, batch_size=16, **options))
    assert len(ours) == len(expected) == 3
    for batch, other in zip(ours, expected, strict=True):
        assert_same(batch, other, atol=ATOL)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(40, 14, 1),
        Preprocessing(20, 20, 3, crop_fraction=0.875, keep_aspect=True),
        Preprocessing(20, 20, 3, mean=(104.0, 117.0, 123.0), scale=1.0, channel_order="bgr"),
    ],
    ids=["gray", "cropped", "bgr"],
)
@pytest.mark.parametrize("kept", ["in memory", "in files"])
def test_evaluation_batches_of_a_folder(preprocessing, kept, image_folder, monkeypatch):
    if kept == "in files":
        monkeypatch.setattr(data_parts, "MEMORY_BYTES", 0)
    part = load_data(str(image_folder)).train
    ours = numpy_pipeline.batches(part, preprocessing, batch_size=10)
    for batch, other in zip(ours, pipeline.batches(part, preprocessing, batch_size=10), strict=True):
        assert_same(batch, other, atol=ATOL * 127.5 * preprocessing.scale)


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"outputs": 3, "label_smoothing": 0.1},
        {"outputs": 2, "class_weights": np.array([1.0, 3.0, 0.5], "float32")},
        {"class_weights": np.array([1.0, 3.0, 0.5], "float32")},
    ],
    ids=["plain", "smoothing", "weights of two outputs", "weights"],
)
def test_training_batches_are_those_of_tf_data(options):
    """The same images in the same order, in every epoch."""
    expected = list(training.training_batches(PART, SMALL, ORDER, Cursor(), BatchSpec(classes=3, **options)))
    ours = numpy_batches(**options)
    assert len(ours) == EPOCHS * ORDER.steps == 10
    for batch, other in zip(ours, expected, strict=True):
        assert_same(batch, other, atol=LEVEL)


@pytest.mark.parametrize("pipeline", [training, numpy_pipeline], ids=["tf.data", "numpy"])
def test_a_mixed_image_weighs_what_its_classes_do(pipeline):
    weights = np.array([1.0, 3.0, 0.5], "float32")
    spec = BatchSpec(classes=3, augment=("mixup",), label_smoothing=0.1, class_weights=weights)
    _, labels, found = next(iter(pipeline.training_batches(PART, SMALL, ORDER, Cursor(), spec)))
    shares = (np.asarray(labels) - 0.1 / 3) / 0.9
    np.testing.assert_allclose(found, shares @ weights, rtol=1e-4)
    assert np.unique(shares.round(3)).size > 3


def test_each_process_takes_its_share_of_a_batch():
    shares = [Order(PART.count, 8, 3, EPOCHS, process, 2, devices=2) for process in range(2)]
    for order in shares:
        expected = training.training_batches(PART, SMALL, order, Cursor(), BatchSpec(classes=3))
        for batch, other in zip(numpy_batches(order=order), expected, strict=True):
            assert_same(batch, other, atol=LEVEL)


AUGMENTATIONS = [
    (),
    ("flip",),
    ("crop",),
    ("mixup",),
    ("crop", "mixup"),
    ("translate", "alternate", "cutout"),
]


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@given(st.integers(0, EPOCHS - 1), st.integers(0, ORDER.steps - 1))
@settings(max_examples=8)
def test_a_run_goes_on_anywhere(augment, epoch, step):
    """Every image, augmented, is bit for bit what it is in a run that was not interrupted."""
    rest = numpy_batches(Cursor(epoch, step), augment=augment)
    whole = numpy_batches(augment=augment)
    assert len(rest) == len(whole) - epoch * ORDER.steps - step
    for batch, expected in zip(rest, whole[-len(rest) :], strict=True):
        assert_same(batch, expected, rtol=0)


def images_of(**options) -> np.ndarray:
    return np.concatenate([images for images, *_ in numpy_batches(**options)])


def test_flip_mirrors_about_half_of_the_images():
    plain, flipped = images_of(), images_of(augment=("flip",))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, plain, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    assert all(np.logical_xor(mirrored, same))
    assert 0.3 < np.mean(mirrored) < 0.7


def test_alternate_mirrors_each_image_in_every_other_epoch_with_either_runtime():
    plain, ours = numpy_batches(), numpy_batches(augment=("alternate",))
    expected = training.training_batches(
        PART, SMALL, ORDER, Cursor(), BatchSpec(classes=3, augment=("alternate",))
    )
    for batch, other in zip(ours, expected, strict=True):
        assert_same(batch, other, atol=LEVEL)
    order = [index for epoch in range(EPOCHS) for index, _ in ORDER.of_epoch(epoch)]
    mirrored: dict[int, list[bool]] = {}
    for (images, _), (changed, _) in zip(plain, ours, strict=True):
        for image, other in zip(images, changed, strict=True):
            assert np.array_equal(image, other) != np.array_equal(image[:, ::-1], other)
            mirrored.setdefault(order.pop(0), []).append(np.array_equal(image[:, ::-1], other))
    twice = [turns for turns in mirrored.values() if len(turns) == 2]
    assert len(twice) > 30
    assert all(first != second for first, second in twice)
    assert 0.3 < np.mean([first for first, _ in twice]) < 0.7


@pytest.mark.parametrize("make", [numpy_batches, None], ids=["NumPy", "TensorFlow"])
def test_cutout_grays_a_square_of_a_quarter_of_the_side(make):
    spec = BatchSpec(classes=3, augment=("cutout",))
    theirs = training.training_batches(PART, SMALL, ORDER, Cursor(), spec)
    batches = make(augment=("cutout",)) if make else theirs
    places = set()
    for (images, _), (plain, _) in zip(batches, numpy_batches(), strict=True):
        for image, before in zip(np.array(images), plain, strict=True):
            gray = np.all(np.isclose(image, 128 / 127.5 - 1), axis=-1)
            rows, columns = np.nonzero(gray.any(axis=1))[0], np.nonzero(gray.any(axis=0))[0]
            assert (len(rows), len(columns), gray.sum()) == (4, 4, 16)
            np.testing.assert_allclose(image[~gray], before[~gray], atol=LEVEL)
            places.add((rows[0], columns[0]))
    assert len(places) > 30


def test_crop_shifts_by_up_to_an_eighth_and_mirrors():
    """Each cropped image is the plain one shifted, zeros (black) coming in; every shift is drawn."""
    plain, cropped = images_of(), images_of(augment=("crop",))
    most = SMALL.height // 8
    padded = np.pad(plain, [(0, 0), (most, most), (most, most), (0, 0)], constant_values=-1.0)
    drawn = []
    for wide, image in zip(padded, cropped, strict=True):
        found = [
            (row, column, mirrored)
            for row in range(2 * most + 1)
            for column in range(2 * most + 1)
            for mirrored in (False, True)
            if np.array_equal(wide[row : row + 16, column : column + 16][:, :: -1 if mirrored else 1], image)
        ]
        assert len(found) == 1
        drawn += found
    rows, columns, mirrored = zip(*drawn, strict=True)
    assert set(rows) == set(columns) == set(range(2 * most + 1))
    assert 0.3 < np.mean(mirrored) < 0.7


def test_mixed_labels_tell_the_share_of_each_image():
    """Of black and white images, a mixed image's mean is its share of white."""
    labels = np.arange(40, dtype="int32") % 2
    part = Part(np.broadcast_to((labels * 255).astype("uint8")[:, None, None, None], (40, 4, 4, 1)), labels)
    order = Order(40, 8, seed=3, epochs=2)
    batches = numpy_batches(
        part=part, preprocessing=Preprocessing(4, 4, 1), order=order, classes=2, augment=("mixup",)
    )
    white = np.concatenate([(images.mean(axis=(1, 2, 3)) + 1) / 2 for images, _ in batches])
    shares = np.concatenate([labels for _, labels in batches])
    np.testing.assert_allclose(shares[:, 1], white, atol=1e-6)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert np.mean((white > 0.05) & (white < 0.95)) > 0.1  # beta(0.2, 0.2) is mostly near 0 or 1


@pytest.mark.parametrize("name", ["paper", "cutmix", "randaugment"])
def test_other_augmentations_are_refused_in_one_line(name):
    with pytest.raises(UserError, match=f"augmentation by {name} needs TensorFlow") as caught:
        numpy_batches(augment=("flip", name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("has_tensorflow", [True, False])
def test_batches_come_from_whichever_runtime_is_here(has_tensorflow, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "has_tensorflow", lambda: has_tensorflow)
        chosen = importlib.reload(feed)
        evaluation = chosen.evaluation_batches(PART, SMALL, batch_size=8)
        batches = chosen.training_batches(PART, SMALL, ORDER, Cursor(), BatchSpec(classes=3))
    importlib.reload(feed)
    for dataset in (evaluation, batches):
        assert hasattr(dataset, "prefetch") == has_tensorflow
