"""From a prediction to a served model in one script: predict, train, export, serve. `make demo` runs it.

The first prediction comes from a network that ships with the package. Then the script trains variant
`light_stem`, with its three heads and half of Table 1's channels, on the bundled sample of Fashion-MNIST.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it once, when it is imported

import cv2

from keras_googlenet import SAMPLE_CLASSES, Client, RunConfig, export_saved_model, load, sample_arrays, train
from keras_googlenet.errors import reported
from keras_googlenet.inference.explain import draw
from keras_googlenet.run import folder as run_folder
from keras_googlenet.text import say


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a model's directory in a separate process; yields the address of the model."""
    command = [sys.executable, "-m", "keras_googlenet.cli", "serve", str(directory)]
    ports = ["--rest-port", "0", "--grpc-port", "0"]  # 0: any free port
    with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        say(line, end="")
        try:
            yield next(word for word in line.split() if word.startswith("http://"))
        finally:
            server.terminate()
            server.communicate()  # its last output, which a closed pipe would refuse


def move_aside(folder: Path) -> None:
    """Rename the folder of an earlier demo to the first free name."""
    if folder.exists():
        number = next(n for n in range(1, 10**6) if not Path(f"{folder}-{n}").exists())
        folder.rename(f"{folder}-{number}")
        say(f"kept the earlier {folder} as {folder}-{number}")


def answer_first(image: Path, picture: Path, truth: str) -> None:
    """Predict with a network of the package, and draw class activation maps."""
    classifier = load("fashion_mnist")
    (prediction,) = classifier.predict(image)
    say(f"{image}: {prediction.label!r} ({prediction.probability:.3f}) by the package's own, truth {truth!r}")
    draw(classifier.explain(image), picture, f"truth: {truth}")
    say(f"where it sees that: {picture}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--model", type=Path, default=Path("models/demo"))
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args(arguments)

    config = RunConfig(
        data="sample",
        run=options.run,
        variant="light_stem",
        width=0.5,
        image_size=28,
        augment=("flip", "translate"),
        label_smoothing=0.1,
        epochs=options.epochs,
        batch_size=64,
        learning_rate=0.1,
        schedule="cosine",
        warmup_epochs=min(1, options.epochs),
        nesterov=True,
        weight_decay=5e-4,
        average=0.98,
    )
    move_aside(options.run)
    arrays = sample_arrays()
    first = options.run.with_name(f"{options.run.name}-first")
    first.mkdir(parents=True, exist_ok=True)
    image = first / "held_out.png"
    cv2.imwrite(str(image), arrays["test_images"][0])
    truth = SAMPLE_CLASSES[arrays["test_labels"][0]]
    answer_first(image, first / "explained.png", truth)

    train(config)
    run = run_folder.load(options.run)
    version = export_saved_model(
        run.model, options.model, class_names=run.class_names, preprocessing=run.preprocessing
    )
    say(f"exported {version}")

    with served(options.model) as url, Client(url) as client:
        (prediction,) = client.predict(image)
    say(f"{image}: predicted {prediction.label!r} ({prediction.probability:.3f}), truth {truth!r}")
    say(f"pictures: {options.run / 'plots/curves.png'}, {options.run / 'plots/confusion.png'}")
    say(f"try: keras-googlenet predict {image} --model {version}")


if __name__ == "__main__":
    with reported():
        main()
