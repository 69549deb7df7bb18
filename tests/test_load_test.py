"""`serving/load_test.py`: what it reports is what a server saw."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import run_python
from scripted_server import Script, rest_server

SERVING = Path(__file__).parents[1] / "serving"
LOAD_TEST = [sys.executable, str(SERVING / "load_test.py")]


def load(url, images, to, *options):
    command = [*LOAD_TEST, "--url", url, "--images", str(images), "--to", str(to), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_load_is_measured(image_folder, tmp_path):
    script = Script()
    with rest_server(script) as url:
        to = tmp_path / "load.png"
        options = ["--users", "3", "--seconds", "1", "--batch", "2", "--json"]
        result = load(f"{url}/v1/models/googlenet", image_folder, to, *options)
    assert (result.returncode, result.stderr) == (0, "")
    figures = json.loads(result.stdout)
    assert figures["failures"] == {}
    asked = [values for _, _, values, _ in script.asked[1:]]  # the first is the client's
    assert len(asked) == figures["requests"] > 3
    assert {len(values) for values in asked} == {2}
    sent = {value for values in asked for value in values}
    assert sent <= {path.read_bytes() for path in image_folder.rglob("*.png")}
    assert figures["images_per_second"] == pytest.approx(2 * figures["requests_per_second"], abs=0.02)
    assert 1 <= figures["seconds"] < 3
    assert figures["requests_per_second"] == pytest.approx(len(asked) / figures["seconds"], rel=0.02)
    times = figures["milliseconds"]
    assert 0 < times["p50"] <= times["p95"] <= times["p99"]
    assert to.read_bytes().startswith(b"\x89PNG")


def test_load_that_fails_is_told_of(image_folder, tmp_path):
    script = Script(None, *["RESOURCE_EXHAUSTED"] * 3, *["UNAVAILABLE"] * 2)
    with rest_server(script) as url:
        options = ["--users", "1", "--seconds", "0.5"]
        result = load(f"{url}/v1/models/googlenet", image_folder, tmp_path / "load.png", *options)
    assert result.returncode == 1
    assert re.search(r"^5 of \d+ requests failed$", result.stderr, flags=re.MULTILINE)
    failures = [line.split(maxsplit=1)[1] for line in result.stdout.splitlines() if line.startswith("failed")]
    assert failures == [
        '3 x 429: {"error": "scripted RESOURCE_EXHAUSTED"}',
        '2 x 503: {"error": "scripted UNAVAILABLE"}',
    ]


def test_load_test_mistakes_are_one_line(image_folder, tmp_path):
    url = "http://127.0.0.1:1/v1/models/m"
    mistakes = {
        "the load test goes over REST: expected http://": ["--url", "grpc://127.0.0.1:1/v1/models/m"],
        "which model": ["--url", "http://127.0.0.1:1"],
        "expected --users and --batch of 1 or more": ["--users", "0"],
        "one of .png, .svg, .pdf": ["--to", "load.gif"],
        "in a folder that is there": ["--to", "/absent/load.png"],
        "no image file or folder at /absent": ["--images", "/absent"],
        "no image in folder": ["--images", str(tmp_path)],
    }
    given = ["--url", url, "--images", str(image_folder), "--to", str(tmp_path / "load.png")]
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import load_test
for line in json.loads(sys.argv[2]):
    try:
        load_test.main(line)
    except load_test.UserError as error:
        print(error)
"""
    lines = json.dumps([[*given, *options] for options in mistakes.values()])
    printed = run_python(code, str(SERVING), lines).splitlines()
    for expected, message in zip(mistakes, printed, strict=True):
        assert expected in message
    assert list(tmp_path.iterdir()) == []


def test_load_of_an_absent_server(image_folder, tmp_path):
    result = load("http://127.0.0.1:1/v1/models/m", image_folder, tmp_path / "load.png")
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch("error: cannot reach .*/v1/models/m: .*is the server running.*\n", result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_load_test_overwrites_nothing(image_folder, tmp_path):
    (tmp_path / "load.png").write_text("mine")
    result = load("http://127.0.0.1:1/v1/models/m", image_folder, tmp_path / "load.png")
    assert (result.returncode, (tmp_path / "load.png").read_text()) == (2, "mine")
    assert "exists: choose another file" in result.stderr


def test_batches_of_large_images_are_sent_whole(tmp_path):
    """`Client` would divide them: more than its bytes in a request."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import json, load_test
from keras_googlenet.serving.client import images
images.BATCH_BYTES = 100
bodies = load_test.request_bodies([load_test.Path(sys.argv[2])], 4)
print([len(json.loads(body)["inputs"]["images"]) for body in bodies])
"""
    for name in range(9):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8), "uint8"))
    assert run_python(code, str(SERVING), str(tmp_path)) == "[4, 4]\n"
