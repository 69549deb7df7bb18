"""The factory's tests on the JAX backend, and that both backends compute the same."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_python

from keras_googlenet import GoogLeNet

pytestmark = pytest.mark.ci  # XLA compiles for half a minute a network
HERE = Path(__file__).parent
JAX = {"KERAS_BACKEND": "jax"}
PREDICT = """
import sys, numpy as np, keras, keras_googlenet
assert keras.backend.backend() == "jax"
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], np.stack(model.predict(np.load(sys.argv[2]), verbose=0)))
"""


@pytest.mark.parametrize(
    "file", ["network/test_layers.py", pytest.param("network/test_googlenet.py", marks=pytest.mark.slow)]
)
def test_on_jax(file):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / file)]
    result = subprocess.run(command, env=os.environ | JAX, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:]


@pytest.mark.slow  # test_artifacts.py compares runs' networks
@pytest.mark.parametrize("variant", ["bn", "paper"])
def test_backends_agree(variant, tmp_path, random):
    model = GoogLeNet(input_shape=(80, 80, 3), classes=7, variant=variant)
    x = random.uniform(-1, 1, (2, 80, 80, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    run_python(PREDICT, *(str(tmp_path / n) for n in ("model.keras", "x.npy", "y.npy")), env=JAX)
    expected = np.stack(model.predict(x, verbose=0))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-5)
