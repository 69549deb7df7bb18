import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_googlenet.evaluation import metrics

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.4, 0.5, 0.1]])
LABELS = np.array([0, 1, 2])


@st.composite
def answers(draw):
    """Labels and probabilities of some images, many of them certain or tied."""
    images, classes = draw(st.integers(1, 30)), draw(st.integers(2, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = random.gamma(draw(st.sampled_from([0.01, 0.3, 3])), size=(images, classes)) + 1e-12
    return random.integers(0, classes, images), scores / scores.sum(axis=1, keepdims=True)


def test_confusion_matrix_counts_rows_of_truth():
    matrix = metrics.confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]


def test_top_k_accuracy():
    found = [metrics.top_k_accuracy(LABELS, PROBABILITIES, k) for k in (1, 2, 3, 5)]
    assert found == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_cross_entropy():
    expected = -(np.log(0.5) + np.log(0.3) + np.log(0.1)) / 3
    assert metrics.cross_entropy(LABELS, PROBABILITIES) == pytest.approx(expected)


@settings(max_examples=50)
@given(answers())
def test_cross_entropy_is_keras_s(answers):
    labels, probabilities = answers
    expected = float(keras.losses.SparseCategoricalCrossentropy()(labels, probabilities))
    assert metrics.cross_entropy(labels, probabilities) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(answers())
def test_top_1_is_argmax_and_more_are_right_among_more(answers):
    labels, probabilities = answers
    classes = probabilities.shape[1]
    shares = [metrics.top_k_accuracy(labels, probabilities, k) for k in range(1, classes + 1)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert shares[0] == np.mean(probabilities.argmax(axis=1) == labels)


def test_precision_and_recall():
    matrix = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])  # the last class: no image, never predicted
    precision, recall = metrics.precision_and_recall(matrix)
    np.testing.assert_allclose(precision, [3 / 5, 4 / 5, np.nan])
    np.testing.assert_allclose(recall, [3 / 4, 4 / 6, np.nan])


def test_a_bin_of_calibration_by_hand():
    """Four images of the confidence 0.9, three of them right; two of 0.6, both right."""
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    low, high = metrics.calibration(np.array([0, 0, 0, 1, 1, 1]), probabilities, bins=10)
    assert (low.low, low.high, low.count) == (pytest.approx(0.5), pytest.approx(0.6), 2)
    assert (low.confidence, low.accuracy) == (pytest.approx(0.6), 1)
    assert (high.count, high.confidence, high.accuracy) == (4, pytest.approx(0.9), 0.75)
    expected = (4 * 0.15 + 2 * 0.4) / 6
    assert metrics.expected_calibration_error([low, high]) == pytest.approx(expected)


def test_confidence_of_0_and_above_1_by_rounding_has_a_bin():
    rows = metrics.calibration(np.array([0, 0]), np.array([[0.0, 0.0], [1.0000001, 0.0]]))
    assert [row.count for row in rows] == [1, 1]
    assert (rows[0].low, rows[1].high) == (0, 1)


@given(answers())
def test_calibration_error_is_the_definition_s(answers):
    """Guo et al., equations 2 and 3, image by image."""
    labels, probabilities = answers
    gaps = np.zeros(15)
    for label, row in zip(labels, probabilities, strict=True):
        index = next(m for m in range(15) if row.max() <= np.linspace(0, 1, 16)[m + 1] or m == 14)
        gaps[index] += (row.argmax() == label) - row.max()
    expected = np.abs(gaps).sum() / len(labels)
    rows = metrics.calibration(labels, probabilities)
    assert metrics.expected_calibration_error(rows) == pytest.approx(expected, abs=1e-9)
    assert sum(row.count for row in rows) == len(labels)


def test_interval_is_wilson_s():
    """Figures of the NIST/SEMATECH handbook's formula, to four digits."""
    assert metrics.interval(0.9, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert metrics.interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert metrics.interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
