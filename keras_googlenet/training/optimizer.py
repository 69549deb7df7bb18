"""The solver: SGD with Caffe's multipliers, and learning-rate schedules."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_googlenet.names import is_head
from keras_googlenet.run.config import RunConfig

PACKAGE = "keras_googlenet"
Tensor = Any


@keras.saving.register_keras_serializable(package=PACKAGE)
class SolverSGD(keras.optimizers.SGD):
    """SGD with the per-variable settings of Caffe's solver, as the BVLC network's `prototxt` has them.

    Args:
        learning_rate: A learning rate or a schedule.
        l2: Weight decay of kernels: added to the gradient, times the weight, before the momentum, as
            in Caffe and PyTorch. (Keras's own `weight_decay` is decoupled.) Biases and the parameters
            of batch normalization have none.
        bias_multiplier: Learning-rate multiplier for biases.
        norm_multiplier: Learning-rate multiplier for batch normalization's offsets.
        head_multiplier: Learning-rate multiplier for the classifiers' kernels.
        **options: Of `keras.optimizers.SGD`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        *,
        l2: float = 0.0,
        bias_multiplier: float = 1.0,
        norm_multiplier: float = 1.0,
        head_multiplier: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.l2 = l2
        self.bias_multiplier = bias_multiplier
        self.norm_multiplier = norm_multiplier
        self.head_multiplier = head_multiplier

    def begin_at(self, step: int) -> None:
        """Go on at a step with the model's current weights, which the average then starts from."""
        self._iterations.assign(step)
        if self.use_ema:
            pairs = zip(self._trainable_variables, self._model_variables_moving_average, strict=True)
            for variable, average in pairs:
                average.assign(variable)

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        if self.l2 and len(variable.shape) > 1:
            gradient = ops.add(gradient, ops.multiply(variable, ops.cast(self.l2, variable.dtype)))
        multiplier = self._multiplier(variable)
        if multiplier != 1:
            learning_rate = ops.multiply(learning_rate, multiplier)
        if self.momentum and keras.backend.backend() == "tensorflow":
            self._fused_update(gradient, variable, learning_rate)
        else:
            super().update_step(gradient, variable, learning_rate)

    def _multiplier(self, variable: Any) -> float:
        # TensorFlow's own variables, which arrive here on that backend, are named "layer/bias:0".
        path: list[str] = getattr(variable, "path", variable.name).split(":")[0].split("/")
        kind = path[-1]
        if kind == "kernel":
            return self.head_multiplier if len(path) > 1 and is_head(path[-2]) else 1.0
        return {"bias": self.bias_multiplier, "beta": self.norm_multiplier}.get(kind, 1.0)

    def _fused_update(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Keras's update in a single TensorFlow kernel; Keras itself makes five passes over the weights."""
        import tensorflow as tf

        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=ops.cast(learning_rate, variable.dtype),
            grad=ops.cast(gradient, variable.dtype),
            momentum=ops.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "l2": self.l2,
            "bias_multiplier": self.bias_multiplier,
            "norm_multiplier": self.norm_multiplier,
            "head_multiplier": self.head_multiplier,
        }


@keras.saving.register_keras_serializable(package=PACKAGE)
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule with linear warmup from 0 over the first `steps` steps."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int) -> None:
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: Tensor) -> Tensor:
        done = ops.minimum(ops.cast(step + 1, "float32") / max(self.steps, 1), 1.0)
        return self.schedule(step) * done

    def get_config(self) -> dict[str, Any]:
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "steps": self.steps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["steps"])


def rate_schedule(config: RunConfig, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate as a function of the training step (from 0)."""
    schedules = keras.optimizers.schedules
    rate, total = config.learning_rate, config.epochs * steps_per_epoch
    schedule = {
        "step": lambda: schedules.ExponentialDecay(
            rate, config.decay_epochs * steps_per_epoch, config.decay_rate, staircase=True
        ),
        "polynomial": lambda: schedules.PolynomialDecay(rate, total, 0.0, config.decay_power),
        "cosine": lambda: schedules.CosineDecay(rate, total),
        "constant": lambda: schedules.ExponentialDecay(rate, total, 1.0),
    }[config.schedule]()
    return WarmUp(schedule, round(config.warmup_epochs * steps_per_epoch))


def solver(config: RunConfig, steps_per_epoch: int) -> SolverSGD:
    """The optimizer of a run."""
    return SolverSGD(
        rate_schedule(config, steps_per_epoch),
        momentum=float(config.momentum),  # Keras takes no whole number
        nesterov=config.nesterov,
        l2=config.weight_decay,
        bias_multiplier=config.bias_multiplier,
        norm_multiplier=config.norm_multiplier,
        head_multiplier=config.head_scale**2,
        global_clipnorm=config.clip_norm,
        gradient_accumulation_steps=config.accumulate if config.accumulate > 1 else None,
        use_ema=config.average is not None,
        ema_momentum=config.average or 0.99,
    )
