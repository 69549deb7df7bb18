import json
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES, run_python
from tensorflow.core.protobuf import saved_model_pb2

from keras_googlenet import GoogLeNet, UserError, export_saved_model, preprocess_input
from keras_googlenet.serving.session import SavedModelSession
from keras_googlenet.training import run_folder

SIGNATURES = {"serving_default", "tensor", "tensor_uint8", "classify", "features", "labels"}
SMALL = {"input_shape": (80, 80, 3), "classes": 7}

# A process without Keras and without this package: what TensorFlow Serving has.
SERVING_PROCESS = """
import json, sys
sys.modules["keras"] = sys.modules["tf_keras"] = sys.modules["keras_googlenet"] = None
import numpy as np, tensorflow.compat.v1 as tf
with tf.Session(graph=tf.Graph()) as session:
    meta = tf.saved_model.loader.load(session, ["serve"], sys.argv[1])
    signature = meta.signature_def["serving_default"]
    encoded = np.array([open(path, "rb").read() for path in sys.argv[2:]], object)
    fetches = {name: info.name for name, info in signature.outputs.items()}
    outputs = session.run(fetches, {signature.inputs["images"].name: encoded})
print(json.dumps({
    "probabilities": outputs["probabilities"].tolist(),
    "scores": outputs["scores"].tolist(),
    "classes": [[name.decode() for name in row] for row in outputs["classes"]],
}))
"""


@pytest.fixture(scope="module")
def session(exported):
    return SavedModelSession(exported)


def test_the_version_is_the_first_and_nothing_else_is_there(exported):
    assert exported.name == "1"
    assert [path.name for path in exported.parent.iterdir()] == ["1"]


def test_runs_with_tensorflow_alone_and_agrees_with_the_keras_model(exported, finished_run, image_folder):
    paths = [image_folder / name / "0.png" for name in CLASSES]
    output = run_python(SERVING_PROCESS, str(exported), *map(str, paths))
    answer = json.loads(output.splitlines()[-1])
    run = run_folder.load(finished_run)
    decoded = [tf.io.decode_png(path.read_bytes(), channels=3) for path in paths]
    pixels = np.stack([tf.image.resize(image, (80, 80)).numpy() for image in decoded])
    expected = run.model.predict(preprocess_input(pixels), verbose=0)[0]
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    for probabilities, scores, names in zip(
        *(answer[k] for k in ("probabilities", "scores", "classes")), strict=True
    ):
        order = np.argsort(probabilities)[::-1]
        assert names == [CLASSES[i] for i in order]
        np.testing.assert_allclose(scores, np.sort(probabilities)[::-1])


def test_both_signatures_agree(session, image_folder):
    encoded = (image_folder / "Trouser/1.png").read_bytes()
    image = tf.image.resize(tf.io.decode_png(encoded, channels=3), (80, 80)).numpy()
    by_bytes = session.run("serving_default", {"images": np.array([encoded], object)})
    by_pixels = session.run("tensor", {"images": image[np.newaxis]})
    np.testing.assert_allclose(by_bytes["probabilities"], by_pixels["probabilities"], atol=1e-5)


def test_signatures_declare_their_types(session):
    assert set(session.signatures) == SIGNATURES
    for name, dtype, rank in (("serving_default", "DT_STRING", 1), ("tensor", "DT_FLOAT", 4)):
        signature = session.signatures[name]
        assert signature.method_name == "tensorflow/serving/predict"
        assert set(signature.inputs) == {"images"}
        types = tf.dtypes.as_dtype(signature.inputs["images"].dtype)
        assert types.as_datatype_enum == tf.dtypes.as_dtype(dtype[3:].lower()).as_datatype_enum
        assert len(signature.inputs["images"].tensor_shape.dim) == rank
        outputs = {key: tf.dtypes.as_dtype(info.dtype).name for key, info in signature.outputs.items()}
        assert outputs == {"probabilities": "float32", "scores": "float32", "classes": "string"}


@pytest.fixture(scope="module")
def unchecked(exported):
    """Runs `tensor` with no check outside the graph, as a server does: its placeholder takes any shape."""
    saved_model = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    (meta,) = saved_model.meta_graphs
    signature = meta.signature_def["tensor"]
    fed = signature.inputs["images"].name
    node = next(node for node in meta.graph_def.node if node.name == fed.removesuffix(":0"))
    node.attr["shape"].shape.Clear()
    node.attr["shape"].shape.unknown_rank = True
    del node.attr["_output_shapes"]
    with tf.Graph().as_default():
        session = tf.compat.v1.Session()
        saver = tf.compat.v1.train.import_meta_graph(meta)
        saver.restore(session, str(exported / "variables/variables"))
    return lambda x: session.run(signature.outputs["probabilities"].name, {fed: x})


@pytest.mark.parametrize("shape", [(), (80,), (80, 80, 3), (1, 80, 80), (1, 80, 81, 3), (1, 80, 80, 1)])
def test_wrong_shapes_are_refused_in_the_graph(unchecked, shape):
    assert unchecked(np.zeros((2, 80, 80, 3), "float32")).shape == (2, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is not compatible with expected shape"):
        unchecked(np.zeros(shape, "float32"))


@pytest.mark.parametrize("encoded", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", None])
def test_bytes_that_are_no_image_are_refused_in_the_graph(session, encoded, png_bytes):
    encoded = png_bytes[: len(png_bytes) // 2] if encoded is None else encoded
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run("serving_default", {"images": np.array([encoded], object)})


def test_labels_travel_with_the_version(exported):
    assert (exported / "assets.extra/labels.txt").read_text().splitlines() == list(CLASSES)


@pytest.mark.parametrize("variant", ["paper", "bn"])
def test_1000_classes_hold_the_main_path_alone(variant, tmp_path):
    model = GoogLeNet(variant=variant)
    folder = export_saved_model(model, tmp_path / "googlenet")
    size = sum(path.stat().st_size for path in (folder / "variables").iterdir())
    assert size <= 28.5e6
    names = [name for name, _ in tf.train.list_variables(str(folder / "variables/variables"))]
    assert not [name for name in names if "aux" in name]
    stored = tf.train.load_checkpoint(str(folder / "variables/variables"))
    count = sum(np.size(stored.get_tensor(n)) for n in names if n != "_CHECKPOINTABLE_OBJECT_GRAPH")
    assert count == GoogLeNet(variant=variant, aux_heads=False).count_params()
    session = SavedModelSession(folder)
    graph = session._session.graph.as_graph_def()
    nodes = [node.name for node in graph.node] + [
        node.name for function in graph.library.function for node in function.node_def
    ]
    assert not [name for name in nodes if "aux" in name]
    answer = session.run("tensor", {"images": np.zeros((2, 224, 224, 3), "float32")})
    assert answer["probabilities"].shape == (2, 1000)
    assert answer["classes"].shape == (2, 5)


def test_logits_become_probabilities(tmp_path, random):
    model = GoogLeNet(**SMALL, classifier_activation=None)
    session = SavedModelSession(export_saved_model(model, tmp_path / "m"))
    x = random.uniform(0, 255, (2, 80, 80, 3)).astype("float32")
    expected = keras.ops.softmax(model.predict(preprocess_input(x), verbose=0)[0])
    answer = session.run("tensor", {"images": x})
    np.testing.assert_allclose(answer["probabilities"], np.asarray(expected), atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "bn"])
def test_bfloat16_is_near_and_answers_in_float32(variant, tmp_path, random):
    model = GoogLeNet(**SMALL, variant=variant)
    half = SavedModelSession(export_saved_model(model, tmp_path / "m", precision="bfloat16"))
    x = random.uniform(0, 255, (2, 80, 80, 3)).astype("float32")
    answer = half.run("tensor", {"images": x})["probabilities"]
    assert answer.dtype == np.float32
    expected = model.predict(preprocess_input(x), verbose=0)[0]
    np.testing.assert_allclose(answer, expected, atol=0.02)
    assert (answer != expected).any()


def test_versions_count_up_and_are_never_overwritten(exported, tmp_path):
    directory = shutil.copytree(exported.parent, tmp_path / "shoes")
    model = GoogLeNet(**SMALL)
    assert export_saved_model(model, directory, version=7) == directory / "7"
    assert export_saved_model(model, directory) == directory / "8"
    (directory / "9").mkdir()
    with pytest.raises(UserError, match="9 exists"):
        export_saved_model(model, directory, version=9)
    assert sorted(path.name for path in directory.iterdir()) == ["1", "7", "8", "9"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a", "b"]}, "expected 7 class names.* received 2"),
        ({"version": -1}, "version of 0 or more"),
        ({"precision": "int8"}, "float32 or bfloat16"),
    ],
)
def test_wrong_arguments_leave_nothing(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        export_saved_model(GoogLeNet(**SMALL), tmp_path / "m", **arguments)
    assert not (tmp_path / "m").exists()


def test_a_model_of_no_fixed_size_is_refused(tmp_path):
    model = GoogLeNet(input_shape=(None, None, 3), aux_heads=False, classes=7)
    with pytest.raises(UserError, match="fixed input size"):
        export_saved_model(model, tmp_path / "m")


def test_another_backend_is_refused(tmp_path):
    code = """
import sys
from keras_googlenet import GoogLeNet, UserError, export_saved_model
try:
    export_saved_model(GoogLeNet(input_shape=(80, 80, 3)), sys.argv[1])
except UserError as error:
    print(error)
"""
    assert "KERAS_BACKEND=tensorflow" in run_python(code, str(tmp_path / "m"), env={"KERAS_BACKEND": "jax"})


def test_a_killed_export_leaves_no_version(finished_run, tmp_path):
    """Killed as soon as it stages its files: nothing there has a version's name."""
    directory = tmp_path / "m"
    command = [
        sys.executable,
        "-m",
        "keras_googlenet.cli",
        "export",
        str(finished_run),
        "--to",
        str(directory),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(directory.glob(".tmp-*/*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [path for path in directory.iterdir() if path.name.isdigit()] == []
