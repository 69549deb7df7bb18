"""The gRPC interface, row by row of its contract."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.any_pb2 import Any
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from conformance.contract import b64

TIMEOUT = 60
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def service(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture(scope="module")
def spec(endpoint):
    """Make a `ModelSpec` of the endpoint's model."""

    def spec(signature="", version=None, label="", name=endpoint.model):
        result = model_pb2.ModelSpec(name=name, signature_name=signature)
        if version is not None:
            result.version.value = version
        if label:
            result.version_label = label
        return result

    return spec


@pytest.fixture(scope="module")
def predict(service, spec):
    """Call Predict; returns the response."""

    def predict(inputs, signature="", output_filter=(), **of_spec):
        request = predict_pb2.PredictRequest(
            model_spec=spec(signature, **of_spec), output_filter=output_filter
        )
        for name, value in inputs.items():
            tensor = value if isinstance(value, TensorProto) else tf.make_tensor_proto(value)
            request.inputs[name].CopyFrom(tensor)
        return service.Predict(request, TIMEOUT)

    return predict


@pytest.fixture(scope="module")
def answers(predict, pngs):
    """What the default signature says of the two images."""
    return arrays(predict({"images": pngs}))


def arrays(response):
    return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def refusal(code, call, *arguments, **options):
    """The message of a refusal with this code."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    assert caught.value.code() == code, caught.value.details()
    assert 0 < len(caught.value.details()) <= 1024
    return caught.value.details()


# --- Predict ---------------------------------------------------------------------------------------


def test_predict(answers, classes):
    assert set(answers) == {"probabilities", "classes", "scores"}
    assert answers["probabilities"].shape == (2, classes)
    assert answers["probabilities"].dtype == answers["scores"].dtype == np.float32
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, atol=1e-4)


def test_the_same_over_rest(answers, http, path, pngs):
    outputs = http.post(f"{path}:predict", json={"inputs": [b64(png) for png in pngs]}).json()["outputs"]
    np.testing.assert_allclose(outputs["probabilities"], answers["probabilities"], atol=1e-5)
    assert outputs["classes"] == [[name.decode() for name in row] for row in answers["classes"]]


def test_response_names_what_answered(predict, pngs):
    spec = predict({"images": pngs}, "features").model_spec
    assert spec.signature_name == "features"
    assert spec.version.value >= 0
    assert spec.HasField("version")
    assert predict({"images": pngs}).model_spec.signature_name == "serving_default"


@pytest.mark.parametrize(("signature", "dtype"), [("tensor", "float32"), ("tensor_uint8", "uint8")])
def test_pixels(predict, pixels, answers, signature, dtype):
    of_pixels = arrays(predict({"images": pixels.astype(dtype)}, signature))
    np.testing.assert_allclose(of_pixels["probabilities"], answers["probabilities"], atol=1e-5)
    assert (of_pixels["classes"] == answers["classes"]).all()


def test_output_filter(predict, pngs):
    assert set(predict({"images": pngs}, output_filter=["scores"]).outputs) == {"scores"}


@pytest.mark.parametrize("output_filter", [["absent"], ["scores", "scores"]], ids=["absent", "twice"])
def test_output_filter_is_checked(predict, pngs, output_filter):
    refusal(Code.INVALID_ARGUMENT, predict, {"images": pngs}, output_filter=output_filter)


def test_labels(predict, classes, answers):
    names = arrays(predict({"indices": np.arange(classes)}, "labels"))["labels"]
    best = answers["probabilities"].argmax(axis=1)
    assert (names[best] == answers["classes"][:, 0]).all()
    refusal(Code.INVALID_ARGUMENT, predict, {"indices": np.array([classes])}, "labels")


def test_unknown_names(predict, pngs):
    inputs = {"images": pngs}
    refusal(Code.NOT_FOUND, predict, inputs, name="absent")
    refusal(Code.NOT_FOUND, predict, inputs, version=987654321)
    refusal(Code.FAILED_PRECONDITION, predict, inputs, "absent")
    refusal(Code.INVALID_ARGUMENT, predict, inputs, label="absent")
    refusal(Code.INVALID_ARGUMENT, predict, inputs, name="")


WRONG = {
    "no input": {},
    "another input": {"pictures": np.array([b"x"], object)},
    "one more input": {"images": np.array([b"x"], object), "more": np.array([b"x"], object)},
    "numbers for bytes": {"images": np.zeros((1,), "float32")},
    "bytes of rank 0": {"images": np.array(b"x", object)},
    "bytes of rank 2": {"images": np.array([[b"x"]], object)},
    "no bytes": {"images": np.zeros((0,), object)},
    "no image": {"images": np.array([b"hello"], object)},
    "shape without values": {"images": TensorProto(dtype=7, tensor_shape={"dim": [{"size": 1 << 40}]})},
    "negative shape": {"images": TensorProto(dtype=7, tensor_shape={"dim": [{"size": -2}]})},
}


@pytest.mark.parametrize("inputs", WRONG.values(), ids=WRONG)
def test_wrong_inputs(predict, inputs):
    refusal(Code.INVALID_ARGUMENT, predict, inputs)


@pytest.mark.parametrize("signature", ["tensor", "tensor_uint8"])
@pytest.mark.parametrize("dtype", ["float64", "int32", "float32", "uint8"])
def test_a_signature_has_one_dtype(predict, pixels, signature, dtype):
    """The graph declares one; nothing is cast in silence."""
    inputs = {"images": pixels.astype(dtype)}
    if dtype == {"tensor": "float32", "tensor_uint8": "uint8"}[signature]:
        assert predict(inputs, signature).outputs
    else:
        refusal(Code.INVALID_ARGUMENT, predict, inputs, signature)


@pytest.mark.parametrize("signature", ["tensor", "tensor_uint8"])
def test_wrong_shapes(predict, pixels_shape, signature):
    height, width, channels = pixels_shape
    dtype = "float32" if signature == "tensor" else "uint8"
    shapes = [
        *(pixels_shape[:rank] for rank in range(4)),
        (1, 1, *pixels_shape),
        (1, height + 1, width, channels),
        (1, height, width, 4 - channels),
        (0, *pixels_shape),
    ]
    for shape in shapes:
        refusal(Code.INVALID_ARGUMENT, predict, {"images": np.zeros(shape, dtype)}, signature)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers(predict, pixels, value):
    images = pixels.astype("float32")
    images[0, 0, 0, 0] = value
    refusal(Code.INVALID_ARGUMENT, predict, {"images": images}, "tensor")


# --- Classify, Regress, MultiInference -------------------------------------------------------------


@pytest.fixture(scope="module")
def examples(pngs):
    result = []
    for png in pngs:
        example = Example()
        example.features.feature["image/encoded"].bytes_list.value.append(png)
        result.append(example)
    return result


def test_classify(service, spec, examples, answers):
    request = classification_pb2.ClassificationRequest(model_spec=spec("classify"))
    request.input.example_list.examples.extend(examples)
    check_classifications(service.Classify(request, TIMEOUT).result, answers)


def test_classify_with_a_context(service, spec, examples, answers):
    request = classification_pb2.ClassificationRequest(model_spec=spec("classify"))
    request.input.example_list_with_context.context.CopyFrom(examples[0])
    request.input.example_list_with_context.examples.extend([Example(), Example()])
    result = service.Classify(request, TIMEOUT).result
    for one in result.classifications:
        assert one.classes[0].label == answers["classes"][0, 0].decode()


def check_classifications(result, answers):
    for one, names, scores in zip(result.classifications, answers["classes"], answers["scores"], strict=True):
        assert [best.label for best in one.classes] == [name.decode() for name in names]
        np.testing.assert_allclose([best.score for best in one.classes], scores, atol=1e-5)


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        ("", Code.INVALID_ARGUMENT),  # three outputs
        ("tensor", Code.INVALID_ARGUMENT),
        ("features", Code.FAILED_PRECONDITION),  # an input of another name
        ("absent", Code.INVALID_ARGUMENT),
    ],
)
def test_other_signatures_do_not_classify(service, spec, examples, signature, code):
    request = classification_pb2.ClassificationRequest(model_spec=spec(signature))
    request.input.example_list.examples.extend(examples)
    refusal(code, service.Classify, request, TIMEOUT)


def test_classify_of_nothing(service, spec):
    request = classification_pb2.ClassificationRequest(model_spec=spec("classify"))
    refusal(Code.INVALID_ARGUMENT, service.Classify, request, TIMEOUT)


def test_classify_of_no_image(service, spec):
    request = classification_pb2.ClassificationRequest(model_spec=spec("classify"))
    request.input.example_list.examples.add()
    refusal(Code.INVALID_ARGUMENT, service.Classify, request, TIMEOUT)


def test_regress_has_no_signature(service, spec, examples):
    request = regression_pb2.RegressionRequest(model_spec=spec("classify"))
    request.input.example_list.examples.extend(examples)
    refusal(Code.INVALID_ARGUMENT, service.Regress, request, TIMEOUT)


def test_multi_inference(service, spec, examples, answers):
    request = inference_pb2.MultiInferenceRequest()
    request.tasks.add(model_spec=spec("classify"), method_name="tensorflow/serving/classify")
    request.input.example_list.examples.extend(examples)
    (result,) = service.MultiInference(request, TIMEOUT).results
    check_classifications(result.classification_result, answers)


def test_multi_inference_of_no_task(service):
    refusal(Code.INVALID_ARGUMENT, service.MultiInference, inference_pb2.MultiInferenceRequest(), TIMEOUT)


# --- metadata and status ---------------------------------------------------------------------------


def test_metadata(service, spec, signatures):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=spec(), metadata_field=["signature_def"]
    )
    response = service.GetModelMetadata(request, TIMEOUT)
    declared = get_model_metadata_pb2.SignatureDefMap()
    assert isinstance(response.metadata["signature_def"], Any)
    assert response.metadata["signature_def"].Unpack(declared)
    assert declared.signature_def == signatures  # as over REST


@pytest.mark.parametrize("fields", [[], ["labels"], ["signature_def", "labels"]], ids=str)
def test_metadata_knows_one_field(service, spec, fields):
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec(), metadata_field=fields)
    refusal(Code.INVALID_ARGUMENT, service.GetModelMetadata, request, TIMEOUT)


def test_metadata_of_another_model(service, spec):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=spec(name="absent"), metadata_field=["signature_def"]
    )
    refusal(Code.NOT_FOUND, service.GetModelMetadata, request, TIMEOUT)


def test_status(models, spec):
    response = models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=spec()), TIMEOUT)
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    states = {one.version: one.state for one in response.model_version_status}
    assert available in states.values()
    version = next(version for version, state in states.items() if state == available)
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec(version=version))
    (one,) = models.GetModelStatus(request, TIMEOUT).model_version_status
    assert (one.version, one.state, one.status.error_code) == (version, available, 0)


def test_status_of_what_is_not_there(models, spec):
    for absent in (spec(name="absent"), spec(version=987654321)):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=absent)
        refusal(Code.NOT_FOUND, models.GetModelStatus, request, TIMEOUT)
