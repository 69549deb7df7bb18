"""Classify image files with an exported model, in this process or over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from keras_googlenet.errors import UserError
from keras_googlenet.serving.versions import version_folder

BATCH = 32
TIMEOUT_SECONDS = 60
WIRE_SUFFIXES = {".jpg", ".jpeg", ".png"}
# What OpenCV reads and the exported graph does not; sent as PNG.
OTHER_SUFFIXES = {".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}

Answer = dict[str, Any]  # an instance's `classes` and `scores`, best first
Predict = Callable[[Sequence[bytes]], list[Answer]]


class RefusedImageError(Exception):
    """A model refused a batch; some image in it is at fault."""


@dataclass(frozen=True)
class Prediction:
    """An image file's class and probability, and the best few of both."""

    image: str
    label: str
    probability: float
    top: list[tuple[str, float]]


def classify(
    images: Sequence[Path], *, model: Path | None = None, url: str | None = None
) -> list[Prediction]:
    """Classify image files.

    Args:
        images: Image files, and folders to search for image files.
        model: A version folder, or a model's directory, whose highest version is taken.
        url: A model's address, such as `http://127.0.0.1:8501/v1/models/googlenet`. Give either
            this or `model`.

    Returns:
        A prediction for each image file, in order.

    Raises:
        UserError: An image cannot be read, or the model cannot be had.
    """
    if (model is None) == (url is None):
        raise UserError("expected either --model FOLDER or --url http://..., and not both")
    paths = find_files(images)
    predict = local_model(model) if model is not None else remote_model(str(url))
    predictions = []
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        answers = _predict_batch(predict, batch)
        predictions += [_prediction(*pair) for pair in zip(batch, answers, strict=True)]
    return predictions


def find_files(images: Sequence[Path]) -> list[Path]:
    """The files named, and the image files in the folders named."""
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            suffixes = WIRE_SUFFIXES | OTHER_SUFFIXES
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            if not found:
                raise UserError(f"no image in folder {path}")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"no image file or folder at {path}")
    if not files:
        raise UserError("expected at least one image file or folder")
    return files


def encoded_image(path: Path) -> bytes:
    """The bytes of an image file, as JPEG or PNG; other formats are converted by OpenCV."""
    if path.suffix.lower() not in OTHER_SUFFIXES:
        return path.read_bytes()
    cv2 = _opencv()
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise _unreadable(path)
    return cv2.imencode(".png", image)[1].tobytes()


def local_model(path: Path) -> Predict:
    """A model in this process: TensorFlow's loader over a SavedModel, without Keras."""
    import numpy as np
    import tensorflow as tf

    from keras_googlenet.serving.session import SavedModelSession

    session = SavedModelSession(version_folder(path))

    def predict(encoded: Sequence[bytes]) -> list[Answer]:
        try:
            outputs = session.run("serving_default", {"images": np.array(encoded, dtype=object)})
        except tf.errors.InvalidArgumentError as error:
            raise RefusedImageError(error.message) from None
        return [
            {"classes": [name.decode() for name in classes], "scores": scores.tolist()}
            for classes, scores in zip(outputs["classes"], outputs["scores"], strict=True)
        ]

    return predict


def remote_model(url: str) -> Predict:
    """A model behind TensorFlow Serving's REST interface."""
    address = url.removesuffix(":predict").rstrip("/")
    if not address.startswith(("http://", "https://")) or "/v1/models/" not in address:
        raise UserError(
            f"expected a model's address such as http://127.0.0.1:8501/v1/models/googlenet, got {url}"
        )

    def predict(encoded: Sequence[bytes]) -> list[Answer]:
        instances = [{"b64": base64.b64encode(image).decode()} for image in encoded]
        try:
            response = httpx.post(
                f"{address}:predict", json={"instances": instances}, timeout=TIMEOUT_SECONDS
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UserError(f"cannot reach {address}: {error}; is the server running?") from None
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise RefusedImageError(response.text)
        try:
            rows = response.raise_for_status().json()["predictions"]
            answers = [{key: row[key] for key in ("classes", "scores")} for row in rows]
            complete = len(answers) == len(encoded)
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            text = " ".join(response.text.split())[:200]
            raise UserError(f"{address} answered {response.status_code}: {text}")
        return answers

    return predict


def _predict_batch(predict: Predict, paths: Sequence[Path]) -> list[Answer]:
    encoded = [encoded_image(path) for path in paths]
    try:
        return predict(encoded)
    except RefusedImageError as refusal:
        for path, image in zip(paths, encoded, strict=True):
            try:
                predict([image])
            except RefusedImageError:
                raise _unreadable(path) from None
        raise UserError(f"the model refuses these images: {refusal}") from None


def _prediction(path: Path, answer: Answer) -> Prediction:
    top = list(zip(answer["classes"], answer["scores"], strict=True))
    return Prediction(str(path), *top[0], top)


def _unreadable(path: Path) -> UserError:
    return UserError(f"cannot read {path}: expected a JPEG or PNG image, whole and not corrupt")


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"OpenCV does not load ({error}): install its libraries (on Debian: apt-get install "
            "libgl1 libglib2.0-0), or pip install opencv-python-headless in its place"
        ) from None
    return cv2
