"""Warm-up records: the requests that TensorFlow Serving runs before a version takes its first one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import prediction_log_pb2

from keras_googlenet.errors import UserError
from keras_googlenet.export.signatures import EXAMPLE_FEATURE, Signature
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.versions import MAX_WARMUP_RECORDS, WARMUP

GRAY = 127


def encoded_images(preprocessing: Preprocessing) -> list[bytes]:
    """A JPEG and a PNG of the network's size: a gradient of colors."""
    rows = np.linspace(0, 255, preprocessing.height)[:, np.newaxis, np.newaxis]
    columns = np.linspace(255, 0, preprocessing.width)[np.newaxis, :, np.newaxis]
    slope = (rows * [1, 0, 0.5] + columns * [0, 1, 0.5]).astype("uint8")
    return [tf.io.encode_jpeg(slope).numpy(), tf.io.encode_png(slope).numpy()]


def write_warmup(
    folder: Path,
    signatures: dict[str, Signature],
    preprocessing: Preprocessing,
    batch_sizes: Sequence[int],
    model_name: str,
) -> int:
    """Write a record for each signature and batch size; a version without records has no file.

    Args:
        folder: The version's.
        signatures: Signatures to warm up.
        preprocessing: The network's.
        batch_sizes: Batch sizes of the requests.
        model_name: The model's name in the requests.

    Returns:
        The number of records.
    """
    records = [
        _record(name, signature, batch, preprocessing, model_name)
        for name, signature in signatures.items()
        for batch in batch_sizes
    ]
    if records:
        (folder / WARMUP).parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
            for record in records:
                writer.write(record.SerializeToString())
    return len(records)


def check_batch_sizes(batch_sizes: Sequence[int], signatures: int) -> None:
    """Refuse batch sizes that make no records, or too many.

    Raises:
        UserError: One is less than 1, or there are more than 1,000 records.
    """
    if any(size < 1 for size in batch_sizes):
        raise UserError(f"expected `warmup_batch_sizes` of 1 or more, got {', '.join(map(str, batch_sizes))}")
    if len(batch_sizes) * signatures > MAX_WARMUP_RECORDS:
        raise UserError(
            f"expected at most {MAX_WARMUP_RECORDS} warm-up records, got {len(batch_sizes)} batch sizes for "
            f"{signatures} signatures: name fewer batch sizes"
        )


def _record(
    name: str, signature: Signature, batch: int, preprocessing: Preprocessing, model_name: str
) -> Any:
    log = prediction_log_pb2.PredictionLog()
    images = encoded_images(preprocessing)
    encoded = [images[row % len(images)] for row in range(batch)]
    request = log.classify_log.request if name == "classify" else log.predict_log.request
    request.model_spec.name = model_name
    request.model_spec.signature_name = name
    if name == "classify":
        request.input.example_list.examples.extend(map(example, encoded))
    elif signature.input.dtype == tf.string:
        request.inputs[signature.input.name].CopyFrom(tf.make_tensor_proto(encoded))
    else:
        request.inputs[signature.input.name].CopyFrom(_constant(signature.input, batch))
    return log


def _constant(spec: tf.TensorSpec, batch: int) -> Any:
    """A batch of one value, which a TensorProto stores once: 8 float images would add 5 MB to the version."""
    shape = tf.TensorShape([batch, *spec.shape[1:]]).as_proto()
    proto = tensor_pb2.TensorProto(dtype=spec.dtype.as_datatype_enum, tensor_shape=shape)
    if spec.dtype == tf.float32:
        proto.float_val.append(GRAY)
    elif spec.dtype == tf.uint8:
        proto.int_val.append(GRAY)
    else:
        proto.int64_val.append(0)
    return proto


def example(encoded: bytes) -> tf.train.Example:
    """A tf.Example of an encoded image."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    return tf.train.Example(features=tf.train.Features(feature={EXAMPLE_FEATURE: feature}))
