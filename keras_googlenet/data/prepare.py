"""Resize a folder of images once, so that no epoch has to decode large ones."""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from keras_googlenet.data.threads import in_threads
from keras_googlenet.errors import UserError
from keras_googlenet.files import LOCK, held
from keras_googlenet.images.exif import orientation, upright
from keras_googlenet.images.files import KEPT, READ, TRAINED, visible_files, with_suffix
from keras_googlenet.images.numpy import decode_any_size, decode_converted
from keras_googlenet.images.spec import JPEG_MAGIC, MAX_PIXELS
from keras_googlenet.text import listed

STAGING = ".prepare"  # in the new folder: holds files being written
LONGEST_SIDE = 65_500  # libjpeg's
NAMES = ", ".join(sorted(READ))


@dataclass(frozen=True)
class Prepared:
    """The outcome for the files.

    Attributes:
        resized: Number of images written in a new size.
        copied: Number of images copied because they were not larger.
        present: Number of images that an earlier call had written.
        unreadable: Files that are not images, relative to the folder, with the reason for each.
    """

    resized: int
    copied: int
    present: int
    unreadable: dict[Path, str]


def prepare(
    source: Path, target: Path, *, size: int = 224, quality: int = 95, enlarge: bool = False
) -> Prepared:
    """Write the images of a folder, at any depth, to another one under the same relative paths, smaller.

    The shorter side becomes `size` and the aspect is kept. JPEG stays JPEG, PNG stays PNG and gray stays
    gray; BMP, WebP, GIF (its first frame), TIFF, PPM and PGM become PNG, and `1.bmp` becomes `1.bmp.png`.
    What is resized or becomes PNG is composed on white and turned upright by its EXIF, as in training;
    16 bits become 8, and metadata are dropped. Hidden files and folders are left out, linked folders
    followed. A file appears whole or not at all; after an interruption, rerun to finish.

    Args:
        source: The folder; it is not changed.
        target: The new folder. What it holds of an earlier call with the same size stays.
        size: Shorter side in pixels.
        quality: Of JPEG, 1 to 100.
        enlarge: Whether images whose shorter side is less than `size` are enlarged; they are copied
            byte for byte otherwise.

    Raises:
        UserError: An argument is not as above, or `target` has files of these names that an equal call
            would not write: then nothing is written.
    """
    _check_arguments(source, target, size, quality)
    files = [path.relative_to(source) for path in visible_files(source)]
    images = with_suffix(files, READ)
    if not images:
        raise UserError(f"no image in {source}: expected files named {NAMES}")

    names_of = Counter(map(prepared_name, images))
    if doubles := [file for file in images if names_of[prepared_name(file)] > 1]:
        raise UserError(f"{listed(doubles)} in {source} would get the same name: rename them")
    there = [file for file in images if (target / prepared_name(file)).exists()]
    is_done = partial(_is_done, source, target, size, enlarge)
    done = {file for file, fine in _each(is_done, there, "checking existing images") if fine}
    others = [file for file in there if file not in done]
    if others:
        names = listed([target / prepared_name(file) for file in others], 1)
        raise UserError(
            f"{names} would be overwritten, by an image whose shorter side is {size}: choose another folder, "
            "or delete them"
        )

    write = partial(_write, source, target, size, quality, enlarge)
    staging = target / STAGING
    staging.mkdir(parents=True, exist_ok=True)
    with held(staging, "prepares images in"):
        for leftover in staging.iterdir():  # of a process that was killed
            if leftover.name != LOCK:
                leftover.unlink()
        try:
            outcomes = dict(_each(write, [file for file in images if file not in done], "preparing images"))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    kinds = list(outcomes.values())
    unreadable = {file: str(error) for file, error in outcomes.items() if isinstance(error, ValueError)}
    known = {*images}
    unreadable |= {file: f"not named {NAMES}" for file in files if file not in known}
    return Prepared(kinds.count("resized"), kinds.count("copied"), len(done), unreadable)


def prepared_name(file: Path) -> Path:
    """The name that an image gets."""
    return file if file.suffix.lower() in KEPT else file.with_name(f"{file.name}.png")


def _pixels(encoded: bytes, file: Path) -> np.ndarray:
    """Pixels, uint8 (height, width, 1 or 3), of any image.

    Raises:
        ValueError: It cannot be read.
    """
    if file.suffix.lower() in TRAINED:
        return decode_any_size(encoded)
    return upright(decode_converted(encoded), orientation(encoded))  # it may be a JPEG by another name


def as_png(encoded: bytes) -> bytes:
    """An image that training decodes as PNG: upright, on white, with 8 bits.

    Raises:
        ValueError: It cannot be read.
    """
    return _encode(decode_any_size(encoded), as_jpeg=False)


def _check_arguments(source: Path, target: Path, size: int, quality: int) -> None:
    if not source.is_dir():
        raise UserError(f"no folder at {source}: expected one with images")
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file: expected a folder, or a new name for one")
    old, new = source.resolve(), target.resolve()
    if old == new or old in new.parents or new in old.parents:
        raise UserError(f"expected two separate folders, got {source} and {target}")
    if not 1 <= size <= LONGEST_SIDE:
        raise UserError(f"expected `size` to be between 1 and {LONGEST_SIDE:,}, got {size}")
    if not 1 <= quality <= 100:
        raise UserError(f"expected `quality` to be between 1 and 100, got {quality}")


def _each(work: Callable[[Path], Any], files: Sequence[Path], title: str) -> Iterator[tuple[Path, Any]]:
    """Each file with the result of its work."""
    return zip(files, in_threads(work, files, title), strict=True)


def _is_done(source: Path, target: Path, size: int, enlarge: bool, file: Path) -> bool:
    encoded = (target / prepared_name(file)).read_bytes()
    try:
        found = decode_any_size(encoded)
        if min(found.shape[:2]) == size:
            return True
        if min(found.shape[:2]) > size or enlarge:
            return False
        original = (source / file).read_bytes()
        return (
            encoded == original
            if file.suffix.lower() in KEPT
            else bool(np.array_equal(found, _pixels(original, file)))
        )
    except ValueError:
        return False


def _write(
    source: Path, target: Path, size: int, quality: int, enlarge: bool, file: Path
) -> Literal["resized", "copied"] | ValueError:
    """Prepare one file; returns what was done, or why the file could not be read."""
    try:
        encoded = (source / file).read_bytes()
        pixels = _pixels(encoded, file)
        shorter = min(pixels.shape[:2])
        copied = shorter == size or (shorter < size and not enlarge)
        if not copied or prepared_name(file) != file:
            resized = pixels if copied else resize_shorter(pixels, size)
            encoded = _encode(resized, encoded.startswith(JPEG_MAGIC), quality)
    except ValueError as error:
        return error
    except OSError as error:  # such as a broken link
        return ValueError(error.strerror or str(error))
    staged, final = target / STAGING / uuid.uuid4().hex, target / prepared_name(file)
    staged.write_bytes(encoded)
    final.parent.mkdir(parents=True, exist_ok=True)
    staged.rename(final)
    return "copied" if copied else "resized"


def resize_shorter(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (height, width, 1 or 3) so that the shorter side is `size`, and keep the aspect.

    Raises:
        ValueError: The longer side would be more than `LONGEST_SIDE`.
    """
    height, width = pixels.shape[:2]
    scale = size / min(height, width)
    new_height, new_width = round(height * scale), round(width * scale)
    if max(new_height, new_width) > LONGEST_SIDE or new_height * new_width > MAX_PIXELS:
        raise ValueError(f"too large for training: it would be of {new_height} x {new_width} pixels")
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.atleast_3d(cv2.resize(pixels, (new_width, new_height), interpolation=method))


def _encode(pixels: np.ndarray, as_jpeg: bool, quality: int = 95) -> bytes:
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    if as_jpeg:
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return cv2.imencode(".png", bgr)[1].tobytes()
