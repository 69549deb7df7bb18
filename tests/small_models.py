"""A small SavedModel with a signature of every kind that the preview tells apart."""

import asyncio
import json

import httpx
import pytest
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from keras_googlenet.serving.preview.config import ModelConfig, VersionPolicy
from keras_googlenet.serving.preview.models import Models
from keras_googlenet.serving.preview.rest import rest_app
from keras_googlenet.serving.preview.servable import Servable
from keras_googlenet.versions import WARMUP

TIMEOUT_MS = 3000


class Signatures(tf.Module):
    """Signatures whose answers are easy to tell; `value` marks the version."""

    def __init__(self, value):
        super().__init__()
        self.value = tf.Variable(value, dtype=tf.float32)

    def add(self, x):
        return {"y": x + self.value}

    def classify(self, inputs):
        parsed = tf.io.parse_example(
            inputs, {"name": tf.io.FixedLenFeature([], tf.string), "x": tf.io.FixedLenFeature([], tf.float32)}
        )
        scores = tf.stack([parsed["x"], self.value * tf.ones_like(parsed["x"])], axis=1)
        return {"classes": tf.stack([parsed["name"], parsed["name"] + "!"], axis=1), "scores": scores}

    def regress(self, inputs):
        return {"outputs": tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]}

    def describe(self, image):
        return {"length": tf.strings.length(image), "image_bytes": image, "text": image}

    def both(self, image, weight):
        return {"length": tf.cast(tf.strings.length(image), tf.float32) * weight}

    def halve(self, x):
        return {"half": tf.cast(x, tf.float16)}

    def double(self, x):
        return {"y": tf.cast(x, tf.float32) * 2}

    def count(self, n):
        last = tf.while_loop(lambda i: i < n[0], lambda i: i + 1, [tf.constant(0, tf.int64)])[0]
        return {"last": last[None]}

    def single(self, x):
        return {"sum": tf.reduce_sum(x)}


SPECS = {
    "serving_default": ("add", {"x": (tf.float32, [None, 2])}),
    "classify": ("classify", {"inputs": (tf.string, [None])}),
    "regress": ("regress", {"inputs": (tf.string, [None])}),
    "describe": ("describe", {"image": (tf.string, [None])}),
    "both": ("both", {"image": (tf.string, [None]), "weight": (tf.float32, [None])}),
    "pixels": ("double", {"x": (tf.uint8, [None, 2])}),
    "half_in": ("double", {"x": (tf.float16, [None])}),
    "half_out": ("halve", {"x": (tf.float32, [None])}),
    "count": ("count", {"n": (tf.int64, [1])}),
    "single": ("single", {"x": (tf.float32, [None])}),
}


def save(folder, value, warm_up_signature=None):
    """Write a version whose `serving_default` adds `value`; it appears by one rename.

    Args:
        folder: The version's folder.
        value: What it adds.
        warm_up_signature: Of a warm-up record, which has two floats for it.
    """
    module = Signatures(value)
    signatures = {
        name: tf.function(
            getattr(module, method),
            input_signature=[tf.TensorSpec(shape, dtype, key) for key, (dtype, shape) in inputs.items()],
        ).get_concrete_function()
        for name, (method, inputs) in SPECS.items()
    }
    staging = folder.parent / f".{folder.name}"
    tf.saved_model.save(module, str(staging), signatures)
    if warm_up_signature:
        request = PredictRequest(inputs={"x": tf.make_tensor_proto([[0.0, 0.0]])})
        request.model_spec.signature_name = warm_up_signature
        record = PredictionLog(predict_log=PredictLog(request=request))
        (staging / WARMUP).parent.mkdir()
        with tf.io.TFRecordWriter(str(staging / WARMUP)) as writer:
            writer.write(record.SerializeToString())
    staging.rename(folder)


@pytest.fixture(scope="session")
def save_version():
    """The function that writes a version; see `save`."""
    return save


@pytest.fixture(scope="session")
def adders(tmp_path_factory):
    """A folder of two models: `adder` with versions 1, 2 and 3, and `other` with 1. Do not change it."""
    directory = tmp_path_factory.mktemp("adders")
    for name, numbers in {"adder": (1, 2, 3), "other": (1,)}.items():
        (directory / name).mkdir()
        for number in numbers:
            save(directory / name / str(number), number)
    return directory


@pytest.fixture(scope="session")
def load():
    """How the preview loads a version; its `count` can be made to take too long."""
    return lambda name, number, folder: Servable(number, folder, timeout_ms=TIMEOUT_MS, max_rows=64)


@pytest.fixture
def models(load):
    """A function that serves these configurations; all is unloaded in the end."""
    made = []

    def serve(*configs, **settings):
        made.append(Models(load, **settings))
        made[-1].reload(configs, first=True)
        return made[-1]

    yield serve
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def serving(adders, load):
    """Versions 1 (`stable`) and 3 of `adder`, and `other`. Do not change it."""
    models = Models(load)
    policy = VersionPolicy("specific", numbers=frozenset({1, 3}))
    adder = ModelConfig("adder", adders / "adder", policy, {"stable": 1})
    models.reload([adder, ModelConfig("other", adders / "other")], first=True)
    yield models
    models.close()


@pytest.fixture(scope="session")
def asking():
    """A function that makes one which asks the REST interface of some models."""

    def asking(models, **settings):
        app = rest_app(models, **settings)

        def ask(method, path, body=None, headers=None):
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()

            async def send():
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(transport=transport, base_url="http://preview") as client:
                    return await client.request(method, path, content=content, headers=headers)

            return asyncio.run(send())

        return ask

    return asking
