"""A damaged checkpoint is told from a whole one, whatever the damage, and the one before takes its place."""

import json

import keras
import numpy as np
import pytest

from keras_googlenet import UserError
from keras_googlenet.data.order import Cursor
from keras_googlenet.run import checkpoint
from keras_googlenet.run.checkpoint import Progress

EPOCHS, STEPS = 5, 10
DAMAGES = 400


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.5)])
    made.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    made.optimizer.build(made.trainable_variables)
    return made


@pytest.fixture
def run(model, tmp_path):
    """A run's folder with the checkpoints of two steps; the weights are those of the last."""
    for step in (3, 4):
        model.layers[0].kernel.assign(np.full((3, 4), step, "float32"))
        checkpoint.save(tmp_path / "checkpoints/last.npz", model, Progress(Cursor(0, step)))
    return tmp_path


def resumed(run, model):
    """The step that a run resumes from, and its weights."""
    model.layers[0].kernel.assign(np.zeros((3, 4)))
    found = checkpoint.restore_last(run, model, epochs=EPOCHS, steps=STEPS, images=0)
    return found.progress.cursor.step, float(np.array(model.layers[0].kernel)[0, 0])


def test_the_last_two_are_kept(run, model, capsys):
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["last.npz", "previous.npz"]
    assert resumed(run, model) == (4, 4.0)
    assert capsys.readouterr().err == ""


def test_a_process_killed_between_the_two_renames_resumes_from_the_one_before(run, model):
    (run / "checkpoints/last.npz").unlink()
    assert resumed(run, model) == (3, 3.0)


def test_any_damage_is_found_and_the_one_before_resumed(run, model, capsys):
    """Single bits, runs of zeros, cuts and appended bytes, all over the file."""
    path, random = run / "checkpoints/last.npz", np.random.default_rng(1)
    whole, harmless = path.read_bytes(), 0
    for number in range(DAMAGES):
        damaged = bytearray(whole)
        at = int(random.integers(len(whole)))
        if number % 4 == 0:
            damaged = damaged[:at]
        elif number % 4 == 1:
            damaged[at] ^= 1 << int(random.integers(8))
        elif number % 4 == 2:
            damaged[at : at + 64] = bytes(len(damaged[at : at + 64]))
        else:
            damaged[at:at] = random.bytes(16)
        path.write_bytes(damaged)
        step = resumed(run, model)
        error = capsys.readouterr().err
        if step == (4, 4.0):  # of a byte that nothing reads, such as a time in the archive
            harmless += 1
            continue
        assert step == (3, 3.0)
        assert error.count("\n") == 1
        assert "cannot read the checkpoint" in error
        assert "resuming from previous.npz" in error
    assert harmless < DAMAGES / 2


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_two_damaged_ones_are_named_in_one_line(content, run, model):
    for name in ("last", "previous"):
        (run / f"checkpoints/{name}.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"last\.npz.*previous\.npz.*: delete .* to start the run over"):
        resumed(run, model)


def rewritten(run, **changed):
    """The last checkpoint with other values and a checksum that fits them, or none."""
    path = run / "checkpoints/last.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if name != checkpoint.CHECKSUM}
    np.savez(path, **arrays | changed)


@pytest.mark.parametrize(
    "progress",
    [
        {"cursor": {"epoch": EPOCHS + 1, "step": 0}},
        {"cursor": {"epoch": 0, "step": STEPS}},
        {"cursor": {"epoch": -1, "step": 0}},
        {"cursor": {"epoch": 1, "step": 0}},  # an epoch without its row
        {"cursor": {"epoch": "one", "step": 0}},
        {"cursor": None},
        {"rows": 3},
        {"seconds": -1.0},
    ],
)
def test_a_place_that_no_run_comes_to_is_refused(progress, run, model, capsys):
    whole = {"cursor": {"epoch": 0, "step": 4}, "rows": [], "seconds": 1.0}
    rewritten(run, progress=np.array(json.dumps(whole | progress)))
    assert resumed(run, model) == (3, 3.0)
    assert "resuming from previous.npz" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_numbers_are_refused(value, run, model, capsys):
    rewritten(run, **{"model/0000": np.full((3, 4), value, "float32")})
    assert resumed(run, model) == (3, 3.0)
    assert "model/0000 holds values that are not numbers" in capsys.readouterr().err


def test_a_checkpoint_of_before_there_were_checksums_is_resumed(run, model):
    rewritten(run)
    assert resumed(run, model) == (4, 4.0)


@pytest.mark.parametrize(("images", "step"), [(100, 4), (90, 0), (0, 4)])
def test_an_epoch_of_other_images_starts_over(images, step, model, tmp_path):
    """As after `--recorded-split`, when images are gone; earlier versions recorded no number."""
    progress = Progress(Cursor(1, 4), [{"loss": 1.0}], images=images)
    checkpoint.save(tmp_path / "checkpoints/last.npz", model, progress)
    found = checkpoint.restore_last(tmp_path, model, epochs=EPOCHS, steps=STEPS, images=100)
    assert found.progress.cursor == Cursor(1, step)
    assert found.progress.images == 100


def test_a_later_step_than_an_epoch_has_left_starts_it_over(model, tmp_path):
    progress = Progress(Cursor(0, STEPS - 1), images=100)
    model.optimizer.iterations.assign(STEPS - 1)
    checkpoint.save(tmp_path / "checkpoints/last.npz", model, progress)
    found = checkpoint.restore_last(tmp_path, model, epochs=EPOCHS, steps=STEPS - 1, images=90)
    assert found.progress.cursor == Cursor(0, 0)
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 0  # as the schedule has it
