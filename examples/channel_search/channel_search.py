"""Half the parameters, the same accuracy? A channel search, judged by training its winner again.

Searches GoogLeNet's channels on a part of Fashion-MNIST within half of the paper's main-path parameters; the
network is the paper's Table 1 with batch normalization. Then it trains the unchanged network and the winner
with three seeds each, on the same images for the same epochs, and compares their accuracies on all test
images. Leaves `comparison.csv` with the search's table and pictures. After an interruption, rerun to finish.
"""

import argparse
import csv
import hashlib
import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it once, when it is imported

import numpy as np

from keras_googlenet import VARIANTS, ImageData, RunConfig, TuneConfig, train, tune
from keras_googlenet.errors import reported
from keras_googlenet.network.cost import InputSize, cost
from keras_googlenet.run.inputs import open_data
from keras_googlenet.text import say
from keras_googlenet.tuning.results import BEST

SEEDS = (0, 1, 2)


def part_of(data: ImageData, images: int) -> ImageData:
    """The data with `images` of its training images, and its other parts whole."""
    chosen = np.random.default_rng(0).permutation(data.train.count)[:images]
    return replace(data, train=data.train.take(np.sort(chosen)))


def accuracies(network: str, training: RunConfig, data: ImageData, folder: Path) -> list[float]:
    """Test accuracy of a network, a variant's name or an architecture's file, for each seed."""
    name = Path(network).stem
    if Path(network).is_file():  # after a longer search, the best network is another one
        name += f"-{hashlib.sha256(Path(network).read_bytes()).hexdigest()[:8]}"
    return [
        train(
            replace(training, variant=network, seed=seed, run=folder / f"{name}-{seed}"),
            data=data,
            resume=True,
        )["test_accuracy"]
        for seed in SEEDS
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="tfds:fashion_mnist")
    parser.add_argument("--run", type=Path, default=Path("runs/channel_search"))
    parser.add_argument("--variant", default="bn")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=12_000, help="training images")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--space", default="stage_width")
    parser.add_argument("--algorithm", default="bayesian")
    options = parser.parse_args(arguments)

    training = RunConfig(
        data=options.data,
        run=options.run / "search",
        variant=options.variant,
        image_size=options.image_size,
        aux_heads=False,  # the main path alone is searched, and judged
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=0.05,
        schedule="cosine",
        nesterov=True,
    )
    data = part_of(open_data(training), options.images)
    size = InputSize(options.image_size, options.image_size, data.channels, len(data.class_names))
    paper = cost(VARIANTS["paper"], size)
    config = TuneConfig(
        training=training,
        space=options.space,
        algorithm=options.algorithm,
        trials=options.trials,
        max_params=paper.parameters // 2,
    )
    tune(config, data=data)

    again = options.run / "again"
    again.mkdir(exist_ok=True)
    networks = {"unchanged": options.variant, "winner": str(training.run / BEST)}
    found = {name: accuracies(network, training, data, again) for name, network in networks.items()}
    with (options.run / "comparison.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["network", *(f"test_accuracy_seed_{seed}" for seed in SEEDS), "mean", "spread"])
        for name, scores in found.items():
            figures = (*scores, statistics.mean(scores), statistics.stdev(scores))
            writer.writerow([name, *(f"{figure:.4f}" for figure in figures)])
    difference = 100 * (statistics.mean(found["winner"]) - statistics.mean(found["unchanged"]))
    say((options.run / "comparison.csv").read_text(), end="")
    say(f"the winner is {difference:+.2f} points from the unchanged network")


if __name__ == "__main__":
    with reported():
        main()
