import numpy as np
import pytest
import tensorflow as tf

from keras_googlenet.data import parts
from keras_googlenet.data.batch_spec import BatchSpec
from keras_googlenet.data.loading import in_memory
from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.parts import Part
from keras_googlenet.data.sources import load_data
from keras_googlenet.data.training_batches import training_batches
from keras_googlenet.images.spec import Preprocessing

PREPROCESSING = Preprocessing(16, 16, 3)
AUGMENTATIONS = [
    (),
    ("flip",),
    ("crop",),
    ("paper",),
    ("mixup", "cutmix"),
    ("translate", "alternate", "cutout"),
    pytest.param(("randaugment",), marks=pytest.mark.ci),
]


@pytest.fixture(scope="module")
def part():
    """40 noisy images in two classes."""
    random = np.random.default_rng(0)
    return Part(random.integers(0, 256, (40, 20, 24, 3), "uint8"), np.arange(40, dtype="int32") % 2)


def dataset(part, cursor=None, **options):
    order = Order(part.count, 8, seed=3, epochs=2)
    return training_batches(part, PREPROCESSING, order, cursor or Cursor(), BatchSpec(classes=2, **options))


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_an_epoch_goes_on_where_it_was_left(part, augment):
    """Every image, augmented, is bit for bit what it is in a run that was not interrupted."""
    whole = list(dataset(part, augment=augment))
    rest = list(dataset(part, Cursor(0, 3), augment=augment))
    assert (len(whole), len(rest)) == (10, 7)
    for (images, labels), (again, labels_again) in zip(whole[3:], rest, strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, labels_again)
    next_epoch = list(dataset(part, Cursor(1, 0), augment=augment))
    np.testing.assert_array_equal(next_epoch[0][0], whole[5][0])


@pytest.mark.parametrize("augment", [(), ("flip",), ("crop",), ("randaugment",)])
def test_the_same_batches_come_from_memory_and_decoded_each_time(augment, monkeypatch, random):
    """More images than are moved into memory at once, of several sizes."""
    sizes = random.integers(20, 60, (70, 2))
    encoded = [tf.io.encode_jpeg(random.integers(0, 256, (*size, 3), "uint8")).numpy() for size in sizes]
    part = Part(encoded, np.arange(70, dtype="int32") % 2)
    assert in_memory(part, PREPROCESSING).images.shape == (70, 16, 16, 3)
    of_memory = list(dataset(part, augment=augment))
    monkeypatch.setattr(parts, "MEMORY_BYTES", 2 * 70 * 16 * 16 * 3 - 1)
    assert in_memory(part, PREPROCESSING) is part
    for (images, labels), (again, labels_again) in zip(
        of_memory, dataset(part, augment=augment), strict=True
    ):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, labels_again)


@pytest.mark.parametrize("augment", AUGMENTATIONS[1:])
def test_augmentation_changes_images_and_keeps_their_range(part, augment):
    plain = np.concatenate([images for images, _ in dataset(part)])
    changed = np.concatenate([images for images, _ in dataset(part, augment=augment)])
    assert changed.shape == plain.shape
    assert -1 - 1e-5 <= changed.min() < changed.max() <= 1 + 1e-5
    moved = np.abs(changed - plain).reshape(len(plain), -1).max(axis=1) > 1e-3
    assert moved.mean() > 0.3
    assert len({image.tobytes() for image in changed}) > 50  # the epochs differ


def test_flip_mirrors_about_half_of_the_images(part):
    plain = np.concatenate([images for images, _ in dataset(part)])
    flipped = np.concatenate([images for images, _ in dataset(part, augment=("flip",))])
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, plain, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    assert all(np.logical_xor(mirrored, same))
    assert 0.3 < np.mean(mirrored) < 0.7


@pytest.mark.parametrize("augment", [("mixup",), ("cutmix",)])
def test_mixed_labels_tell_the_share_of_each_image(augment):
    """Of black and white images, a mixed image's mean is its share of white."""
    labels = np.arange(40, dtype="int32") % 2
    part = Part(np.broadcast_to((labels * 255).astype("uint8")[:, None, None, None], (40, 64, 64, 3)), labels)
    mixed = False
    order, large = Order(40, 8, seed=3, epochs=2), Preprocessing(64, 64, 3)
    for images, shares in training_batches(
        part, large, order, Cursor(), BatchSpec(classes=2, augment=augment)
    ):
        white = (images.numpy().mean(axis=(1, 2, 3)) + 1) / 2
        np.testing.assert_allclose(shares[:, 1], white, atol=1 / 32 if augment == ("cutmix",) else 1e-4)
        mixed |= bool(np.any((white > 0.05) & (white < 0.95)))
    assert mixed


def test_label_smoothing_and_class_weights(part):
    options = {"label_smoothing": 0.1, "class_weights": np.array([1.0, 3.0], "float32"), "outputs": 3}
    _, labels, weights = next(iter(dataset(part, **options)))
    assert len(labels) == len(weights) == 3
    np.testing.assert_allclose(np.sort(labels[0], axis=1), [[0.05, 0.95]] * 8, rtol=1e-6)
    np.testing.assert_array_equal(weights[2], np.where(np.argmax(labels[2], axis=1) == 1, 3, 1))


def test_crop_of_an_encoded_jpeg_is_the_crop_of_its_pixels():
    """`paper` decodes a JPEG's window alone: the same image as cropping it decoded."""
    random = np.random.default_rng(1)
    pixels = tf.image.resize(random.integers(0, 256, (6, 6, 3)).astype("float32"), (48, 64), "bicubic")
    encoded = tf.io.encode_jpeg(tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8), quality=95).numpy()
    decoded = tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE").numpy()
    labels = np.zeros(8, "int32")
    of_jpeg, of_pixels = (
        next(iter(dataset(part, augment=("paper",))))[0].numpy()
        for part in (Part([encoded] * 8, labels), Part(np.stack([decoded] * 8), labels))
    )
    # At a window's edge libjpeg interpolates color without the neighbors it did not decode.
    assert np.abs(of_jpeg - of_pixels).mean() < 0.01


def test_sample_images_reach_the_network_whole():
    train = load_data("sample").train
    order = Order(train.count, 100, seed=0, epochs=1)
    seen = sum(
        labels.numpy().sum(axis=0)
        for _, labels in training_batches(
            train, Preprocessing(28, 28, 1), order, Cursor(), BatchSpec(classes=10)
        )
    )
    assert seen.tolist() == [360] * 10
