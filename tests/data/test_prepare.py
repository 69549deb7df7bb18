"""`prepare`, against OpenCV by hand, TensorFlow's decoder, and a killed process."""

import io
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_googlenet.data.prepare import STAGING, Prepared, prepare
from keras_googlenet.errors import UserError
from keras_googlenet.images.numpy import decode_any_size
from keras_googlenet.images.tensorflow import decode_image
from keras_googlenet.serving.client.images import encode


def picture(random, *shape):
    """A smooth image, uint8: something that JPEG keeps."""
    small = random.integers(0, 256, (6, 8, *shape[2:]), dtype=np.uint8)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def write(path, pixels, *options):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels, options)


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in files(folder)}


@pytest.fixture
def source(tmp_path, random):
    """A divided folder: two images larger than 40 pixels, one of that and one smaller."""
    write(tmp_path / "in/train/cat/wide.png", picture(random, 60, 130, 3))
    write(tmp_path / "in/train/dog/tall.JPG", picture(random, 95, 50, 3))
    write(tmp_path / "in/test/cat/equal.png", picture(random, 40, 50, 3))
    write(tmp_path / "in/test/dog/small.jpeg", picture(random, 30, 200, 3))
    return tmp_path / "in"


@pytest.mark.parametrize("size", [40, 17])
def test_larger_images_are_resized_as_opencv_does(source, tmp_path, size):
    prepare(source, tmp_path / "out", size=size)
    expected = cv2.resize(
        read(source / "train/cat/wide.png"), (round(130 * size / 60), size), interpolation=cv2.INTER_AREA
    )
    np.testing.assert_array_equal(read(tmp_path / "out/train/cat/wide.png"), expected)
    small = cv2.resize(
        read(source / "train/dog/tall.JPG"), (size, round(95 * size / 50)), interpolation=cv2.INTER_AREA
    )
    encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    assert (tmp_path / "out/train/dog/tall.JPG").read_bytes() == encoded


def test_the_rest_is_copied_under_the_same_paths(source, tmp_path):
    before = contents(source)
    assert prepare(source, tmp_path / "out", size=40) == Prepared(2, 2, 0, {})
    assert contents(source) == before
    after = contents(tmp_path / "out")
    assert after.keys() == before.keys()
    for name in ("test/cat/equal.png", "test/dog/small.jpeg"):
        assert after[name] == before[name]


def test_enlarge(source, tmp_path):
    assert prepare(source, tmp_path / "out", size=64, enlarge=True) == Prepared(4, 0, 0, {})
    sizes = {path.name: read(path).shape[:2] for path in files(tmp_path / "out")}
    assert sizes == {
        "wide.png": (64, 139), "tall.JPG": (122, 64), "equal.png": (64, 80), "small.jpeg": (64, 427),
    }  # fmt: skip


def test_quality(source, tmp_path):
    for quality in (95, 30):
        prepare(source, tmp_path / str(quality), size=40, quality=quality)
    fine, coarse = (tmp_path / name / "train/dog/tall.JPG" for name in ("95", "30"))
    assert coarse.stat().st_size < fine.stat().st_size


def rotated_jpeg(pixels):
    """A JPEG whose EXIF orientation says: turn me by 90 degrees."""
    encoded = cv2.imencode(".jpg", pixels)[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0" * 4
    segment = b"Exif\0\0" + tiff
    return encoded[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + encoded[2:]


def gray_alpha_png(gray):
    """What OpenCV cannot write."""
    file = io.BytesIO()
    Image.fromarray(np.dstack([gray, 255 - gray])).save(file, "PNG")
    return file.getvalue()


def encodings(random):
    color, gray = picture(random, 60, 90, 3), picture(random, 60, 90)
    deep = random.integers(0, 2**16, (60, 90, 3), dtype=np.uint16)

    def encode(suffix, pixels):
        return cv2.imencode(suffix, pixels)[1].tobytes()

    return {
        "color.jpg": encode(".jpg", color),
        "gray.jpg": encode(".jpg", gray),
        "rotated.jpg": rotated_jpeg(color),
        "color.png": encode(".png", color),
        "gray.png": encode(".png", gray),
        "gray_alpha.png": gray_alpha_png(gray),
        "alpha.png": encode(".png", np.dstack([color, gray])),
        "deep.png": encode(".png", deep),
        "deep_gray.png": encode(".png", deep[..., 0]),
        "deep_alpha.png": encode(".png", random.integers(0, 2**16, (60, 90, 4), dtype=np.uint16)),
    }


def test_decoding_is_that_of_training(random):
    for name, encoded in encodings(random).items():
        pixels = decode_any_size(encoded)
        assert pixels.shape[-1] == (1 if "gray" in name else 3), name
        expected = decode_image(tf.constant(encoded), 3).numpy()
        np.testing.assert_array_equal(np.broadcast_to(pixels, expected.shape), expected, name)


def test_each_encoding_stays_what_it_is(tmp_path, random):
    (tmp_path / "in").mkdir()
    images = encodings(random)
    for name, encoded in images.items():
        (tmp_path / "in" / name).write_bytes(encoded)
    prepare(tmp_path / "in", tmp_path / "out", size=30)
    for name in images:
        written = (tmp_path / "out" / name).read_bytes()
        assert written.startswith(b"\xff\xd8" if name.endswith(".jpg") else b"\x89PNG"), name
        sides = (45, 30) if "rotated" in name else (30, 45)
        assert read(tmp_path / "out" / name).shape == (sides if "gray" in name else (*sides, 3)), name
        assert read(tmp_path / "out" / name).dtype == np.uint8


def transparent_tiffs(random):
    """Files whose alpha is described in each way, and what each is on white."""
    rgba = np.dstack([picture(random, 40, 50, 3), picture(random, 40, 50)])
    white = Image.new("RGBA", (50, 40), "white")
    expected = np.asarray(Image.alpha_composite(white, Image.fromarray(rgba)).convert("RGB"))
    straight, multiplied, opaque = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.fromarray(rgba).save(straight, "TIFF", compression="tiff_lzw")
    colors = np.rint(rgba[..., :3] * (rgba[..., 3:] / 255)).astype("uint8")
    Image.fromarray(np.dstack([colors, rgba[..., 3]])).save(multiplied, "TIFF")
    entries = [struct.pack("<HHIHH", 338, 3, 1, kind, 0) for kind in (2, 1)]  # Pillow writes the first
    Image.fromarray(rgba[..., :3]).save(opaque, "TIFF")
    bgra = cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA)
    return {
        "straight.tif": (straight.getvalue(), expected),
        "multiplied.tif": (multiplied.getvalue().replace(*entries), expected),
        "unsaid.tif": (cv2.imencode(".tiff", bgra)[1].tobytes(), expected),
        "deep.tif": (cv2.imencode(".tiff", bgra.astype("uint16") * 257)[1].tobytes(), expected),
        "opaque.tif": (opaque.getvalue(), rgba[..., :3]),
    }


def test_transparent_tiffs_are_composed_on_white_as_pillow_does(tmp_path, random, capfd):
    (tmp_path / "in").mkdir()
    images = transparent_tiffs(random)
    for name, (encoded, _) in images.items():
        (tmp_path / "in" / name).write_bytes(encoded)
    assert prepare(tmp_path / "in", tmp_path / "out", size=40) == Prepared(0, len(images), 0, {})
    for name, (encoded, expected) in images.items():
        written = cv2.cvtColor(read(tmp_path / "out" / f"{name}.png"), cv2.COLOR_BGR2RGB)
        np.testing.assert_allclose(written, expected.astype(int), atol=1, err_msg=name)
        sent = cv2.imdecode(np.frombuffer(encode(encoded, name).data, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(sent[..., ::-1], written, name)


def test_a_gray_tiff_with_alpha_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("LA", (50, 40), (100, 30)).save(tmp_path / "in/gray.tif")
    done = prepare(tmp_path / "in", tmp_path / "out")
    assert done.unreadable == {Path("gray.tif"): "expected a gray TIFF without alpha: save it as PNG"}


def broken_images(source):
    png = (source / "train/cat/wide.png").read_bytes()
    jpeg = (source / "train/dog/tall.JPG").read_bytes()
    return {
        "train/cat/cut.png": png[: len(png) // 2],
        "train/cat/flipped.png": png[:200] + bytes([png[200] ^ 255]) + png[201:],
        "train/cat/cut.jpg": jpeg[: len(jpeg) // 2],
        "train/cat/without_end.jpg": jpeg[:-2],
        "train/cat/empty.png": b"",
        "train/cat/tiff.png": b"II*\0",
    }


def test_training_refuses_the_same_images(source):
    for encoded in broken_images(source).values():
        with pytest.raises(ValueError):  # noqa: PT011
            decode_any_size(encoded)
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_image(tf.constant(encoded), 3)


def test_files_that_are_no_images_are_named_and_the_others_written(source, tmp_path):
    broken = broken_images(source) | {"README.txt": b"text"}
    for name, encoded in broken.items():
        (source / name).write_bytes(encoded)
    (source / "train/.hidden").mkdir()
    (source / "train/.hidden/.DS_Store").touch()
    done = prepare(source, tmp_path / "out", size=40)
    assert (done.resized, done.copied) == (2, 2)
    assert {str(path) for path in done.unreadable} == set(broken)
    assert (
        done.unreadable[Path("README.txt")]
        == "not named .bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp"
    )
    assert done.unreadable[Path("train/cat/tiff.png")].startswith("expected the bytes of a JPEG")
    assert done.unreadable[Path("train/cat/cut.jpg")] == "corrupt"
    assert len(files(tmp_path / "out")) == 4


def test_a_broken_link_is_named_and_the_others_written(source, tmp_path):
    (source / "train/cat/gone.png").symlink_to("nowhere.png")
    done = prepare(source, tmp_path / "out", size=40)
    assert done.unreadable[Path("train/cat/gone.png")] == "No such file or directory"
    assert (tmp_path / "out/train/cat/wide.png").is_file()


def test_images_that_would_get_one_name_are_refused(source, tmp_path, random):
    write(source / "train/cat/0.bmp", picture(random, 60, 50, 3))
    write(source / "train/cat/0.bmp.png", picture(random, 60, 50, 3))
    with pytest.raises(
        UserError, match=r"train/cat/0.bmp, train/cat/0.bmp.png in .* would get the same name"
    ):
        prepare(source, tmp_path / "out", size=40)
    assert not (tmp_path / "out").exists()


def test_too_long_an_image_is_named(tmp_path):
    write(tmp_path / "in/line.png", np.zeros((1, 3000), np.uint8))
    done = prepare(tmp_path / "in", tmp_path / "out", enlarge=True)
    assert list(done.unreadable.values()) == [
        "too large for training: it would be of 224 x 672000 pixels",
    ]


def test_a_second_call_writes_nothing(source, tmp_path):
    out = tmp_path / "out"
    prepare(source, out, size=40)
    times = {path: path.stat().st_mtime_ns for path in files(out)}
    assert prepare(source, out, size=40) == Prepared(0, 0, 4, {})
    assert {path: path.stat().st_mtime_ns for path in files(out)} == times


def test_a_second_call_does_what_is_left(source, tmp_path):
    out = tmp_path / "out"
    prepare(source, out, size=40)
    before = contents(out)
    (out / "train/cat/wide.png").unlink()
    (out / "test/dog/small.jpeg").unlink()
    (out / STAGING).mkdir()
    (out / STAGING / "left").write_bytes(b"half an image")
    assert prepare(source, out, size=40) == Prepared(1, 1, 2, {})
    assert contents(out) == before


@pytest.mark.parametrize(
    "changed", [lambda out: write(out, np.zeros((8, 50), np.uint8)), lambda out: out.write_bytes(b"mine")]
)
def test_nothing_is_overwritten(source, tmp_path, changed):
    out = tmp_path / "out"
    prepare(source, out, size=40)
    shutil.rmtree(out / "test")
    changed(out / "train/cat/wide.png")
    before = contents(out)
    with pytest.raises(UserError, match=r"wide.png would be overwritten"):
        prepare(source, out, size=40)
    assert contents(out) == before


def test_a_killed_process_leaves_whole_files_and_the_next_call_does_the_rest(tmp_path, random):
    count = 120
    encoded = cv2.imencode(".jpg", picture(random, 1200, 1500, 3))[1].tobytes()
    for index in range(count):
        path = tmp_path / f"in/{index % 3}/{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    code = "import sys, pathlib; from keras_googlenet.data.prepare import prepare; "
    code += "prepare(*map(pathlib.Path, sys.argv[1:]), size=100)"
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "in"), str(out)]) as process:
        deadline = time.monotonic() + 60
        while len(list(out.rglob("*.jpg"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    written = [path for path in out.rglob("*.jpg") if STAGING not in path.parts]
    assert 5 <= len(written) < count
    assert {read(path).shape for path in written} == {(100, 125, 3)}
    assert prepare(tmp_path / "in", out, size=100) == Prepared(count - len(written), 0, len(written), {})
    assert len(contents(out)) == count
    assert not (out / STAGING).exists()


MISTAKES = {
    "no folder at .*/nowhere": {"source": "nowhere"},
    "no image in .*/empty: expected files named .bmp": {"source": "empty"},
    "/file is a file: expected a folder": {"target": "file"},
    "two separate folders, got .*/in and .*/in$": {"target": "in"},
    "separate folders, got .*/in and .*/in/out": {"target": "in/out"},
    "separate folders, got .*/in and .*/in/..": {"target": "in/.."},
    "separate folders, got .*/in and .*/link/out": {"target": "link/out"},
    "expected `size` to be between 1 and 65,500, got -3": {"size": -3},
    "expected `quality` to be between 1 and 100, got 101": {"quality": 101},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_named_and_nothing_written(source, tmp_path, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(source)
    before = list(tmp_path.rglob("*"))
    arguments = {"source": "in", "target": "out"} | MISTAKES[message]
    folders = [tmp_path / arguments.pop(name) for name in ("source", "target")]
    with pytest.raises(UserError, match=message) as caught:
        prepare(*folders, **arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.rglob("*")) == before
