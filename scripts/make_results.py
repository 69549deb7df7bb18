"""Write this repository's RESULTS.md: the page of `keras-googlenet results`, with what the sources published.

    python scripts/make_results.py runs/* --to RESULTS.md --picture docs/results_curves.png

By default it writes new files `RESULTS.md` and `results_curves.png` in the current folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from destination import destination

from keras_googlenet.errors import UserError, reported
from keras_googlenet.evaluation.results_page import draw, page, read_result
from keras_googlenet.text import say

PUBLISHED = {
    "fashion_mnist_d2l": "0.901, Dive into Deep Learning",
    "fashion_mnist_best": "0.937, GoogLeNet in the data set's own list (submitted, not checked)",
    "fashion_mnist_fast": "0.937, GoogLeNet in the data set's own list (submitted, not checked)",
    "nin_fashion_mnist": "none printed",
    "cifar10_listing": "none, for it cannot run; 0.9308, the best public GoogLeNet in Keras found",
    "cifar10_fast": "0.9408 after 24 epochs of ResNet-9 (davidcpage/cifar10-fast); no GoogLeNet",
    "cifar10_best": "0.9535 after 70 epochs, 0.9364 and 0.9308, the best public GoogLeNets found",
    "flowers17": "none from scratch; the well-known tutorial's network sticks at 0.07",
    "slides_two_class": "none printed",
    "imagenet_paper": "0.687, BVLC's weights, by the center crop",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs, in the page's order")
    parser.add_argument("--to", type=Path, help="the page's file (RESULTS.md)")
    parser.add_argument("--picture", type=Path, help="the picture's file (results_curves.png)")
    parser.add_argument("--history", help="the page of earlier figures to link to (none)")
    options = parser.parse_args(arguments)
    to = destination(options.to, "RESULTS.md")
    picture = destination(options.picture, "results_curves.png", "--picture")
    if picture.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"expected --picture to end in .png, .svg or .pdf, got {picture}")
    results = [read_result(folder) for folder in options.runs]
    draw(results, picture)
    address = Path(os.path.relpath(picture, to.parent)).as_posix()
    to.write_text(page(results, address, PUBLISHED, options.history) + "\n")
    say(f"wrote {to} and {picture}")


if __name__ == "__main__":
    with reported():
        main()
