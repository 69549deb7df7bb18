"""A training step on the JAX backend in which each device computes its share of a batch independently.

Batch normalization takes the statistics of each device's own images, as `tf.distribute.MirroredStrategy` has
them. By default, XLA takes them over the whole batch, and every device waits for all others four times in
each batch normalization.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

Values = list[Any]
Gradients = Any

STREAM = 1_000_003  # from one device's random numbers to the next one's


class ReplicaModel(keras.Model):
    """A functional model whose devices exchange values once a step: gradients, running means and metrics.

    `keras.distribution.DataParallel` must be set while it trains. Devices have equal shares of each batch.

    Attributes:
        gradient_dtype: In which gradients are exchanged: with "float32", all values are one exchange; with
            "bfloat16", gradients are one of half the bytes, and the others a small second one.
    """

    gradient_dtype = "float32"

    def train_step(self, state: tuple[Values, ...], data: Any) -> tuple[dict[str, Any], tuple[Values, ...]]:
        """Keras's `train_step`, with the gradients of all devices."""
        import jax
        from jax.sharding import PartitionSpec

        distribution = keras.distribution.distribution()
        everywhere, divided = PartitionSpec(), PartitionSpec(distribution.batch_dim_name)
        step = jax.shard_map(
            self._replica_step,
            mesh=distribution.device_mesh.backend_mesh,
            in_specs=(everywhere, divided),
            out_specs=everywhere,
            check_vma=False,  # else JAX sums each gradient by itself
        )
        trainable, _, optimizer, _ = state
        gradients, others, metrics = step(state, data)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        with keras.StatelessScope(state_mapping=list(zip(self.metrics_variables, metrics, strict=True))):
            logs = self.get_metrics_result()
        return logs, (trainable, others, optimizer, metrics)

    def _replica_step(self, state: tuple[Values, ...], data: Any) -> tuple[Gradients, Values, Values]:
        """On one device: its share of a batch, and the exchange."""
        import jax

        axis = keras.distribution.distribution().batch_dim_name
        trainable, others, optimizer, metrics = state
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        shift = jax.lax.axis_index(axis) * STREAM
        others = [value if _is_real(value) else _shifted(value, shift) for value in others]
        (_, (loss, outputs, others, updated)), gradients = jax.value_and_grad(
            self.compute_loss_and_updates, has_aux=True
        )(trainable, others, metrics, x, y, weight, training=True, optimizer_variables=optimizer)
        _, updated = self._update_metrics_variables(updated, loss, x, y, outputs, weight)

        # The mean times the number of devices is the sum of what they counted.
        devices = jax.lax.axis_size(axis)
        counted = [(new - old) * devices for new, old in zip(updated, metrics, strict=True)]
        real = [value for value in others if _is_real(value)]
        if self.gradient_dtype == "float32":
            exchanged = iter(_mean_of_all([*gradients, *real, *counted], axis))
            gradients = [next(exchanged) for _ in gradients]
        else:
            gradients = _mean_of_all(gradients, axis, self.gradient_dtype)
            exchanged = iter(_mean_of_all([*real, *counted], axis))
        others = [next(exchanged) if _is_real(value) else _shifted(value, -shift) for value in others]
        return gradients, others, [old + next(exchanged) for old in metrics]


def _shifted(seed: Any, by: Any) -> Any:
    """A seed of random numbers, moved: each device draws its own."""
    return seed.at[0].add(by.astype(seed.dtype))


def _mean_of_all(values: Values, axis: str, dtype: str = "float32") -> Values:
    """The mean over all devices of each array, in one exchange."""
    import jax
    from jax import numpy as jnp

    together = jax.lax.pmean(jnp.concatenate([jnp.ravel(value).astype(dtype) for value in values]), axis)
    ends = np.cumsum([value.size for value in values])
    return [
        part.reshape(value.shape).astype(value.dtype)
        for part, value in zip(jnp.split(together, ends[:-1]), values, strict=True)
    ]


def _is_real(value: Any) -> bool:
    """Whether a variable holds numbers to average; the others are seeds and counters of random numbers."""
    return np.issubdtype(value.dtype, np.floating) or value.dtype.name == "bfloat16"
