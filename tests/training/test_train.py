import csv
import json
import shutil

import keras
import numpy as np
import pytest
from conftest import CLASSES, run_python

from keras_googlenet import RunConfig, UserError, train
from keras_googlenet.data.parts import ImageData, Part
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.run import folder as run_folder
from keras_googlenet.training import precision
from keras_googlenet.training.network import build


def test_run_folder_is_complete(finished_run):
    config = json.loads((finished_run / "config.json").read_text())
    assert config["epochs"] == 1
    assert config["preprocessing"]["height"] == 80
    assert config["dtype_policy"] == "float32"
    assert (finished_run / "labels.txt").read_text().splitlines() == list(CLASSES)
    assert list((finished_run / "tensorboard").rglob("events.out.tfevents.*"))
    for picture in ("curves", "confusion"):
        content = (finished_run / f"plots/{picture}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000


def test_metrics_have_a_row_an_epoch(finished_run):
    with (finished_run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1
    expected = {
        "epoch",
        "loss",
        "main_accuracy",
        "aux1_loss",
        "aux2_loss",
        "val_main_accuracy",
        "learning_rate",
    }
    assert expected <= set(rows[0])
    assert float(rows[0]["learning_rate"]) == pytest.approx(0.01)


def test_summary_holds_what_the_saved_model_reaches(finished_run, image_folder):
    """The figure is the saved file's own: counted again here from the file and the images."""
    from keras_googlenet.data.loading import batches
    from keras_googlenet.data.sources import load_data

    summary = json.loads((finished_run / "summary.json").read_text())
    run = run_folder.load(finished_run)
    test = load_data(str(image_folder), validation_fraction=0.1, seed=0).test
    assert summary["test_images"] == test.count == 4
    right = 0
    for images, labels in batches(test, run.preprocessing, batch_size=2):
        right += (run.model.predict(images, verbose=0)[0].argmax(axis=1) == labels.numpy()).sum()
    assert summary["test_accuracy"] == pytest.approx(right / test.count)


def test_saved_model_keeps_its_heads_and_computes_in_float32(finished_run):
    model = run_folder.load(finished_run).model
    assert model.output_names == ["main", "aux1", "aux2"]
    assert {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.Layer)} == {"float32"}


def test_classes_without_a_test_image_are_refused_before_the_first_epoch(tmp_path):
    part = Part(np.zeros((12, 28, 28, 1), "uint8"), np.arange(12, dtype="int32") % 3)
    data = ImageData(("a", "b", "c"), part, part, part.take(np.array([2, 5])), channels=1)
    config = RunConfig(run=tmp_path / "run", image_size=28, batch_size=4)
    with pytest.raises(UserError, match="expected test images, and there is none of these classes"):
        train(config, data=data.only(("a", "b")))
    assert not (tmp_path / "run").exists()


@pytest.mark.ci
def test_bfloat16_run_is_saved_in_float32(image_folder, tiny_variant, tmp_path):
    config = RunConfig(
        data=str(image_folder),
        run=tmp_path / "run",
        variant=str(tiny_variant),
        image_size=28,
        epochs=1,
        batch_size=8,
        precision="bfloat16",
    )
    assert train(config)["precision"] == "bfloat16"
    model = run_folder.load(tmp_path / "run").model
    assert model.get_layer("inception_3a_1x1").compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"  # Keras's global policy is as it was


def test_an_existing_run_is_left_alone(finished_run, image_folder):
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    with pytest.raises(UserError, match="exists: choose another run folder"):
        train(RunConfig(data=str(image_folder), run=finished_run))
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == before


def test_nothing_is_left_of_a_run_that_cannot_start(image_folder, tmp_path):
    with pytest.raises(UserError, match=r"at least 79 x 79.*`image_size`"):
        train(RunConfig(data=str(image_folder), run=tmp_path / "run", image_size=60))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_ends_the_run_at_once(image_folder, tiny_variant, tmp_path):
    config = RunConfig(
        data=str(image_folder),
        run=tmp_path / "run",
        variant=str(tiny_variant),
        image_size=28,
        batch_size=4,
        learning_rate=1e30,
        precision="float32",
    )
    with pytest.raises(UserError, match=r"no longer finite in epoch 1, step \d+: lower the learning rate"):
        train(config)


@pytest.mark.parametrize(("aux_heads", "weights"), [(True, [1.0, 0.2, 0.2]), (False, [1.0])])
def test_losses_are_weighted(aux_heads, weights, tmp_path, random):
    config = RunConfig(data="sample", run=tmp_path / "run", aux_heads=aux_heads, aux_weight=0.2)
    model = build(config, Preprocessing(80, 80, 1), 10, "float32")
    x, y = random.normal(size=(4, 80, 80, 1)).astype("float32"), np.arange(4)
    logs = model.evaluate(x, [np.eye(10)[y]] * len(weights), verbose=0, return_dict=True)
    names = [f"{name}_loss" for name in ("main", "aux1", "aux2")] if aux_heads else []
    parts = [logs[name] for name in names] or [logs["loss"]]
    assert logs["loss"] == pytest.approx(np.dot(weights, parts), rel=1e-4)


@pytest.mark.parametrize(
    ("info", "expected"), [("flags: avx2 avx512_bf16", "mixed_bfloat16"), ("flags: avx2", "float32")]
)
def test_auto_precision_follows_the_processor(info, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(info)
    assert precision.dtype_policy("auto") == expected
    assert precision.dtype_policy("float32") == "float32"
    assert precision.dtype_policy("bfloat16") == "mixed_bfloat16"


@pytest.mark.slow
def test_trains_on_jax(image_folder, tiny_variant, tmp_path):
    code = """
import sys
from keras_googlenet import RunConfig, train
data, run, variant = sys.argv[1:]
train(RunConfig(data=data, run=run, variant=variant, image_size=28, epochs=1, batch_size=8, average=0.9))
"""
    arguments = (str(image_folder), str(tmp_path / "run"), str(tiny_variant))
    output = run_python(code, *arguments, env={"KERAS_BACKEND": "jax"})
    assert "computing in float32 (jax)" in output
    assert run_folder.load(tmp_path / "run").model.output_shape == (None, 2)


@pytest.mark.ci
def test_starts_from_a_run_with_other_classes_and_frozen_blocks(finished_run, image_folder, tmp_path, capsys):
    data = shutil.copytree(image_folder, tmp_path / "data")
    shutil.copytree(data / "Sneaker", data / "Third")
    train(
        RunConfig(
            data=str(data),
            run=tmp_path / "run",
            weights=str(finished_run),
            freeze="5a",
            image_size=96,
            epochs=1,
            batch_size=8,
            precision="float32",
        )
    )
    assert "except new weights in main, aux1, aux2" in capsys.readouterr().out
    old, new = (run_folder.load(folder).model for folder in (finished_run, tmp_path / "run"))
    for name in ("conv1_7x7_s2", "inception_3a_1x1_bn", "inception_5a_5x5"):
        for before, after in zip(
            old.get_layer(name).get_weights(), new.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(before, after)
    assert new.output_shape == [(None, 3)] * 3
    assert run_folder.load_preprocessing(tmp_path / "run").height == 96


def test_new_layers_are_not_frozen(finished_run, image_folder, tmp_path):
    start = {"weights": str(finished_run), "channels": 1, "freeze": "3a"}
    config = RunConfig(data=str(image_folder), run=tmp_path / "run", image_size=80, **start)
    with pytest.raises(UserError, match=r"conv1_7x7_s2 does not fit .* and would be frozen untrained"):
        train(config)
    assert not config.run.exists()


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"weights": "nowhere.keras"}, "no weights at nowhere.keras"),
        ({"weights": "imagenet"}, "no ImageNet weights are published for variant 'bn'"),
        ({"freeze": "4e"}, "expected `weights` with `freeze`"),
    ],
)
def test_a_start_that_cannot_be_leaves_nothing(start, message, image_folder, tmp_path):
    config = RunConfig(data=str(image_folder), run=tmp_path / "run", image_size=80, **start)
    with pytest.raises(UserError, match=message):
        train(config)
    assert not config.run.exists()


def test_a_classic_trains(image_folder, tmp_path):
    """It has one output, and is no GoogLeNet: it is tested, saved and loaded all the same."""
    config = RunConfig(
        data=str(image_folder),
        run=tmp_path / "run",
        variant="nin_small",
        image_size=28,
        epochs=1,
        batch_size=8,
        dropout=0.0,
        precision="float32",
    )
    summary = train(config)
    assert (summary["variant"], summary["test_images"]) == ("nin_small", 4)
    model = run_folder.load(config.run).model
    assert model.output_shape == (None, 2)
    assert not [layer for layer in model.layers if layer.name.startswith("inception")]


@pytest.mark.parametrize("option", [{"width": 0.5}, {"weights": "imagenet"}, {"freeze": "3a"}])
def test_a_classic_takes_no_option_of_googlenet_s(option, image_folder, tmp_path):
    config = RunConfig(data=str(image_folder), run=tmp_path / "run", variant="alexnet", **option)
    with pytest.raises(UserError) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert "--image-size" not in str(caught.value)  # which would not help
    assert not config.run.exists()


def test_width_multiplies_the_channels_of_a_variant_s_file(tiny_variant):
    """Parameters by hand: of the file's stem 8, 24 and block 8, 16, 16, 8, 8, 8, and of twice as many."""

    def parameters(stem1, stem2, conv1, reduce3, conv3, reduce5, conv5, pool):
        def unit(kernel, inputs, filters):  # a convolution and its batch normalization
            return kernel**2 * inputs * filters + 4 * filters

        stem = unit(3, 1, stem1) + unit(3, stem1, stem2)
        branch3 = unit(1, stem2, reduce3) + unit(3, reduce3, conv3)
        branch5 = unit(1, stem2, reduce5) + unit(5, reduce5, conv5)
        block = unit(1, stem2, conv1) + branch3 + branch5 + unit(1, stem2, pool)
        return stem + block + (conv1 + conv3 + conv5 + pool + 1) * 2

    for width, expected in {
        1.0: parameters(8, 24, 8, 16, 16, 8, 8, 8),
        2.0: parameters(16, 48, 16, 32, 32, 16, 16, 16),
    }.items():
        config = RunConfig(data="sample", run="run", variant=str(tiny_variant), width=width)
        assert build(config, Preprocessing(28, 28, 1), 2, "float32").count_params() == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "Expected the JSON of an Architecture"),
        ("[]", "Expected the JSON of an Architecture"),
        ('{"name": "mine"}', "Expected the JSON of an Architecture"),
        (b"\xff\xfe\x00", "cannot read the architecture"),
        ("stage", "Expected the JSON of an Architecture"),
        ("channels", "conv_1x1 of 3a to be a whole number of 1 or more; received -8"),
        ("type", "kernel of conv1_3x3 to be a whole number of 1 or more; received .three."),
    ],
    ids=[
        "missing",
        "cut short",
        "a list",
        "no stages",
        "no text",
        "unknown stage",
        "negative channels",
        "text for a number",
    ],
)
def test_a_variant_s_file_that_is_none_is_one_line(content, message, tiny_variant, image_folder, tmp_path):
    file = tmp_path / "mine.json"
    damage = {
        "channels": ('"conv_1x1": 8', '"conv_1x1": -8'),
        "stage": ('"Inception"', '"Inception9"'),
        "type": ('"kernel": 3', '"kernel": "three"'),
    }
    if isinstance(content, str):
        whole = tiny_variant.read_text()
        file.write_text(whole.replace(*damage[content]) if content in damage else content)
        assert file.read_text() != whole
    elif content is not None:
        file.write_bytes(content)
    config = RunConfig(data=str(image_folder), run=tmp_path / "run", variant=str(file), image_size=28)
    with pytest.raises(UserError, match=message) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    assert "--image-size" not in str(caught.value)  # it would not help
    assert not config.run.exists()


@pytest.mark.parametrize("missing", ["model.keras", "config.json", "labels.txt"])
def test_an_unfinished_run_is_named(missing, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / missing).unlink()
    with pytest.raises(UserError, match=f"{missing} is missing"):
        run_folder.load(run)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_corrupt_model_is_named(damage, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    whole = (run / "model.keras").read_bytes()
    (run / "model.keras").write_bytes({"truncated": whole[:100_000], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(UserError, match=r"cannot load .*model\.keras, it is corrupt"):
        run_folder.load(run)


def test_a_corrupt_configuration_is_named(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not a run's configuration"):
        run_folder.load(run)


@pytest.mark.slow
def test_the_paper_s_variant_learns_the_sample(tmp_path):
    """8 epochs, about 3 minutes with bfloat16 on 2 cores."""
    summary = train(RunConfig(data="sample", run=tmp_path / "run", variant="paper", epochs=8))
    assert summary["test_images"] == 1000
    assert summary["test_accuracy"] >= 0.70
