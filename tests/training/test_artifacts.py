"""What is saved loads where Keras is and this package is not, on either backend."""

import keras
import numpy as np
import pytest
from conftest import run_python

from keras_googlenet import GoogLeNet, RunConfig, train
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.run import folder as run_folder
from keras_googlenet.training.kernels import with_fast_layers, with_keras_layers
from keras_googlenet.training.network import compile_model

# Loads each file and answers the image beside it.
LOAD = """
import sys
sys.modules["keras_googlenet"] = None
import keras, numpy as np
for name in sys.argv[1:]:
    model = keras.saving.load_model(name)
    assert not model.compiled, name
    outputs = model(np.load(name + ".npy"), training=False)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    np.savez(name + ".npz", *map(keras.ops.convert_to_numpy, outputs))
print("loaded", len(sys.argv) - 1)
"""


def check_loads(folder, models, backend) -> None:
    """Saved models answer the same in a process of plain Keras."""
    images = {}
    for name, model in models.items():
        images[name] = np.random.default_rng(0).uniform(-1, 1, (2, *model.input_shape[1:])).astype("float32")
        np.save(folder / f"{name}.keras.npy", images[name])
    files = [str(folder / f"{name}.keras") for name in models]
    assert run_python(LOAD, *files, env={"KERAS_BACKEND": backend}).endswith(f"loaded {len(files)}\n")
    for name, model in models.items():
        expected = model(images[name], training=False)
        with np.load(folder / f"{name}.keras.npz") as answers:
            for key, value in zip(
                answers.files, expected if isinstance(expected, list) else [expected], strict=True
            ):
                np.testing.assert_allclose(answers[key], value, atol=1e-5)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("backend", "names"),
    [
        ("tensorflow", tuple(VARIANTS)),
        ("jax", ("paper", "light_stem")),  # which compiles each operation; normalized locally, and in batches
        pytest.param("jax", tuple(VARIANTS), marks=pytest.mark.slow),
    ],
    ids=["all with TensorFlow", "two with JAX", "all with JAX"],
)
def test_variants_as_a_run_saves_them(backend, names, tmp_path):
    models = {}
    for name in names:
        size = min(VARIANTS[name].input_size, 80)
        model = GoogLeNet(variant=VARIANTS[name].scaled(0.125), input_shape=(size, size, 3), classes=3)
        fast = with_fast_layers(model)
        compile_model(fast, RunConfig(data="sample", run="run"), 1)  # as it is while it trains
        models[name] = with_keras_layers(fast)
        models[name].save(tmp_path / f"{name}.keras")
    check_loads(tmp_path, models, backend)


@pytest.mark.ci
def test_a_run_with_averaged_weights(image_folder, tiny_variant, tmp_path):
    """Its statistics are measured by calling the network outside of `fit`."""
    run = tmp_path / "run"
    options = {"image_size": 28, "epochs": 2, "batch_size": 8, "average": 0.9, "augment": ("crop",)}
    for precision in ("float32", "bfloat16"):
        summary = train(
            RunConfig(
                data=str(image_folder),
                run=run / precision,
                variant=str(tiny_variant),
                precision=precision,
                **options,
            )
        )
        assert summary["epochs"] == 2
    model = keras.saving.load_model(run / "float32/model.keras")
    check_loads(run / "float32", {"model": model}, "tensorflow")


def test_a_copy_s_optimizer_is_not_saved(finished_run):
    assert not keras.saving.load_model(finished_run / run_folder.MODEL).compiled
