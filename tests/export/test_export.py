import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES, run_python
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

import keras_googlenet
from keras_googlenet import (
    Architecture,
    GoogLeNet,
    Preprocessing,
    UserError,
    export_saved_model,
    preprocess_input,
)
from keras_googlenet.export import network, publish, reference
from keras_googlenet.export.provenance import weights, weights_sha256
from keras_googlenet.run import folder as run_folder
from keras_googlenet.session import SavedModelSession

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
def tiny(tiny_variant):
    return GoogLeNet(
        variant=Architecture.from_json(tiny_variant.read_text()), input_shape=(28, 28, 3), classes=3
    )


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


@pytest.mark.ci
def test_no_pass_of_grappler_fails(exported, image_folder):
    """What it gives up is slower, the layout on a GPU above all, and each load logs an error."""
    command = [sys.executable, "-c", SERVING_PROCESS, str(exported), str(image_folder / CLASSES[0] / "0.png")]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    )
    assert "oneDNN" in ran.stderr  # the log is there
    assert "meta_optimizer" not in ran.stderr


def test_both_signatures_agree(session, image_folder):
    encoded = (image_folder / "Trouser/1.png").read_bytes()
    image = tf.image.resize(tf.io.decode_png(encoded, channels=3), (80, 80)).numpy()
    by_bytes = session.run("serving_default", {"images": np.array([encoded], object)})
    by_pixels = session.run("tensor", {"images": image[np.newaxis]})
    np.testing.assert_allclose(by_bytes["probabilities"], by_pixels["probabilities"], atol=1e-5)


def test_no_file_names_the_machine_that_made_it(exported):
    """Nor the folders of the sources, of Python, of the user or of the work."""
    folders = {
        Path(keras_googlenet.__file__).parents[1],
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path.home(),
    }
    folders |= {Path.cwd(), exported.parent, Path(tempfile.gettempdir()), Path(keras.__file__).parents[1]}
    texts = [str(folder).encode() for folder in folders if folder != Path("/")]
    for path in exported.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert [text for text in texts if text in content] == [], path


def test_labels_travel_with_the_version(exported):
    assert (exported / "assets.extra/labels.txt").read_text().splitlines() == list(CLASSES)


@pytest.mark.ci
@pytest.mark.parametrize("variant", ["paper", pytest.param("bn", marks=pytest.mark.slow)])
def test_1000_classes_hold_the_main_path_alone(variant, tmp_path):
    model = GoogLeNet(variant=variant)
    folder = export_saved_model(model, tmp_path / "googlenet", optimize="none", warmup_batch_sizes=())
    size = sum(path.stat().st_size for path in (folder / "variables").iterdir())
    assert size <= 28.5e6
    main_path = GoogLeNet(variant=variant, aux_heads=False)
    stored = tf.train.load_checkpoint(str(folder / "variables/variables"))
    shapes = stored.get_variable_to_shape_map()
    objects = TrackableObjectGraph.FromString(stored.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    attributes = [attribute for node in objects.nodes for attribute in node.attributes]
    assert sorted(attribute.full_name for attribute in attributes) == sorted(
        weight.path for weight in main_path.weights
    )
    assert len(shapes) == len(attributes) + 1
    assert sum(math.prod(shape) for shape in shapes.values()) == main_path.count_params() + 1
    session = SavedModelSession(folder)
    graph = session._session.graph.as_graph_def()
    nodes = [node.name for node in graph.node] + [
        node.name for function in graph.library.function for node in function.node_def
    ]
    assert not [name for name in nodes if "aux" in name]
    answer = session.run("tensor", {"images": np.zeros((2, 224, 224, 3), "float32")})
    assert answer["probabilities"].shape == (2, 1000)
    assert answer["classes"].shape == (2, 5)


@pytest.mark.ci
def test_bfloat16_is_near_and_answers_in_float32(tiny, tmp_path, random):
    folder = export_saved_model(tiny, tmp_path / "m", precision="bfloat16", optimize="cpu")
    half = SavedModelSession(folder)
    x = random.uniform(0, 255, (2, 28, 28, 3)).astype("float32")
    answer = half.run("tensor", {"images": x})["probabilities"]
    assert answer.dtype == np.float32
    expected = tiny.predict(preprocess_input(x), verbose=0)
    np.testing.assert_allclose(answer, expected, atol=0.02)
    assert (answer != expected).any()
    stored = weights(folder)
    assert stored["weights/conv1_3x3/kernel"].dtype == "bfloat16"
    assert len(weights_sha256(folder)) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a", "b"]}, "expected 3 class names.* received 2"),
        ({"version": -1}, "`version` to be at least 0"),
        ({"precision": "int8"}, "float32 or bfloat16"),
        ({"optimize": "gpu"}, "expected `optimize` to be one of none, fold, cpu, got 'gpu'"),
        ({"temperature": 0}, "`temperature` of more than 0, got 0"),
        ({"keep": 0}, "expected `keep` to be at least 1, got 0"),
        ({"max_pixels": 783}, "`max_pixels` from 784, the network's 28 x 28, to 50000000, got 783"),
        ({"max_pixels": 50_000_001}, "to 50000000, got 50000001"),
        ({"warmup_batch_sizes": (0,)}, "expected `warmup_batch_sizes` of 1 or more, got 0"),
        ({"warmup_batch_sizes": range(1, 200)}, "at most 1000 warm-up records, got 199 batch sizes for 6"),
    ],
)
def test_wrong_arguments_leave_nothing(tiny, arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        export_saved_model(tiny, tmp_path / "m", **arguments)
    assert not (tmp_path / "m").exists()


@pytest.mark.ci
def test_max_pixels_may_be_the_network_s_own(tiny, tmp_path):
    folder = export_saved_model(tiny, tmp_path / "m", max_pixels=28 * 28, warmup_batch_sizes=())
    assert json.loads((folder / "assets.extra/provenance.json").read_text())["max_pixels"] == 784
    session = SavedModelSession(folder)
    fits, larger = (tf.io.encode_png(np.zeros((28, w, 3), "uint8")).numpy() for w in (28, 29))
    for name in ("serving_default", "features"):
        session.run(name, {"images": np.array([fits] * 3, object)})  # more than max_pixels together
        with pytest.raises(tf.errors.InvalidArgumentError, match="Expected an image of 1 to 784 pixels"):
            session.run(name, {"images": np.array([fits, larger], object)})


def with_own_layers(tiny_variant, *own):
    """A network whose pixels pass through layers before its first convolution."""
    keras.utils.set_random_seed(4)
    images = keras.Input((28, 28, 3))
    inputs = images
    for layer in own:
        inputs = layer(inputs)
    variant = Architecture.from_json(tiny_variant.read_text())
    return GoogLeNet(variant=variant, input_tensor=inputs, classes=3)


OWN = {
    "rescaling": [keras.layers.Rescaling(1 / 127.5, -1)],
    "operations": [lambda pixels: pixels / 127.5 - 1],
    "padding and rescaling": [keras.layers.ZeroPadding2D(2), keras.layers.Rescaling(1 / 255)],
    "normalization": [keras.layers.Normalization(mean=[120, 110, 100], variance=[9, 8, 7])],
}


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_a_network_with_its_own_scaling_needs_preprocessing(tiny_variant, own, tmp_path):
    model = with_own_layers(tiny_variant, *own)
    advice = r"give preprocessing=keras_googlenet\.Preprocessing\(28, 28, 3, mean=0\.0, scale=1\.0\)$"
    with pytest.raises(UserError, match=f"^expected `preprocessing` for .*, received none: .*{advice}"):
        export_saved_model(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("optimize", [pytest.param("none", marks=pytest.mark.ci), "fold"])
def test_a_network_with_its_own_scaling_answers_as_its_user_calls_it(
    tiny_variant, optimize, tmp_path, random
):
    model = with_own_layers(tiny_variant, keras.layers.Rescaling(1 / 127.5, -1))
    preprocessing = Preprocessing(28, 28, 3, mean=0.0, scale=1.0)
    folder = export_saved_model(
        model, tmp_path / "m", preprocessing=preprocessing, optimize=optimize, warmup_batch_sizes=()
    )
    pixels = random.integers(0, 256, (4, 28, 28, 3)).astype("float32")
    answer = SavedModelSession(folder).run("tensor", {"images": pixels})["probabilities"]
    np.testing.assert_allclose(answer, model(pixels), atol=1e-5)


@pytest.mark.ci
def test_padding_needs_no_preprocessing(tiny_variant, tmp_path, random):
    model = with_own_layers(tiny_variant, keras.layers.ZeroPadding2D(2))
    folder = export_saved_model(model, tmp_path / "m", warmup_batch_sizes=())
    pixels = random.integers(0, 256, (2, 28, 28, 3)).astype("float32")
    answer = SavedModelSession(folder).run("tensor", {"images": pixels})["probabilities"]
    np.testing.assert_allclose(answer, model(preprocess_input(pixels)), atol=1e-5)


@pytest.mark.ci
def test_an_export_that_scales_otherwise_than_its_user_is_not_published(tiny, tmp_path, monkeypatch):
    """The check does not take the export's own preprocessing for granted."""
    monkeypatch.setattr(network, "_default_preprocessing", lambda model: Preprocessing(28, 28, 3, scale=1.0))
    with pytest.raises(UserError, match="the export does not answer as the model does"):
        export_saved_model(tiny, tmp_path / "m", warmup_batch_sizes=())


def test_layers_after_the_main_head_are_not_dropped_in_silence(tiny, tmp_path):
    doubled = keras.Model(tiny.inputs, keras.layers.Rescaling(2.0)(tiny.output))
    with pytest.raises(UserError, match='expected a model with its layer "main" as an output'):
        export_saved_model(doubled, tmp_path / "m")


def test_a_model_of_no_fixed_size_is_refused(tmp_path):
    model = GoogLeNet(input_shape=(None, None, 3), aux_heads=False, classes=7)
    with pytest.raises(UserError, match="fixed input size"):
        export_saved_model(model, tmp_path / "m")


def test_another_backend_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match="KERAS_BACKEND=tensorflow"):
        export_saved_model(tiny, tmp_path / "m")


@pytest.mark.ci
def test_an_export_that_answers_otherwise_is_not_published(tiny, tmp_path, monkeypatch):
    answers = reference.answers

    def other(*arguments, **options):
        expected = answers(*arguments, **options)
        expected["features"]["features"] = expected["features"]["features"] + 1e-3
        return expected

    monkeypatch.setattr(reference, "answers", other)
    with pytest.raises(
        UserError, match=r"a difference of .*e-0., allowed 1e-05 in 'features' of signature 'features'"
    ):
        export_saved_model(tiny, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.ci
def test_a_model_that_answers_no_numbers_is_not_published(tiny, tmp_path):
    model = keras.models.clone_model(tiny)
    model.get_layer("main").bias.assign([float("nan")] * 3)
    with pytest.raises(
        UserError, match=r"does not load and run, so it is not published: .*answer to these pixels"
    ):
        export_saved_model(model, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.ci
def test_a_disk_that_is_full_at_the_end_leaves_nothing(tiny, tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "sync", full)
    with pytest.raises(
        UserError, match=f"cannot write in {tmp_path / 'm'}, nothing is published: .*No space"
    ):
        export_saved_model(tiny, tmp_path / "m", warmup_batch_sizes=())
    assert list((tmp_path / "m").iterdir()) == []


def test_a_full_disk_leaves_nothing(tiny, tmp_path):
    """A limit on the size of files, in place of a disk without room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(UserError, match=f"cannot write in {tmp_path / 'm'}, nothing is published: "):
            export_saved_model(tiny, tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "m").iterdir()) == []
