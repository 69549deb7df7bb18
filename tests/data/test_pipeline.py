import numpy as np
import pytest
import tensorflow as tf

from keras_googlenet.data.images import decode_image, resize
from keras_googlenet.data.pipeline import batches, shuffle_buffer
from keras_googlenet.data.sources import Part, load_data
from keras_googlenet.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(2, 2, 1)


@pytest.fixture
def part():
    """Ten images of the one value that their label tells."""
    labels = np.arange(10, dtype="int32")
    pixels = np.repeat(labels, 4).reshape(10, 2, 2, 1).astype("uint8")
    return Part(tf.data.Dataset.from_tensor_slices((pixels, labels)), 10, lambda pixels, channels: pixels)


def order(dataset) -> list[int]:
    """The labels of one pass, each seen to be its image's."""
    found = []
    for images, labels in dataset.as_numpy_iterator():
        np.testing.assert_allclose(images[:, 0, 0, 0], (labels - 127.5) / 127.5, rtol=1e-6)
        found += labels.tolist()
    return found


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
    for image, (path, _) in zip(images, test.elements, strict=True):
        pixels = resize(decode_image(tf.io.read_file(path), channels), preprocessing)
        np.testing.assert_allclose(image, preprocessing.normalize(pixels), atol=1e-4)


def test_labels_are_repeated_for_several_outputs(part):
    for _, labels in batches(part, PREPROCESSING, batch_size=4, outputs=3):
        assert isinstance(labels, tuple)
        assert len(labels) == 3
        for repeated in labels[1:]:
            np.testing.assert_array_equal(repeated, labels[0])


def test_order_is_kept_without_a_seed(part):
    dataset = batches(part, PREPROCESSING, batch_size=4)
    assert order(dataset) == order(dataset) == list(range(10))


def test_last_batch_is_smaller(part):
    assert [len(labels) for _, labels in batches(part, PREPROCESSING, batch_size=4)] == [4, 4, 2]


def test_shuffling_loses_no_image(part):
    assert sorted(order(batches(part, PREPROCESSING, batch_size=3, shuffle_seed=5))) == list(range(10))


def test_shuffling_is_reproducible_from_its_seed(part):
    first, second = (batches(part, PREPROCESSING, batch_size=4, shuffle_seed=5) for _ in range(2))
    assert [order(first), order(first)] == [order(second), order(second)]


def test_shuffling_differs_between_epochs_and_seeds(part):
    dataset = batches(part, PREPROCESSING, batch_size=4, shuffle_seed=5)
    other = batches(part, PREPROCESSING, batch_size=4, shuffle_seed=6)
    orders = [order(dataset), order(dataset), order(other), list(range(10))]
    assert len(set(map(tuple, orders))) == len(orders)


@pytest.mark.parametrize(
    ("spec", "buffer"),
    [
        (tf.TensorSpec((), tf.string), 1_000_000),  # paths
        (tf.TensorSpec((32, 32, 3), tf.uint8), 2**29 // 3072),
        (tf.TensorSpec((None, None, 3), tf.uint8), 2**29 // 600_000),
    ],
)
def test_shuffling_holds_no_more_than_half_a_gibibyte_of_images(spec, buffer):
    def none():
        yield from ()

    label = tf.TensorSpec((), tf.int32)
    elements = tf.data.Dataset.from_generator(none, output_signature=(spec, label))
    assert shuffle_buffer(Part(elements, 1_000_000, lambda element, channels: element)) == buffer
