"""What `train` prints while it trains."""

import io
import sys

import keras
import numpy as np
import pytest

from keras_googlenet.data.order import Cursor
from keras_googlenet.run.checkpoint import Progress
from keras_googlenet.training.table import COLUMNS, EpochTable, clock


def fitted(epochs=2, progress=None, validation=True, steps=2):
    """Train a small classifier with the table."""
    model = keras.Sequential([keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.eye(4, dtype="float32"), np.arange(4) % 2
    progress = progress or Progress()
    model.fit(
        x, y, batch_size=4 // steps, epochs=epochs, verbose=0, initial_epoch=progress.cursor.epoch,
        validation_data=(x, y) if validation else None, callbacks=[EpochTable(epochs, steps, progress)],
    )  # fmt: skip
    return model


def rows(text):
    header, *lines = text.splitlines()
    assert header.split() == " ".join(COLUMNS).split()
    assert all(len(line) <= 80 for line in [header, *lines])
    return [line.split() for line in lines]


def test_a_row_per_epoch(capsys):
    model = fitted(3)
    table = rows(capsys.readouterr().out)
    assert [row[0] for row in table] == ["1/3", "2/3", "3/3"]
    history = model.history.history
    for number, (_, _, loss, training, validation, best, _) in enumerate(table):
        assert float(loss) == pytest.approx(history["loss"][number], abs=1e-4)
        assert float(training) == pytest.approx(history["accuracy"][number], abs=1e-4)
        assert float(validation) == pytest.approx(history["val_accuracy"][number], abs=1e-4)
        assert float(best) == pytest.approx(max(history["val_accuracy"][: number + 1]), abs=1e-4)
    assert table[-1][-1] == "0:00:00"


def test_without_validation(capsys):
    fitted(1, validation=False)
    ((_, _, _, training, validation, best, _),) = rows(capsys.readouterr().out)
    assert float(training) >= 0
    assert (validation, best) == ("-", "-")


def test_the_best_of_a_resumed_run_is_of_all_its_epochs(capsys):
    progress = Progress(Cursor(1, 0), [{"val_main_accuracy": 1.0}])
    fitted(2, progress)
    (row,) = rows(capsys.readouterr().out)
    assert row[0] == "2/2"
    assert row[5] == "1.0000"


def test_a_bar_in_a_terminal_alone(capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    fitted(1)
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fitted(1)
    assert "epoch 1/1" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()


def test_clock():
    assert clock(3725.4) == "1:02:05"
