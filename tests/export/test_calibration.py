import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from keras_googlenet import UserError
from keras_googlenet.export.calibration import HIGHEST, LOWEST, calibrate, fit_temperature


def nll(logits, labels, temperature):
    return -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean()


def drawn(random, temperature, images=4000, classes=10):
    """Logits, and labels drawn from the softmax of the logits over a temperature: what to find again."""
    logits = random.normal(size=(images, classes)) * 4
    chances = np.exp(log_softmax(logits / temperature, axis=1))
    labels = (chances.cumsum(axis=1) < random.uniform(size=(images, 1))).sum(axis=1).clip(max=classes - 1)
    return logits.astype("float32"), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 3.5])
def test_the_temperature_that_drew_the_labels_is_found(random, temperature):
    logits, labels = drawn(random, temperature)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.1)
    best = minimize_scalar(lambda t: nll(logits, labels, t), bounds=(0.1, 10), method="bounded")
    assert fitted == pytest.approx(best.x, rel=1e-3)


def test_calibration_lowers_both_figures(random):
    logits, labels = drawn(random, 3.0)
    found = calibrate(logits, labels)
    assert found.nll == pytest.approx(
        (nll(logits, labels, 1), nll(logits, labels, found.temperature)), rel=1e-3
    )
    assert found.nll[1] < found.nll[0]
    assert found.ece[1] < 0.05 < found.ece[0]
    assert found.images == len(labels)
    assert f"temperature {found.temperature:.3f} on 4000 images" in str(found)


def test_the_temperature_is_bounded(random):
    """All right: any lower is better. All wrong: any higher."""
    logits = np.eye(5)[np.arange(50) % 5] * 3
    assert fit_temperature(logits, np.arange(50) % 5) == pytest.approx(LOWEST, rel=1e-6)
    assert fit_temperature(logits, (np.arange(50) + 1) % 5) == pytest.approx(HIGHEST, rel=1e-6)


def test_huge_logits_are_no_trouble(random):
    logits, labels = drawn(random, 2.0)
    assert fit_temperature(logits * 4 + 1e4, labels) == pytest.approx(8, rel=0.1)


def test_logits_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="finite logits"):
        calibrate(np.array([[0.0, np.nan]]), np.array([0]))
