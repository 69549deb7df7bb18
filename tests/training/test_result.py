"""What `train` returns."""

import json
from pathlib import Path

import numpy as np

from keras_googlenet.run.folder import read_metrics
from keras_googlenet.training.result import TrainingResult

RUN = Path(__file__).parents[1] / "artifacts/run"


def test_a_result_is_its_run():
    figures = json.loads((RUN / "summary.json").read_text())
    result = TrainingResult(RUN, figures)
    assert result == figures
    assert json.loads(json.dumps(result)) == figures
    assert result.history == read_metrics(RUN)
    assert result.model is result.model
    assert result.model.predict(np.zeros((1, 28, 28, 1)), verbose=0).shape == (1, 2)
    assert repr(result) == f"<TrainingResult {RUN}: test accuracy {figures['test_accuracy']:.4f}>"


def test_a_notebook_shows_figures_and_pictures(tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/curves.png").write_bytes(b"picture")
    shown = TrainingResult(tmp_path, {"variant": "<b>", "test_accuracy": 0.5})._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert shown.count("<img") == 1
