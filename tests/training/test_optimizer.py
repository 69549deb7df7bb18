"""The solver against Caffe's rules worked out in NumPy, and the learning rate against closed forms."""

import itertools
import math

import keras
import numpy as np
import pytest
from conftest import run_python
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_googlenet import RunConfig
from keras_googlenet.training.optimizer import SolverSGD, WarmUp, rate_schedule, solver

STEPS = 6
KERNELS, BIASES = {"kernel", "head"}, {"bias"}  # "gamma" and "beta" are neither
RATES = [0.1 * (1 - step / STEPS) ** 0.5 for step in range(STEPS)]  # of the polynomial schedule


@pytest.mark.slow
def test_the_same_holds_on_jax():
    """Most of this file again, in a process of its own."""
    if keras.backend.backend() == "jax":
        pytest.skip("this is that process")
    code = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    chosen = "caffe_s and (bvlc or nesterov or averaged or all) or same_steps or restored or saved"
    options = ("-q", "-p", "no:cacheprovider", "-k", chosen)
    printed = run_python(code, __file__, *options, env={"KERAS_BACKEND": "jax"})
    assert "8 passed" in printed


@pytest.fixture
def model():
    """A kernel and a bias with batch normalization between them and the classifier's."""
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.Dense(2, name="main")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape))
    return model


def kinds(model) -> list[str]:
    found = [variable.path.split("/")[-1] for variable in model.trainable_variables]
    assert found == ["kernel", "bias", "gamma", "beta", "kernel", "bias"]
    return [*found[:4], "head", "bias"]


def values(variables) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def random_gradients(model, steps=STEPS) -> list[list[np.ndarray]]:
    random = np.random.default_rng(2)
    return [
        [random.normal(size=variable.shape).astype("float32") for variable in model.trainable_variables]
        for _ in range(steps)
    ]


def caffe(
    weights,
    gradients,
    kinds,
    rates,
    *,
    momentum=0.0,
    nesterov=False,
    weight_decay=0.0,
    bias_multiplier=1.0,
    norm_multiplier=1.0,
    head_scale=1.0,
    clip_norm=None,
    accumulate=1,
    average=None,
):
    """Weights, and their averages, after the steps: `sgd_solver.cpp` and `nesterov_solver.cpp`, in float64.

    In Caffe's order: the gradients of `iter_size` steps, clipping, L2, momentum. (Caffe clips the sum of
    an update's gradients; here it is their mean, so that `clip_norm` means the same for any `accumulate`.)
    The average is Keras's: of every step, those included that only gather gradients.
    """
    weights = [weight.astype("float64") for weight in weights]
    velocities = [np.zeros_like(weight) for weight in weights]
    sums = [np.zeros_like(weight) for weight in weights]
    averages = None
    for step, (rate, of_step) in enumerate(zip(rates, gradients, strict=True)):
        sums = [total + gradient for total, gradient in zip(sums, of_step, strict=True)]
        if (step + 1) % accumulate == 0:
            update = [total / accumulate for total in sums]
            sums = [np.zeros_like(total) for total in sums]
            norm = math.sqrt(sum(np.square(gradient).sum() for gradient in update))
            if clip_norm is not None and norm > clip_norm:
                update = [gradient * clip_norm / norm for gradient in update]
            for index, kind in enumerate(kinds):
                decay = weight_decay if kind in KERNELS else 0.0
                multipliers = {"bias": bias_multiplier, "beta": norm_multiplier, "head": head_scale**2}
                local_rate = rate * multipliers.get(kind, 1.0)
                before = velocities[index]
                gradient = update[index] + decay * weights[index]
                velocities[index] = momentum * before + local_rate * gradient
                step_back = velocities[index]
                if nesterov:
                    step_back = (1 + momentum) * velocities[index] - momentum * before
                weights[index] = weights[index] - step_back
        if average is not None:
            begun = step >= accumulate  # with what the first update made
            averages = [
                average * old + (1 - average) * new if begun else new
                for old, new in zip(averages or weights, weights, strict=True)
            ]
    return weights, averages


OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "l2": {"weight_decay": 0.1},
    "bias rate": {"bias_multiplier": 2.0},
    "biases held": {"bias_multiplier": 0.0},
    "offsets' rate": {"norm_multiplier": 3.0},
    "head's rate": {"head_scale": 0.5},
    "bvlc": {"momentum": 0.9, "weight_decay": 2e-4, "bias_multiplier": 2.0},
    "clipped": {"clip_norm": 0.5, "momentum": 0.9},
    "not clipped": {"clip_norm": 1e3},
    "accumulated": {"accumulate": 3, "momentum": 0.9},
    "averaged": {"average": 0.8, "momentum": 0.9},
    "all": {
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.05,
        "bias_multiplier": 2.0,
        "clip_norm": 1.0,
        "accumulate": 2,
        "average": 0.7,
    },
}


def config_of(**options) -> RunConfig:
    start = {"momentum": 0.0, "learning_rate": 0.1, "schedule": "polynomial", "epochs": STEPS}
    return RunConfig(data="sample", run="run", **start | options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_steps_are_caffe_s(options, model):
    gradients, start = random_gradients(model), values(model.trainable_variables)
    optimizer = solver(config_of(**options), steps_per_epoch=1)
    optimizer.build(model.trainable_variables)
    for of_step in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in of_step])
    expected, averages = caffe(start, gradients, kinds(model), RATES, **options)
    for value, other in zip(values(model.trainable_variables), expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)
    if averages is not None:
        optimizer.finalize_variable_values(model.trainable_variables)
        for value, other in zip(values(model.trainable_variables), averages, strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)


def test_the_options_tell_on_the_steps(model):
    """No two of the rules above are the same rule."""
    gradients, start = random_gradients(model), values(model.trainable_variables)
    ends = {}
    for name, options in OPTIONS.items():
        weights, averages = caffe(start, gradients, kinds(model), RATES, **options)
        ends[name] = np.concatenate([value.ravel() for value in averages or weights])
    np.testing.assert_array_equal(ends.pop("not clipped"), ends["plain"])
    for name, other in itertools.combinations(ends, 2):
        assert np.abs(ends[name] - ends[other]).max() > 1e-3, (name, other)


def test_training_takes_the_same_steps(model):
    """In the graph of `fit`, where variables may come in another form."""
    options = OPTIONS["bvlc"] | {"weight_decay": 0.1}
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    random = np.random.default_rng(3)
    images, targets = random.normal(size=(8, 4)), random.normal(size=(8, 2))
    dense.compile(
        solver(config_of(**options), steps_per_epoch=1),
        loss=lambda y, predicted: keras.ops.sum(y * predicted, axis=-1),
    )
    start = values(dense.trainable_variables)
    dense.fit(images, targets, batch_size=8, epochs=STEPS, verbose=0)
    gradients = [[images.T @ targets / 8, targets.mean(axis=0)]] * STEPS  # of the mean over the batch
    expected, _ = caffe(start, gradients, ["kernel", "bias"], RATES, **options)
    for value, other in zip(values(dense.trainable_variables), expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_torch_s_at_a_constant_rate(nesterov, model):
    """Torch's momentum holds gradients, Caffe's steps: they part where the rate changes."""
    torch = pytest.importorskip("torch")
    gradients = random_gradients(model)
    tensors = [torch.tensor(np.copy(value)) for value in values(model.trainable_variables)]
    groups = [
        {
            "params": [tensor],
            "lr": 0.2 if kind in BIASES else 0.1,
            "weight_decay": 0.05 if kind in KERNELS else 0.0,
        }
        for tensor, kind in zip(tensors, kinds(model), strict=True)
    ]
    theirs = torch.optim.SGD(groups, momentum=0.9, nesterov=nesterov)
    ours = SolverSGD(0.1, momentum=0.9, nesterov=nesterov, l2=0.05, bias_multiplier=2.0)
    ours.build(model.trainable_variables)
    for of_step in gradients:
        ours.apply([keras.ops.convert_to_tensor(gradient) for gradient in of_step])
        for tensor, gradient in zip(tensors, of_step, strict=True):
            tensor.grad = torch.from_numpy(gradient)
        theirs.step()
    for value, tensor in zip(values(model.trainable_variables), tensors, strict=True):
        np.testing.assert_allclose(value, tensor.numpy(), rtol=1e-4, atol=1e-6)


def test_a_whole_number_is_a_momentum():
    assert solver(config_of(momentum=0), steps_per_epoch=1).momentum == 0


# --- files ---------------------------------------------------------------------------------------


def test_the_solver_is_restored_from_its_configuration():
    config = config_of(**OPTIONS["all"], warmup_epochs=2.0)
    optimizer = solver(config, steps_per_epoch=10)
    restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(restored) is SolverSGD
    assert restored.get_config() == optimizer.get_config()
    assert (restored.l2, restored.bias_multiplier, restored.global_clipnorm) == (0.05, 2.0, 1.0)
    assert (restored.gradient_accumulation_steps, restored.ema_momentum) == (2, 0.7)


def test_the_solver_is_saved_with_its_model(model, tmp_path):
    """A loaded model goes on as the saved one does. (Keras on JAX cannot fit twice with averages.)"""
    options = OPTIONS["all"] | {"average": None, "warmup_epochs": 2.0}
    model.compile(solver(config_of(**options), steps_per_epoch=1), loss="mse")
    random = np.random.default_rng(4)
    images, targets = random.normal(size=(8, 4)), random.normal(size=(8, 2))
    model.fit(images, targets, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(images, targets, epochs=4, verbose=0, shuffle=False)
    for value, other in zip(values(loaded.variables), values(model.variables), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-6)


def test_warm_up_is_restored_from_its_configuration():
    schedule = WarmUp(keras.optimizers.schedules.CosineDecay(0.1, 50), 7)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(restored) is WarmUp
    for step in range(50):
        assert float(restored(step)) == float(schedule(step))


# --- the learning rate ---------------------------------------------------------------------------

EPOCHS, STEPS_OF_EPOCH = st.integers(1, 60), st.integers(1, 500)


def rates(steps_per_epoch: int, steps, **options) -> list[float]:
    schedule = rate_schedule(config_of(**options), steps_per_epoch)
    return [float(schedule(step)) for step in steps]


def steps_to_look_at(data, total: int) -> list[int]:
    return sorted({0, total - 1, *(data.draw(st.integers(0, total - 1)) for _ in range(3))})


@given(EPOCHS, STEPS_OF_EPOCH, st.floats(0.5, 1), st.integers(1, 20), st.data())
@settings(max_examples=40)
def test_step_schedule_is_a_power_of_the_completed_epochs(epochs, of_epoch, decay, every, data):
    steps = steps_to_look_at(data, epochs * of_epoch)
    options = {"schedule": "step", "epochs": epochs, "decay_rate": decay, "decay_epochs": every}
    expected = [0.1 * decay ** (step // of_epoch // every) for step in steps]
    assert rates(of_epoch, steps, **options) == pytest.approx(expected, rel=1e-5)


@given(EPOCHS, STEPS_OF_EPOCH, st.floats(0.1, 3), st.data())
@settings(max_examples=40)
def test_polynomial_schedule_is_caffe_s(epochs, of_epoch, power, data):
    """Caffe's "poly": base_lr (1 - iter / max_iter) ^ power."""
    total = epochs * of_epoch
    steps = steps_to_look_at(data, total)
    options = {"schedule": "polynomial", "epochs": epochs, "decay_power": power}
    expected = [0.1 * (1 - step / total) ** power for step in steps]
    assert rates(of_epoch, steps, **options) == pytest.approx(expected, rel=1e-3)


@given(EPOCHS, STEPS_OF_EPOCH, st.data())
@settings(max_examples=40)
def test_cosine_schedule_is_half_a_wave(epochs, of_epoch, data):
    total = epochs * of_epoch
    steps = steps_to_look_at(data, total)
    expected = [0.05 * (1 + math.cos(math.pi * step / total)) for step in steps]
    found = rates(of_epoch, steps, schedule="cosine", epochs=epochs)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-8)


@given(EPOCHS, STEPS_OF_EPOCH, st.data())
@settings(max_examples=20)
def test_constant_schedule_is_constant(epochs, of_epoch, data):
    steps = steps_to_look_at(data, epochs * of_epoch)
    found = rates(of_epoch, steps, schedule="constant", epochs=epochs)
    assert found == pytest.approx([0.1] * len(steps))


@pytest.mark.parametrize("schedule", ["step", "polynomial", "cosine", "constant"])
@given(STEPS_OF_EPOCH, st.floats(0, 10), st.data())
@settings(max_examples=20)
@example(5, 2.0, None)
def test_warm_up_schedule_is_a_share_of_the_other(schedule, of_epoch, warmup, data):
    """The share of the warm-up's steps done, this one included; the schedule itself runs on below."""
    options = {"schedule": schedule, "epochs": 10}
    steps = range(50) if data is None else steps_to_look_at(data, 10 * of_epoch)
    climb = round(warmup * of_epoch)
    found = rates(of_epoch, steps, **options, warmup_epochs=warmup)
    plain = rates(of_epoch, steps, **options)
    expected = [
        rate * (min((step + 1) / climb, 1) if climb else 1) for step, rate in zip(steps, plain, strict=True)
    ]
    assert found == pytest.approx(expected, rel=1e-5)


def test_step_schedule_is_not_the_keras_listing_s():
    """The listing's own function counts the epoch to come as completed, and so drops an epoch early."""

    def listing(epoch: int) -> float:
        return 0.01 * math.pow(0.96, math.floor((1 + epoch) / 8))

    def drops(rate_of) -> list[int]:
        return [epoch for epoch in range(1, 25) if rate_of(epoch) < rate_of(epoch - 1) * 0.99]

    schedule = rate_schedule(RunConfig(data="sample", run="run", epochs=25), steps_per_epoch=3)
    assert drops(listing) == [7, 15, 23]
    assert drops(lambda epoch: float(schedule(3 * epoch))) == [8, 16, 24]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_average_that_begins_later_begins_with_the_weights(model, accumulate):
    """As of a search's trial that goes on from another one's weights."""
    steps = accumulate if accumulate > 1 else None
    optimizer = SolverSGD(0.001, use_ema=True, ema_momentum=0.999, gradient_accumulation_steps=steps)
    optimizer.build(model.trainable_variables)
    optimizer.begin_at(10)
    assert int(keras.ops.convert_to_numpy(optimizer._iterations)) == 10
    for gradients in random_gradients(model, 2):
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients])
    before = values(model.trainable_variables)
    optimizer.finalize_variable_values(model.trainable_variables)
    for weights, average in zip(before, values(model.trainable_variables), strict=True):
        np.testing.assert_allclose(average, weights, atol=0.02)
