"""`inspect_images`, against a folder whose duplicates, sizes and kinds are known."""

import cv2
import numpy as np
import pytest

from keras_googlenet.data import parts
from keras_googlenet.data.inspection import inspect_images, pixels, table
from keras_googlenet.data.parts import ImageData, Part, array_part
from keras_googlenet.data.sources import load_data
from keras_googlenet.errors import UserError


@pytest.fixture
def folder(tmp_path, random):
    """A divided folder: 40 x 30 color pictures, but for what is said below."""
    root = tmp_path / "data"

    def write(name, pixels, *options):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels, options)

    for part, of_each in (("train", 4), ("validation", 1), ("test", 2)):
        for label in ("cat", "dog"):
            for index in range(of_each):
                write(f"{part}/{label}/{index}.png", random.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    read = cv2.imread
    write("train/cat/small.png", random.integers(0, 256, (10, 20), dtype=np.uint8))  # gray
    gray = random.integers(0, 256, (60, 50), dtype=np.uint8)
    write("train/cat/stored_as_color.png", np.dstack([gray] * 3))
    # The same pixels in other bytes, and the same bytes; of them, one across parts.
    write("train/cat/zz_again.png", read(str(root / "train/cat/0.png")), cv2.IMWRITE_PNG_COMPRESSION, 0)
    (root / "train/dog/zz_mislabeled.png").write_bytes((root / "train/cat/0.png").read_bytes())
    (root / "test/dog/zz_leaked.png").write_bytes((root / "train/dog/1.png").read_bytes())
    return root


FACTS = {
    "images": {"train": 12, "validation": 2, "test": 5},
    "classes": {
        "cat": {"train": 7, "validation": 1, "test": 2},
        "dog": {"train": 5, "validation": 1, "test": 3},
    },
    "sizes": {"smallest": [10, 20], "median": [40, 30], "largest": [60, 50]},
    "aspect_ratios": {"smallest": 0.75, "median": 0.75, "largest": 2.0},
    "channels": {"gray": 2, "color": 17},
    "duplicates": {"train": 2, "validation": 0, "test": 0},
    "leakage": {"validation in train": 0, "test in train": 1, "test in validation": 0},
    "near_duplicate_pairs": 3,
    "near_duplicates": {
        "within train": 2,
        "within validation": 0,
        "within test": 0,
        "validation in train": 0,
        "test in train": 1,
        "test in validation": 0,
    },
    "corrupt": [],
}


@pytest.mark.parametrize("in_memory", [True, False])
def test_facts_of_a_folder(folder, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(parts, "MEMORY_BYTES", 0)
    data = load_data(str(folder))
    assert isinstance(data.train.images[0], bytes) == in_memory
    found, _ = inspect_images(data)
    first = str(folder / "train/cat/0.png")
    assert found.pop("examples") == {
        "duplicates": [
            [first, str(folder / "train/cat/zz_again.png")],
            [first, str(folder / "train/dog/zz_mislabeled.png")],
        ],
        "leakage": [[str(folder / "train/dog/1.png"), str(folder / "test/dog/zz_leaked.png")]],
    }
    assert found == FACTS


def test_corrupt_files_are_listed(folder):
    (folder / "test/cat/0.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    found = inspect_images(load_data(str(folder), skip_corrupt=True))[0]
    assert found["corrupt"] == [str(folder / "test/cat/0.png")]
    assert found["images"] == {"train": 12, "validation": 2, "test": 4}


def test_arrays(random):
    """Without files, images are named by part and number; images of other shape are no duplicates."""
    images = random.integers(0, 256, (20, 6, 8), dtype=np.uint8)
    images[7] = images[3]
    test = random.integers(0, 256, (10, 6, 8), dtype=np.uint8)
    test[4] = images[0]
    labels = np.arange(20) % 2
    data = ImageData.from_arrays((images, labels), (test, labels[:10]), validation=(images[-2:], [0, 1]))
    found, _ = inspect_images(data)
    assert found["duplicates"] == {"train": 1, "validation": 0, "test": 0}
    assert found["leakage"] == {"validation in train": 2, "test in train": 1, "test in validation": 0}
    assert found["examples"]["duplicates"] == [["train 3", "train 7"]]
    assert ["train 0", "test 4"] in found["examples"]["leakage"]
    assert found["channels"] == {"gray": 32, "color": 0}


def test_equal_bytes_in_another_shape_are_no_duplicates():
    def part(height, width):
        return array_part(np.zeros((1, height, width), np.uint8), [0])

    found, _ = inspect_images(ImageData(("a", "b"), part(4, 6), part(6, 4), part(4, 6)))
    assert found["leakage"] == {"validation in train": 0, "test in train": 1, "test in validation": 0}


def test_corrupt_images_in_memory_are_listed(random):
    encoded = cv2.imencode(".png", random.integers(0, 256, (8, 8, 3), dtype=np.uint8))[1].tobytes()
    labels = np.array([0, 1], "int32")
    fine, broken = Part([encoded, encoded], labels), Part([encoded, b"rubbish"], labels)
    assert inspect_images(ImageData(("a", "b"), fine, broken, fine))[0]["corrupt"] == ["validation 1"]
    broken = Part([b"", b"rubbish"], labels)
    with pytest.raises(UserError, match="none can be read"):
        inspect_images(ImageData(("a", "b"), broken, broken, broken))


def test_an_image_is_the_same_from_memory_and_from_files(tmp_path, random):
    image = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)  # RGB
    encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    (tmp_path / "image.png").write_bytes(encoded)
    labels = np.array([0], "int32")
    for images in (image[np.newaxis], [encoded], [tmp_path / "image.png"]):
        np.testing.assert_array_equal(pixels(Part(images, labels), 0), image)


def test_table():
    report = FACTS | {
        "examples": {"duplicates": [["a", "b"], ["a", "c"]], "leakage": [["a", "d"]]},
        "corrupt": [str(index) for index in range(7)],
    }
    assert (
        table("pets", report)
        == """\
pets: 19 images in 2 classes
class      train validation       test
cat            7          1          2
dog            5          1          3
              12          2          5
height x width     smallest 10 x 20, median 40 x 30, largest 60 x 50
width / height     smallest 0.75, median 0.75, largest 2.00
channels           2 gray, 17 color
duplicates         2 within train, 0 within validation, 0 within test
  a = b
  a = c
leakage            0 of validation in train, 1 of test in train, 0 of test in validation
  a = d
near-duplicates    2 within train, 1 test in train
corrupt files      7
  0
  1
  2
  3
  4
  and 2 more
"""
    )
