"""Several processes and several devices train as one does."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import run_python

from keras_googlenet import UserError
from keras_googlenet.run import folder as run_folder
from keras_googlenet.training.distribution import connect, from_environment

COMMON = [
    "--data", "sample", "--classes", "Trouser", "--classes", "Bag", "--image-size", "28", "--epochs", "2",
    "--batch-size", "40", "--precision", "float32", "--dropout", "0", "--augment", "crop", "--average", "0.8",
]  # fmt: skip


def start(run, variant, *flags, env=None, program=("-m", "keras_googlenet.cli")) -> subprocess.Popen:
    command = [sys.executable, *program, "train", "--run", str(run)]
    return subprocess.Popen(
        [*command, "--variant", str(variant), *COMMON, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"KERAS_BACKEND": "jax"} | (env or {}),
    )


def output(process: subprocess.Popen) -> str:
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def metrics(run) -> np.ndarray:
    with (run / "metrics.csv").open() as file:
        return np.array([[float(value) for value in row.values()] for row in csv.DictReader(file)])


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_variant):
    run = tmp_path_factory.mktemp("alone") / "run"
    output(start(run, tiny_variant))
    return run


def check_like(run, alone) -> None:
    np.testing.assert_allclose(metrics(run), metrics(alone), rtol=2e-3)
    for ours, expected in zip(
        *(run_folder.load(folder).model.get_weights() for folder in (run, alone)), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=2e-3)


# The command itself, whose processes leave their weights as well.
LEAVES_WEIGHTS = """
import os
from keras_googlenet.cli import main
from keras_googlenet.training import train as run
fit = run._fit
def leave(model, config, *others):
    import numpy as np
    result = fit(model, config, *others)
    arrays = [np.asarray(v.value.addressable_data(0)) for v in model.trainable_variables]
    np.savez(f"{config.run}.{os.environ['KERAS_DISTRIBUTION_PROCESS_ID']}.npz", *arrays)
    return result
run._fit = leave
main()
"""


def two(run, variant, *flags, program=("-c", LEAVES_WEIGHTS)) -> list[subprocess.Popen]:
    """Two processes of one run, each with its half of every batch, joined by the variables of a launcher."""
    port = free_port()
    return [
        start(
            run,
            variant,
            "--distributed",
            *flags,
            program=program,
            env={
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
                "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
                "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
            },
        )
        for number in (0, 1)
    ]


@pytest.fixture(scope="module")
def together(tmp_path_factory, tiny_variant):
    """A run of two processes, each with batch statistics of its own images."""
    run = tmp_path_factory.mktemp("together") / "run"
    for process in two(run, tiny_variant):
        output(process)
    return run


@pytest.mark.slow
def test_two_processes_learn_with_their_own_batch_statistics(alone, together):
    check_equal_weights(together)
    np.testing.assert_allclose(metrics(together)[:, 1], metrics(alone)[:, 1], atol=0.1)
    assert run_folder.summary(together)["test_accuracy"] > 0.9


@pytest.mark.slow
def test_a_killed_process_is_restarted_by_its_launcher(together, tiny_variant, tmp_path):
    """The other one fails too, so that a launcher restarts both; they reach the same weights."""
    run = tmp_path / "run"
    processes = two(run, tiny_variant, "--resume", "--checkpoint-minutes", "0")
    deadline = time.monotonic() + 240
    while not list(run.glob("checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    processes[1].kill()
    assert processes[1].wait(60) == -signal.SIGKILL
    assert processes[0].wait(150) != 0
    first, _ = map(output, two(run, tiny_variant, "--resume", "--checkpoint-minutes", "0"))
    assert "resumed after" in first
    check_equal_weights(run)
    for ours, expected in zip(
        *(run_folder.load(folder).model.get_weights() for folder in (run, together)), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.ci
def test_two_processes_train_as_one(alone, tiny_variant, tmp_path):
    run = tmp_path / "run"
    first, second = map(output, two(run, tiny_variant, "--sync-batch-norm"))
    assert "2 devices, 2 processes" in first
    assert "Epoch" not in second  # one of them tells
    check_like(run, alone)
    check_equal_weights(run)


def check_equal_weights(run) -> None:
    """Both processes left the same."""
    ours, theirs = (np.load(f"{run}.{number}.npz") for number in (0, 1))
    assert ours.files
    for name in ours.files:
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.slow
def test_two_local_devices_train_as_one_with_jax(alone, tiny_variant, tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert "2 devices" in output(start(tmp_path / "run", tiny_variant, "--sync-batch-norm", env=flags))
    check_like(tmp_path / "run", alone)


# A step of two devices, and the same by hand: the mean of what one device computes of each half of the batch.
STEP = """
import sys, jax, keras, numpy as np
from keras_googlenet import Architecture, GoogLeNet
from keras_googlenet.training import distribution
from keras_googlenet.training.replicas import ReplicaModel

random = np.random.default_rng(0)
images = random.random((8, 28, 28, 1), "float32")
labels = np.eye(3, dtype="float32")[random.integers(0, 3, 8)]
variant = Architecture.from_json(open(sys.argv[1]).read())

def network(make):
    keras.utils.set_random_seed(0)
    model = GoogLeNet(variant=variant, classes=3, input_shape=(28, 28, 1), dropout=0.0, aux_dropout=0.0)
    model = make(model.inputs, model.outputs)
    losses = [keras.losses.CategoricalCrossentropy() for _ in model.outputs]
    model.compile(keras.optimizers.SGD(0.1), losses, metrics=[["accuracy"] for _ in losses])
    return model

expected = network(keras.Model)
heads = len(expected.outputs)
expected.optimizer.build(expected.trainable_variables)
values = [[v.value for v in variables] for variables in (
    expected.trainable_variables, expected.non_trainable_variables, expected.metrics_variables)]
gradient = jax.value_and_grad(expected.compute_loss_and_updates, has_aux=True)
halves = [gradient(*values, images[half], (labels[half],) * heads, None, training=True, optimizer_variables=[
    v.value for v in expected.optimizer.variables]) for half in (slice(0, 4), slice(4, 8))]
for variable, *gradients in zip(expected.trainable_variables, *(gradients for _, gradients in halves)):
    variable.assign(variable - 0.1 * sum(gradients) / 2)
for variable, *moving in zip(expected.non_trainable_variables, *(aux[2] for (_, aux), _ in halves)):
    variable.assign(sum(moving) / 2 if "float" in str(variable.dtype) else moving[0])

with distribution.scope():
    model = network(ReplicaModel)
    def batches():
        while True:
            yield images, (labels,) * heads
    history = model.fit(batches(), steps_per_epoch=1, verbose=0, shuffle=False).history
    np.testing.assert_allclose(history["loss"][0], np.mean([loss for (loss, _), _ in halves]), rtol=1e-5)
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    state = tuple([v.value for v in variables] for variables in (
        model.trainable_variables, model.non_trainable_variables, model.optimizer.variables,
        model.metrics_variables))
    split = lambda array: keras.distribution.distribute_tensor(
        array, keras.distribution.distribution().get_data_layout(array.shape))
    data = (split(images), (split(labels),) * heads)
    fine = jax.jit(lambda *arguments: model.train_step(*arguments)).lower(state, data).compile()
    model.gradient_dtype = "bfloat16"
    coarse = jax.jit(lambda *arguments: model.train_step(*arguments)).lower(state, data)
    exchanges = fine.as_text().count(" all-reduce("), coarse.as_text().count("stablehlo.all_reduce")
    flat = lambda values: np.concatenate([np.ravel(value) for value in values])
    new, rounded = (flat(step(state, data)[1][0]) for step in (fine, coarse.compile()))
    error = np.abs(rounded - new).max() / np.abs(new - flat(state[0])).max()
    print(*exchanges, 0 < error < 2**-7)
"""


@pytest.mark.ci
def test_a_step_of_two_devices_is_the_mean_of_theirs_in_one_exchange(tiny_variant):
    environment = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert run_python(STEP, str(tiny_variant), env=environment).split()[-3:] == ["1", "2", "True"]


MIRRORED = """
import sys, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_googlenet.cli import main
sys.argv = ["keras-googlenet", *sys.argv[1:]]
main()
"""


@pytest.mark.ci
def test_two_local_devices_train_as_one_with_tensorflow(alone, tiny_variant, tmp_path):
    arguments = ["train", "--run", str(tmp_path / "run"), "--variant", str(tiny_variant), *COMMON]
    printed = run_python(MIRRORED, *arguments, env={"KERAS_BACKEND": "tensorflow"})
    assert "(tensorflow, 2 devices)" in printed
    np.testing.assert_allclose(metrics(tmp_path / "run")[:, 1], metrics(alone)[:, 1], atol=0.05)


@pytest.mark.ci
def test_a_run_trained_with_jax_exports_to_the_same_saved_model(alone, tmp_path, sample):
    from keras_googlenet import export_saved_model
    from keras_googlenet.session import SavedModelSession

    run = run_folder.load(alone)
    version = export_saved_model(run.model, tmp_path / "models/tiny", class_names=run.class_names)
    images = run.preprocessing.normalize(sample["test_images"][:4, ..., None].astype("float32"))
    expected = run.model.predict(images, verbose=0)
    session = SavedModelSession(version)
    served = session.run("tensor", {"images": sample["test_images"][:4, ..., None].astype("float32")})
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        (
            {"SLURM_STEP_NODELIST": "gpu[03-07,12],login1", "SLURM_NTASKS": "6", "SLURM_PROCID": "2"},
            {"address": "gpu03:12321", "processes": "6", "process": "2"},
        ),
        ({"SLURM_STEP_NODELIST": "alpha,beta"}, {"address": "alpha:12321"}),
        ({"JOB_COMPLETION_INDEX": "3"}, {"process": "3"}),
        (
            {"KERAS_DISTRIBUTION_JOB_ADDRESSES": "a:1,b:1", "JOB_COMPLETION_INDEX": "3"},
            {"address": "a:1", "process": "3"},
        ),
        ({"KERAS_DISTRIBUTION_PROCESS_ID": "1", "SLURM_PROCID": "2"}, {"process": "1"}),
    ],
)
def test_launchers_are_understood(environment, expected):
    assert from_environment(environment) == expected


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(UserError, match="expected `processes`, `process_id`, or the environment of Slurm"):
        connect("127.0.0.1:1", environment={})
    with pytest.raises(UserError, match="expected `process_id` from 0 to 1, got 2"):
        connect("127.0.0.1:1", 2, 2, environment={})
    with pytest.raises(UserError, match="a number of processes or a process id, got 'x'"):
        connect("127.0.0.1:1", environment={"SLURM_NTASKS": "x"})


def test_tensorflow_is_told_apart():
    with pytest.raises(UserError, match="on the JAX backend alone: set KERAS_BACKEND=jax"):
        connect("127.0.0.1:1", 2, 0, environment={})
