"""Training batches with tf.data: shuffled, augmented, and the same after a resume."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_googlenet.data.augment import batch_function, image_function, smooth
from keras_googlenet.data.augmentations import Turn, takes_elements
from keras_googlenet.data.batch_spec import BatchSpec
from keras_googlenet.data.loading import in_memory, loader, with_options, workers
from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.parts import Part
from keras_googlenet.images.spec import Preprocessing

Tensor = Any


def training_batches(
    part: Part, preprocessing: Preprocessing, order: Order, cursor: Cursor, spec: BatchSpec
) -> tf.data.Dataset:
    """Batches from `cursor` on, over all remaining epochs.

    Args:
        part: The images. If they fit in memory at the input's size, they are decoded once, at the call,
            except with `paper`, which crops the original anew each time.
        preprocessing: Size, channels and range of the network's input.
        order: Which images make a batch.
        cursor: Where to begin; read at each new iteration of the dataset.
        spec: How the images are changed, and what comes with them.

    Returns:
        Images float32 (batch, height, width, channels), labels float32 (batch, classes), and weights
        float32 (batch,) where there are class weights; labels and weights in tuples if there are
        several outputs.
    """
    if not takes_elements(spec.augment):
        part = in_memory(part, preprocessing, order.processes)
    element = loader(part)
    labels = tf.constant(part.labels)
    load_image = image_function(spec.augment, preprocessing, spec.min_area)
    mix = batch_function(spec.augment)
    of_class = None if spec.class_weights is None else tf.constant(spec.class_weights, tf.float32)

    def images_of(epoch: Tensor) -> tf.data.Dataset:
        pairs = tf.numpy_function(lambda e: order.of_epoch(*e), [epoch], tf.int64)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(pairs, (None, 2)))

    def load(pair: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index, number = pair[0], pair[1]
        seed = tf.stack([tf.constant(order.seed, tf.int64), number])
        turn = Turn(order.seed, index, number // order.count)
        return load_image(element(index), seed, turn), tf.gather(labels, index), number

    def finish(images: Tensor, of_image: Tensor, numbers: Tensor) -> tuple[Any, ...]:
        # Negative, so that no batch shares its seed with an image.
        seed = tf.stack([tf.constant(order.seed, tf.int64), -1 - numbers[0]])
        images, shares = mix(tf.cast(images, tf.float32), tf.one_hot(of_image, spec.classes), seed)
        batch = [preprocessing.normalize(images), smooth(shares, spec.label_smoothing)]
        if of_class is not None:
            batch.append(tf.linalg.matvec(shares, of_class))  # of a mixed image, of both classes
        repeated = [(rest,) * spec.outputs if spec.outputs > 1 else rest for rest in batch[1:]]
        return (batch[0], *repeated)

    epochs = tf.data.Dataset.range(1).flat_map(
        lambda _: tf.data.Dataset.from_tensor_slices(
            tf.ensure_shape(tf.numpy_function(lambda: order.epochs_from(cursor), [], tf.int64), (None, 2))
        )
    )
    dataset = epochs.flat_map(images_of).map(load, num_parallel_calls=workers())
    dataset = dataset.batch(order.size // order.processes, drop_remainder=True)
    return with_options(dataset.map(finish, num_parallel_calls=workers()).prefetch(2))
