"""Every command of the README, the site's pages and serving/README.md, run in order from a clean folder.

A command is run as it is printed, but for the substitutes below, which make it small or harmless. What
cannot be run here is in `NOT_RUN`, with the reason. A command that stands on several pages is run once.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import fsspec
import pytest
from storage_server import s3_server

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "docs/index.md",
    "docs/install.md",
    "docs/guides/predict.md",
    "docs/guides/data.md",
    "docs/guides/train.md",
    "docs/guides/evaluate.md",
    "docs/guides/search.md",
    "docs/guides/export.md",
    "docs/guides/serve.md",
    "docs/guides/storage.md",
    "docs/models.md",
    "docs/variants.md",
    "serving/README.md",
)
MADE = ("docs/results_history.md",)  # pages whose commands are records of runs
LANGUAGES = {"sh", "python", "js"}  # of blocks that a reader runs; a block of no language is a listing
SERVE = "keras-googlenet serve models/googlenet --rest-port 8501"
SECONDS = 600  # that a command may take

# What a command begins with, and why it is not run.
NOT_RUN = {
    "make demo": "trains for minutes; test_package.py runs examples/demo.py",
    "make test": "is what runs this test",
    "pip install": "installs from the package index",
    "keras-googlenet weights fetch torchvision": "downloads",
    "keras-googlenet evaluate --weights imagenet": "needs ImageNet's validation images, and downloads",
    "keras-googlenet train --data flowers --run runs/flowers --variant torchvision": "downloads",
    "keras-googlenet predict tfds:": "downloads",
    "docker compose": "needs Docker; test_deployment.py checks the file by its schema",
    "docker build": "needs Docker; test_deployment.py and test_packaging.py check what the files copy",
    "docker run": "needs Docker",
    "TFS_REST_URL": "asks a newer server; tests/conformance runs against the preview",
}

# What is replaced in a command, so that it is small: pattern and substitute, all of them, in this order.
SUBSTITUTES = (
    (r"(train --data sample .*)--epochs 4", r"\1--epochs 1 --width 0.25"),
    (
        r"(train --recipe fashion_mnist_best --run \S+)",
        r"\1 --data photos --epochs 1 --warmup-epochs 0 --variant short",
    ),
    (r"--crops 144", "--crops 10"),
    (r"--data new-images", "--data sample"),  # no folder can have the name of its class T-shirt/top
    (r"--data flowers", "--data flowers --image-size 80"),
    (r"--trials 12 --epochs 4", "--trials 2 --epochs 1"),
    (r"(train --data tfds:photos .*)--epochs 40", r"\1--epochs 1 --variant short --image-size 64"),
    (r"--epochs 40", "--epochs 1"),
    (r"(train --data s3://.*)--epochs 20", r"\1--epochs 1 --variant short --image-size 64"),
    (r"--users 16 --seconds 30", "--users 2 --seconds 1"),
    (r"python serving/", f"python {ROOT}/serving/"),
    (r"kubectl apply -k serving/", f"kubectl kustomize {ROOT}/serving/"),
)
NEEDED = {"kubectl": "kubectl", "node": "node"}  # programs that a machine may lack


@dataclass(frozen=True)
class Command:
    """A command of a document, or a block of another language than the shell's."""

    document: str
    language: str
    text: str

    @property
    def is_run(self):
        return not any(self.text.startswith(beginning) for beginning in NOT_RUN)


def commands(document):
    """The commands of a document, in order."""
    found = []
    blocks = re.findall(
        r"^( *)```(\w*)\n(.*?)^\1```$", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE
    )
    for _, language, text in blocks:
        if language == "sh":
            lines = re.sub(r"\\\n\s*", "", text).splitlines()
            found += [Command(document, "sh", re.sub(r"\s+# .*", "", line)) for line in lines if line.strip()]
        elif language:
            found.append(Command(document, language, text))
    return found


ALL = [command for document in DOCUMENTS for command in commands(document)]
RUN = list({command.text: command for command in ALL if command.is_run}.values())


def test_all_blocks_are_found():
    """In whatever way a block is written, it is one of the languages, and the tables name what is there."""
    assert {command.language for command in ALL} == LANGUAGES
    for document in DOCUMENTS:
        fences = re.findall(r"^ *```(\w*)", (ROOT / document).read_text(), re.MULTILINE)
        assert len(fences) % 2 == 0
        assert {language for language in fences if language} <= LANGUAGES
    for beginning in NOT_RUN:
        assert any(command.text.startswith(beginning) for command in ALL), beginning
    for pattern, _ in SUBSTITUTES:
        assert any(re.search(pattern, command.text) for command in RUN), pattern
    for part in PRINTS:
        assert any(part in command.text for command in RUN), part


def test_every_page_with_commands_is_run():
    pages = [file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").rglob("*.md")]
    assert {page for page in pages if commands(page)} <= {*DOCUMENTS, *MADE}


def test_commands_are_portable():
    """GNU's options of base64, sed, readlink and date are not those of macOS."""
    for command in ALL:
        assert not re.search(r"base64 -w|sed -i |readlink -f|date -d|grep -P", command.text), command.text


@pytest.fixture(scope="module")
def ports():
    """A free REST port and a free gRPC port, in place of 8501 and 8500."""
    with socket.socket() as rest, socket.socket() as grpc:
        for each in (rest, grpc):
            each.bind(("127.0.0.1", 0))
        return rest.getsockname()[1], grpc.getsockname()[1]


@pytest.fixture(scope="module")
def reader(tmp_path_factory, sample):
    """A clean folder with what a reader has: folders of images, and this package's commands on the path."""
    from keras_googlenet.data.bundled import SAMPLE_CLASSES

    folder = tmp_path_factory.mktemp("reader")
    images, labels = sample["train_images"], sample["train_labels"]
    for name, count, side in (("photos", 12, 300), ("flowers", 20, 100)):
        for label in (1, 7):
            to = folder / name / SAMPLE_CLASSES[label]
            to.mkdir(parents=True)
            for index, image in enumerate(images[labels == label][:count]):
                cv2.imwrite(str(to / f"{index}.png"), cv2.resize(image, (side, side)))
    programs = folder / ".bin"
    programs.mkdir()
    for name, arguments in (("keras-googlenet", "-m keras_googlenet.cli "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def storage(reader):
    """The environment of a reader with a bucket, which holds photos."""
    with s3_server() as environment:
        keys = {"key": environment["AWS_ACCESS_KEY_ID"], "secret": environment["AWS_SECRET_ACCESS_KEY"]}
        system = fsspec.filesystem("s3", endpoint_url=environment["AWS_ENDPOINT_URL"], **keys)
        system.mkdir("bucket")
        system.put(f"{reader}/photos/", "bucket/photos", recursive=True)
        yield environment | {"KERAS_GOOGLENET_CACHE": str(reader / ".cache")}


@pytest.fixture(scope="module")
def run(reader, ports, storage):
    """The function that runs a command in the reader's folder, in order, and servers in the background."""
    environment = os.environ | storage
    environment |= {"PATH": f"{reader}/.bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment |= {"TFDS_DATA_DIR": str(reader / ".tfds")}
    servers = []

    def start(text):
        log = (reader / "serve.log").open("w")
        server = subprocess.Popen(
            ["sh", "-c", f"exec {text}"], cwd=reader, env=environment, stdout=log, stderr=log
        )
        servers.append(server)
        for _ in range(SECONDS):
            if "http://" in (reader / "serve.log").read_text() or server.poll() is not None:
                break
            time.sleep(1)
        assert server.poll() is None, (reader / "serve.log").read_text()

    def run(command):
        text = substituted(command.text).replace("8501", str(ports[0])).replace("8500", str(ports[1]))
        if command.text.startswith(SERVE):
            return start(f"{text} --grpc-port {ports[1]}")
        words = {
            "sh": ["sh", "-ec", text],
            "python": ["python", "-c", text],
            "js": ["node", "--input-type=module", "-e", text],
        }
        result = subprocess.run(
            words[command.language],
            cwd=reader,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert result.returncode == 0, f"{text}\n{result.stdout[-1000:]}\n{result.stderr[-2000:]}"
        return result.stdout

    yield run
    for server in servers:
        server.terminate()
        server.wait(30)


def substituted(text):
    for pattern, substitute in SUBSTITUTES:
        text = re.sub(pattern, substitute, text)
    return text


# What a command prints, where a reader is told: a part of its text, and a pattern.
PRINTS = {
    'load("fashion_mnist").predict': r"^Ankle boot 0\.913$",
    "--version": r"^\d+\.\d+\.\d+$",
    "predict photos --weights": r"^photos/\S+,",
    "predict image.png --model": r"^image\.png  \S.*  0\.\d{4}$",
    "--url http://127.0.0.1:8501/v1/models/googlenet --json": r'"label": "',
    "curl -d": r'"predictions"',
    "client.wait_until_ready": r"^image\.png .* 0\.\d+$",
    "await fetch": r"^\S.* 0?\.?\d+",
    "--resume": "finished already",
    "keras-googlenet sync": r"^models/photos/1$",
    "curl http://127.0.0.1:8501/v1/models/googlenet/metadata": "signature_def",
    "load_test.py": "images/s",
    "kubectl": "kind: Deployment",
}


@pytest.mark.ci
@pytest.mark.parametrize(
    "number", range(len(RUN)), ids=lambda number: f"{number}-{RUN[number].text.splitlines()[0][:60]}"
)
def test_command_runs_as_it_is_printed(run, reader, number):
    command = RUN[number]
    for program in NEEDED:
        is_used = command.text.startswith(program) or (program == "node" and command.language == "js")
        if is_used and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if "--ensemble" in command.text:  # further runs, which a reader has
        for name in ("second", "third"):
            shutil.copytree(reader / "runs/first", reader / "runs" / name, dirs_exist_ok=True)
    printed = run(command) or ""
    for part, pattern in PRINTS.items():
        if part in command.text:
            assert re.search(pattern, printed, re.MULTILINE), printed
