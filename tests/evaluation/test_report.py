import re
from base64 import b64decode
from html.parser import HTMLParser

import cv2
import matplotlib.image
import numpy as np
import pytest

from keras_googlenet.evaluation import report, results

VOID = {"meta", "img", "br", "link", "input", "hr"}
NAMES = ["<b>", "$title & \"quotes\" 'single'", "<script>alert(1)</script>", "猫", "é", "plain"]

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # the pictures' font has no Chinese


class Outline(HTMLParser):
    """Checks that tags are closed in order, and keeps texts, tags and addresses."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.sources = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def evaluation(probabilities, labels, names, **about):
    about = {
        "models": [results.ModelRow("runs/<i>a</i>", "bn", 80, 80, 1)], "data": "a & b", "part": "test",
        "crops": 10, "protocol": "10 crops", "command": "keras-googlenet evaluate 'runs/<i>a</i>'",
        "seconds": 0.5, "published_top1": None, "published_top5": None,
    } | about  # fmt: skip
    return results.measure(labels, probabilities, names, **about)


@pytest.fixture(scope="module")
def wrong():
    """Six images of six classes, five of them wrong; two files, one of them hostile."""
    probabilities = np.full((6, 6), 0.02)
    probabilities[range(6), [1, 2, 3, 4, 0, 5]] = 0.9
    files = ['"><script>', *"bcdef"]
    return evaluation(probabilities, np.arange(6), NAMES, files=files)


@pytest.fixture(scope="module")
def folder(wrong, tmp_path_factory):
    random = np.random.default_rng(0)
    shapes = [(28, 28, 1), (28, 28, 3), (600, 400, 3), (300, 900, 1), (256, 256, 3)]
    pictures = [random.integers(0, 256, shape, "uint8") for shape in shapes]
    folder = tmp_path_factory.mktemp("report")
    report.write_report(wrong, pictures, folder)
    return folder


@pytest.fixture(scope="module")
def outline(folder):
    return Outline((folder / "report.html").read_text(encoding="utf-8"))


def test_the_folder_s_files(folder, wrong):
    assert {path.name for path in folder.iterdir()} == {
        "evaluation.json", "confusion.png", "calibration.png", "classes.png", "mistakes.png", "report.html",
    }  # fmt: skip
    assert results.Evaluation.from_json((folder / "evaluation.json").read_text()) == wrong


def test_names_cannot_break_the_page(outline):
    assert "script" not in outline.tags
    assert "i" not in outline.tags
    for name in NAMES:
        assert any(name in text for text in outline.texts), name
    assert "keras-googlenet evaluate 'runs/<i>a</i>'" in outline.texts


def test_the_page_needs_nothing_else(folder, outline):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert not re.findall(r"\burl\(|@import", text)
    assert len(outline.sources) == 2 + 5
    for source in outline.sources:
        kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", source).groups()
        picture = cv2.imdecode(np.frombuffer(b64decode(content), "uint8"), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        assert kind == "png" or max(picture.shape) <= 256


def test_it_is_for_phones_and_for_light_and_dark(folder):
    text = (folder / "report.html").read_text()
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_figures_are_on_the_page(outline):
    for figure in ("16.7%", "10 crops", "6 test images of a & b in 6 classes", "top-5"):
        assert any(figure in text for text in outline.texts), figure


def test_published_figures_stand_beside_ours(wrong, folder):
    charts = {name: (folder / f"{name}.png").read_bytes() for name in ("confusion", "calibration")}
    own = results.Evaluation(**vars(wrong) | {"published_top1": 0.698, "mistakes": []})
    text = report.page(own, [], charts)
    Outline(text)
    assert "published: 69.8%" in text
    assert "None: every image was right" in text


def test_a_thumbnail_keeps_small_images_and_the_aspect_of_large_ones(random):
    small = random.integers(0, 256, (28, 28, 1), "uint8")
    assert report.thumbnail(small) is small
    large = report.thumbnail(np.full((1000, 500, 3), 77, "uint8"))
    assert large.shape == (256, 128, 3)
    assert large.dtype == "uint8"
    assert np.unique(large).tolist() == [77]


def test_two_classes_have_no_top_5(tmp_path):
    two = evaluation(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]), ["cat", "dog"], part="all")
    report.write_report(two, [np.zeros((9, 9, 1), "uint8")], tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "top-5" not in text
    assert "2 images of a &amp; b in 2 classes" in text
    assert matplotlib.image.imread(tmp_path / "mistakes.png").size
