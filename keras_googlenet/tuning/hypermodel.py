"""`HyperGoogLeNet`: GoogLeNet's channels for keras-tuner, by the conventions of its applications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner as kt

from keras_googlenet.network.architecture import Architecture
from keras_googlenet.network.googlenet import GoogLeNet
from keras_googlenet.network.variants import VARIANTS, architecture_of
from keras_googlenet.run.config import RunConfig
from keras_googlenet.tuning.spaces import SPACES, Extra, SearchSpace, SpaceName


class HyperGoogLeNet(kt.HyperModel):
    """A GoogLeNet hypermodel.

    Models take images with shape (height, width, channels), preprocessed as for `GoogLeNet`. Each output
    wants labels that are one-hot encoded: with auxiliary heads there are three, so `y` is `(y, y, y)`. The
    objective to search with is `keras_tuner.Objective("val_main_accuracy", "max")`.

    Source: Szegedy et al. (arXiv 1409.4842), Table 1, which the default hyperparameters give exactly.

    Args:
        include_top: Whether to include the classifiers. Without them the model is not compiled.
        input_shape: Optional shape tuple, e.g. `(224, 224, 3)`. One of `input_shape` or `input_tensor` must
            be specified.
        input_tensor: Optional Keras tensor (i.e. output of `layers.Input()`) to use as image input.
        classes: Optional number of classes, only to be specified if `include_top` is True.
        space: What to choose: `"stage_width"` (a factor for the stem and each stage), `"branch_ratio"` (for
            each column of Table 1 in each stage), `"block"` (all 54 counts); or a `SearchSpace`.
        variant: The network whose channels are changed, as for `GoogLeNet`; of several, the search chooses.
        extras: What to choose as well, of `"dropout"`, `"learning_rate"`, `"decay_rate"`, `"aux_weight"`.
        aux_heads: Whether to add the auxiliary classifiers, where the variant has them.
        steps_per_epoch: Training steps in an epoch, which the rate's decay every 8 epochs is counted in.
        **kwargs: Additional keyword arguments that apply to all hypermodels. See `keras_tuner.HyperModel`.
    """

    def __init__(
        self,
        include_top: bool = True,
        input_shape: tuple[int, ...] | None = None,
        input_tensor: Any = None,
        classes: int | None = None,
        *,
        space: SpaceName | SearchSpace = "stage_width",
        variant: str | Architecture | Sequence[str | Architecture] = "paper",
        extras: Sequence[Extra] = (),
        aux_heads: bool = True,
        steps_per_epoch: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if include_top and classes is None:
            raise ValueError("You must specify `classes` when `include_top=True`")
        if input_shape is None and input_tensor is None:
            raise ValueError("You must specify either `input_shape` or `input_tensor`.")
        self.include_top = include_top
        self.input_shape = input_shape
        self.input_tensor = input_tensor
        self.classes = classes
        self.space = space if isinstance(space, SearchSpace) else _search_space(space, variant, extras)
        self.aux_heads = aux_heads
        self.steps_per_epoch = steps_per_epoch

    def declare_hyperparameters(self, hp: kt.HyperParameters) -> None:
        """Register every hyperparameter without building a model."""
        for parameter in self.space.parameters:
            hp.Choice(parameter.name, list(parameter.values), default=parameter.default)

    def architecture(self, hp: kt.HyperParameters) -> Architecture:
        """The network of a sample, which `GoogLeNet(variant=...)` takes and `to_json` writes to a file."""
        self.declare_hyperparameters(hp)
        return self.space.architecture(hp.values)

    def build(self, hp: kt.HyperParameters) -> keras.Model:
        """The compiled model of a sample."""
        options: dict[str, Any] = {
            "variant": self.architecture(hp),
            "input_shape": self.input_shape,
            "input_tensor": self.input_tensor,
        }
        if not self.include_top:
            return GoogLeNet(include_top=False, pooling=hp.Choice("pooling", ["avg", "max"]), **options)
        model = self._to_train(GoogLeNet(classes=self.classes or 0, aux_heads=self.aux_heads, **options))
        self._compile(model, hp)
        return model

    def _to_train(self, model: keras.Model) -> keras.Model:
        """The network that is compiled, instead of the one that was built."""
        return model

    def _compile(self, model: keras.Model, hp: kt.HyperParameters) -> None:
        """Compile a model with the hyperparameters of `hp`.

        When subclassing the hypermodel, this may be overridden to change the behavior of compiling.
        """
        values = hp.values
        schedule = keras.optimizers.schedules.ExponentialDecay(
            values.get("learning_rate", RunConfig.learning_rate),
            RunConfig.decay_epochs * self.steps_per_epoch,
            values.get("decay_rate", RunConfig.decay_rate),
            staircase=True,
        )
        heads = len(model.outputs)
        names = ["accuracy"] if heads > 1 else ["main_accuracy"]  # Keras names one output's as they are
        model.compile(
            optimizer=keras.optimizers.SGD(schedule, momentum=RunConfig.momentum),
            loss=["categorical_crossentropy"] * heads,
            loss_weights=[1.0] + [values.get("aux_weight", RunConfig.aux_weight)] * (heads - 1),
            metrics=[[keras.metrics.CategoricalAccuracy(name) for name in names] for _ in range(heads)],
        )


def _search_space(
    name: SpaceName,
    variant: str | Architecture | Sequence[str | Architecture],
    extras: Sequence[Extra],
) -> SearchSpace:
    if name not in SPACES:
        raise ValueError(
            f"The `space` argument should be a SearchSpace or one of {list(SPACES)}. Received: space={name!r}"
        )
    variants = [variant] if isinstance(variant, str | Architecture) else list(variant)
    unknown = [one for one in variants if isinstance(one, str) and one not in VARIANTS]
    if unknown or not variants:
        raise ValueError(
            f"The `variant` argument should be an Architecture, one of {sorted(VARIANTS)}, or several. "
            f"Received: variant={variant!r}"
        )
    bases = tuple(map(architecture_of, variants))
    return SearchSpace(name, bases, with_defaults(extras, bases[0], RunConfig))


def with_defaults(
    extras: Sequence[Extra], base: Architecture, training: RunConfig | type[RunConfig]
) -> tuple[tuple[Extra, float], ...]:
    """The default of each extra, as in a run without a search."""
    return tuple(
        (extra, base.dropout if extra == "dropout" else float(getattr(training, extra))) for extra in extras
    )
