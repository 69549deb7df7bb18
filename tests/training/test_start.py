"""Where weights start, and that a run with such a start saves, resumes and loads as others do."""

import shutil

import keras
import numpy as np
import pytest
from conftest import run_python

from keras_googlenet import GoogLeNet, Preprocessing, RunConfig, TuneConfig, UserError, train
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.run import folder as run_folder
from keras_googlenet.training.start import partial_identity, start, whitening

OPTIONS = {
    "data": "sample", "classes": ("Sneaker", "Trouser"), "image_size": 28, "epochs": 1, "batch_size": 40,
    "whiten": True, "identity_start": True, "head_scale": 0.2, "norm_multiplier": 4.0, "precision": "float32",
    "augment": ("translate", "alternate", "cutout"),
}  # fmt: skip


@pytest.mark.parametrize(("filters", "whitened"), [(24, 12), (7, 4), (40, 12)])
def test_whitened_patches_are_uncorrelated_and_of_variance_one(filters, whitened, random):
    images = random.normal(size=(50, 12, 12, 3)).astype("float32")
    images = 0.5 * images + 0.4 * np.roll(images, 1, axis=1) + 0.2 * images[..., ::-1]  # neighbors are alike
    kernel = whitening(images, 2, filters)
    assert kernel.shape == (2, 2, 3, filters)
    outputs = np.array(keras.ops.conv(images, kernel, padding="valid")).reshape(-1, filters)
    used = outputs[:, :whitened]
    np.testing.assert_allclose(used.T @ used / len(used), np.eye(whitened), atol=0.02)
    negatives = outputs[:, whitened : 2 * whitened]
    np.testing.assert_allclose(negatives, -used[:, : negatives.shape[1]], atol=1e-5)
    assert not outputs[:, 2 * whitened :].any()


@pytest.mark.parametrize(("channels", "filters", "size"), [(4, 6, 3), (6, 4, 1), (3, 3, 5)])
def test_a_partial_identity_passes_its_channels_on(channels, filters, size, random):
    images = random.normal(size=(2, 7, 7, channels)).astype("float32")
    before = random.normal(size=(size, size, channels, filters)).astype("float32")
    kernel = partial_identity(before)
    passed = min(channels, filters)
    outputs = np.array(keras.ops.conv(images, kernel, padding="same"))
    np.testing.assert_allclose(outputs[..., :passed], images[..., :passed], rtol=1e-6)
    np.testing.assert_array_equal(kernel[..., passed:], before[..., passed:])


@pytest.mark.ci
def test_a_run_that_starts_so(tiny_variant, tmp_path):
    """The first kernel stays as it is over a resume; a process without this package loads what is saved."""
    options = OPTIONS | {"variant": str(tiny_variant), "epochs": 2}
    summary = train(RunConfig(run=tmp_path / "whole", **options))
    assert summary["test_accuracy"] > 0.9
    again = RunConfig(run=tmp_path / "again", **options)
    shutil.copytree(tmp_path / "whole", again.run)
    (again.run / "model.keras").unlink()
    (again.run / "summary.json").unlink()
    train(again, resume=True)
    first, second = (run_folder.load(run).model for run in (tmp_path / "whole", again.run))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    kernel = next(layer for layer in first.layers if isinstance(layer, keras.layers.Conv2D)).get_weights()[0]
    half = -(-kernel.shape[-1] // 2)
    np.testing.assert_array_equal(kernel[..., :half][..., : kernel.shape[-1] - half], -kernel[..., half:])
    printed = run_python(
        "import keras, sys; print(len(keras.saving.load_model(sys.argv[1]).layers))",
        str(tmp_path / "whole/model.keras"),
    )
    assert printed.strip() == str(len(first.layers))


@pytest.mark.parametrize("option", [{"whiten": True}, {"identity_start": True}, {"head_scale": 0.5}])
def test_a_start_beside_other_weights_is_refused(option):
    with pytest.raises(UserError, match="no `whiten`, `identity_start` or `head_scale` with `weights`"):
        RunConfig(data="sample", run="run", weights="imagenet", **option)
    with pytest.raises(
        UserError,
        match="expected `whiten` and `identity_start` to be false and `head_scale` to be 1: a search",
    ):
        TuneConfig(training=RunConfig(data="sample", run="run", **option))


def test_a_classic_has_no_head_to_scale():
    with pytest.raises(UserError, match="no `head_scale` for nin"):
        RunConfig(data="sample", run="run", variant="nin", head_scale=0.5)


def test_of_a_block_only_3x3_branches_pass_channels_on():
    """Were all branches to pass on the same first channels, the block would lose the others."""
    network = GoogLeNet(variant=VARIANTS["short"].scaled(1 / 8), input_shape=(32, 32, 3), classes=4)
    config = RunConfig(data="sample", run="unused", identity_start=True)
    start(network, config, None, Preprocessing(32, 32))
    passing = [
        layer.name
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D)
        and np.array_equal(layer.kernel, partial_identity(np.array(layer.kernel)))
    ]
    parts = ("3x3_reduce", "3x3", "3x3b_reduce", "3x3b")
    blocks = [f"inception_{block}_{part}" for block in ("4a", "4b", "5a") for part in parts]
    assert sorted(passing) == sorted(["conv1_2x2", "conv2_3x3", "conv3a_3x3", "conv3b_3x3", *blocks])
