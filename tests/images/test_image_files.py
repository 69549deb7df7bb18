"""Which files are found, whatever lies between them; all that walks a folder asks the same function."""

import cv2
import numpy as np
import pytest
from PIL import Image

from keras_googlenet import UserError
from keras_googlenet.data.folders import find_images
from keras_googlenet.data.prepare import prepare
from keras_googlenet.data.sources import load_data
from keras_googlenet.images.files import left_out, visible_files
from keras_googlenet.serving.client.images import find_files


@pytest.fixture
def photos(tmp_path):
    """Two classes as people's folders are: hidden copies, an archive's remains, links, other formats."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype="uint8")
    folder = tmp_path / "photos"
    for name in ("cat", "dog"):
        (folder / name / ".ipynb_checkpoints").mkdir(parents=True)
        (folder / name / "__MACOSX").mkdir()
        for file in ("1.png", "2.JPG", "3.jpeg", ".ipynb_checkpoints/1-checkpoint.png", "__MACOSX/1.png"):
            Image.fromarray(pixels).save(folder / name / file)
        (folder / name / "._1.png").write_bytes(b"of a Mac")
        (folder / name / "Thumbs.db").write_bytes(b"of Windows")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.fromarray(pixels).save(elsewhere / "4.png")
    (folder / "dog/linked").symlink_to(elsewhere)
    (folder / "dog/itself").symlink_to(folder / "dog")
    (folder / "bird").symlink_to(folder / "cat")
    (folder / "__MACOSX").mkdir()
    return folder


def names(folder, files):
    return [path.relative_to(folder).as_posix() for path in files]


def test_what_is_found(photos):
    expected = ["1.png", "2.JPG", "3.jpeg"]
    assert names(photos / "cat", find_images(photos / "cat")) == expected
    assert names(photos / "bird", find_images(photos / "bird")) == expected  # a linked class
    assert names(photos / "dog", find_images(photos / "dog")) == [*expected, "linked/4.png"]
    assert names(photos / "cat", visible_files(photos / "cat")) == [*expected, "Thumbs.db"]
    assert names(photos / "dog", find_files([photos / "dog"])) == [*expected, "linked/4.png"]


def test_training_and_preparing_take_the_same(photos, tmp_path):
    data = load_data(str(photos))
    assert data.class_names == ("bird", "cat", "dog")
    assert sum(part.count for part in (data.train, data.validation, data.test)) == 10
    done = prepare(photos, tmp_path / "small", size=10)
    assert done.resized == 10
    assert not list((tmp_path / "small").rglob("*checkpoint*"))


def test_other_formats_are_named_with_their_number(photos, tmp_path, capsys):
    pixels = Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype="uint8"))
    for number, kind in enumerate(("bmp", "webp", "tiff", "tiff", "gif", "avif")):
        pixels.save(photos / "cat" / f"other{number}.{kind}")
    found = load_data(str(photos))
    assert sum(part.count for part in (found.train, found.validation, found.test)) == 16
    error = capsys.readouterr().err
    assert error.count("\n") == 1  # of "cat" and of "bird", which links to it
    assert "left out 2 .avif and 4 .tiff files: `keras-googlenet prepare`" in error
    done = prepare(photos, tmp_path / "ready", size=10)
    assert len(set(done.unreadable.values())) == 1
    assert {path.suffix for path in done.unreadable} == {".avif", ".db"}
    ready = load_data(str(tmp_path / "ready"))
    assert sum(part.count for part in (ready.train, ready.validation, ready.test)) == 20
    assert prepare(photos, tmp_path / "ready", size=10).present == 20


def test_converted_pixels_are_pillow_s(photos, tmp_path):
    pixels = np.random.default_rng(2).integers(0, 255, (20, 30, 3), dtype="uint8")
    kinds = ("bmp", "tiff", "ppm", "webp")
    for kind in kinds:
        exact = {"lossless": True} if kind == "webp" else {}
        Image.fromarray(pixels).save(photos / "cat" / f"x.{kind}", **exact)
    for size in (20, 40):  # of the same size and smaller: copied
        prepare(photos, tmp_path / f"at{size}", size=size)
        for kind in kinds:
            found = cv2.imread(str(tmp_path / f"at{size}" / "cat" / f"x.{kind}.png"))[..., ::-1]
            np.testing.assert_array_equal(found, pixels)
        assert prepare(photos, tmp_path / f"at{size}", size=size).present == 10 + 2 * len(kinds)


def test_a_class_of_other_formats_alone_says_so(photos):
    for file in find_images(photos / "cat"):
        file.unlink()
    Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(photos / "cat" / "1.tif")
    with pytest.raises(UserError, match=r"no JPEG, PNG, .* image in .*bird .left out 1 .tif file: `keras"):
        load_data(str(photos))


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(photos):
    (photos / "cat/gone.png").symlink_to(photos / "nowhere.png")
    with pytest.raises(UserError, match=r"cannot read .*gone.png"):
        load_data(str(photos))


def test_nothing_to_say():
    assert left_out([]) is None
