"""The gRPC interface on a loopback port, through the official stubs."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from keras_googlenet.serving.preview import bounds
from keras_googlenet.serving.preview.config import ModelConfig, VersionPolicy, parse_models
from keras_googlenet.serving.preview.grpc_server import grpc_server
from keras_googlenet.serving.preview.models import Models
from keras_googlenet.serving.preview.record import Recorder

pytest_plugins = ["small_models"]

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def recorded():
    """The entries of all requests."""
    return []


@pytest.fixture(scope="module")
def stubs(adders, load, recorded):
    """The stubs of both services, of a preview of versions 1 (`stable`) and 3 of `adder`."""
    models = Models(load)
    policy = VersionPolicy("specific", numbers=frozenset({1, 3}))
    models.reload([ModelConfig("adder", adders / "adder", policy, {"stable": 1})], first=True)
    server, port = grpc_server(
        models,
        lambda message: models.reload(parse_models(message, adders)),
        host="127.0.0.1",
        port=0,
        recorder=Recorder(observers=(recorded.append,)),
        max_message_bytes=2**20,
    )
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield (
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )
    server.stop(None)
    models.close()


@pytest.fixture(scope="module")
def prediction(stubs):
    return stubs[0]


@pytest.fixture(scope="module")
def management(stubs):
    return stubs[1]


def with_spec(request, name="adder", signature="", version=None, label=None):
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    return request


def predicting(inputs, output_filter=(), **spec):
    request = with_spec(PredictRequest(output_filter=output_filter), **spec)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def refusal(call, request, **settings):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=60, **settings)
    return caught.value.code(), caught.value.details()


FLOATS = {"x": np.float32([[1, 2]])}
PNG = b"\x89PNG\x00\xff\x00"


# --- predict -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "version"), [({}, 3), ({"version": 1}, 1), ({"label": "stable"}, 1), ({"version": 3}, 3)]
)
def test_predict(prediction, spec, version):
    response = prediction.Predict(predicting(FLOATS, **spec))
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), FLOATS["x"] + version)
    assert list(response.outputs["y"].float_val) == [1 + version, 2 + version]  # not as raw bytes
    assert (response.model_spec.name, response.model_spec.signature_name) == ("adder", "serving_default")
    assert response.model_spec.version.value == version


def test_bytes_come_back_as_they_were(prediction):
    images = np.array([PNG, b""], object)
    outputs = prediction.Predict(predicting({"image": images}, signature="describe")).outputs
    assert {name: tf.make_ndarray(proto).tolist() for name, proto in outputs.items()} == {
        "length": [len(PNG), 0],
        "image_bytes": [PNG, b""],
        "text": [PNG, b""],
    }


def test_output_filter(prediction):
    images = np.array([PNG], object)
    request = predicting({"image": images}, ["text", "length"], signature="describe")
    assert set(prediction.Predict(request).outputs) == {"text", "length"}


@pytest.mark.parametrize("signature", ["half_in", "half_out"])
def test_half_floats_are_no_trouble_here(prediction, signature):
    dtype = np.float16 if signature == "half_in" else np.float32
    (output,) = prediction.Predict(predicting({"x": dtype([1.5])}, signature=signature)).outputs.values()
    assert tf.make_ndarray(output) == (3.0 if signature == "half_in" else 1.5)


MISSING = "input size does not match signature: 1!=2 len({image}) != len({image,weight})"


@pytest.mark.parametrize(
    ("inputs", "settings", "code", "message"),
    [
        (FLOATS, {"name": "none"}, Code.NOT_FOUND, "Servable not found for request: Latest(none)"),
        (FLOATS, {"version": 2}, Code.NOT_FOUND, "Specific(adder, 2)"),
        (FLOATS, {"label": "canary"}, Code.INVALID_ARGUMENT, "Unrecognized servable version label: canary"),
        (FLOATS, {"signature": "none"}, Code.FAILED_PRECONDITION, 'signature key "none" not found'),
        (FLOATS, {"name": ""}, Code.INVALID_ARGUMENT, "no name specified"),
        ({}, {}, Code.INVALID_ARGUMENT, "input size does not match signature: 0!=1"),
        (FLOATS | {"z": 1.0}, {}, Code.INVALID_ARGUMENT, "Sent extra: {z}"),
        ({"z": FLOATS["x"]}, {}, Code.INVALID_ARGUMENT, "input tensor alias not found in signature: z"),
        ({"image": [b""]}, {"signature": "both"}, Code.INVALID_ARGUMENT, MISSING),
        ({"x": np.zeros((1, 2))}, {}, Code.INVALID_ARGUMENT, "to be float32 but float64 is provided"),
        ({"x": np.int64([[1, 2]])}, {}, Code.INVALID_ARGUMENT, "to be float32 but int64 is provided"),
        ({"x": np.zeros((1, 3), "float32")}, {}, Code.INVALID_ARGUMENT, "expected shape [-1, 2], got [1, 3]"),
        ({"x": np.float32(1)}, {}, Code.INVALID_ARGUMENT, "expected shape [-1, 2], got []"),
        (FLOATS, {"output_filter": ["z"]}, Code.INVALID_ARGUMENT, "output tensor alias not found"),
        (FLOATS, {"output_filter": ["y", "y"]}, Code.INVALID_ARGUMENT, "duplicate output tensor alias: y"),
    ],
)
def test_predict_refuses(prediction, inputs, settings, code, message):
    found, told = refusal(prediction.Predict, predicting(inputs, **settings))
    assert found == code
    assert message in told


def test_messages_are_cut(prediction):
    _, message = refusal(prediction.Predict, predicting(FLOATS, signature="x" * 3000))
    assert len(message) == 1024


@pytest.mark.parametrize(
    "text",
    [
        "dtype: DT_FLOAT tensor_shape { dim { size: -1 } }",
        "dtype: DT_FLOAT tensor_shape { dim { size: 1000000 } dim { size: 1000000 } } float_val: 1",
        "dtype: DT_FLOAT tensor_shape { dim { size: 1 } dim { size: 2 } } tensor_content: 'abc'",
        "dtype: DT_FLOAT tensor_shape { dim { size: 1 } dim { size: 1 } } float_val: [1, 2, 3]",
        "dtype: DT_FLOAT tensor_shape { unknown_rank: true } float_val: 1",
        "dtype: 99 tensor_shape { dim { size: 1 } }",
    ],
)
def test_tensors_that_contradict_themselves_are_refused(prediction, text):
    request = predicting({})
    text_format.Parse(text, request.inputs["x"])
    assert refusal(prediction.Predict, request)[0] == Code.INVALID_ARGUMENT


def test_tensors_that_are_large_together_are_refused(prediction, monkeypatch):
    """Each by itself is below the limit; none is made before all are summed up."""
    monkeypatch.setattr(bounds, "MAX_MADE_BYTES", 300)
    inputs = {"image": tf.constant([b"a"] * 4), "weight": tf.ones(4)}  # 256 bytes and 16
    assert len(prediction.Predict(predicting(inputs, signature="both")).outputs["length"].float_val) == 4
    monkeypatch.setattr(bounds, "MAX_MADE_BYTES", 270)
    found, told = refusal(prediction.Predict, predicting(inputs, signature="both"))
    assert (found, told.split(",")[0]) == (
        Code.INVALID_ARGUMENT,
        "expected a request that takes at most 0 MiB as tensors",
    )


def test_a_request_without_a_model_is_refused(prediction):
    request = PredictRequest()
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(FLOATS["x"]))
    for call, nameless in (
        (prediction.Predict, request),
        (prediction.Classify, with_examples(ClassificationRequest(), example(x=1.0))),
        (prediction.Regress, RegressionRequest()),
        (prediction.GetModelMetadata, GetModelMetadataRequest(metadata_field=["signature_def"])),
    ):
        assert refusal(call, nameless) == (Code.INVALID_ARGUMENT, "Missing ModelSpec")


@pytest.mark.parametrize(("value", "expected"), [(255, 510), (256, 0), (-1, 510)])
def test_narrow_integers_wrap_as_in_tensorflow(prediction, value, expected):
    request = predicting({}, signature="pixels")
    shape = "tensor_shape { dim { size: 1 } dim { size: 2 } }"
    text_format.Parse(f"dtype: DT_UINT8 {shape} int_val: {value}", request.inputs["x"])
    assert list(prediction.Predict(request).outputs["y"].float_val) == [expected, expected]


def test_message_beyond_the_limit_is_refused(prediction):
    request = predicting({"image": np.array([b"x" * 2**20], object)}, signature="describe")
    assert refusal(prediction.Predict, request)[0] == Code.RESOURCE_EXHAUSTED


def test_deadline(prediction):
    request = predicting({"n": np.int64([10**9])}, signature="count")
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request, timeout=0.5)
    assert caught.value.code() == Code.DEADLINE_EXCEEDED


# --- classify, regress, multi-inference ----------------------------------------------------------


def example(**features):
    built = tf.train.Example()
    for name, value in features.items():
        feature = built.features.feature[name]
        (feature.bytes_list if isinstance(value, bytes) else feature.float_list).value.append(value)
    return built


def with_examples(request, *examples, context=None):
    if context is None:
        request.input.example_list.examples.extend(examples)
    else:
        request.input.example_list_with_context.context.CopyFrom(context)
        request.input.example_list_with_context.examples.extend(examples)
    return request


def test_classify(prediction):
    request = with_spec(ClassificationRequest(), signature="classify")
    examples = [example(name=b"cat", x=0.25), example(name=b"dog", x=0.5)]
    response = prediction.Classify(with_examples(request, *examples))
    rows = [[(c.label, c.score) for c in one.classes] for one in response.result.classifications]
    assert rows == [[("cat", 0.25), ("cat!", 3)], [("dog", 0.5), ("dog!", 3)]]
    assert response.model_spec.signature_name == "classify"
    assert response.model_spec.version.value == 3


def test_context_goes_into_every_example(prediction):
    request = with_spec(ClassificationRequest(), signature="classify")
    with_examples(request, example(x=1.0), example(x=2.0), context=example(name=b"both"))
    result = prediction.Classify(request).result
    assert [one.classes[0].label for one in result.classifications] == ["both", "both"]


def test_regress(prediction):
    request = with_spec(RegressionRequest(), signature="regress")
    response = prediction.Regress(with_examples(request, example(x=0.25), example(x=4.0)))
    assert [regression.value for regression in response.result.regressions] == [0.25, 4]


@pytest.mark.parametrize(
    ("signature", "code", "message"),
    [
        ("none", Code.INVALID_ARGUMENT, "No signature was found with the name: none"),
        ("both", Code.INVALID_ARGUMENT, "Expected one input Tensor."),
        ("describe", Code.INVALID_ARGUMENT, "Expected one or two output Tensors, found 3"),
        ("", Code.FAILED_PRECONDITION, "No classification inputs found in SignatureDef"),
        ("regress", Code.FAILED_PRECONDITION, 'at least one of "classes" or "scores"'),
    ],
)
def test_classify_refuses(prediction, signature, code, message):
    request = with_examples(with_spec(ClassificationRequest(), signature=signature), example(x=1.0))
    found, told = refusal(prediction.Classify, request)
    assert found == code
    assert message in told


def test_classify_without_examples_is_refused(prediction):
    request = with_spec(ClassificationRequest(), signature="classify")
    assert refusal(prediction.Classify, request) == (Code.INVALID_ARGUMENT, "Input is empty.")


def inferring(*tasks):
    request = MultiInferenceRequest()
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = name, signature
    return with_examples(request, example(name=b"cat", x=0.25))


def test_multi_inference(prediction):
    (result,) = prediction.MultiInference(inferring(("adder", "classify", "classify"))).results
    assert result.classification_result.classifications[0].classes[0].label == "cat"
    assert result.model_spec.signature_name == "classify"
    (result,) = prediction.MultiInference(inferring(("adder", "regress", "regress"))).results
    assert result.regression_result.regressions[0].value == 0.25


CLASSIFY = ("adder", "classify", "classify")


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        ((), Code.INVALID_ARGUMENT, "at least one task"),
        ((CLASSIFY, CLASSIFY), Code.INVALID_ARGUMENT, "Duplicate evaluation of signature: classify"),
        ((CLASSIFY, ("other", "", "classify")), Code.INVALID_ARGUMENT, "must access the same model name"),
        ((("adder", "none", "classify"),), Code.INVALID_ARGUMENT, "Requested signature not found"),
        ((("adder", "", "predict"),), Code.UNIMPLEMENTED, "Unsupported signature method_name"),
        # Each signature of a TensorFlow 2 SavedModel has an input tensor of its own.
        ((CLASSIFY, ("adder", "regress", "regress")), Code.INVALID_ARGUMENT, "Input tensor must be the same"),
    ],
)
def test_multi_inference_refuses(prediction, tasks, code, message):
    found, told = refusal(prediction.MultiInference, inferring(*tasks))
    assert found == code
    assert message in told


# --- metadata, status, reload --------------------------------------------------------------------


def test_metadata(prediction):
    request = with_spec(GetModelMetadataRequest(metadata_field=["signature_def"]), label="stable")
    response = prediction.GetModelMetadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("adder", 1)
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["pixels"].inputs["x"].dtype == tf.uint8.as_datatype_enum


@pytest.mark.parametrize(
    ("fields", "message"), [((), "at least one metadata_field"), (("labels",), "field labels is not")]
)
def test_metadata_refuses(prediction, fields, message):
    request = with_spec(GetModelMetadataRequest(metadata_field=fields))
    code, told = refusal(prediction.GetModelMetadata, request)
    assert code == Code.INVALID_ARGUMENT
    assert message in told


def test_status(management):
    response = management.GetModelStatus(with_spec(GetModelStatusRequest()))
    assert [(one.version, one.state) for one in response.model_version_status] == [(3, 30), (1, 30)]
    assert (
        refusal(management.GetModelStatus, with_spec(GetModelStatusRequest(), version=7))[0] == Code.NOT_FOUND
    )
    assert refusal(management.GetModelStatus, GetModelStatusRequest())[0] == Code.INVALID_ARGUMENT


CONFIG = """
model_config_list { config {
  name: "adder" base_path: "/models/adder" model_version_policy { specific { versions: 1 versions: 3 } }
  version_labels { key: "stable" value: %d }
} }
"""


def reloading(text):
    return ReloadConfigRequest(config=text_format.Parse(text, ModelServerConfig()))


def test_reload(prediction, management):
    assert management.HandleReloadConfigRequest(reloading(CONFIG % 3)).status.error_code == 0
    assert prediction.Predict(predicting(FLOATS, label="stable")).model_spec.version.value == 3
    management.HandleReloadConfigRequest(reloading(CONFIG % 1))
    assert prediction.Predict(predicting(FLOATS, label="stable")).model_spec.version.value == 1


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("", Code.INVALID_ARGUMENT, "Only ModelConfigList is currently supported"),
        ('model_config_list { config { name: "a" base_path: "/x/.." } }', Code.INVALID_ARGUMENT, "folder"),
        ('model_config_list { config { name: "a" base_path: "/x\\0" } }', Code.INVALID_ARGUMENT, "folder"),
        (CONFIG % 2, Code.FAILED_PRECONDITION, "version 2 of model adder, which is not currently available"),
    ],
)
def test_reload_refuses(management, text, code, message):
    found, told = refusal(management.HandleReloadConfigRequest, reloading(text))
    assert found == code
    assert message in told


# --- what is told of a request -------------------------------------------------------------------


def test_requests_are_recorded(prediction, recorded):
    recorded.clear()
    prediction.Predict(predicting(FLOATS))
    refusal(prediction.Predict, predicting(FLOATS, version=2))
    answered, refused = recorded
    assert (answered.protocol, answered.api, answered.model, answered.version) == (
        "GRPC",
        "Predict",
        "adder",
        3,
    )
    assert answered.code == 0
    assert 0 < answered.runtime < answered.seconds
    assert answered.bytes_in > 0
    assert (refused.code, refused.error) == (5, "Servable not found for request: Specific(adder, 2)")
