"""Make the sample of Fashion-MNIST that ships inside the package.

    python scripts/make_sample.py FOLDER --to keras_googlenet/data/sample/fashion_mnist.npz

FOLDER holds the four original files (`train-images-idx3-ubyte.gz` and so on). The sample is the same
on every machine: of each class, the first 400 training images and the first 100 test images, in the
order of the original files.
"""

import argparse
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from destination import destination

from keras_googlenet.errors import UserError, reported
from keras_googlenet.text import say

PER_CLASS = {"train": 400, "t10k": 100}
IDX_HEADER_BYTES = {"images-idx3": 16, "labels-idx1": 8}


def read_idx(folder: Path, part: str, kind: str) -> np.ndarray:
    """The data of one original file, without its header."""
    path = folder / f"{part}-{kind}-ubyte.gz"
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is not a file of Fashion-MNIST ({error}): download it again") from None
    return np.frombuffer(content, np.uint8, offset=IDX_HEADER_BYTES[kind])


def sample(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,) of the sample from one part, in the original order."""
    labels = read_idx(folder, part, "labels-idx1")
    images = read_idx(folder, part, "images-idx3").reshape(-1, 28, 28)
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[: PER_CLASS[part]] for c in range(10)]))
    return images[chosen], labels[chosen]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the four original files")
    parser.add_argument("--to", type=Path, help="the sample's file (fashion_mnist.npz)")
    options = parser.parse_args(arguments)
    folder, to = options.folder, destination(options.to, "fashion_mnist.npz")
    train_images, train_labels = sample(folder, "train")
    test_images, test_labels = sample(folder, "t10k")
    np.savez_compressed(
        to,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    say(f"wrote {to}: {len(train_images)} + {len(test_images)} images, {to.stat().st_size:,} bytes")


if __name__ == "__main__":
    with reported():
        main()
