import numpy as np
import pytest
import tensorflow as tf

from keras_googlenet.data import parts as data_parts
from keras_googlenet.data.loading import batches
from keras_googlenet.data.parts import Part
from keras_googlenet.data.sources import load_data
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.images.tensorflow import decode_image, resize

PREPROCESSING = Preprocessing(2, 2, 1)


@pytest.fixture
def part():
    """Ten images of the one value that their label tells."""
    labels = np.arange(10, dtype="int32")
    return Part(np.repeat(labels, 4).reshape(10, 2, 2, 1).astype("uint8"), labels)


def test_batches_of_real_images(image_folder):
    train = load_data(str(image_folder)).train
    images, labels = next(iter(batches(train, Preprocessing(80, 96), batch_size=8)))
    assert (images.shape, images.dtype) == ((8, 80, 96, 3), tf.float32)
    assert (labels.shape, labels.dtype) == ((8,), tf.int32)
    assert -1 <= np.min(images) < np.max(images) <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_decoded_resized_and_scaled(image_folder, channels):
    """As the exported graph does with the same bytes."""
    test = load_data(str(image_folder)).test
    preprocessing = Preprocessing(40, 14, channels)
    images, _ = next(iter(batches(test, preprocessing, batch_size=test.count)))
    for image, encoded in zip(images, test.images, strict=True):
        pixels = resize(decode_image(encoded, channels), preprocessing)
        np.testing.assert_allclose(image, preprocessing.normalize(pixels), atol=1e-4)


def test_the_same_batches_come_from_memory_and_from_files(image_folder, monkeypatch):
    in_memory = load_data(str(image_folder)).test
    monkeypatch.setattr(data_parts, "MEMORY_BYTES", 0)
    on_disk = load_data(str(image_folder)).test
    decoded = Part(np.stack([decode_image(e, 3) for e in in_memory.images]), in_memory.labels)
    expected, *others = (
        next(iter(batches(part, Preprocessing(20, 20), batch_size=4)))
        for part in (in_memory, on_disk, decoded)
    )
    for other in others:
        np.testing.assert_array_equal(other[0], expected[0])
        np.testing.assert_array_equal(other[1], expected[1])


def test_order_is_kept_and_the_last_batch_is_smaller(part):
    seen = list(batches(part, PREPROCESSING, batch_size=4))
    assert [len(labels) for _, labels in seen] == [4, 4, 2]
    assert [int(label) for _, labels in seen for label in labels] == list(range(10))
    for images, labels in seen:
        np.testing.assert_allclose(images[:, 0, 0, 0], (labels.numpy() - 127.5) / 127.5, rtol=1e-6)


def test_labels_are_repeated_for_several_outputs(part):
    for _, labels in batches(part, PREPROCESSING, batch_size=4, outputs=3):
        assert isinstance(labels, tuple)
        assert len(labels) == 3
        for repeated in labels[1:]:
            np.testing.assert_array_equal(repeated, labels[0])


def test_labels_in_one_hot_form(part):
    (_, labels), *_ = batches(part, PREPROCESSING, batch_size=10, classes=10)
    np.testing.assert_array_equal(labels, np.eye(10))


def test_kept_batches_are_the_same_in_every_pass(part):
    plain, kept = (batches(part, PREPROCESSING, batch_size=4, keep=keep) for keep in (False, True))
    for _ in range(2):
        for (images, labels), (again, labels_again) in zip(plain, kept, strict=True):
            np.testing.assert_array_equal(images, again)
            np.testing.assert_array_equal(labels, labels_again)
