"""Fine-tune on a folder of images: start from trained weights, train the new heads, then the last blocks.

    python examples/fine_tune.py FOLDER --weights imagenet --variant torchvision
    python examples/fine_tune.py FOLDER --weights runs/first

FOLDER holds one folder of images for each class. The first run trains with everything up to block 4e as it
came; the second goes on from it with all layers free, at a tenth of the rate.
"""

import argparse
import os
from pathlib import Path

from keras_googlenet import RunConfig, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="one folder of images for each class")
    parser.add_argument("--weights", default="imagenet", help='"imagenet", or the folder of a run')
    parser.add_argument("--variant", default="torchvision")
    parser.add_argument("--runs", type=Path, default=Path("runs/fine_tune"))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()

    common = {
        "data": options.folder,
        "variant": options.variant,
        "image_size": options.image_size,
        "channels": 3,
        "epochs": options.epochs,
    }
    heads = options.runs / "heads"
    train(RunConfig(run=heads, weights=options.weights, freeze="4e", learning_rate=0.01, **common))
    train(RunConfig(run=options.runs / "all", weights=str(heads), learning_rate=0.001, **common))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
