"""The network of a run: built, compiled, and given the weights to start from."""

from __future__ import annotations

from pathlib import Path

import keras

from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.network import classics
from keras_googlenet.network.architecture import Architecture
from keras_googlenet.network.cost import InputSize, cost
from keras_googlenet.network.googlenet import GoogLeNet
from keras_googlenet.network.pretrained import load_imagenet
from keras_googlenet.network.surgery import freeze
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.run.config import ARCHITECTURE, CLASSICS, RunConfig, read_architecture
from keras_googlenet.training import distribution, memory
from keras_googlenet.training.kernels import with_fast_layers
from keras_googlenet.training.optimizer import solver
from keras_googlenet.training.precision import using_dtype_policy
from keras_googlenet.training.replicas import ReplicaModel
from keras_googlenet.training.start import first_convolution
from keras_googlenet.weights.files import load_weights
from keras_googlenet.weights.published import imagenet_spec
from keras_googlenet.weights.shipped import located

BYTES_PER_PARAMETER = 12  # float32 weights, their gradients and their momentum


def build(
    config: RunConfig, preprocessing: Preprocessing, classes: int, policy: str, steps_per_epoch: int = 1
) -> keras.Model:
    """The compiled network of a run: a cross-entropy for each head, SGD with momentum."""
    model = _checked_network(config, preprocessing, classes, policy)
    compile_model(model, config, steps_per_epoch)
    return model


def build_for_training(
    config: RunConfig, preprocessing: Preprocessing, classes: int, policy: str, steps_per_epoch: int = 1
) -> keras.Model:
    """The network of `build` in the layers that train fastest; `with_keras_layers` makes it ready to save."""
    if config.gradient_exchange != "float32" and keras.backend.backend() != "jax":
        raise UserError("`gradient_exchange` bfloat16 needs JAX: set the environment's KERAS_BACKEND to jax")
    synchronized = config.sync_batch_norm and distribution.devices() > 1
    model = with_fast_layers(_checked_network(config, preprocessing, classes, policy), synchronized)
    if keras.backend.backend() == "jax" and distribution.devices() > 1 and not synchronized:
        model = ReplicaModel(model.inputs, model.outputs, name=model.name)
        model.gradient_dtype = config.gradient_exchange
    compile_model(model, config, steps_per_epoch)
    return model


def _checked_network(
    config: RunConfig, preprocessing: Preprocessing, classes: int, policy: str
) -> keras.Model:
    if keras.config.image_data_format() != "channels_last":
        raise UserError('training needs the image data format "channels_last"')
    from_file = config.variant.endswith(".json")  # its values are not checked before
    wrong: tuple[type[Exception], ...] = (ValueError, TypeError) if from_file else (ValueError,)
    with using_dtype_policy(policy):
        try:
            model = _network(config, preprocessing, classes)
        except UserError:
            raise
        except wrong as error:
            reason = " ".join(str(error).split())
            way_out = "choose another `image_size`" + f", or correct {config.variant}" * from_file
            raise UserError(f"{reason}: {way_out}") from None
    if config.freeze is not None:
        freeze(model, config.freeze)
    if config.whiten:
        first_convolution(model).trainable = False
    return model


def compile_model(model: keras.Model, config: RunConfig, steps_per_epoch: int) -> None:
    """Give a network of any number of heads the losses, metrics and solver of a run."""
    heads = len(model.outputs)
    model.compile(
        optimizer=solver(config, steps_per_epoch),
        loss=[keras.losses.CategoricalCrossentropy() for _ in range(heads)],
        loss_weights=[1.0] + [config.aux_weight] * (heads - 1),
        metrics=[["accuracy"] for _ in range(heads)],
    )


def _network(config: RunConfig, preprocessing: Preprocessing, classes: int) -> keras.Model:
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if config.variant in CLASSICS:
        return _classic(config, shape, classes)
    chosen = architecture(config)
    check_memory(chosen, InputSize(*shape, classes))
    return GoogLeNet(
        input_shape=shape,
        classes=classes,
        variant=chosen,
        aux_heads=config.aux_heads,
        dropout=config.dropout,
    )


def _classic(config: RunConfig, shape: tuple[int, int, int], classes: int) -> keras.Model:
    if config.width != 1 or config.weights is not None or config.freeze is not None:
        raise UserError(
            f"expected no `width`, `weights` or `freeze` for {config.variant}: they are GoogLeNet's"
        )
    dropout = classics.DROPOUT if config.dropout is None else config.dropout
    if config.variant == "nin_small":
        return classics.NiN(classes, shape, variant="d2l", dropout=dropout)
    make = {"nin": classics.NiN, "alexnet": classics.AlexNet, "vgg11": classics.VGG11}[config.variant]
    return make(classes, shape, dropout=dropout)


def architecture(config: RunConfig) -> Architecture:
    """The GoogLeNet that a run trains.

    Raises:
        UserError: The variant's file cannot be read, or holds no architecture.
    """
    # What a variant's name or file stands for may have changed; the recorded architecture has its width.
    recorded = config.run / ARCHITECTURE
    if recorded.is_file():
        return read_architecture(recorded)
    if config.variant in VARIANTS:
        return VARIANTS[config.variant].scaled(config.width)
    return read_architecture(Path(config.variant)).scaled(config.width)


def check_memory(network: Architecture, size: InputSize) -> None:
    """Refuse a network whose weights do not fit in memory, before it is built.

    Raises:
        UserError: They do not.
    """
    needed, available = BYTES_PER_PARAMETER * cost(network, size).parameters, memory.available_bytes()
    if needed > available:
        raise UserError(
            f"expected a network that fits in memory: the {needed / BYTES_PER_PARAMETER:.3g} parameters of "
            f"{network.name} take {needed / memory.GB:,.0f} GB to train, and {available / memory.GB:,.0f} GB "
            "are available; choose fewer filters or a smaller `width`"
        )


def start_weights(model: keras.Model, config: RunConfig) -> list[str]:
    """Load the weights to start from; returns the names of the layers that keep their initial weights.

    Raises:
        UserError: They are not available, or a layer that they do not fit would be frozen.
    """
    if config.weights is None:
        return []
    if config.weights == "imagenet":
        fresh = load_imagenet(model, imagenet_spec(config.variant, aux_heads=config.aux_heads))
    else:
        fresh = load_weights(model, located(config.weights))
    frozen = [name for name in fresh if not model.get_layer(name).trainable]
    if frozen:
        raise UserError(
            f"{', '.join(frozen)} does not fit {config.weights} and would be frozen untrained: train on "
            "images of as many channels, or without `freeze`"
        )
    return fresh
