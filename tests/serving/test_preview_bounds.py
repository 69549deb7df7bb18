"""What the preview refuses before it makes anything of it, in this process and over small models."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from conformance.contract import answer, error
from served_versions import AVAILABLE, answering, states
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from keras_googlenet.serving.preview import bounds, messages, proto_scan
from keras_googlenet.serving.preview.batching import BatchScheduler
from keras_googlenet.serving.preview.batching_parameters import BatchingParameters
from keras_googlenet.serving.preview.config import ModelConfig
from keras_googlenet.serving.preview.errors import LOADING_CODES, StatusError
from keras_googlenet.serving.preview.servable import Servable
from keras_googlenet.versions import WARMUP

pytest_plugins = ["small_models"]

ADDER = "/v1/models/adder"
ROWS = 64  # of `small_models`


@pytest.fixture(scope="module")
def ask(serving, asking):
    return asking(serving)


@pytest.fixture
def signature(serving):
    with serving.use("adder") as handle:
        yield handle.runner.signatures["serving_default"]


def proto(*shape, **values):
    made = TensorProto(dtype=tf.float32.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto())
    for name, value in values.items():
        getattr(made, name).extend(value)
    return made


# --- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_rows_over_rest(ask, form):
    assert ask("POST", f"{ADDER}:predict", {form: [[1, 2]] * ROWS}).status_code == 200
    message = error(ask("POST", f"{ADDER}:predict", {form: [[1, 2]] * (ROWS + 1)}), 400)
    assert message.endswith("expected at most 64 rows in a request (--max-rows), got 65")


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_examples_over_rest(ask, method):
    body = {"signature_name": method, "context": {"name": "a"}, "examples": [{"x": 1.0}] * ROWS}
    assert len(answer(ask("POST", f"{ADDER}:{method}", body))["results"]) == ROWS
    body["examples"].append({"x": 1.0})
    assert "examples: expected at most 64 rows" in error(ask("POST", f"{ADDER}:{method}", body), 400)


def test_rows_of_a_tensor(signature):
    sent = {"x": tf.make_tensor_proto(np.zeros((ROWS, 2), "float32"))}
    assert messages.to_arrays(sent, signature, ROWS)["x"].shape == (ROWS, 2)
    with pytest.raises(StatusError, match=r"input 'x': expected at most 63 rows .*got 64"):
        messages.to_arrays(sent, signature, ROWS - 1)


@pytest.mark.parametrize("kind", ["example_list", "example_list_with_context"])
def test_examples_of_a_message(kind):
    request = Input()
    getattr(request, kind).examples.extend([tf.train.Example()] * 3)
    assert len(messages.examples_of(request, 3)) == 3
    with pytest.raises(StatusError, match="examples: expected at most 2 rows"):
        messages.examples_of(request, 2)


def test_a_context_is_counted_once_for_each_example(ask, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_MADE_BYTES", 1000)
    body = {"signature_name": "classify", "context": {"name": "a" * 400}, "examples": [{"x": 1.0}] * 2}
    assert ask("POST", f"{ADDER}:classify", body).status_code == 200
    body["examples"].append({"x": 1.0})
    assert "as tensors" in error(ask("POST", f"{ADDER}:classify", body), 400)
    request = Input()
    listed = request.example_list_with_context
    listed.context.features.feature["name"].bytes_list.value.append(b"a" * 400)
    listed.examples.extend([tf.train.Example()] * 3)
    with pytest.raises(StatusError, match="as tensors"):
        messages.examples_of(request, ROWS)


# --- shapes and padding --------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [(), (1,), (1.0, 2.0)])
def test_padding(signature, monkeypatch, sent):
    """A TensorProto repeats its last value; from few values comes no large tensor."""
    assert messages.to_arrays({"x": proto(3, 2, float_val=sent)}, signature, ROWS)["x"].shape == (3, 2)
    monkeypatch.setattr(bounds, "FREE_ELEMENTS", 8)
    with pytest.raises(StatusError, match="expected a value for each of 128 elements"):
        messages.to_arrays({"x": proto(ROWS, 2, float_val=sent)}, signature, ROWS)


@pytest.mark.parametrize("shape", [(1, 3), (2,), (1, 2, 1), (2**40, 3)])
def test_shapes_that_the_signature_does_not_declare(signature, shape):
    with pytest.raises(StatusError, match=r"expected shape \[-1, 2\]"):
        messages.to_arrays({"x": proto(*shape)}, signature, ROWS)


def test_warm_up_records_are_trusted(models, adders, tmp_path):
    """They have one value for a batch, which may be larger than clients' are."""
    folder = tmp_path / "adder"
    shutil.copytree(adders / "adder/1", folder / "1")
    request = PredictRequest(inputs={"x": proto(5000, 2, float_val=[1])})
    (folder / "1" / WARMUP).parent.mkdir()
    with tf.io.TFRecordWriter(str(folder / "1" / WARMUP)) as writer:
        writer.write(PredictionLog(predict_log=PredictLog(request=request)).SerializeToString())
    serving = models(ModelConfig("adder", folder))
    assert states(serving)[1] == AVAILABLE
    assert answering(serving, "adder") == (1, 1)
    with serving.use("adder") as handle:
        assert (handle.runner.warmup_records, handle.runner.max_rows) == (1, ROWS)


# --- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [b"1", b"[]", b"{}", b'""', b'{"a":1}', b"[[1,2]]"])
def test_json_is_counted_before_it_is_parsed(ask, monkeypatch, item):
    monkeypatch.setattr(bounds, "FREE_JSON_BYTES", 10_000)
    body = b'{"instances":[%s]}' % b",".join([item] * 1000)
    assert "more values than 64 rows" in error(ask("POST", f"{ADDER}:predict", body), 400)


@pytest.mark.parametrize("depth", [33, 65, 100, 900, 5000, 200_000])
def test_deep_json_is_a_bad_request(ask, depth):
    body = b'{"signature_name": "single", "instances": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
    error(ask("POST", f"{ADDER}:predict", body), 400)


def test_a_loader_s_errors_mean_other_codes_than_a_request_s():
    assert StatusError.of(RecursionError("deep")).code == code.INVALID_ARGUMENT
    assert StatusError.of(MemoryError()).code == code.RESOURCE_EXHAUSTED
    assert StatusError.of(RuntimeError("what")).code == code.INTERNAL
    assert StatusError.of(RuntimeError("no such tag"), LOADING_CODES).code == code.NOT_FOUND


# --- messages before they are parsed -------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"\x12\x00", b"\x1a\x00", b"\x0b", b"\x78\x01", b"\x12\x04\x12\x02\x12\x00"],
    ids=["inputs", "outputs", "groups", "unknown", "sizes"],
)
def test_fields_are_counted(monkeypatch, data):
    monkeypatch.setattr(proto_scan, "MAX_FIELDS", 100)
    proto_scan.check_fields(data * 25, PredictRequest.DESCRIPTOR)
    with pytest.raises(StatusError, match="at most 100 fields"):
        proto_scan.check_fields(data * 101, PredictRequest.DESCRIPTOR)


def test_packed_integers_are_counted(monkeypatch):
    monkeypatch.setattr(proto_scan, "MAX_PACKED_BYTES", 100)
    request = PredictRequest()
    request.inputs["x"].int64_val.extend([1] * 100)
    assert proto_scan.parse(PredictRequest, request.SerializeToString()) == request
    request.inputs["x"].int64_val.append(1)
    with pytest.raises(StatusError, match="at most 100 bytes of packed integers"):
        proto_scan.parse(PredictRequest, request.SerializeToString())


@pytest.mark.parametrize("data", [b"\xff", b"\x0a", b"\x0a\x05", b"\x12" + b"\xff" * 12, b"\x0f"])
def test_a_corrupt_message_is_an_invalid_argument(data):
    with pytest.raises(StatusError, match="the message is corrupt") as caught:
        proto_scan.parse(PredictRequest, data)
    assert caught.value.code == code.INVALID_ARGUMENT


# --- memory in flight ----------------------------------------------------------------------------


def test_a_large_request_beside_others_is_refused_and_a_small_one_is_not():
    memory = bounds.Memory(10 * bounds.SMALL)
    with memory.holding(8 * bounds.SMALL), memory.holding(bounds.SMALL):
        with pytest.raises(StatusError) as caught, memory.holding(3 * bounds.SMALL):
            pass
        assert caught.value.code == code.RESOURCE_EXHAUSTED
    with memory.holding(10 * bounds.SMALL):
        pass


def test_a_body_beside_others_is_refused(serving, asking):
    ask = asking(serving, memory=bounds.Memory(2**21))
    error(ask("POST", f"{ADDER}:predict", b" " * 2**22), 429)
    error(ask("POST", f"{ADDER}:predict", b" " * 2**20), 400)
    error(ask("POST", f"{ADDER}:predict", b" " * (2**21 - 1)), 400)  # what was taken was given back


# --- one client's data and another's request -----------------------------------------------------


@pytest.fixture
def batched(adders):
    scheduler = BatchScheduler(BatchingParameters(4, 200_000, num_batch_threads=1))
    servable = Servable(1, adders / "adder/1", scheduler, max_rows=3)
    yield servable
    servable.close()


@pytest.mark.parametrize("bad", [[[1.0, 2.0, 3.0]], [[1.0]], [1.0, 2.0]])
def test_a_wrong_shape_fails_no_batch(batched, bad):
    with ThreadPoolExecutor(3) as pool:
        honest = [
            pool.submit(batched.run, "serving_default", {"x": np.ones((1, 2), "float32")}) for _ in "ab"
        ]
        with pytest.raises(StatusError, match="expected shape") as caught:
            batched.run("serving_default", {"x": np.array(bad, "float32")})
        assert caught.value.code == code.INVALID_ARGUMENT
        assert [each.result()["y"].tolist() for each in honest] == [[[2, 2]]] * 2
