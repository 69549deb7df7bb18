"""Files for other runtimes, run by those."""

import importlib.util
from dataclasses import replace

import cv2
import keras
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_googlenet import Architecture, GoogLeNet, Preprocessing, UserError
from keras_googlenet.data.sources import load_data
from keras_googlenet.export import formats, held_out, targets
from keras_googlenet.export.targets import export_file

NAMES = ("ape", "bee", "cat")
SUFFIX = {"onnx": ".onnx", "litert": ".tflite"}


@pytest.fixture(scope="module")
def model(tiny_variant):
    """With auxiliary-free narrow blocks, random weights."""
    keras.utils.set_random_seed(5)
    variant = Architecture.from_json(tiny_variant.read_text())
    return GoogLeNet(variant=variant, input_shape=(28, 28, 3), classes=3)


def run_onnx(file, pixels):
    session = onnxruntime.InferenceSession(str(file))
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(float)", [28, 28, 3])
    assert found.shape[1:] == [3]
    return session.run(None, {"images": pixels})[0]


def run_litert(file, pixels):
    interpreter = Interpreter(str(file))
    (given,) = interpreter.get_input_details()
    assert given["shape_signature"].tolist() == [-1, 28, 28, 3]
    (signature,) = interpreter.get_signature_list().values()
    assert signature["inputs"] == ["images"]
    (answer,) = interpreter.get_signature_runner()(images=pixels).values()
    return answer


RUN = {"onnx": run_onnx, "litert": run_litert}


@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_a_network_with_its_own_scaling_needs_preprocessing(tiny_variant, format, tmp_path, random):
    images = keras.Input((28, 28, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(images)
    variant = Architecture.from_json(tiny_variant.read_text())
    own = GoogLeNet(variant=variant, input_tensor=scaled, classes=3)
    file = tmp_path / f"net{SUFFIX[format]}"
    with pytest.raises(UserError, match=r"expected `preprocessing` for .*rescaling"):
        export_file(own, file, format=format)
    export_file(own, file, format=format, preprocessing=Preprocessing(28, 28, 3, mean=0.0, scale=1.0))
    pixels = random.integers(0, 256, (2, 28, 28, 3)).astype("float32")
    np.testing.assert_allclose(RUN[format](file, pixels), own(pixels), atol=1e-5)


@pytest.mark.parametrize("format", ["onnx", "litert"])
@pytest.mark.parametrize("bgr", [False, True])
def test_the_file_answers_as_the_model(model, format, bgr, tmp_path, random):
    preprocessing = Preprocessing(28, 28)
    if bgr:
        preprocessing = Preprocessing(28, 28, mean=(104.0, 117.0, 123.0), scale=0.02, channel_order="bgr")
    file = export_file(
        model,
        tmp_path / f"new/net{SUFFIX[format]}",
        format=format,
        class_names=NAMES,
        preprocessing=preprocessing,
        temperature=1.0 if not bgr else 2.0,
    )
    pixels = random.uniform(0, 255, (3, 28, 28, 3)).astype("float32")
    if bgr:
        inputs = (pixels[..., ::-1] - np.array([104, 117, 123], "float32")) * np.float32(0.02)
        expected = np.sqrt(model.predict(inputs, verbose=0))
        expected /= expected.sum(axis=1, keepdims=True)
    else:
        expected = model.predict(pixels / 127.5 - 1, verbose=0)
    for count in (3, 1):
        np.testing.assert_allclose(RUN[format](file, pixels[:count]), expected[:count], atol=1e-5)
    assert (tmp_path / "new/net.labels.txt").read_text().splitlines() == list(NAMES)
    assert {path.name for path in file.parent.iterdir()} == {file.name, "net.labels.txt"}


@pytest.mark.parametrize("format", ["onnx", "litert"])
@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_every_activation_is_written(tiny_variant, activation, format, tmp_path, random):
    """`relu` is written above. `export_file` compares the file's answers with the model's."""
    variant = replace(Architecture.from_json(tiny_variant.read_text()), activation=activation)
    model = GoogLeNet(variant=variant, input_shape=(28, 28, 3), classes=3)
    file = export_file(model, tmp_path / f"net{SUFFIX[format]}", format=format)
    pixels = random.uniform(0, 255, (2, 28, 28, 3)).astype("float32")
    expected = model.predict(pixels / 127.5 - 1, verbose=0)
    np.testing.assert_allclose(RUN[format](file, pixels), expected, atol=1e-5)


@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_a_file_that_answers_otherwise_is_not_written(model, format, tmp_path, monkeypatch):
    target = formats.FORMATS[format]
    wrong = replace(target, run=lambda file, pixels: target.run(file, pixels) + 1e-3)
    monkeypatch.setitem(formats.FORMATS, format, wrong)
    with pytest.raises(UserError, match="does not answer as the model does, so it is not written"):
        export_file(model, tmp_path / f"net{SUFFIX[format]}", format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", ["net.onnx", "net.labels.txt"])
def test_nothing_is_overwritten(model, taken, tmp_path):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UserError, match=f"{taken} exists: choose another name"):
        export_file(model, tmp_path / "net.onnx", format="onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.tflite", {"format": "onnx"}, "a file that ends in .onnx for format onnx, got .*net.tflite"),
        ("net", {"format": "litert"}, "a file that ends in .tflite"),
        ("net.pb", {"format": "pb"}, "`format` to be one of saved_model, onnx, litert, got 'pb'"),
        ("net.onnx", {"format": "onnx", "class_names": ["a"]}, "expected 3 class names"),
    ],
)
def test_wrong_arguments_leave_nothing(model, name, options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        export_file(model, tmp_path / "new" / name, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("format", "package"), [("onnx", "tf2onnx"), ("litert", "ai_edge_litert")])
def test_a_missing_package_is_named_before_the_work(model, format, package, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    with pytest.raises(
        UserError, match=rf'{package} is not installed: pip install "keras-googlenet\[{format}\]"'
    ):
        export_file(model, tmp_path / f"net{SUFFIX[format]}", format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def pixels(image_folder):
    return held_out.pixels(load_data(str(image_folder)).train, Preprocessing(28, 28))


@pytest.fixture(scope="module")
def decided(model, pixels):
    """With probabilities far apart, as a trained network's are, and several classes the likeliest."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    kernel, bias = model.get_layer("main").get_weights()
    copy.get_layer("main").set_weights([kernel * 30, bias])
    logits = np.log(copy.predict(pixels / 127.5 - 1, verbose=0))
    copy.get_layer("main").set_weights([kernel * 30, bias - logits.mean(axis=0)])
    return copy


@pytest.mark.ci
def test_int8(decided, pixels, tmp_path, monkeypatch):
    """Its convolutions and their weights are in 8 bits."""
    monkeypatch.setattr(targets, "INT8_AGREEMENT", 0.7)  # no training has set its classes apart
    files = [
        export_file(decided, tmp_path / f"{name}.tflite", format="litert", calibration_images=given)
        for name, given in (("float32", None), ("int8", pixels))
    ]
    in_float32, in_int8 = (RUN["litert"](file, pixels) for file in files)
    assert len(set(in_float32.argmax(axis=1))) > 1
    assert np.corrcoef(in_int8.ravel(), in_float32.ravel())[0, 1] > 0.95
    np.testing.assert_array_equal(in_int8 * 256, np.round(in_int8 * 256))
    interpreter = Interpreter(str(files[1]))
    convolutions = [each for each in interpreter._get_ops_details() if each["op_name"] == "CONV_2D"]
    assert len(convolutions) == len(convolutions_of(decided))
    for convolution in convolutions:
        kinds = [interpreter._get_tensor_details(index, 0)["dtype"] for index in convolution["inputs"][:2]]
        assert kinds == [np.int8, np.int8]


def convolutions_of(network):
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]


def test_pixels_are_what_a_caller_would_decode(image_folder, pixels):
    images = load_data(str(image_folder)).train.images
    expected = [cv2.imdecode(np.frombuffer(each, "uint8"), cv2.IMREAD_COLOR) for each in images]
    np.testing.assert_allclose(pixels, expected, atol=1e-3)


def test_int8_of_another_network_is_not_written(decided, pixels, tmp_path, monkeypatch):
    run = formats.FORMATS["litert"].run
    wrong = replace(formats.FORMATS["litert"], run=lambda *given: np.roll(run(*given), 1, axis=1))
    monkeypatch.setitem(formats.FORMATS, "litert", wrong)
    with pytest.raises(UserError, match="in int8 0% of the calibration images keep their class"):
        export_file(decided, tmp_path / "net.tflite", format="litert", calibration_images=pixels)
    for given in (pixels[:0], pixels[:, 1:], pixels[0]):
        with pytest.raises(
            UserError, match=r"expected `calibration_images`, each of shape \(28, 28, 3\), got an array of"
        ):
            export_file(decided, tmp_path / "net.tflite", format="litert", calibration_images=given)
    with pytest.raises(UserError, match="int8 is for format litert, not for onnx"):
        export_file(decided, tmp_path / "net.onnx", format="onnx", calibration_images=pixels)
    assert list(tmp_path.iterdir()) == []
