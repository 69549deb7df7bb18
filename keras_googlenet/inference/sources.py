"""The images that `predict` classifies: files, folders, lists, URLs, video frames, data sets."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

from keras_googlenet.data.sources import TFDS
from keras_googlenet.errors import UserError
from keras_googlenet.images.files import READ, walk
from keras_googlenet.inference.downloads import downloaded
from keras_googlenet.serving.client.answers import Item
from keras_googlenet.serving.client.images import Image, unreadable

if TYPE_CHECKING:
    from keras_googlenet.data.tfds import Images

STANDARD_INPUT = "-"
LISTS = ".txt"
ADDRESS = re.compile("https?://", re.IGNORECASE)
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"})
SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")
SHARD = re.compile(r"(?:(\d+)/)?(\d+)")


class Found(NamedTuple):
    """An image, and a file's path relative to the folder that was passed.

    Of several folders, and of those in a list, it is relative to the folder's parent.
    """

    item: Item
    place: Path | None


@dataclass(frozen=True)
class Sources:
    """What the user passed.

    Attributes:
        names: Image files, folders of them, video files, `https://` URLs; lists of those, one per line, in
            `.txt` files or, for `-`, on standard input; and `tfds:NAME[:CONFIG]/SPLIT`.
        every: Seconds between video frames.
        shard: A share of the images: its place, from 0, and the number of shares, which get the images in
            turn.
        tfds_manual_dir: Folder with the original files of a TensorFlow data set, to build it offline.
    """

    names: Sequence[str]
    every: float = 1.0
    shard: tuple[int, int] = (0, 1)
    tfds_manual_dir: Path | None = None

    def check(self) -> None:
        """Check that all paths and sets exist, before any work; a set that was never opened is built.

        Raises:
            UserError: A path or a set does not exist, or a folder has no image.
        """
        if not self.names:
            raise UserError("expected at least one image file or folder")
        if self.tfds_manual_dir is not None and not any(map(_is_set, self.names)):
            raise UserError(f"expected no `tfds_manual_dir` without a source such as {TFDS}cifar10/test")
        for name in self.names:
            if _is_set(name):
                self._opened(name)
            elif os.path.isdir(name):  # unlike Path's, it takes a name of any length
                if next(_images_in(Path(name)), None) is None:
                    raise UserError(f"no image in folder {name}")
            elif name != STANDARD_INPUT and not ADDRESS.match(name) and not os.path.isfile(name):
                raise UserError(f"no image file or folder at {name}")

    def count(self) -> int | None:
        """Number of images; `None` if it is not known in advance."""
        if STANDARD_INPUT in self.names:
            return None
        total = 0
        for name in self.names:
            if _is_set(name):
                total += self._opened(name).count
                continue
            for one in _lines(name) if _is_list(name) else [name]:
                if _is_video(one):
                    return None
                total += _count(one)
        return len(range(self.shard[0], total, self.shard[1]))

    def __iter__(self) -> Iterator[Found]:
        return islice(self._all(), self.shard[0], None, self.shard[1])

    def _all(self) -> Iterator[Found]:
        for name in self.names:
            if _is_set(name):
                for index, image in enumerate(self._opened(name)):
                    yield Found(Item(f"{name}#{index}", _constant(image)), None)
            elif _is_list(name):
                for line in _lines(name):
                    yield from self._of(line, named=True)
            else:
                yield from self._of(name, named=sum(map(os.path.isdir, self.names)) > 1)

    def folders(self) -> Iterator[str]:
        """The folders among the names and in the lists that are files."""
        for name in self.names:
            if name != STANDARD_INPUT:
                yield from filter(os.path.isdir, _lines(name) if _is_list(name) else [name])

    def _of(self, name: str, *, named: bool) -> Iterator[Found]:
        """What a name stands for; with `named`, a folder's images have its name in their places."""
        if ADDRESS.match(name):
            yield Found(Item(name, partial(downloaded, name), waits=True), None)
        elif os.path.isdir(name):
            folder = Path(os.path.basename(os.path.abspath(name)) if named else "")
            for file in _images_in(Path(name)):
                yield Found(_of_file(file), folder / file.relative_to(name))
        elif _is_video(name):
            yield from (Found(item, None) for item in _frames(name, self.every))
        else:
            yield Found(_of_file(Path(name)), Path(Path(name).name))

    def _opened(self, name: str) -> Images:
        from keras_googlenet.data.tfds import images_of  # imports TensorFlow

        return images_of(name.removeprefix(TFDS), self.tfds_manual_dir)


def seconds(text: str) -> float:
    """Parse a time such as `1s`, `0.5` or `500ms`; in seconds.

    Raises:
        UserError: Not a time.
    """
    found = SECONDS.fullmatch(text)
    value = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0
    if not value > 0:
        raise UserError(f'expected `every` to be a time such as "1s" or "500ms", got {text!r}')
    return value


def shard(text: str, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Parse `3/16`, the third of 16 shares, or `16`: the share of this process in an indexed Kubernetes Job.

    Returns:
        Place, from 0, and number.

    Raises:
        UserError: Not a share.
    """
    found = SHARD.fullmatch(text)
    index = environment.get("JOB_COMPLETION_INDEX", "")
    if found and found[1] is None and not index.isdigit():
        raise UserError(f"expected `shard` to be such as 3/{text}: JOB_COMPLETION_INDEX of a Job is not set")
    place, number = (int(found[1] or int(index) + 1) - 1, int(found[2])) if found else (0, 0)
    if not 0 <= place < number:
        raise UserError(f"expected `shard` to be such as 3/16, the third of 16 shares, got {text!r}")
    return place, number


def _is_set(name: str) -> bool:
    return name.startswith(TFDS)


def _is_list(name: str) -> bool:
    return name == STANDARD_INPUT or (name.endswith(LISTS) and os.path.isfile(name))


def _lines(name: str) -> Iterator[str]:
    """The lines of a list that are not empty."""
    with (
        nullcontext(_standard_input())
        if name == STANDARD_INPUT
        else open(name, encoding="utf-8-sig", errors="surrogateescape")
    ) as file:
        yield from filter(None, (line.rstrip("\r\n") for line in file))


def _standard_input() -> TextIO:
    """Standard input; file names in it may be in any encoding."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
    return sys.stdin


def _count(name: str) -> int:
    is_folder = not ADDRESS.match(name) and os.path.isdir(name)
    return sum(1 for _ in _images_in(Path(name))) if is_folder else 1


def _images_in(folder: Path) -> Iterator[Path]:
    return (file for file in walk(folder) if file.suffix.lower() in READ)


def _of_file(file: Path) -> Item:
    return Item(str(file), lambda: file)


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEOS and not ADDRESS.match(name)


def _frames(name: str, every: float) -> Iterator[Item]:
    """Frames of a video, named `clip.mp4#t=2.00`, from 0 s on."""
    import cv2

    video = cv2.VideoCapture(name)
    try:
        rate = video.get(cv2.CAP_PROP_FPS)
        number, due, found = 0, 0.0, False
        while rate > 0 and video.grab():
            at = number / rate
            number += 1
            if at + 0.5 / rate < due:
                continue
            whole, pixels = video.retrieve()
            if whole:
                found, due = True, due + every
                yield Item(f"{name}#t={at:.2f}", _constant(pixels))
        if not found:
            yield Item(name, lambda: _refused(name))
    finally:
        video.release()


def _constant(image: np.ndarray | bytes) -> Any:
    return lambda: image


def _refused(name: str) -> Image:
    raise UserError(unreadable(name, "expected a video that OpenCV reads, with at least one frame"))
