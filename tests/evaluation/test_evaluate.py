import json
import shutil
from dataclasses import replace
from unittest.mock import ANY

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import CLASSES
from PIL import Image

from keras_googlenet import Preprocessing, RunConfig, UserError, evaluate
from keras_googlenet.data import numpy_batches
from keras_googlenet.data.folders import labeled_folder
from keras_googlenet.data.parts import ImageData, Part
from keras_googlenet.data.sources import load_data
from keras_googlenet.evaluation import evaluate as module
from keras_googlenet.evaluation import images
from keras_googlenet.evaluation.crop_pipeline import take_crops
from keras_googlenet.evaluation.crops import crop_table
from keras_googlenet.evaluation.results import Evaluation
from keras_googlenet.images import decoder
from keras_googlenet.images.numpy import decode
from keras_googlenet.names import DIVISION
from keras_googlenet.network.surgery import strip_aux
from keras_googlenet.run import division
from keras_googlenet.run import folder as run_folder


class ByHand(tfds.core.GeneratorBasedBuilder):
    """Registers `by_hand`: a folder like `image_folder` that its users download themselves."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "a folder for each class"

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=CLASSES)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, downloads):
        return {"train": self._generate_examples(downloads.manual_dir)}

    def _generate_examples(self, folder):
        for file in sorted(folder.glob("*/*.png")):
            image = np.asarray(Image.open(file).convert("RGB"))
            yield f"{file.parent.name}/{file.name}", {"image": image, "label": file.parent.name}


@pytest.fixture
def make_run(image_folder, tmp_path):
    """Makes runs of a network so small that it need not be trained, on `image_folder`."""

    def make(name, *, class_names=CLASSES, seed=0, width=80, data=image_folder, train_images=None):
        keras.utils.set_random_seed(len(name))
        inputs = keras.Input((80, width, 3))
        x = keras.layers.Flatten()(keras.layers.AveragePooling2D(16)(inputs))
        outputs = keras.layers.Dense(2, activation="softmax", name="main")(x)
        preprocessing = Preprocessing(80, width)
        config = RunConfig(data=data and str(data), run=tmp_path / name, seed=seed).to_dict()
        with run_folder.created(
            tmp_path / name, config | {"preprocessing": preprocessing.to_dict()}, class_names, None
        ):
            pass
        keras.Model(inputs, outputs).save(tmp_path / name / run_folder.MODEL)
        held = load_data(str(image_folder), seed=seed)
        run_folder.write_json(
            tmp_path / name / run_folder.SUMMARY,
            {"train_images": train_images or held.train.count, "test_images": held.test.count},
        )
        return tmp_path / name

    return make


@pytest.fixture
def run(make_run):
    return make_run("run")


def network(run):
    loaded = run_folder.load(run)
    return module.Network(str(run), "bn", strip_aux(loaded.model), loaded.preprocessing)


def test_a_run_on_named_images(run, image_folder):
    found = evaluate(run, image_folder)
    assert (found.images, found.part, found.crops) == (24, "all", 1)
    assert found.top5 == 1  # of two classes
    assert found.top1 == np.trace(found.confusion) / 24
    assert [row.name for row in found.classes] == list(CLASSES)
    assert found.published_top1 is None
    assert found.command == f"keras-googlenet evaluate {run} --data {image_folder}"


def test_a_run_on_what_it_held_out_agrees_with_its_summary(finished_run):
    summary = json.loads((finished_run / "summary.json").read_text())
    found = evaluate(finished_run)
    assert (found.images, found.part) == (summary["test_images"], "test")
    assert found.top1 == pytest.approx(summary["test_accuracy"])


def test_the_report_s_folder(run, image_folder, tmp_path):
    found = evaluate(run, image_folder, to=tmp_path / "new/report")
    written = Evaluation.from_json((tmp_path / "new/report/evaluation.json").read_text())
    assert written == found
    assert len(found.mistakes) == round(24 * (1 - found.top1))
    for mistake in found.mistakes:
        assert mistake.file in {str(path) for path in (image_folder / mistake.true).iterdir()}
    with pytest.raises(UserError, match="report exists: choose another"):
        evaluate(run, image_folder, to=tmp_path / "new/report")


def test_a_failure_leaves_no_folder(run, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "answers", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(run, image_folder, to=tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_failure_of_the_pictures_leaves_the_figures(run, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_googlenet.evaluation.report.plot_confusion", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(run, image_folder, to=tmp_path / "report")
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["evaluation.json"]


@pytest.mark.parametrize("views", [2, 6])
def test_views_are_averaged(views, run, image_folder):
    """Against the mean over copies, the middle one twice, of what NumPy's pipeline prepares."""
    chosen, part = network(run), labeled_folder(image_folder)[1]
    alone, mean = module.answers(chosen, part, 1, views=views, batch_size=7)
    batches = list(numpy_batches.batches(part, chosen.preprocessing, batch_size=24))
    images = np.concatenate([images for images, _ in batches])
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    shown = [images] if views == 2 else [images, images, padded[:, :80, :80], padded[:, 2:, 2:]]
    shown += [view[:, :, ::-1] for view in shown]
    expected = np.mean([chosen.model.predict(view, verbose=0) for view in shown], axis=0)
    np.testing.assert_allclose(mean, expected, atol=1e-4)
    np.testing.assert_allclose(alone, chosen.model.predict(images, verbose=0), atol=1e-4)
    assert not np.allclose(alone, mean, atol=1e-3)


def test_views_are_reported_beside_the_plain_figure(run, image_folder, tmp_path):
    plain = evaluate(run, image_folder)
    found = evaluate(run, image_folder, views=6, to=tmp_path / "report")
    assert found.one_view_top1 == plain.top1
    assert plain.one_view_top1 is None
    assert found.protocol.startswith("6 views: the image, ")
    assert found.command == f"keras-googlenet evaluate {run} --data {image_folder} --views 6"
    assert "top-1, one view" in (tmp_path / "report/report.html").read_text()
    assert Evaluation.from_json((tmp_path / "report/evaluation.json").read_text()) == found


@pytest.mark.parametrize("crops", [10, 144])
def test_crops_are_averaged(crops, run, image_folder):
    """Against each image alone, its crops in one batch; the batches here end amid an image."""
    chosen = network(run)
    part = labeled_folder(image_folder)[1].take(np.array([0, 20, 5]))
    _, found = module.answers(chosen, part, crops, views=1, batch_size=33)
    for index, answer in enumerate(found):
        pixels = decode(part.images[index], 3)
        taken = take_crops(pixels, crop_table(*pixels.shape[:2], 80, crops), 80)
        each = chosen.model.predict(chosen.preprocessing.normalize(taken).numpy(), verbose=0)
        np.testing.assert_allclose(answer, each.mean(axis=0), atol=1e-5)


def test_gray_and_color_and_sizes_are_mixed_freely(run, tmp_path, random):
    """Encoded images of any size and color, in files and in memory, through a network in color."""
    paths = []
    for index, shape in enumerate([(30, 40), (50, 20, 3), (200, 90)]):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(random.integers(0, 256, shape, "uint8")).save(paths[-1])
    labels = np.zeros(3, "int32")
    found = [
        module.answers(network(run), Part(stored, labels), 10, 1, 64)[1]
        for stored in (paths, [path.read_bytes() for path in paths])
    ]
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0].sum(axis=1), 1, atol=1e-5)


def test_an_ensemble_averages_probabilities(make_run, image_folder, monkeypatch):
    one, other = make_run("one"), make_run("other")
    seen = []
    real = module.measure
    monkeypatch.setattr(module, "measure", lambda *a, **k: seen.append(a[1]) or real(*a, **k))
    evaluate(one, image_folder)
    evaluate(other, image_folder)
    found = evaluate(one, image_folder, ensemble=[other])
    np.testing.assert_allclose(seen[2], (seen[0] + seen[1]) / 2, atol=1e-6)
    assert np.abs(seen[0] - seen[1]).max() > 0.05
    assert [row.name for row in found.models] == [str(one), str(other)]


def test_an_ensemble_on_what_all_held_out(make_run):
    one, same, other = make_run("one"), make_run("same"), make_run("other", seed=1)
    assert evaluate(one, ensemble=[same], part="validation").images == 2
    with pytest.raises(UserError, match=r"other has other test images than .*one, so it may have been"):
        evaluate(one, ensemble=[other])


def test_an_ensemble_of_the_same_options_on_images_that_changed_between(make_run, image_folder):
    """Each has its record: the second one's has an image less."""
    data = load_data(str(image_folder))
    fewer = replace(data, test=data.test.take(np.arange(data.test.count - 1)))
    one, later = make_run("one"), make_run("later")
    for run, held in ((one, data), (later, fewer)):
        (run / DIVISION).write_bytes(division.encoded(held, str(image_folder)))
    assert evaluate(one, ensemble=[one]).images == data.test.count
    with pytest.raises(UserError, match=r"has changed since .*later began to train on it: 1 image added"):
        evaluate(one, ensemble=[later])


def test_an_ensemble_may_have_divided_the_rest_otherwise(make_run, tmp_path, image_folder):
    """The same test images, whatever the seed: the folder names them."""
    for part in ("train", "test"):
        (tmp_path / "divided").mkdir(exist_ok=True)
        (tmp_path / "divided" / part).symlink_to(image_folder)
    one, other = (make_run(name, seed=seed, data=tmp_path / "divided") for seed, name in enumerate("ab"))
    for made in (one, other):
        (made / run_folder.SUMMARY).unlink()
    assert evaluate(one, ensemble=[other]).images == 24


def test_an_ensemble_of_other_classes_names_the_difference(run, make_run):
    coats = make_run("coats", class_names=("Coat", "Trouser"))
    with pytest.raises(
        UserError, match=r"coats has other .* it lacks Sneaker and it has also Coat; expected"
    ):
        evaluate(run, ensemble=[coats])
    turned = make_run("turned", class_names=CLASSES[::-1])
    with pytest.raises(UserError, match=r"turned has other .* the same in another order"):
        evaluate(run, ensemble=[turned])


def test_a_run_s_order_of_classes_is_followed(run, image_folder):
    straight = evaluate(run, image_folder)
    (run / run_folder.LABELS).write_text("Trouser\nSneaker\n")
    found = evaluate(run, image_folder)
    assert [row.name for row in found.classes] == ["Trouser", "Sneaker"]
    assert [row.images for row in found.classes] == [12, 12]
    assert found.top1 == pytest.approx(1 - straight.top1)


def test_other_classes_are_refused(run, image_folder, tmp_path):
    folder = tmp_path / "others"
    folder.mkdir()
    for name in ("Sneaker", "Coat"):
        (folder / name).symlink_to(image_folder / "Sneaker")
    with pytest.raises(UserError, match=r"other classes than .*: it lacks Trouser and it has also Coat"):
        evaluate(run, folder)


def test_a_message_names_five_classes_at_most():
    names = tuple(f"n{i}" for i in range(1000))
    with pytest.raises(UserError) as error:
        images.check_same_classes("some", names, "a run", ("cat",))
    assert "n0, n1, n10, n100, n101 and 995 more" in str(error.value)


def test_parts_of_named_data(run, image_folder, tmp_path):
    divided = tmp_path / "divided"
    for part, count in (("train", 8), ("test", 3)):
        for name in CLASSES:
            (divided / part / name).mkdir(parents=True)
            for index in range(count):
                (divided / part / name / f"{index}.png").symlink_to(image_folder / name / f"{index}.png")
    cases = (
        (divided, None, 6),
        (divided, "train", 14),  # less the validation images
        (image_folder, None, 24),
        (image_folder, "test", load_data(str(image_folder)).test.count),
    )
    for data, part, count in cases:
        assert images.named_images(str(data), part, run).part.count == count


@pytest.mark.parametrize("recorded", [True, False], ids=["the run's data", "named data"])
def test_a_set_is_built_of_files_downloaded_by_hand(
    recorded, run, make_run, image_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "sets"))
    of_folder = evaluate(run, image_folder, part="train")
    if recorded:
        run, data = make_run("of_set", data="tfds:by_hand"), None
    else:
        data = "tfds:by_hand"
    with pytest.raises(UserError, match="could not download and prepare"):
        evaluate(run, data, part="train")
    with pytest.raises(UserError, match="no folder at"):
        evaluate(run, data, part="train", tfds_manual_dir=tmp_path / "missing")
    of_set = evaluate(run, data, part="train", tfds_manual_dir=image_folder)
    assert of_set.images == of_folder.images
    assert evaluate(run, data, part="train") == replace(of_set, seconds=ANY, command=ANY)


def test_data_that_has_changed_since_is_refused(make_run, tmp_path):
    with pytest.raises(UserError, match=r"has other images now than when .*fewer was trained"):
        evaluate(make_run("fewer", train_images=7))
    with pytest.raises(UserError, match=r"cannot open what .*gone was trained on: unknown data .* `data`"):
        evaluate(make_run("gone", data=tmp_path / "gone_images"))
    with pytest.raises(UserError, match=r"of_arrays was trained on arrays, .* name images with `data`"):
        evaluate(make_run("of_arrays", data=None))


def test_arrays(run, random):
    part = (random.integers(0, 256, (6, 20, 30, 3), "uint8"), np.arange(6) % 2)
    found = evaluate(run, ImageData.from_arrays(part, part, class_names=CLASSES), part="train")
    assert (found.data, found.images, found.part) == ("arrays", 4, "train")
    assert [mistake.file for mistake in found.mistakes] == [None] * len(found.mistakes)


def test_one_crop_needs_no_tensorflow(run, image_folder, monkeypatch):
    expected = evaluate(run, image_folder)
    monkeypatch.setattr(decoder, "has_tensorflow", lambda: False)
    monkeypatch.setattr(module, "has_tensorflow", lambda: False)
    monkeypatch.setattr(module, "evaluation_batches", numpy_batches.batches)
    assert evaluate(run, image_folder).loss == pytest.approx(expected.loss, abs=1e-3)
    with pytest.raises(UserError, match="10 crops need TensorFlow, which is not installed"):
        evaluate(run, image_folder, crops=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": 7}, "expected `crops` to be 1, 10 or 144, got 7"),
        ({"views": 3}, "expected `views` to be 1, 2 or 6, got 3"),
        (
            {"views": 2, "crops": 10},
            "expected `crops` to be 1 with `views`, which define their crops, got 10",
        ),
        ({"part": "all"}, "expected `part` to be test, validation or train, got all"),
        ({"batch_size": 0}, "expected `batch_size` to be at least 1, got 0"),
    ],
)
def test_options_that_are_none(options, message, image_folder, tmp_path):
    with pytest.raises(UserError, match=message):
        evaluate(tmp_path, image_folder, **options)


def test_crops_are_square(make_run, image_folder):
    wide = make_run("wide", width=96)
    with pytest.raises(
        UserError, match=r"expected 1 crop: 10 are squares, and .*wide takes images of 80 x 96"
    ):
        evaluate(wide, image_folder, crops=10)


def test_imagenet_needs_a_thousand_folders_of_wordnet(image_folder, tmp_path):
    with pytest.raises(UserError, match=r"named by their WordNet ids, such as n01440764.*; found Sneaker"):
        evaluate("imagenet", image_folder)
    for number, name in enumerate(CLASSES):
        shutil.copytree(image_folder / name, tmp_path / f"n{number:08}")
    with pytest.raises(UserError, match=r"expected 1000 class folders .*found 2"):
        evaluate("imagenet", tmp_path)
    with pytest.raises(UserError, match="expected `data` to measure published weights on"):
        evaluate("imagenet")


def test_a_free_folder_is_numbered(tmp_path):
    for expected in ("evaluation", "evaluation-2", "evaluation-3"):
        folder = module.free_folder(tmp_path / "evaluation")
        assert folder.name == expected
        folder.mkdir()
