import json

import numpy as np
import pytest

from keras_googlenet import UserError
from keras_googlenet.evaluation.evaluate import evaluate
from keras_googlenet.evaluation.metrics import confusion_matrix, top_k_accuracy


def test_confusion_matrix_counts_rows_of_truth():
    matrix = confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]


def test_top_k_accuracy():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.4, 0.5, 0.1]])
    labels = np.array([0, 1, 2])
    assert [top_k_accuracy(labels, probabilities, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_run_on_its_own_images(finished_run, image_folder):
    figures = evaluate(str(finished_run), image_folder)
    assert figures["images"] == 24
    assert figures["top2"] == 1  # of two classes
    assert 0 <= figures["top1"] <= 1


def test_other_classes_are_refused(finished_run, image_folder, tmp_path):
    for name in ("Sneaker", "Coat"):
        (tmp_path / name).symlink_to(image_folder / "Sneaker")
    with pytest.raises(UserError, match="expected folders named Sneaker, Trouser"):
        evaluate(str(finished_run), tmp_path)


def test_imagenet_needs_a_thousand_folders(image_folder):
    with pytest.raises(UserError, match=r"expected 1000 class folders .*found 2"):
        evaluate("imagenet", image_folder)


def test_summary_agrees_with_evaluate_on_the_test_images(finished_run, image_folder, tmp_path):
    """The run's own test images, as a folder: the same figure as in its summary."""
    from keras_googlenet.data.sources import load_data

    test = load_data(str(image_folder), validation_fraction=0.1, seed=0).test
    for index, (encoded, label) in enumerate(zip(test.images, test.labels, strict=True)):
        target = tmp_path / ("Sneaker", "Trouser")[label]
        target.mkdir(exist_ok=True)
        (target / f"{index}.png").write_bytes(encoded)
    summary = json.loads((finished_run / "summary.json").read_text())
    assert evaluate(str(finished_run), tmp_path)["top1"] == pytest.approx(summary["test_accuracy"])
