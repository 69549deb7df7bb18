"""`predict` for folders, lists, addresses and videos: every image has its row, once, whatever happens."""

import csv
import functools
import http.server
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
import tensorflow_datasets as tfds

from keras_googlenet.errors import UserError
from keras_googlenet.inference import downloads, tables
from keras_googlenet.inference import predict as predict_module
from keras_googlenet.inference.predict import predict_to
from keras_googlenet.inference.sources import Sources, seconds, shard
from keras_googlenet.serving.client.answers import Failure, Prediction, each
from keras_googlenet.serving.client.retries import ServingError

KINDS = ["p.csv", "p.jsonl", "p.parquet"]
JOB = {"model": "m", "top": 2}


@pytest.fixture
def images(tmp_path):
    """A folder of 100 tiny images in three folders, of which two are broken."""
    for index in range(100):
        folder = tmp_path / "images" / "abc"[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{index:03}.png"), np.full((4, 4, 3), index, np.uint8))
    (tmp_path / "images/a/003.png").write_bytes(b"rubbish")
    (tmp_path / "images/c/050.png").write_bytes(b"")
    return tmp_path / "images"


def run(_, encoded):
    """A model that sees an image's brightness."""
    bright = np.array([cv2.imdecode(np.frombuffer(one, np.uint8), 0).mean() / 255 for one in encoded])
    probabilities = np.stack([bright, 1 - bright], axis=1)
    order = np.argsort(-probabilities, axis=1)
    return {
        "probabilities": probabilities,
        "classes": np.array(["bright", "dark/er"])[order],
        "scores": np.take_along_axis(probabilities, order, axis=1),
    }


def answers(items):
    return each(run, items, 8, "model")


def written(path) -> list[dict]:
    """The rows of a table, as another program reads them."""
    if path.suffix == ".csv":
        return list(csv.DictReader(path.open(newline="")))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return pyarrow.parquet.read_table(path).to_pylist()


@pytest.mark.parametrize("name", KINDS)
def test_every_image_has_its_row_in_order(images, tmp_path, name):
    assert predict_to(tmp_path / name, Sources([str(images)]), answers, JOB, top=2) == (100, 2)
    rows = written(tmp_path / name)
    assert [row["image"] for row in rows] == [str(file) for file in sorted(images.rglob("*.png"))]
    failed = [row["image"] for row in rows if row.get("error")]
    assert failed == [str(images / "a/003.png"), str(images / "c/050.png")]
    (bright,) = (row for row in rows if row["image"].endswith("099.png"))
    assert bright["label"] == "dark/er"
    assert float(bright["probability"]) == pytest.approx(1 - 99 / 255, abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", name]


def stopping(at):
    """The model, which breaks down after some answers."""

    def broken(items):
        for number, answer in enumerate(answers(items)):
            if number == at:
                raise ServingError("UNAVAILABLE", "gone")
            yield answer

    return broken


@pytest.mark.parametrize("name", KINDS)
def test_the_same_call_goes_on(images, tmp_path, name, monkeypatch):
    monkeypatch.setattr(tables, "PART_ROWS", 20)
    asked = []

    def counted(items):
        for answer in answers(items):
            asked.append(answer.image)
            yield answer

    for at in (70, 20):
        with pytest.raises(ServingError):
            predict_to(tmp_path / name, Sources([str(images)]), stopping(at), JOB, top=2)
    assert predict_to(tmp_path / name, Sources([str(images)]), counted, JOB, top=2) == (100, 2)
    assert 10 < len(asked) < 45
    rows = written(tmp_path / name)
    assert [row["image"] for row in rows] == [str(file) for file in sorted(images.rglob("*.png"))]
    with pytest.raises(UserError, match=f"{name} exists: choose another file"):
        predict_to(tmp_path / name, Sources([str(images)]), answers, JOB, top=2)


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl"])
@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_row_that_was_half_written_is_written_again(images, tmp_path, name, cut):
    with pytest.raises(ServingError):
        predict_to(tmp_path / name, Sources([str(images)]), stopping(64), JOB, top=2)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-cut])
    predict_to(tmp_path / name, Sources([str(images)]), answers, JOB, top=2)
    rows = written(tmp_path / name)
    assert [row["image"] for row in rows] == [str(file) for file in sorted(images.rglob("*.png"))]


def test_what_would_mix_two_calls_is_refused(images, tmp_path):
    begun = tmp_path / "p.csv"
    with pytest.raises(ServingError):
        predict_to(begun, Sources([str(images)]), stopping(64), JOB, top=2)
    with pytest.raises(UserError, match=r"was started with a different model \(m\): pass the same"):
        predict_to(begun, Sources([str(images)]), answers, JOB | {"model": "n"}, top=2)
    (images / "a/000.png").rename(images / "a/000a.png")
    with pytest.raises(
        UserError,
        match=r"changed since .*p.csv was started: it has .*000.png, but the next .*000a.png",
    ):
        predict_to(begun, Sources([str(images)]), answers, JOB, top=2)
    (tmp_path / "mine.csv").write_text("mine\n")
    with pytest.raises(UserError, match=r"mine.csv exists"):
        predict_to(tmp_path / "mine.csv", Sources([str(images)]), answers, JOB, top=2)
    assert (tmp_path / "mine.csv").read_text() == "mine\n"


def test_a_newer_version_is_another_call(command, exported, images, tmp_path, monkeypatch):
    """A models directory names its latest version, which may change before a rerun."""
    jobs = []
    monkeypatch.setattr(
        predict_module, "predict_to", lambda *arguments, **_: jobs.append(arguments[3]) or (0, 0)
    )
    code, *_ = command("predict", images, "--model", exported.parent, "--to", tmp_path / "p.csv")
    assert code == 0
    code, *_ = command("predict", images, "--model", exported, "--to", tmp_path / "p.csv")
    assert code == 0
    assert [job["model"] for job in jobs] == [str(exported), str(exported)]


def test_files_are_copied_below_their_class(images, tmp_path):
    to, sorted_to = tmp_path / "p.csv", tmp_path / "sorted"
    with pytest.raises(ServingError):
        predict_to(to, Sources([str(images)]), stopping(64), JOB, top=1, copy_to=sorted_to)
    predict_to(to, Sources([str(images)]), answers, JOB, top=1, copy_to=sorted_to)
    copies = sorted(file.relative_to(sorted_to) for file in sorted_to.rglob("*.png"))
    whole = [file.relative_to(images) for file in sorted(images.rglob("*.png")) if file.stat().st_size > 10]
    assert copies == [Path("dark_er") / file for file in whole]
    assert (sorted_to / "dark_er/b/001.png").read_bytes() == (images / "b/001.png").read_bytes()
    (sorted_to / "dark_er/b/001.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"dark_er/b/001.png exists, with other content"):
        predict_to(tmp_path / "q.csv", Sources([str(images)]), answers, JOB, top=1, copy_to=sorted_to)
    assert (sorted_to / "dark_er/b/001.png").read_bytes() == b"mine"
    (tmp_path / "folders.txt").write_text(f"{images}\n")
    for name in (images, tmp_path / "folders.txt"):
        with pytest.raises(UserError, match="expected `copy_to` outside of"):
            predict_to(
                tmp_path / "r.csv", Sources([str(name)]), answers, JOB, top=1, copy_to=images / "sorted"
            )
    assert not (tmp_path / "r.csv").exists()


@pytest.mark.parametrize("as_list", [False, True])
def test_copies_of_several_folders_keep_their_folders_names(as_list, images, tmp_path):
    names, sorted_to = [str(images / "b"), f"{images / 'c'}/"], tmp_path / "sorted"
    (tmp_path / "folders.txt").write_text("\n".join(names))
    sources = Sources([str(tmp_path / "folders.txt")] if as_list else names)
    predict_to(tmp_path / "p.csv", sources, answers, JOB, top=1, copy_to=sorted_to)
    for name in ("b", "c"):
        copies = sorted(path.name for path in (sorted_to / "dark_er" / name).iterdir())
        assert copies == sorted(path.name for path in (images / name).iterdir() if path.stat().st_size > 10)


def test_names_of_any_kind_stay_one_row(tmp_path):
    names = ["a,b.png", 'quo"te.png', "new\nline.png", "esc\x1b.png", os.fsdecode(b"latin\xe9.png")]
    for name in names:
        cv2.imwrite(str(tmp_path / "plain.png"), np.zeros((4, 4, 3), np.uint8))
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "plain.png").rename(tmp_path / "images" / name)
    for kind in KINDS:
        with pytest.raises(ServingError):
            predict_to(tmp_path / kind, Sources([str(tmp_path / "images")]), stopping(3), JOB, top=1)
        assert predict_to(tmp_path / kind, Sources([str(tmp_path / "images")]), answers, JOB, top=1) == (5, 0)
        assert len({row["image"] for row in written(tmp_path / kind)}) == 5


def test_a_model_that_refuses_every_image_is_no_image_s_fault(images):
    def refusing(_, encoded):
        raise ServingError("INVALID_ARGUMENT", "no such signature")

    with pytest.raises(ServingError, match="no such signature"):
        list(each(refusing, [one.item for one in Sources([str(images)])], 8, "model"))


def test_an_image_that_the_model_refuses_is_told_alone(images):
    def picky(signature, encoded):
        for one in encoded:
            if cv2.imdecode(np.frombuffer(one, np.uint8), 0).mean() == 7:
                raise ServingError("INVALID_ARGUMENT", "corrupt")
        return run(signature, encoded)

    found = list(each(picky, (one.item for one in Sources([str(images)])), 8, "model"))
    refused = [one.image for one in found if isinstance(one, Failure)]
    assert refused == [str(images / name) for name in ("a/003.png", "b/007.png", "c/050.png")]
    assert sum(isinstance(one, Prediction) for one in found) == 97


# --- sources -------------------------------------------------------------------------------------


def test_a_list_on_standard_input(images, tmp_path, monkeypatch):
    lines = [str(images / "b/001.png"), "", str(tmp_path / "nowhere.png"), str(images / "c")]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    found = Sources(["-"])
    found.check()
    assert found.count() is None
    answered = list(answers(one.item for one in found))
    assert [one.image for one in answered[:2]] == lines[::2][:2]
    assert answered[1].error == f"no image file at {tmp_path / 'nowhere.png'}"
    assert len(answered) == 2 + 33


def test_standard_input_has_names_in_any_encoding(images):
    """`find photos | keras-googlenet predict -`, where a name is not in UTF-8."""
    code = "import sys; from keras_googlenet.inference.sources import Sources\n"
    code += "print([one.item.name for one in Sources(['-'])])"
    names = [os.fsencode(images / "b/001.png"), b"caf\xe9.png"]
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"\xef\xbb\xbf" + b"\n".join(names),
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == repr([str(images / "b/001.png"), "caf\udce9.png"])


@pytest.mark.parametrize(
    "address", ["https://example..com/a.jpg", "https://xn--/a.jpg", "https://h/caf\udce9"]
)
def test_an_address_that_cannot_be_is_its_own_row(address):
    (answer,) = answers(one.item for one in Sources([address]))
    assert "example..com" in answer.error or "xn--" in answer.error or "caf" in answer.error


@pytest.fixture
def site(images):
    """The images at an address; of those in `busy`, the server refuses so many requests first."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            server.asked[self.path] += 1
            if server.asked[self.path] <= server.busy.get(self.path, 0):
                self.send_error(503)
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=images)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.busy = Counter(), {}
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_addresses(site, monkeypatch):
    names = [f"{site.address}/{path}" for path in ("b/001.png", "b/999.png", "a/003.png")]
    first, missing, broken = answers(one.item for one in Sources(names))
    assert (first.image, first.label) == (names[0], "dark/er")
    assert "404" in missing.error
    assert "\n" not in missing.error
    assert names[2] in broken.error
    monkeypatch.setattr(downloads, "MOST_BYTES", 10)
    (large,) = answers(one.item for one in Sources(names[:1]))
    assert "it has more than" in large.error


@pytest.mark.parametrize("kind", ["p.csv", "p.parquet"])
def test_a_list_of_addresses_in_shards(site, images, tmp_path, kind, monkeypatch):
    """Each address has one row after a kill: transient errors are retried, lasting ones are its error."""
    monkeypatch.setattr(tables, "PART_ROWS", 4)
    monkeypatch.setattr(predict_module, "ROWS", 4)
    names = [f"{site.address}/{file.relative_to(images)}" for file in sorted(images.rglob("*.png"))[:60]]
    names[10:10] = [f"{site.address}/gone.png", "https://", "http://127.0.0.1:1/refused.png", "tfds:no/set"]
    site.busy |= {"/a/006.png": 2, "/a/009.png": 99}
    (tmp_path / "list.txt").write_text("\n".join(["\ufeff" + names[0], "", *names[1:]]) + "\n", "utf-8")
    rows = []
    for place in range(4):
        share = Sources([str(tmp_path / "list.txt")], shard=(place, 4))
        share.check()
        assert share.count() == 16
        to = tables.of_shard(tmp_path / kind, place, 4)
        with pytest.raises(ServingError):
            predict_to(to, share, stopping(9), JOB, top=1)
        predict_to(to, share, answers, JOB, top=1)
        rows += written(to)
    assert sorted(row["image"] for row in rows) == sorted(names)
    errors = {row["image"].removeprefix(site.address): row["error"] for row in rows if row["error"]}
    assert set(errors) == {"/a/003.png", "/a/009.png", "/gone.png", *names[11:14]}
    assert "503 Service Unavailable (4 times tried)" in errors["/a/009.png"]
    assert "404" in errors["/gone.png"]
    assert 3 <= site.asked["/a/006.png"] <= 4  # again where it was read ahead before the kill
    assert site.asked["/gone.png"] <= 2


def test_a_split_of_tensorflow_datasets(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))  # read once from TFDS_DATA_DIR
    shades = [(index, {"image": np.full((4, 4, 1), index, np.uint8)}) for index in range(100)]
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(4, 4, 1))})
    tfds.dataset_builders.store_as_tfds_dataset("shades", "1.0.0", features, {"test": shades})
    monkeypatch.setattr(predict_module, "ROWS", 8)
    rows = []
    for place in range(3):
        share = Sources(["tfds:shades/test"], shard=(place, 3))
        share.check()
        assert share.count() == (34, 33, 33)[place]
        to = tables.of_shard(tmp_path / "p.csv", place, 3)
        with pytest.raises(ServingError):
            predict_to(to, share, stopping(20), JOB, top=2)
        predict_to(to, share, answers, JOB, top=2)
        rows += written(to)
    assert sorted(row["image"] for row in rows) == sorted(f"tfds:shades/test#{i}" for i in range(100))
    dark = [1 - float(row[f"probability{'_2' * (row['label'] == 'bright')}"]) for row in rows]
    assert sorted(round(255 * bright) for bright in dark) == list(range(100))
    assert Sources(["tfds:shades/test[:30]"]).count() == len(list(Sources(["tfds:shades/test[:30]"]))) == 30
    for name, message in {
        "tfds:shades": "expected a split of the data set, such as tfds:shades/test",
        "tfds:shades/train": "tfds:shades has no split 'train': expected one of test",
    }.items():
        with pytest.raises(UserError, match=message):
            Sources([name]).check()
    with pytest.raises(UserError, match="expected no `tfds_manual_dir` without a source such as tfds:"):
        Sources(["-"], tfds_manual_dir=tmp_path).check()


def test_frames_of_a_video(tmp_path):
    path = str(tmp_path / "clip.avi")
    video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 32))
    for index in range(25):
        video.write(np.full((32, 32, 3), index * 10, np.uint8))
    video.release()
    found = list(answers(one.item for one in Sources([path], every=seconds("0.5s"))))
    assert [one.image for one in found] == [f"{path}#t={at:.2f}" for at in (0, 0.5, 1, 1.5, 2)]
    brightness = [dict(one.top)["bright"] * 255 for one in found]
    assert brightness == pytest.approx([0, 50, 100, 150, 200], abs=3)
    (tmp_path / "broken.mp4").write_bytes(b"rubbish")
    (broken,) = answers(one.item for one in Sources([str(tmp_path / "broken.mp4")]))
    assert "expected a video that OpenCV reads" in broken.error


@pytest.mark.parametrize(("text", "expected"), [("1s", 1), ("500ms", 0.5), ("0.25", 0.25), ("2.5s", 2.5)])
def test_seconds(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0s", "-1s", "1m", "soon"])
def test_no_seconds(text):
    with pytest.raises(UserError, match="to be a time"):
        seconds(text)


# --- shares of the images ------------------------------------------------------------------------


def test_each_image_is_in_one_shard(images, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{images}/a\n"))
    names = [str(images / "b"), "-", str(images / "c/002.png")]
    whole = [one.item.name for one in Sources(names)]
    shards = []
    for place in range(3):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{images}/a\n"))
        shards.append([one.item.name for one in Sources(names, shard=(place, 3))])
    assert [name for row in itertools.zip_longest(*shards) for name in row if name] == whole
    assert [Sources([str(images)], shard=(place, 3)).count() for place in range(3)] == [34, 33, 33]


def test_shards():
    job = {"JOB_COMPLETION_INDEX": "2"}
    assert shard("3/16", {}) == shard("16", job) == (2, 16)
    assert shard("1/16", job) == (0, 16)
    assert tables.of_shard(Path("out/p.csv"), 2, 16) == Path("out/p-03-of-16.csv")
    with pytest.raises(UserError, match="such as 3/16: JOB_COMPLETION_INDEX of a Job is not set"):
        shard("16", {})


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "1/0", "1/", "a/b", "1/2/3", "-1/2"])
def test_no_shards(text):
    with pytest.raises(UserError, match="the third of 16 shares, got"):
        shard(text, {"JOB_COMPLETION_INDEX": "0"})


@pytest.mark.ci
def test_shards_that_are_killed_score_each_image_once(images, exported, tmp_path):
    """Processes as in an indexed Job: the same command line, each with its index."""
    line = [sys.executable, "-m", "keras_googlenet", "predict", str(images), "--model", str(exported)]
    line += ["--shard", "2", "--to", str(tmp_path / "p.csv")]
    for index in "01":
        environment = os.environ | {"JOB_COMPLETION_INDEX": index}
        to = tmp_path / f"p-{int(index) + 1}-of-2.csv"
        process = subprocess.Popen(line, stderr=subprocess.PIPE, env=environment)
        while process.poll() is None and not (to.exists() and to.read_bytes().count(b"\n") > 20):
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert Path(f"{to}.job").exists()  # it was not done yet
        done = subprocess.run(line, capture_output=True, text=True, env=environment)
        failed = "2 of 50 images failed: see their errors\n" if index == "1" else ""  # the broken images
        assert (done.returncode, done.stderr) == (int(index), failed)
    rows = [row["image"] for path in sorted(tmp_path.glob("p-*.csv")) for row in written(path)]
    assert sorted(rows) == [str(file) for file in sorted(images.rglob("*.png"))]


# --- the command ---------------------------------------------------------------------------------


def memory(process) -> int:
    """Resident MiB."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


@pytest.mark.parametrize(
    ("count", "of_folder"),
    [
        pytest.param(10_000, 100, marks=pytest.mark.ci),
        pytest.param(100_000, 1000, marks=pytest.mark.slow),
    ],
)
def test_many_files_in_constant_memory_however_often_it_is_killed(exported, tmp_path, count, of_folder):
    original = tmp_path / "one.png"
    cv2.imwrite(str(original), np.full((8, 8), 7, np.uint8))
    for index in range(count):
        if index % of_folder == 0:
            folder = tmp_path / f"images/{index // of_folder:03}"
            folder.mkdir(parents=True)
            source = folder / "000.png"
            source.write_bytes(original.read_bytes())  # a file has so many links at most
        else:
            os.link(source, folder / f"{index % of_folder:03}.png")
    to = tmp_path / "p.csv"
    line = [
        sys.executable,
        "-m",
        "keras_googlenet",
        "predict",
        str(tmp_path / "images"),
        "--model",
        str(exported),
    ]
    resident = []
    for share in (0.2, 0.6, 2):
        process = subprocess.Popen([*line, "--to", str(to)], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        seen, before = [], None
        while process.poll() is None:
            rows = to.read_bytes().count(b"\n") if to.exists() else 0
            before = rows if before is None else before
            if rows > before:  # no longer importing
                seen.append(memory(process))
            if rows >= share * count:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(1)
        _, err = process.communicate(timeout=60)
        resident.append(seen)
    assert (process.returncode, err) == (0, b"")
    images = [row["image"] for row in written(to)]
    assert len(images) == len(set(images)) == count
    assert resident[-1][-1] < resident[-1][len(resident[-1]) // 4] + 100, resident
