"""Fine-tune on a folder of images: start from trained weights, train the new heads, then the last blocks.

    python examples/fine_tune.py FOLDER --weights imagenet --variant torchvision
    python examples/fine_tune.py FOLDER --weights runs/first
    python examples/fine_tune.py FOLDER --weights cifar10 --freeze 4b

FOLDER holds one folder of images for each class. The first run freezes everything up to a block; the second
starts from its weights and trains all layers, at a tenth of the rate. The network, its input size and its
channels are those of the run in `--weights`, unless options override them. Rerun to finish after an
interruption.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_googlenet import RunConfig, train
from keras_googlenet.errors import reported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="one folder of images for each class")
    parser.add_argument("--weights", default="imagenet", help='"imagenet", cifar10, or the folder of a run')
    parser.add_argument("--freeze", default="4e", help="the last block to freeze at first (4e)")
    parser.add_argument("--variant", help='by default that of the run, and "torchvision" for "imagenet"')
    parser.add_argument("--runs", type=Path, default=Path("runs/fine_tune"))
    parser.add_argument("--image-size", type=int, help="by default that of the run, else 224")
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()

    network: dict[str, Any] = (
        {"variant": "torchvision", "channels": 3} if options.weights == "imagenet" else {}
    )
    network |= {name: getattr(options, name) for name in ("variant", "image_size") if getattr(options, name)}
    first = RunConfig(
        data=options.folder,
        run=options.runs / "heads",
        weights=options.weights,
        freeze=options.freeze,
        learning_rate=0.01,
        epochs=options.epochs,
        **network,
    )
    train(first, resume=True)
    everything = replace(
        first, run=options.runs / "all", weights=str(first.run), freeze=None, learning_rate=0.001
    )
    train(everything, resume=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with reported():
        main()
