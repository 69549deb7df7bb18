"""The command line as a user meets it."""

import json
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import fields

import bvlc
import numpy as np
import pytest
from conftest import CLASSES, run_python

from keras_googlenet import GoogLeNet, RunConfig
from keras_googlenet.cli import app


def test_help_names_every_command(command):
    code, out, _ = command("--help")
    assert code == 0
    for name in app:
        assert name in out


def test_train_help_names_every_option(command):
    code, out, _ = command("train", "--help")
    assert code == 0
    for field in fields(RunConfig):
        if field.name != "recipe":  # which sets the others
            assert f"--{field.name.replace('_', '-')}" in out


def test_help_imports_no_framework():
    code = """
import sys
sys.argv = ["keras-googlenet", "train", "--help"]
from keras_googlenet.cli import main
main()
print(sorted({"keras", "tensorflow", "jax", "cv2", "matplotlib", "numpy"} & set(sys.modules)))
"""
    assert run_python(code).splitlines()[-1] == "[]"


def test_import_loads_nothing_heavy():
    heavy = (
        '{"tensorflow", "jax", "cv2", "tensorflow_datasets", "keras_tuner", "grpc", "matplotlib", "keras"}'
    )
    code = f"import sys, keras_googlenet; print(sorted({heavy} & set(sys.modules)))"
    assert run_python(code).strip() == "[]"


def test_names_that_are_data_need_no_framework():
    code = """
import sys
from keras_googlenet import VARIANTS, Architecture, Client, Inception, RunConfig, recipe_options, table_1
assert len(table_1("bn")) > 10
print(sorted({"tensorflow", "jax", "keras", "matplotlib"} & set(sys.modules)))
"""
    assert run_python(code).strip() == "[]"


@pytest.mark.ci
def test_from_run_to_prediction(command, finished_run, image_folder, tmp_path):
    code, out, _ = command("export", finished_run, "--to", tmp_path / "shoes")
    assert (code, out.strip()) == (0, str(tmp_path / "shoes/1"))
    image = image_folder / "Trouser/0.png"
    code, out, _ = command("predict", image, "--model", tmp_path / "shoes/1")
    name, label, probability = out.split()
    assert (code, name) == (0, str(image))
    assert label in CLASSES
    assert 0.5 <= float(probability) <= 1

    code, out, _ = command("predict", image_folder, "--model", tmp_path / "shoes", "--json")
    rows = json.loads(out)
    assert len(rows) == 24
    assert rows[12] | {"image": str(image)} == next(row for row in rows if row["image"] == str(image))
    assert {entry["label"] for entry in rows[0]["top"]} == set(CLASSES)

    code, out, _ = command("predict", image, "--model", tmp_path / "shoes", "--csv")
    assert out.splitlines()[0] == "image,label,probability,error"
    assert out.splitlines()[1].startswith(f"{image},{label},")


@pytest.fixture
def places(finished_run, image_folder, exported, tmp_path):
    """Paths for the table of mistakes, some of them broken."""
    bad_image = tmp_path / "bad.png"
    bad_image.write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    one_class = tmp_path / "one_class"
    shutil.copytree(image_folder / "Sneaker", one_class / "Sneaker")
    corrupt_data = shutil.copytree(image_folder, tmp_path / "corrupt_data")
    (corrupt_data / "Trouser/3.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    corrupt_run = shutil.copytree(finished_run, tmp_path / "corrupt_run")
    (corrupt_run / "model.keras").write_bytes(b"rubbish")
    taken = tmp_path / "taken.weights.h5"
    taken.touch()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        yield {
            "data": image_folder, "run": finished_run, "model": exported, "models": exported.parent,
            "bad_image": bad_image, "empty": tmp_path / "empty", "one_class": one_class,
            "corrupt_data": corrupt_data, "corrupt_run": corrupt_run, "new": tmp_path / "new",
            "taken": taken, "port": busy.getsockname()[1],
        }  # fmt: skip


MISTAKES = [
    ("predict {new} --model {model}", "no image file or folder at"),
    ("predict {empty} --model {model}", "no image in folder"),
    ("predict --model {model}", "at least one image"),
    ("predict {bad_image} --model {new}", "no model at"),
    ("predict {bad_image} --model {empty}", "no SavedModel in"),
    ("predict {bad_image}", "expected one of --model FOLDER, --url"),
    ("predict {bad_image} --model {model} --json --csv", "expected one of --json, --csv and --to"),
    ("predict {data} --url http://127.0.0.1:1/v1/models/m", "cannot reach .*is the server running"),
    ("train --data {empty} --run {new}", "expected a folder for each class .*found none"),
    ("train --data {one_class} --run {new}", "found only 'Sneaker'"),
    ("train --data {corrupt_data} --run {new}", "cannot read .*3.png: expected JPEG, PNG, BMP"),
    ("train --data nowhere --run {new}", "unknown data 'nowhere'"),
    ("train --run {new}", 'expected --data, the images: "sample", '),
    ("tune --run {new}", 'expected --data, the images: "sample", '),
    ("train --data tfds:no_such_set --run {new}", 'unknown data "tfds:no_such_set"'),
    ("train --data {data} --run {run}", "exists: choose another run folder"),
    ("train --data {data} --run {new} --epochs -1", "expected --epochs to be between 1 and 100,000, got -1"),
    ("train --data {data} --run {new} --epochs many", "--epochs.*many"),
    ("train --data {data} --run {new} --bogus 1", "unknown option --bogus"),
    ("train --data {data}", "--run"),
    ("train --data {data} --run {new} --image-size 60", "at least 79 x 79"),
    ("bogus", "Unknown command .bogus."),
    ("export {corrupt_run} --to {new}", "model.keras, it is corrupt"),
    ("export {new} --to {new}", "no run at"),
    ("export {run} --to {models} --version 1", "exists: choose another version"),
    ("export {run} --to {bad_image}", "bad.png"),
    ("serve {models} --rest-port {port}", "cannot listen on 127.0.0.1:.*choose another --rest-port"),
    ("serve {models} --rest-port 70000", "port between 0 and 65535"),
    ("serve {new}", "no model at"),
    ("serve {empty}", "no version in"),
    ("evaluate --weights {new} --data {data}", "no run at"),
    ("evaluate --weights imagenet --data {data}", "named by their WordNet ids, such as n01440764"),
    ("evaluate --weights imagenet --data {new}", "unknown data"),
    ("evaluate --weights imagenet", "expected --data to measure published weights on"),
    ("evaluate", "expected either the folder of a run or --weights"),
    ("evaluate {run} --weights imagenet", "expected either the folder of a run or --weights"),
    ("evaluate {new}", "no run at"),
    ("evaluate {corrupt_run}", "model.keras, it is corrupt"),
    ("evaluate {run} --ensemble {run} {new}", "no run at"),
    ("evaluate {run} --data nowhere", "unknown data 'nowhere'"),
    ("evaluate {run} --data {corrupt_data}", "cannot read .*3.png"),
    ("evaluate {run} --data sample", "other classes than .*: it has also Ankle boot, Bag, .* and 3 more"),
    ("evaluate {run} --crops 7", "--crops"),
    ("evaluate {run} --part all", "--part"),
    ("evaluate {run} --batch-size 0", "expected --batch-size to be at least 1, got 0"),
    ("evaluate {run} --to {data}", "exists: choose another folder"),
    ("weights fetch vgg", "expected one of bvlc, "),
    ("weights convert {new} --variant paper --to {bad_image}", "there are converters of .onnx for paper"),
    ("weights convert {new}.onnx --variant paper --to {bad_image}", "to end in .weights.h5"),
    ("weights convert {new}.onnx --variant paper --to {taken}", "exists: choose another file"),
    ("weights convert {new}.onnx --variant paper --to {new}.weights.h5", "no weights file at"),
    ("weights convert {bad_image} --variant slim --to {new}.weights.h5", "cannot read .* as slim weights"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(line, message, command, places):
    code, out, err = command(*line.format(**places).split())
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert out == ""
    assert not places["new"].exists()


def test_weights_list_names_every_row(command):
    code, out, _ = command("weights", "list")
    assert code == 0
    for name in ("bvlc", "bvlc_caffe", "torchvision", "slim"):
        assert re.search(rf"^{name} ", out, flags=re.MULTILINE)


@pytest.mark.ci
def test_evaluate_prints_json_and_nothing_else(command, finished_run, image_folder, tmp_path):
    to = tmp_path / "report"
    line = ["evaluate", finished_run, "--data", image_folder, "--crops", "10", "--to", to, "--json"]
    code, out, err = command(*line)
    assert (code, err) == (0, "")
    assert out == (to / "evaluation.json").read_text()
    figures = json.loads(out)
    assert (figures["images"], figures["crops"], figures["part"]) == (24, 10, "all")
    assert (to / "report.html").is_file()


@pytest.mark.ci
def test_evaluate_leaves_reports_beside_each_other_in_the_run(command, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    for name, ensemble in (("evaluation", []), ("evaluation-2", ["--ensemble", run])):
        code, out, _ = command("evaluate", run, *ensemble)
        assert code == 0
        assert re.search(r"^top1 +[01]\.\d{4}$", out, flags=re.MULTILINE)
        assert out.splitlines()[-1].split() == ["report", str(run / name / "report.html")]
    assert len(json.loads((run / "evaluation-2/evaluation.json").read_text())["models"]) == 2


def test_evaluate_weights_of_a_run_writes_nothing(command, finished_run, image_folder):
    before = sorted(finished_run.iterdir())
    code, out, _ = command("evaluate", "--weights", finished_run, "--data", image_folder, "--json")
    assert (code, json.loads(out)["images"]) == (0, 24)
    assert sorted(finished_run.iterdir()) == before


def test_weights_convert_then_load_them(command, image_folder, tmp_path):
    """A checkpoint of the published format, converted, and loaded by `weights=`."""
    tensors = bvlc.random_tensors(np.random.default_rng(1))
    (tmp_path / "some.caffemodel").write_bytes(bvlc.caffemodel(tensors, old_format=False))
    to = tmp_path / "some.weights.h5"
    code, out, _ = command(
        "weights", "convert", tmp_path / "some.caffemodel", "--variant", "paper", "--to", to
    )
    assert (code, out.strip()) == (0, str(to))
    with pytest.warns(UserWarning, match="initial values: aux1_fc, aux2_fc, main, aux1, aux2$"):
        model = GoogLeNet(classes=2, input_shape=(80, 80, 3), weights=to)
    np.testing.assert_array_equal(model.get_layer("aux2_conv").bias, tensors["loss2/conv"][1])


def test_a_mistake_in_a_real_process_prints_nothing_else(image_folder, tmp_path):
    line = ["train", "--data", str(image_folder), "--run", str(tmp_path)]
    result = subprocess.run(
        [sys.executable, "-m", "keras_googlenet.cli", *line], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stdout == ""
    way_out = "choose another run folder, delete it, or resume its run with --resume"
    assert result.stderr == f"error: {tmp_path} exists: {way_out}\n"


COMMAND = """
import sys
from keras_googlenet import cli

def command():
    {body}

cli.app.command(command, name="command")
sys.argv = ["keras-googlenet", "command"]
cli.main()
"""


def test_names_that_the_terminal_cannot_show_do_not_end_the_work():
    body = "print('\\u00e9t\\u00e9')"
    assert run_python(COMMAND.format(body=body), env={"PYTHONIOENCODING": "ascii"}) == "\\xe9t\\xe9\n"


def test_ctrl_c_is_told_in_one_word():
    command = [sys.executable, "-c", COMMAND.format(body="raise KeyboardInterrupt")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
