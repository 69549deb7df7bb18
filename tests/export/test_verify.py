"""The check before publication: what it lets pass and what not."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from keras_googlenet import UserError
from keras_googlenet.export.verify import compare, verify

NAMES = np.array([b"ape", b"bee", b"cat"], object)
PROBABILITIES = np.array([[0.2, 0.5, 0.3], [0.6, 0.4, 0.0]], "float32")
RATED = {"probabilities": PROBABILITIES, "classes": np.array([[b"bee", b"cat"], [b"ape", b"bee"]], object)}
ANSWERS = {
    "serving_default": RATED,
    "tensor": RATED,
    "tensor_uint8": RATED,
    "features": {"features": np.array([[200.0, 1.0]], "float32")},
    "labels": {"labels": NAMES},
}
EXPECTED = {
    name: {key: value for key, value in outputs.items() if key != "classes"}
    for name, outputs in ANSWERS.items()
}


def changed(signature, output, index, value):
    answers = {name: {key: array.copy() for key, array in each.items()} for name, each in ANSWERS.items()}
    answers[signature][output][index] = value
    return answers


@pytest.mark.parametrize(
    "answers",
    [
        ANSWERS,
        changed("tensor", "probabilities", (0, 0), 0.200009),
        changed("features", "features", (0, 1), 1.0019),
    ],
)
def test_rounding_is_let_pass(answers):
    compare(answers, EXPECTED, 1e-5)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (changed("tensor", "probabilities", (0, 0), 0.20002), "2.0e-05, allowed 1e-05 in 'probabilities'"),
        (changed("tensor_uint8", "probabilities", (1, 2), np.nan), "nan, allowed 1e-05 in 'probabilities'"),
        (changed("features", "features", (0, 1), 1.01), "in 'features' of signature 'features'"),
        (changed("labels", "labels", 0, b"ant"), "other names in 'labels' of signature 'labels'"),
        (changed("tensor", "classes", (1, 0), b"bee"), "'tensor' of the export names other classes"),
        (ANSWERS | {"features": {"features": np.zeros((2, 1))}}, "inf, allowed 1e-05 in 'features'"),
    ],
)
def test_another_answer_is_refused(answers, message):
    with pytest.raises(UserError, match=message):
        compare(answers, EXPECTED, 1e-5)


def add_bad_record(folder):
    """A request of another size, behind the good ones."""
    path = str(folder / "assets.extra/tf_serving_warmup_requests")
    records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    bad = PredictionLog()
    bad.predict_log.request.model_spec.signature_name = "tensor"
    pixels = tf.make_tensor_proto(np.zeros((1, 5, 5, 3), "float32"))
    bad.predict_log.request.inputs["images"].CopyFrom(pixels)
    with tf.io.TFRecordWriter(path) as writer:
        for record in [*records, bad.SerializeToString()]:
            writer.write(record)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "variables"), "not a valid checkpoint"),
        (add_bad_record, "expected shape"),
        (
            lambda folder: (folder / "assets.extra/tf_serving_warmup_requests").unlink(),
            "has 0 warm-up records",
        ),
    ],
    ids=["no variables", "bad record", "no records"],
)
def test_a_damaged_version_is_refused(exported, tmp_path, damage, message):
    folder = shutil.copytree(exported, tmp_path / "m/1")
    damage(folder)
    with pytest.raises(UserError, match=rf"^the export .*{message}"):
        verify(folder, {}, dict, tolerance=1e-5, records=12)
