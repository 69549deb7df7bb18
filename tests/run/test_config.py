import pytest

from keras_googlenet import RunConfig, UserError
from keras_googlenet.training.optimizer import rate_schedule


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"epochs": 0},
        {"batch_size": 0},
        {"image_size": 0},
        {"channels": 2},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"aux_weight": -0.1},
        {"decay_rate": 1.1},
        {"decay_epochs": 0},
        {"validation_fraction": -0.1},
        {"seed": -1},
        {"precision": "float16"},
        {"variant": "resnet"},
    ],
)
def test_wrong_fields_are_named(wrong, tmp_path):
    (name,) = wrong
    with pytest.raises(UserError, match=f"expected `{name}` to be"):
        RunConfig(data="sample", run=tmp_path / "run", **wrong)


def test_default_decay_is_the_paper_s():
    config = RunConfig(data="sample", run="run")
    schedule = rate_schedule(config, steps_per_epoch=5)
    rates = [float(schedule(5 * epoch + 4)) for epoch in (0, 7, 8, 15, 16)]
    assert rates == pytest.approx([0.01, 0.01, 0.0096, 0.0096, 0.009216])
