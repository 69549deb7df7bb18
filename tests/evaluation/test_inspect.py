"""`inspect`: what it leaves in its folder."""

import csv
import json
import re
import shutil

import cv2
import numpy as np
import pytest

from keras_googlenet import UserError
from keras_googlenet.data import near_duplicates
from keras_googlenet.data.inspection import inspect_images
from keras_googlenet.data.sources import load_data
from keras_googlenet.evaluation import inspect as module
from keras_googlenet.evaluation.inspect import inspect


@pytest.fixture
def fake_features(monkeypatch):
    """Mean brightness and contrast in place of a network's features, to be quick."""
    seen = []

    def embed(_, part):
        images = part.images if isinstance(part.images, np.ndarray) else [
            cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE) for encoded in part.images
        ]  # fmt: skip
        seen.extend(part.labels)
        return np.array([[image.mean(), image.std(), 0] for image in images], "float32")

    monkeypatch.setattr(module, "embed", embed)
    monkeypatch.setattr(near_duplicates, "MAX_ALIGNED", 100)
    return seen


def test_one_set(fake_features, tmp_path):
    report = inspect(["sample"], tmp_path / "new" / "seen", images=40)
    assert {path.name for path in (tmp_path / "new/seen").iterdir()} == {
        "inspection.json", "contact_sheet.png", "features.png", "near_duplicates.csv", "report.html",
    }  # fmt: skip
    assert json.loads((tmp_path / "new/seen/inspection.json").read_text()) == report
    assert report["sets"] == {"sample": inspect_images(load_data("sample"))[0]}
    assert report["features"] == {
        "network": "the package's fashion_mnist network", "projection": "pca", "class": None,
        "images": {"sample": 40},
    }  # fmt: skip
    assert np.bincount(fake_features).tolist() == [4] * 10


def test_two_sets_and_one_class(fake_features, image_folder, tmp_path, monkeypatch):
    drawn = []
    plot = module.plot_scatter
    monkeypatch.setattr(
        module, "plot_scatter", lambda *arguments: drawn.append(arguments) or plot(*arguments)
    )
    names = ["sample", str(image_folder)]
    report = inspect(names, tmp_path, class_name="Trouser", images=30)
    assert {path.name for path in tmp_path.iterdir()} == {
        "inspection.json", "contact_sheet_1.png", "contact_sheet_2.png", "features.png",
        "near_duplicates_1.csv", "near_duplicates_2.csv", "report.html",
    }  # fmt: skip
    assert report["features"]["images"] == {"sample": 30, str(image_folder): 12}
    assert set(fake_features) == {1}  # Trouser is label 1 of both
    ((points, groups, group_names, _, title, _, pictures),) = drawn
    assert len(pictures) == 42
    assert points.shape == (42, 2)
    assert groups.tolist() == [0] * 30 + [1] * 12
    assert list(group_names) == names
    assert ", class Trouser:" in title


def test_features_are_of_the_images_of_their_labels(image_folder, monkeypatch):
    """Chosen over all three parts: each image's pixels meet its own label."""
    data = load_data(str(image_folder))
    seen = []
    monkeypatch.setattr(module, "embed", lambda _, part: seen.extend(part.files) or np.zeros((part.count, 3)))
    drawn = module._embedded(None, data, None, 15, 0)
    assert [data.class_names[label] for label in drawn.labels] == [path.parent.name for path in seen]
    assert len(set(seen)) == 15


MISTAKES = {
    "expected one data set or two different ones, got a, b, c": {"names": ["a", "b", "c"]},
    "expected one data set or two different ones, got a, a": {"names": ["a", "a"]},
    "taken exists: choose another folder": {"to": "taken"},
    "file exists: choose another folder": {"to": "taken/file"},
    "expected `images` to be at least 1, got 0": {"images": 0},
    "expected a class of sample, one of T-shirt/top, .*; got 'Hat'": {"class_name": "Hat"},
    "expected 3 images at least to draw features of, got 2": {"images": 2},
    "expected `projection` to be one of": {"projection": "umap"},
    "unknown data 'nowhere'": {"names": ["nowhere"]},
    "does not exist": {"weights": "nowhere"},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_named_and_nothing_written(fake_features, tmp_path, message):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    before = set(tmp_path.rglob("*"))
    arguments = {"names": ["sample"], "to": "new"} | MISTAKES[message]
    names, to = arguments.pop("names"), tmp_path / arguments.pop("to")
    with pytest.raises(UserError, match=message) as caught:
        inspect(names, to, **arguments)
    assert "\n" not in str(caught.value)
    assert set(tmp_path.rglob("*")) == before


def test_near_duplicates_are_listed_and_shown(fake_features, image_folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(image_folder, data)
    original = min(data.rglob("*.*"))
    copy = original.with_name("zz<copy>.jpg")
    assert cv2.imwrite(str(copy), cv2.imread(str(original)) // 4 * 3)
    report = inspect([str(data)], tmp_path / "seen", images=10)
    with (tmp_path / "seen/near_duplicates.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["first", "second"]
    assert [str(original), str(copy)] in rows
    assert report["sets"][str(data)]["near_duplicate_pairs"] == len(rows) - 1
    page = (tmp_path / "seen/report.html").read_text()
    assert "zz&lt;copy&gt;.jpg" in page
    assert "<copy>" not in page
    assert len(re.findall('src="data:image/png', page)) == 2
