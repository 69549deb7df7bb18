"""Files for other runtimes, run by those."""

import importlib.util
import json
import os
import resource
import subprocess
import sys
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
from keras_googlenet.network.architecture import LocalResponseNorm
from keras_googlenet.network.variants import VARIANTS

NAMES = ("ape", "bee", "cat")
SUFFIX = {"onnx": ".onnx", "litert": ".tflite", "openvino": ".xml"}
WEIGHTS = {"openvino": {"net.bin"}}  # the second file
openvino = formats.import_openvino()


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


def run_openvino(file, pixels):
    network = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (given,), (found,) = network.inputs, network.outputs
    assert (given.names, str(given.partial_shape)) == ({"images"}, "[?,28,28,3]")
    assert "probabilities" in found.names  # OpenVINO 2025 keeps the SavedModel's name, too
    assert str(found.partial_shape) == "[?,3]"
    return network({"images": pixels})["probabilities"]


RUN = {"onnx": run_onnx, "litert": run_litert, "openvino": run_openvino}


@pytest.mark.parametrize("format", SUFFIX)
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


@pytest.mark.parametrize("format", SUFFIX)
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
    left = Preprocessing.from_dict(json.loads((tmp_path / "new/net.preprocessing.json").read_text()))
    assert left == Preprocessing(28, 28, mean=0.0, scale=1.0)
    names = {file.name, "net.labels.txt", "net.preprocessing.json"} | WEIGHTS.get(format, set())
    assert {path.name for path in file.parent.iterdir()} == names


@pytest.mark.parametrize("format", SUFFIX)
@pytest.mark.parametrize("kind", ["gelu", "silu", "local response normalization"])
def test_every_activation_and_normalization_is_written(tiny_variant, kind, format, tmp_path, random):
    """`relu` is written above. `export_file` compares the file's answers with the model's."""
    variant = Architecture.from_json(tiny_variant.read_text())
    if kind in ("gelu", "silu"):
        variant = replace(variant, activation=kind)
    else:
        paper = VARIANTS["paper"]
        kept = [
            stage for stage in paper.stages if not stage.name.startswith(("pool3", "pool4", "4", "5", "3b"))
        ]
        assert sum(isinstance(stage, LocalResponseNorm) for stage in kept) == 2
        variant = replace(paper, name="lrn", stages=tuple(kept), auxiliary_heads=()).scaled(0.125)
    model = GoogLeNet(variant=variant, input_shape=(28, 28, 3), classes=3)
    file = export_file(model, tmp_path / f"net{SUFFIX[format]}", format=format)
    pixels = random.uniform(0, 255, (2, 28, 28, 3)).astype("float32")
    expected = model.predict(pixels / 127.5 - 1, verbose=0)
    np.testing.assert_allclose(RUN[format](file, pixels), expected, atol=1e-5)


def test_a_process_without_the_package_reads_openvino(model, tmp_path, random):
    """As a user's program does: OpenVINO reads the .xml and finds its .bin."""
    file = export_file(model, tmp_path / "net.v2.xml", format="openvino")
    pixels = random.uniform(0, 255, (2, 28, 28, 3)).astype("float32")
    np.save(tmp_path / "pixels.npy", pixels)
    program = (
        "import sys, numpy as np, openvino\n"
        "precision = {'INFERENCE_PRECISION_HINT': 'f32'}\n"
        f"network = openvino.Core().compile_model({str(file)!r}, 'CPU', precision)\n"
        "np.save('answers.npy', network(np.load('pixels.npy'))[0])\n"
        "print(*sorted({'keras', 'keras_googlenet', 'tensorflow'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"CI": "true"},  # turns OpenVINO's telemetry off
    )
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
    expected = model.predict(pixels / 127.5 - 1, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), expected, atol=1e-4)


@pytest.mark.parametrize("format", SUFFIX)
def test_a_full_disk_leaves_nothing(model, format, tmp_path):
    """A limit on the size of files, in place of a disk without room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*net.* \(.+\): the partial file was removed"):
            export_file(model, tmp_path / f"net{SUFFIX[format]}", format=format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_for_openvino_leaves_nothing(model, tmp_path, monkeypatch):
    def full(network, file):  # as it fails where there is room for a SavedModel and no more
        file.with_suffix(".bin").touch()
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "serialize", full)
    with pytest.raises(UserError, match=r"cannot write .*net.xml \(OpenVINO cannot write; is the disk full?"):
        export_file(model, tmp_path / "net.xml", format="openvino")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", SUFFIX)
def test_a_file_that_answers_otherwise_is_not_written(model, format, tmp_path, monkeypatch):
    target = formats.FORMATS[format]
    wrong = replace(target, load=lambda file: lambda pixels: target.load(file)(pixels) + 1e-3)
    monkeypatch.setitem(formats.FORMATS, format, wrong)
    with pytest.raises(UserError, match="does not answer as the model does, so it is not written"):
        export_file(model, tmp_path / f"net{SUFFIX[format]}", format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", ["net.xml", "net.bin", "net.labels.txt", "net.preprocessing.json"])
def test_nothing_is_overwritten(model, taken, tmp_path):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UserError, match=f"{taken} exists: choose another name"):
        export_file(model, tmp_path / "net.xml", format="openvino")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.tflite", {"format": "onnx"}, "a file that ends in .onnx for format onnx, got .*net.tflite"),
        ("net", {"format": "litert"}, "a file that ends in .tflite"),
        ("net.pb", {"format": "pb"}, "`format` to be one of saved_model, onnx, litert, openvino, got 'pb'"),
        ("net.onnx", {"format": "onnx", "class_names": ["a"]}, "expected 3 class names"),
    ],
)
def test_wrong_arguments_leave_nothing(model, name, options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        export_file(model, tmp_path / "new" / name, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "package"), [("onnx", "tf2onnx"), ("litert", "ai_edge_litert"), ("openvino", "openvino")]
)
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
    load = formats.FORMATS["litert"].load
    wrong = replace(
        formats.FORMATS["litert"], load=lambda file: lambda pixels: np.roll(load(file)(pixels), 1, axis=1)
    )
    monkeypatch.setitem(formats.FORMATS, "litert", wrong)
    with pytest.raises(UserError, match="in int8 0% of the calibration images keep their class"):
        export_file(decided, tmp_path / "net.tflite", format="litert", calibration_images=pixels)
    for given in (pixels[:0], pixels[:, 1:], pixels[0]):
        with pytest.raises(
            UserError, match=r"expected `calibration_images`, each of shape \(28, 28, 3\), got an array of"
        ):
            export_file(decided, tmp_path / "net.tflite", format="litert", calibration_images=given)
    for format in ("onnx", "openvino"):
        with pytest.raises(UserError, match=f"int8 is for format litert, not for {format}"):
            export_file(decided, tmp_path / f"net{SUFFIX[format]}", format=format, calibration_images=pixels)
    assert list(tmp_path.iterdir()) == []
