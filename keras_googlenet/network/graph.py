"""An architecture as a graph of Keras layers."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_googlenet.names import MAIN, POOL
from keras_googlenet.network.architecture import Architecture
from keras_googlenet.network.layers import apply_stage, auxiliary_head, classifier

GLOBAL_POOLS = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}


def build(
    inputs: Any,
    architecture: Architecture,
    *,
    include_top: bool = True,
    aux_heads: bool = True,
    pooling: str | None = None,
    classes: int = 1000,
    activation: str | None = "softmax",
    dropout: float = 0.0,
    aux_dropout: float = 0.0,
) -> Any:
    """Apply a network to a tensor of preprocessed images.

    Args:
        inputs: A Keras tensor (batch, height, width, channels).
        architecture: Its blocks and heads.
        include_top: Whether to end in the classifiers, not in the last block's features.
        aux_heads: With top: whether to end in the auxiliary classifiers as well.
        pooling: Without top: `None`, `"avg"` or `"max"`, over all places.
        classes: Number of classes of each classifier.
        activation: Activation of the classifiers; `None` for logits.
        dropout: Rate before the main classifier.
        aux_dropout: Rate before the auxiliary classifiers.

    Returns:
        With top: (batch, classes), or a list of it for each head, the main one first. Without:
        the features, (batch, height, width, channels), or (batch, channels) where they are pooled.
    """
    x = inputs
    blocks = {}
    for stage in architecture.stages:
        x = apply_stage(x, stage, architecture)
        blocks[stage.name] = x
    if not include_top and pooling is None:
        return x
    kind = architecture.head_pool if include_top else str(pooling)
    x = GLOBAL_POOLS[kind](name=f"{kind}{POOL}")(x)
    if not include_top:
        return x
    main = classifier(x, MAIN, classes, dropout, activation, architecture)
    if not (aux_heads and architecture.auxiliary_heads):
        return main
    return [main] + [
        auxiliary_head(
            blocks[head.block],
            head,
            architecture,
            classes=classes,
            dropout=aux_dropout,
            activation=activation,
        )
        for head in architecture.auxiliary_heads
    ]
