"""No user's mistake, damaged file or hostile byte ends in a traceback: tables of lines, over all commands.

Each ends with exit code 2 and one line on standard error that starts with `error: `, and writes nothing.
"""

import importlib
import os
import re
import shutil
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_googlenet.errors import reported

ROOT = Path(__file__).parents[1]
LATIN1 = os.fsdecode(b"caf\xe9")
pytestmark = pytest.mark.ci


def is_one_line_error(code, out, err, message):
    """Fails unless a command ended as a user's mistake does."""
    assert code == 2, (code, out, err)
    assert out == ""
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    assert "Traceback" not in err
    assert re.search(message, err), err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", err), (
        "a byte that controls a terminal"
    )


def contents(folder):
    """All paths below a folder, with the bytes of files."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


# --- places ----------------------------------------------------------------------------------------


def png(width=40, height=30):
    return cv2.imencode(".png", np.full((height, width, 3), 7, "uint8"))[1].tobytes()


def bomb():
    """A PNG whose header announces 60,000 x 60,000 pixels."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    return b"\x89PNG\r\n\x1a\n" + chunk + png()[33:]


CORRUPT_IMAGES = {
    "empty": b"",
    "text": b"not an image",
    "signature": b"\x89PNG\r\n\x1a\n",
    "truncated.png": png()[:50],
    "flipped.png": png()[:45] + bytes([png()[45] ^ 255]) + png()[46:],
    "truncated.jpg": cv2.imencode(".jpg", np.zeros((64, 64, 3), "uint8"))[1].tobytes()[:200],
    "html": b"<html><body>404</body></html>",
    "bomb": bomb(),
    "zeros": bytes(1000),
}


@pytest.fixture(scope="module")
def corrupt_data(tmp_path_factory, image_folder):
    """By kind, a folder of two classes with one corrupt image."""
    folders = {}
    for name, content in CORRUPT_IMAGES.items():
        folders[name] = tmp_path_factory.mktemp("corrupt") / "data"
        shutil.copytree(image_folder, folders[name])
        (folders[name] / f"Sneaker/x{Path(name).suffix or '.png'}").write_bytes(content)
    return folders


@pytest.fixture
def places(image_folder, exported, finished_run, tmp_path_factory, tmp_path):
    """Paths for the tables. What is already there is in another folder than `{new}` and `{out}`."""
    there = tmp_path_factory.mktemp("there")
    (there / "empty").mkdir()
    (there / "file").write_bytes(b"not an image")
    (there / "empty_file").touch()
    (there / "no_images/cat").mkdir(parents=True)
    (there / "no_images/dog").mkdir()
    (there / "no_images/dog/readme.txt").write_text("none")
    one_class = there / "one_class"
    shutil.copytree(image_folder / "Sneaker", one_class / "Sneaker")
    (there / "escape\x1b[31m\n\x9b").touch()
    (there / LATIN1).touch()
    for name, content in JSON_FILES.items():
        (there / name).write_bytes(content)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        yield {
            "data": image_folder, "run": finished_run, "model": exported, "models": exported.parent,
            "image": image_folder / "Sneaker/0.png", "there": there, "out": tmp_path / "out",
            "new": tmp_path / "new", "port": busy.getsockname()[1], "escape": there / "escape\x1b[31m\n\x9b",
            "latin1": there / LATIN1, "formula": r"$\frac{$",
        }  # fmt: skip


JSON_FILES = {
    "empty.json": b"",
    "garbage.json": bytes(range(128, 256)),
    "list.json": b"[]",
    "null.json": b"null",
    "keys.json": b'{"name": 1}',
    "deep.json": b"[" * 100_000,
}


def words_of(line, places):
    """A command line's words; a place may hold anything."""
    return [word.format(**places) for word in line.split()]


# --- the command line ------------------------------------------------------------------------------

OPTIONS = [
    ("bogus", "Unknown command"),
    ("sample", "TO"),
    ("sample {new}", "ends in .png"),
    ("sample {new}/image.png", "in an existing folder"),
    ("sample {image}", "exists: choose another file"),
    ("sample {there}", "ends in .png"),
    ("prepare {new} {out}", "no folder at"),
    ("prepare {there}/file {out}", "no folder at"),
    ("prepare {data} {there}/file", "file"),
    ("prepare {data} {out} --size -1", "expected --size"),
    ("prepare {data} {out} --size 1e9", "--size"),
    ("prepare {data} {out} --quality 101", "expected --quality"),
    ("prepare {there}/empty {out}", "image"),
    ("inspect --data {data} --to {out} --tfds-manual-dir {there}", "expected no --tfds-manual-dir"),
    ("inspect --data {new} --to {out}", "unknown data"),
    ("inspect --data {there}/file --to {out}", "unknown data"),
    ("inspect --data {there}/empty --to {out}", "expected a folder for each class"),
    ("inspect --data {there}/no_images --to {out}", "no JPEG, PNG, BMP, WebP or GIF image"),
    ("inspect --data {there}/one_class --to {out}", "found only 'Sneaker'"),
    ("inspect --data {escape} --to {out}", r"unknown data .*\\x1b"),
    ("inspect --data {data} --to {there}", "exists: choose another folder"),
    ("inspect --data {data} --to {there}/file", "exists: choose another folder"),
    ("inspect --data {data} --to {there}/file/new", "Not a directory|exists"),
    ("inspect --data {data} --to {out} --images 0", "expected --images"),
    ("inspect --data {data} --to {out} --images -5", "expected --images"),
    ("inspect --data {data} --to {out} --seed -1", "expected --seed"),
    ("inspect --data {data} --to {out} --class {formula}", r"expected a class of .*\$"),
    ("inspect --data {data} --to {out} --variant resnet", "variant"),
    ("inspect --data {data} --to {out} --weights {new}", "new"),
    ("inspect --data {data} --to {out} --weights {there}/file", "file"),
    ("inspect --data {data} --to {out} --weights {there}/empty", "empty"),
    ("inspect --data tfds: --to {out}", "tfds"),
    ("inspect --data tfds:../../etc --to {out}", "tfds"),
    ("train --data {new} --run {out}", "unknown data"),
    ("train --data {there}/file --run {out}", "unknown data"),
    ("train --data {there}/empty --run {out}", "expected a folder for each class"),
    ("train --data {there}/no_images --run {out}", "no JPEG, PNG, BMP, WebP or GIF image"),
    ("train --data {escape} --run {out}", r"unknown data .*\\x1b"),
    ("train --data {latin1} --run {out}", "in UTF-8"),
    ("train --data {data} --run {there}", "exists: choose another run folder"),
    ("train --data {data} --run {out} --epochs 0", "expected --epochs"),
    ("train --data {data} --run {out} --epochs nan", "--epochs"),
    ("train --data {data} --run {out} --batch-size 0", "expected --batch-size"),
    ("train --data {data} --run {out} --batch-size -3", "expected --batch-size"),
    ("train --data {data} --run {out} --learning-rate nan", "expected --learning-rate"),
    ("train --data {data} --run {out} --learning-rate 0", "expected --learning-rate"),
    ("train --data {data} --run {out} --width 0", "expected --width"),
    ("train --data {data} --run {out} --width nan", "expected --width"),
    ("train --data {data} --run {out} --image-size 0", "expected --image-size"),
    ("train --data {data} --run {out} --channels 2", "channels"),
    ("train --data {data} --run {out} --seed -1", "expected --seed"),
    ("train --data {data} --run {out} --variant resnet", "expected --variant"),
    ("train --data {data} --run {out} --recipe nothing", "nothing"),
    ("train --data {data} --run {out} --classes Sneaker", "Sneaker"),
    ("train --data {data} --run {out} --test-split every:0", "expected --test-split"),
    ("train --data sample --run {out} --test-split every:4", "expected no --test-split with the data"),
    ("train --data {data} --run {out} --tfds-manual-dir {there}", "expected no --tfds-manual-dir"),
    ("train --data sample --run {out} --augment blur", "expected --augment to be of paper, crop"),
    ("train --data sample --run {out} --gradient-exchange bfloat16", "bfloat16 needs JAX"),
    (
        "train --data sample --run {out} --gradient-exchange bfloat16 --sync-batch-norm",
        "expected --gradient-exchange or --sync-batch-norm, got both",
    ),
    ("train --data sample --run {out} --augment crop flop", "got 'flop'; did you mean flip?"),
    ("train --data {data} --run {out} --test-split {there}/garbage.json", "garbage.json"),
    ("train --data {data} --run {out} --test-split {there}", "expected --test-split"),
    ("train --data {data} --run {out} --weights {there}/file", "file"),
    ("train --data {data} --run {out} --weights {run} --freeze 9z", "9z"),
    ("train --data {data} --run {out} --process-id 1", "--distributed"),
    ("train --run {new} --resume", "nothing to resume"),
    *[
        (f"train --data {{data}} --run {{out}} --architecture {{there}}/{name}", name.split(".")[0])
        for name in JSON_FILES
    ],
    ("train --data {data} --run {out} --architecture {new}.json", "new.json"),
    ("train --data {data} --run {out} --architecture {there}", "there"),
    ("recipes nothing", "nothing"),
    ("tune", "expected --data and --run"),
    ("tune --data {new} --run {out}", "unknown data"),
    ("tune --data {data} --run {out} --trials 0", "trials"),
    ("tune --data {data} --run {out} --space everything", "space"),
    ("tune --data {data} --run {out} --oracle nowhere", "HOST:PORT"),
    ("tune --report {new}", "new"),
    ("tune --report {there}/file", "file"),
    ("tune --report {there}/empty", "empty"),
    ("evaluate {new}", "no run at"),
    ("evaluate {there}/file", "no run at"),
    ("evaluate {there}/empty", "missing"),
    ("evaluate {escape}", r"no run at .*\\x1b"),
    ("evaluate {run} --data {new}", "unknown data"),
    ("evaluate {run} --data {there}/file", "unknown data"),
    ("evaluate {run} --data {there}/one_class", "found only"),
    ("evaluate {run} --batch-size -1", "expected --batch-size"),
    ("evaluate {run} --crops 2", "--crops"),
    ("evaluate {run} --tfds-manual-dir {there}", "expected no --tfds-manual-dir"),
    ("evaluate {run} --data {data} --tfds-manual-dir {there}", "expected no --tfds-manual-dir"),
    ("evaluate {run} --to {there}/file", "exists"),
    ("evaluate {run} --data {data} --to {there}/file/new", "Not a directory"),
    ("evaluate {run} --ensemble {there}/empty", "missing"),
    ("export {new} --to {out}", "no run at"),
    ("export {there}/file --to {out}", "no run at"),
    ("export {there}/empty --to {out}", "missing"),
    ("export {run} --to {models} --version 1", "exists"),
    ("export {run} --to {out} --version -1", "version"),
    ("export {run} --to {there}/file", "file"),
    ("export {run} --to {out} --format onnx", "onnx"),
    ("export {run} --to {out} --format h5", "--format to be one of saved_model, onnx, litert, openvino"),
    ("export {run} --to {out} --keep 0", "keep"),
    ("export {run} --to {out} --cores 0", "core"),
    ("export {run} --to {out} --warmup-batch-sizes 0", "warm"),
    ("export {run} --to {out} --precision int8", "int8"),
    ("serve {new}", "no model at"),
    ("serve {there}/file", "file"),
    ("serve {there}/empty", "no version in"),
    ("serve {models} --rest-port {port}", "cannot listen"),
    ("serve {models} --grpc-port {port} --rest-port 0", "cannot listen"),
    ("serve {models} --rest-port -1", "port"),
    ("serve {models} --rest-port 99999", "port"),
    ("serve {models} --rest-port 0 --model-config-file {there}/garbage.json", "garbage.json"),
    ("serve {models} --rest-port 0 --model-config-file {new}", "new"),
    ("serve {models} --enable-batching --batching-parameters-file {there}/garbage.json", "garbage"),
    ("serve {models} --rest-port 0 --monitoring-config-file {there}/garbage.json", "garbage"),
    ("predict", "at least one image|expected one of --model"),
    ("predict {new} --model {model}", "no image file or folder"),
    ("explain {image} --to {out}", "expected either --model FOLDER or --weights NAME"),
    ("explain {image} --to {out} --model {model} --weights cifar10", "expected either --model FOLDER or"),
    ("explain {image} --to {out} --model {model}", "export it again with --cam"),
    ("explain {image} --to {there}/file --weights cifar10", "expected --to to be a folder"),
    ("explain {image} --to {out} --weights cifar10 --top 6", "--top to be between 1 and 5, got 6"),
    ("explain {image} --to {out} --weights cifar10 --blocks 9z", "expected a block of"),
    ("explain {new} --to {out} --weights cifar10", "no image file or folder"),
    ("explain {image} --to {out} --model cifar10", "the network of that name is chosen by --weights"),
    ("compare cifar10", "no run at cifar10: expected the folder that `train` made$"),
    ("tune --data {data} --run {out} --recipe cifar10_best", "the recipe cifar10_best sets them"),
    ("tune --data {data} --run {out} --validation-fraction 0", "expected validation images"),
    ("train --data {data} --run {out} --freeze 4e", "expected --weights with --freeze"),
    ("evaluate --weights cifar10 --data {new}", "unknown data"),
    ("predict {there}/empty --model {model}", "no image in folder"),
    ("predict {image} --model {model} --to {there}/file", "ends in .csv, .jsonl, .parquet"),
    ("predict {image} --model {model} --to {new}/p.csv", "no folder .* to write p.csv in"),
    ("predict {image} --model {model} --to {there}/p.csv --json", "expected one of --json, --csv and --to"),
    ("predict {image} --model {model} --copy-to {out}", "--copy-to needs --to FILE"),
    ("predict {image} --model {model} --top 6", "--top to be between 1 and 5, got 6"),
    ("predict {image} --model {model} --every soon", 'expected --every to be a time such as "1s"'),
    ("predict {image} --model {there}/empty", "no SavedModel"),
    ("predict {image} --model {there}/file", "file"),
    ("predict {image} --url nowhere", "nowhere"),
    ("predict {image} --url http://", "http"),
    ("predict {image} --url http://127.0.0.1:99999/v1/models/m", "port|99999"),
    ("predict {image} --url ftp://127.0.0.1/v1/models/m", "ftp"),
    ("predict {image} --url http://127.0.0.1:1/v1/models/m", "cannot reach"),
    ("predict {image} --url grpc://127.0.0.1:1/v1/models/m", "cannot reach"),
    ("weights fetch nothing", "expected one of"),
    ("weights convert {new}.onnx --variant paper --to {out}.weights.h5", "no weights file"),
    ("weights convert {there}/file --variant slim --to {out}.weights.h5", "cannot read"),
    ("weights convert {there}/empty --variant slim --to {out}.weights.h5", "empty"),
    ("weights convert {there}/file --variant resnet --to {out}.weights.h5", "resnet"),
    ("profile --variant resnet", "variant"),
    ("profile --classes 0", "classes"),
    ("profile --classes 999999999999", "classes"),
    ("profile --compare --classes 999999999999", "classes"),
    ("profile --input 0", "input|at least"),
    ("profile --input -3", "input|at least"),
    ("profile --csv {there}", "exists"),
    ("profile --csv {there}/file/new.csv", "no folder"),
]  # fmt: skip

# They would take hours, or all memory.
HUGE = [
    ("train --data {data} --run {out} --epochs 999999999999", "epochs"),
    ("train --data {data} --run {out} --image-size 100000", "--image-size"),
    ("train --data {data} --run {out} --width 1e9", "width"),
    ("train --data {data} --run {out} --batch-size 999999999999", "--batch-size"),
    ("tune --data {data} --run {out} --trials 999999999999", "trials"),
    ("prepare {data} {out} --size 100000 --enlarge", "size"),
]


def rows():
    for line, message in OPTIONS + HUGE:
        yield pytest.param(line, message, id=line)


@pytest.mark.parametrize(("line", "message"), rows())
def test_a_mistake_is_one_line(command, places, tmp_path, line, message):
    before = contents(places["there"])
    is_one_line_error(*command(*words_of(line, places)), message)
    assert contents(places["there"]) == before
    assert list(tmp_path.iterdir()) == []


READ = ["train --data {data} --run {out}", "evaluate {run} --data {data}", "prepare {data} {small}"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        *((READ[2], kind) for kind in CORRUPT_IMAGES),
        *((line, kind) for line in READ[:2] for kind in ("truncated.png", "bomb")),
    ],
)
def test_a_corrupt_image_is_named(command, corrupt_data, finished_run, tmp_path, line, kind):
    places = {
        "data": corrupt_data[kind],
        "run": finished_run,
        "out": tmp_path / "out",
        "small": tmp_path / "small",
    }
    code, out, err = command(*words_of(line, places))
    is_one_line_error(code, "" if line.startswith("prepare") else out, err, "cannot read .*Sneaker/x")
    assert not places["out"].exists()


def test_a_corrupt_image_is_not_classified(command, corrupt_data, exported):
    images = [next((folder / "Sneaker").glob("x.*")) for folder in corrupt_data.values()]
    code, out, err = command("predict", *images, "--model", exported)
    assert code == 1
    for image, line in zip(images, out.splitlines(), strict=True):
        assert re.fullmatch(rf"{re.escape(str(image))}  error: cannot read [^\n]*/x[^\n]*", line)
    assert err == f"{len(images)} of {len(images)} images failed: see their errors\n"


def test_a_name_of_any_bytes_stays_one_line(command, places, exported):
    code, out, _ = command("predict", places["escape"], places["latin1"], "--model", exported)
    assert code == 1
    assert re.search(r"\\x1b.*error: cannot read .*\\x1b", out)
    assert re.search(r"\\udce9.*error: cannot read .*\\udce9", out)
    assert out.count("\n") == 2


# --- damaged runs ----------------------------------------------------------------------------------

DAMAGES = {
    "missing": lambda path, _: None,
    "empty": lambda path, _: path.touch(),
    "garbled": lambda path, _: path.write_bytes(bytes(range(256)) * 4),
    "truncated": lambda path, content: path.write_bytes(content[: len(content) // 2]),
    "folder": lambda path, _: path.mkdir(),
    "list": lambda path, _: path.write_text("[]"),
    "null": lambda path, _: path.write_text("null"),
    "deep": lambda path, _: path.write_text("[" * 100_000),
}
SOME = ("missing", "truncated", "deep")
READERS = [  # what a command reads of a run; what several read in one way has all damages once
    ("evaluate {damaged}", ("config.json", "division.json.gz", "labels.txt", "model.keras"), DAMAGES),
    ("evaluate {run} --ensemble {damaged}", ("config.json", "labels.txt", "model.keras"), ["truncated"]),
    ("export {damaged} --to {out}", ("config.json", "labels.txt", "model.keras"), ["truncated"]),
    ("export {damaged} --to {out}", ("summary.json",), DAMAGES),
    ("inspect --data {data} --to {out} --weights {damaged}", ("config.json", "model.keras"), SOME),
    ("train --run {damaged} --resume", ("config.json",), DAMAGES),  # without a summary it trains on
    ("results {damaged} --to {out}", ("config.json", "metrics.csv", "summary.json"), DAMAGES),
]
# No damage: a summary is what a run's last step leaves, and earlier versions kept no record of images.
FINE = {
    ("evaluate {damaged}", "division.json.gz", "missing"),
    ("export {damaged} --to {out}", "summary.json", "missing"),
}


def damaged_runs():
    for line, files, damages in READERS:
        for file in files:
            for damage in damages:
                key = (line, file, damage)
                if key in FINE:
                    continue
                yield pytest.param(*key, id=" ".join(key))


@pytest.fixture
def script(capsys, monkeypatch):
    """The function that runs a script or an example in this process, as `command` does a command."""

    def run(name, *arguments):
        for folder in ("scripts", "examples", "examples/channel_search"):
            monkeypatch.syspath_prepend(ROOT / folder)
        main = importlib.import_module(name).main
        code = 0
        try:
            with reported():
                main([*map(str, arguments)])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(("line", "file", "damage"), damaged_runs())
def test_a_damaged_run_is_named(
    command, finished_run, image_folder, tmp_path, monkeypatch, line, file, damage
):
    monkeypatch.chdir(tmp_path)
    damaged = tmp_path / "damaged"
    shutil.copytree(finished_run, damaged, copy_function=os.link)
    content = (damaged / file).read_bytes()
    (damaged / file).unlink()
    DAMAGES[damage](damaged / file, content)
    places = {"damaged": damaged, "run": finished_run, "data": image_folder, "out": tmp_path / "out"}
    before = contents(tmp_path)
    words = words_of(line, places)
    is_one_line_error(*command(*words), f"{re.escape(file)}|no(thing to resume)? .*{damaged}")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["empty", "garbled", "truncated", "folder"])
def test_a_damaged_checkpoint_is_named(command, finished_run, tmp_path, damage):
    """Of a run that was killed: it has no summary yet."""
    damaged = shutil.copytree(finished_run, tmp_path / "damaged")
    (damaged / "summary.json").unlink()
    for file in (damaged / "checkpoints").iterdir():
        content = file.read_bytes()
        file.unlink()
        DAMAGES[damage](file, content)
    before = contents(tmp_path)
    code, _, err = command("train", "--run", damaged, "--resume")  # prints what it trains
    is_one_line_error(code, "", err, "checkpoint")
    assert contents(tmp_path) == before


# --- scripts and examples --------------------------------------------------------------------------

SCRIPTS = [
    ("make_results {new}", "is not a finished run"),
    ("make_results {there}/file", "file"),
    ("make_results {run} --to {there}", "--to"),
    ("make_results {run} --to {new}/R.md", "--to"),
    ("make_results {run} --to {out} --picture {there}/empty", "--picture"),
    ("make_results {run} --to {out} --picture {out}.gibberish", "picture|gibberish"),
    ("make_scaling --results {new} --to {out}", "training.csv is missing"),
    ("make_scaling --results {there}/csv --to {out}", "training.csv"),
    ("make_sample {new} --to {out}", "No such file"),
    ("make_sample {there}/empty --to {there}", "--to"),
    ("make_sample {there}/idx --to {out}", "train-labels"),
    ("cifar10_listing --data {new} --run {out}", "unknown data"),
    ("cifar10_listing --data {data} --run {there}", "exists"),
    ("cifar10_listing --data {data} --run {out} --epochs 0", "epochs"),
    ("channel_search --data {new} --run {out}", "unknown data"),
    ("channel_search --data {data} --run {out} --variant resnet", "variant"),
    ("channel_search --data {data} --run {out} --images 0", "images"),
    ("channel_search --data {data} --run {out} --space everything", "space"),
    ("demo --run {there}/file/run --epochs 1", "Not a directory"),
    ("demo --run {out} --epochs 0", "epochs"),
]


@pytest.mark.parametrize(("line", "message"), SCRIPTS, ids=[line for line, _ in SCRIPTS])
def test_a_mistake_to_a_script_is_one_line(script, places, tmp_path, monkeypatch, line, message):
    there = places["there"]
    (there / "csv").mkdir()
    (there / "csv/training.csv").write_bytes(bytes(range(256)))
    (there / "idx").mkdir()
    (there / "idx/train-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8bgarbage")
    before = contents(there)
    monkeypatch.chdir(tmp_path)
    is_one_line_error(*script(*words_of(line, places)), message)
    assert contents(there) == before
    assert list(tmp_path.iterdir()) == []
