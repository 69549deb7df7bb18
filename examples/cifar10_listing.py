"""The Keras listing's program, done right: CIFAR-10 enlarged to 224 x 224, three heads, step decay.

    python examples/cifar10_listing.py
    python examples/cifar10_listing.py --data sample --image-size 80 --epochs 2

A 2020 blog's listing builds GoogLeNet in Keras and trains it on CIFAR-10. As printed it cannot run. Its
network and settings are the recipe `cifar10_listing`. Its mistakes, each with the correction:

- `Y_train = X_valid / 255` overwrites the training labels with the validation images. Here images and labels
  stay together in one data set.
- `Y_trian` is a typo, so the `y_train` that is used later does not exist. Here there are no such variables:
  `train` takes a dataclass of options and writes a run's folder.
- The validation images are never scaled. Here one `Preprocessing` scales training, validation and test
  images, and the inputs of the exported model.
- `max_pool_4` is never applied to a tensor. Here the network is a table of stages, and each row is built.
- Layer names such as "inception_3a/3x3" have a "/", which Keras 3 refuses. Here: `inception_3a_3x3`.
- `SGD(lr=...)` and `np_utils` were removed from Keras. Here: `learning_rate`, and one-hot labels made by the
  input pipeline.
- `metrics=["accuracy"]` fails for three outputs. Here each head has its metric: `[["accuracy"]] * 3`.
- The rate 0.01 * 0.96 ** floor((1 + epoch) / 8), its epoch counted from 0, drops at epochs 7, 15 and 23, the
  first time after 7 epochs. Ours drops at 8, 16 and 24, "by 4% every 8 epochs" as the paper has it. These
  are `listing_rate` and `paper_rate` below. `train` takes ours; for the listing's, or either, use Keras's own
  `fit`, as in docs/index.md, "In Python", with `keras.optimizers.SGD(0.01, momentum=0.9)` and
  `callbacks=[keras.callbacks.LearningRateScheduler(listing_rate)]`.

What differs from the paper but works stays as the listing has it, in the variant `listing`: the "5x5" branch
is a 3x3, padding is `same`, there is no local response normalization, and auxiliary heads drop 40%, not 70%.
Two settings are from this package. A tenth of the training images is the validation part, so the test images
are used once, at the end. Pixels are scaled to -1..1, not 0..1.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from keras_googlenet import RunConfig, recipe_options, train
from keras_googlenet.errors import reported

RECIPE = "cifar10_listing"


def listing_rate(epoch: int, _: float = 0.0) -> float:
    """The listing's learning rate for an epoch, from 0, as Keras's `LearningRateScheduler` takes it."""
    return 0.01 * 0.96 ** ((1 + epoch) // 8)


def paper_rate(epoch: int, _: float = 0.0) -> float:
    """The rate of `train`: drops after every 8 epochs."""
    return 0.01 * 0.96 ** (epoch // 8)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="by default the recipe's, CIFAR-10")
    parser.add_argument("--image-size", type=int, help="by default the recipe's, 224")
    parser.add_argument("--epochs", type=int, help="by default the recipe's, 25")
    parser.add_argument("--run", type=Path, default=Path("runs") / RECIPE)
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    train(RunConfig(**recipe_options(RECIPE) | {"recipe": RECIPE} | given))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with reported():
        main()
