"""`keras-googlenet export`, with all that it can add to a version."""

import csv
import hashlib
import json
import re
import shutil
import sys
from dataclasses import fields

import fsspec
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

import keras_googlenet
from keras_googlenet import RunConfig, UserError, train
from keras_googlenet.cli import main
from keras_googlenet.evaluation.images import own_images
from keras_googlenet.export.provenance import PATHS, run_origin, weights_sha256
from keras_googlenet.run import folder as run_folder
from keras_googlenet.session import SavedModelSession


@pytest.fixture(scope="module")
def full(finished_run, tmp_path_factory):
    """A version with every option, beside two older ones; its folder and what was printed."""
    directory = tmp_path_factory.mktemp("models") / "shoes"
    for number in ("3", "4"):
        (directory / number).mkdir(parents=True)
        (directory / number / "saved_model.pb").touch()
    options = ["--precision", "bfloat16", "--calibrate", "--cam", "--keep", "2"]
    options += ["--warmup-batch-sizes", "1", "3", "--max-pixels", "12000000"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys, "argv", ["keras-googlenet", "export", str(finished_run), "--to", str(directory), *options]
        )
        printed = []
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        main()
    return directory / "5", printed


def told(folder):
    return json.loads((folder / "assets.extra/provenance.json").read_text())


@pytest.mark.ci
def test_the_version_is_published_and_old_ones_are_pruned(full):
    folder, printed = full
    assert printed[-1] == str(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["4", "5"]


@pytest.mark.ci
def test_accuracy_and_calibration_are_printed_and_told(full, finished_run):
    folder, printed = full
    images = own_images([finished_run], "validation")
    assert printed[0] == f"measured on validation images of {told(folder)['run']['config']['data']}"
    figures = told(folder)["accuracy"]
    assert figures["images"] == images.part.count
    assert re.fullmatch(
        rf"top-1 accuracy on {images.part.count} images: {figures['float32']:.4f} in float32, "
        rf"{figures['bfloat16']:.4f} in bfloat16 \([+-]0\.\d{{4}}\), the same class for \d+\.\d\d%",
        printed[1],
    )
    fitted = told(folder)["calibration"]
    assert printed[2].startswith(f"temperature {fitted['temperature']:.3f} on {images.part.count} images: ")
    assert fitted["nll"][1] <= fitted["nll"][0]
    assert told(folder)["temperature"] == fitted["temperature"]
    assert told(folder)["precision"] == "bfloat16"


@pytest.mark.ci
def test_the_graph_divides_by_the_temperature(full, finished_run, image_folder):
    folder, _ = full
    run = run_folder.load(finished_run)
    encoded = [(image_folder / name / "3.png").read_bytes() for name in CLASSES]
    decoded = np.stack([tf.image.resize(tf.io.decode_png(image, 3), (80, 80)) for image in encoded])
    powers = run.model.predict(run.preprocessing.normalize(decoded), verbose=0)[0] ** (
        1 / told(folder)["calibration"]["temperature"]
    )
    answer = SavedModelSession(folder).run("serving_default", {"images": np.array(encoded, object)})
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=0.05)


@pytest.mark.ci
def test_outputs_are_float32_whatever_the_graph_computes_in(full, image_folder):
    session = SavedModelSession(full[0])
    assert "cam" in session.signatures
    for signature in session.signatures.values():
        for output in signature.outputs.values():
            assert output.dtype in (tf.float32.as_datatype_enum, tf.string.as_datatype_enum)
            assert output.tensor_shape.dim[0].size == -1


@pytest.mark.ci
def test_warm_up_covers_every_signature_and_batch_size(full):
    """The records as the official protos read them; a server runs the very requests."""
    folder, _ = full
    session = SavedModelSession(folder)
    path = folder / "assets.extra/tf_serving_warmup_requests"
    seen = set()
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = PredictionLog.FromString(record)
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        name = request.model_spec.signature_name
        assert request.model_spec.name == "shoes"
        if kind == "classify_log":
            examples = request.input.example_list.examples
            inputs = {"inputs": np.array([example.SerializeToString() for example in examples], object)}
        else:
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            declared = session.signatures[name].inputs
            assert {
                key: tf.dtypes.as_dtype(value.dtype).as_datatype_enum for key, value in inputs.items()
            } == {key: info.dtype for key, info in declared.items()}
        (rows,) = {len(value) for value in inputs.values()}
        assert all(len(output) == rows for output in session.run(name, inputs).values())
        seen.add((kind, name, rows))
    assert seen == {
        ("classify_log" if name == "classify" else "predict_log", name, rows)
        for name in session.signatures
        for rows in (1, 3)
    }
    assert path.stat().st_size < 100_000


@pytest.mark.ci
def test_provenance_tells_the_run_and_the_software(full, finished_run):
    folder, _ = full
    config = json.loads((finished_run / "config.json").read_text())
    summary = json.loads((finished_run / "summary.json").read_text())
    found = told(folder)
    assert found["run"]["summary"] == summary
    with (finished_run / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert found["run"]["metrics"] == {name: float(value) for name, value in row.items()}
    assert found["run"]["config"]["run"] == finished_run.name
    assert found["run"]["config"]["variant"] == "small.json"
    paths = {"data", "run", "variant"}
    assert {k: v for k, v in found["run"]["config"].items() if k not in paths} == {
        k: v for k, v in config.items() if k not in paths
    }
    model = (finished_run / "model.keras").read_bytes()
    assert found["run"]["model_keras_sha256"] == hashlib.sha256(model).hexdigest()
    assert found["versions"]["keras_googlenet"] == keras_googlenet.__version__
    assert found["versions"]["tensorflow"] == tf.__version__
    assert found["max_pixels"] == 12_000_000
    assert set(found["signatures"]) == set(SavedModelSession(folder).signatures)


@pytest.mark.ci
def test_the_hash_of_the_weights_can_be_computed_again(full):
    """From the checkpoint's own reader, as `weights_sha256_of` says; `test_optimize.py` has constants."""
    folder, _ = full
    prefix = str(folder / "variables/variables")
    digests = []
    for name, _ in tf.train.list_variables(prefix):
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
            values = tf.train.load_variable(prefix, name)
            line = f"{values.dtype} {values.shape}\n".encode()
            digests.append(hashlib.sha256(line + values.tobytes()).hexdigest() + "\n")
    whole = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    assert told(folder)["weights_sha256"] == whole == weights_sha256(folder)


@pytest.mark.ci
def test_no_file_names_the_folders_of_the_run(full, finished_run, image_folder):
    texts = [str(path).encode() for path in (finished_run, finished_run.parent, image_folder, full[0].parent)]
    for path in full[0].rglob("*"):
        if path.is_file():
            assert not [text for text in texts if text in path.read_bytes()], path


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("data", "/home/me/flowers", "flowers"),
        ("data", "tfds:cifar10", "tfds:cifar10"),
        ("data", "sample", "sample"),
        ("weights", "../runs/first", "first"),
        ("test_split", "every:4", "every:4"),
        ("groups", "/home/me/patients.csv", "patients.csv"),
        ("test_split", "/data/lists/test.txt", "test.txt"),
        ("classes", ["T-shirt/top", "Bag"], ["T-shirt/top", "Bag"]),
        ("skipped_files", ["/data/a/1.jpg"], ["1.jpg"]),
    ],
)
def test_paths_of_a_run_are_told_by_their_last_component(tmp_path, name, value, expected):
    (tmp_path / "config.json").write_text(json.dumps({name: value}))
    (tmp_path / "model.keras").touch()
    assert run_origin(tmp_path)["run"]["config"][name] == expected


def test_no_option_that_is_a_path_is_forgotten():
    assert {field.name for field in fields(RunConfig) if "Path" in str(field.type)} <= {*PATHS}


def test_a_table_that_lacks_the_saved_epoch_is_named(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"saved_epoch": 2}))
    with pytest.raises(UserError, match=r"metrics\.csv has no row of epoch 2, which was saved: restore it"):
        run_origin(run)


# --- averaged weights ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def averaged_run(tmp_path_factory, image_folder, tiny_variant):
    run = tmp_path_factory.mktemp("runs") / "averaged"
    options = {"image_size": 28, "epochs": 1, "batch_size": 4, "precision": "float32", "average": 0.9}
    train(RunConfig(data=str(image_folder), run=run, variant=str(tiny_variant), learning_rate=0.1, **options))
    return run


def test_the_average_or_the_last_weights(averaged_run):
    saved = run_folder.load(averaged_run).model.get_weights()
    average = run_folder.load(averaged_run, weights="average").model.get_weights()
    last = run_folder.load(averaged_run, weights="last").model
    assert all(map(np.array_equal, saved, average))
    assert not any(map(np.array_equal, saved[:1], last.get_weights()[:1]))
    with np.load(averaged_run / "checkpoints/last.npz") as stored:
        for number, variable in enumerate(last.variables):
            np.testing.assert_array_equal(stored[f"model/{number:04}"], variable)


MISTAKES = [
    ("--weights average", "has no averaged weights, for it was trained without --average"),
    ("--keep 0", "expected --keep to be at least 1"),
    ("--max-pixels 6399", "expected --max-pixels from 6400, the network's 80 x 80, to 50000000, got 6399"),
    ("--max-pixels 50000001", "got 50000001"),
    ("--format onnx --max-pixels 9000000", "--max-pixels belong to a version for TensorFlow Serving"),
    ("--warmup-batch-sizes 0", "expected --warmup-batch-sizes of 1 or more"),
    ("--data sample", "--data names images for --calibrate, and for --precision bfloat16 and int8"),
    ("--calibrate --data nowhere", "no folder at nowhere"),
    ("--calibrate --data sample", "has other classes than"),
    ("--format onnx", "a file that ends in .onnx for format onnx"),
    (
        "--format onnx --version 3 --cam",
        "--version, --cam belong to a version for TensorFlow Serving, not to onnx",
    ),
    ("--format litert --no-warmup", "--warmup-batch-sizes belong to a version"),
    ("--format litert --precision bfloat16", "--precision bfloat16 belong to a version"),
    ("--precision int8", "--precision int8 belongs to --format litert, not to saved_model"),
    ("--format litert --precision int8 --data nowhere", "no folder at nowhere"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[options for options, _ in MISTAKES])
def test_mistakes_are_one_line(options, message, finished_run, tmp_path, command):
    arguments = ["export", finished_run, "--to", tmp_path / "m", *options.split()]
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert re.match(r"error: .*" + re.escape(message) + ".*\n$", err), err
    assert not (tmp_path / "m").exists()


def test_an_unfinished_run_is_named(averaged_run, tmp_path, command):
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    for name in ("config.json", "labels.txt"):
        (unfinished / name).write_bytes((averaged_run / name).read_bytes())
    code, _, err = command("export", unfinished, "--to", tmp_path / "m")
    assert (code, err) == (
        2,
        f"error: {unfinished}/model.keras is missing: expected the folder of a finished run\n",
    )


def test_a_file_is_exported(averaged_run, tmp_path, command):
    file = tmp_path / "files/shoes.onnx"
    arguments = ["export", averaged_run, "--to", file, "--format", "onnx", "--weights", "last"]
    assert command(*arguments)[:2] == (0, f"{file}\n")
    assert (tmp_path / "files/shoes.labels.txt").read_text().splitlines() == list(CLASSES)


def test_a_file_is_exported_to_storage_with_all_that_belongs_to_it(averaged_run, command):
    arguments = ["export", averaged_run, "--to", "memory://files/shoes.xml", "--format", "openvino"]
    assert command(*arguments)[:2] == (0, "memory://files/shoes.xml\n")
    system = fsspec.filesystem("memory")
    written = sorted(system.ls("/files", detail=False), key=system.created)
    assert written[-1] == "/files/shoes.xml"
    suffixes = (".bin", ".labels.txt", ".preprocessing.json")
    assert sorted(written[:-1]) == [f"/files/shoes{suffix}" for suffix in suffixes]
    assert system.cat("/files/shoes.labels.txt").decode().splitlines() == list(CLASSES)

    before = {name: system.cat(name) for name in written}
    taken = "memory://files/shoes.xml exists: choose another name, or delete it"
    assert command(*arguments)[::2] == (2, f"error: {taken}\n")
    other = ["export", averaged_run, "--to", "memory://files/shoes.tflite", "--format", "litert"]
    taken = "memory://files/shoes.labels.txt exists: choose another name, or delete it"
    assert command(*other)[::2] == (2, f"error: {taken}\n")
    assert {name: system.cat(name) for name in system.ls("/files", detail=False)} == before


def test_int8_is_measured_on_held_out_images(averaged_run, tmp_path, command):
    file = tmp_path / "shoes.tflite"
    code, out, _ = command(
        "export", averaged_run, "--to", file, "--format", "litert", "--precision", "int8", "--calibrate"
    )
    assert code == 0
    *_, told, last = out.splitlines()
    assert re.search(r"top-1 accuracy on \d+ images: [01]\.\d{4} in float32, [01]\.\d{4} in int8 ", told)
    assert last == str(file)
    assert file.is_file()
