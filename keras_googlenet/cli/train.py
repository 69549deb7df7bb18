"""`train`: from images to a run's folder."""

from __future__ import annotations

from typing import Annotated

import cyclopts

from keras_googlenet.cli.quiet import import_tensorflow
from keras_googlenet.training.config import RunConfig


def train(*, config: Annotated[RunConfig, cyclopts.Parameter(name="*")]) -> None:
    """Train a network and leave a run folder."""
    import_tensorflow()
    from keras_googlenet.training.run import train as train_run

    train_run(config)
