"""From a model's outputs to predictions, over any interface; errors name the image that caused them."""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.serving.client.images import (
    BATCH_BYTES,
    Encoded,
    Image,
    batches,
    encode,
    unreadable,
)
from keras_googlenet.serving.client.retries import ServingError

# A 1 x 1 PNG that every model accepts: distinguishes a refused image from a refused request.
GOOD_IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)

# How a model rejects an image for its size, within TensorFlow's message.
WRONG_SIZE = re.compile(r"E(xpected an image of [^\]]*)\] \[(\d+)\] \[(\d+)\]")

DOWNLOADS = 8  # at a time
BATCH = 32  # images per request: the largest batch that our batching parameters allow

NUMBERS, TEXT = "fiu", "U"  # kinds of NumPy's dtypes

# Runs a signature on encoded images; raises ServingError.
Run = Callable[[str, Sequence[bytes]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Prediction:
    """An image's class and probability, the best few of both, and the probabilities of all classes.

    Attributes:
        image: The file's path as given, or `image N` where it has none, N counted from 0.
        label: The best class.
        probability: Its probability.
        top: The best classes, at most five, with their probabilities, best first.
        probabilities: float32 (classes,), in the order of `Client.labels()`.
    """

    image: str
    label: str
    probability: float
    top: list[tuple[str, float]]
    probabilities: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Failure:
    """An image that failed.

    Attributes:
        image: Its path or name.
        error: The reason, in one line.
    """

    image: str
    error: str


class Item(NamedTuple):
    """An image to read later.

    Attributes:
        name: What to call it.
        load: Reads it, or raises UserError.
        waits: Whether reading waits for another machine: then several are read at a time.
    """

    name: str
    load: Callable[[], Image]
    waits: bool = False


def predictions(run: Run, images: Image | Iterable[Image], batch_size: int, source: str) -> list[Prediction]:
    """Predictions for images, as for `Client.predict`; `run` queries the model.

    Args:
        run: Queries the model.
        images: One or several.
        batch_size: Number of images per request.
        source: The model's name in messages.
    """
    answers = _answers(run, "serving_default", images, batch_size)
    return [one for batch, outputs in answers for one in _predictions(batch, outputs, source)]


def each(run: Run, items: Iterable[Item], batch_size: int, source: str) -> Iterator[Prediction | Failure]:
    """Classify any number of images, one batch at a time; a failed image does not stop the others.

    Reads the next batch while the model computes.

    Args:
        run: Queries the model.
        items: The images.
        batch_size: Images per request.
        source: The model's name in messages.

    Raises:
        ServingError: The model does not respond, or rejects every image.
    """
    for batch in ahead(_read(items, batch_size)):
        found = iter(_answered(run, [one for one in batch if isinstance(one, Encoded)], source))
        yield from (next(found) if isinstance(one, Encoded) else one for one in batch)


def ahead(batches: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """The same batches; a thread prepares the next one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _read(items: Iterable[Item], size: int) -> Iterator[list[Encoded | Failure]]:
    batch: list[Encoded | Failure] = []
    held = 0
    for one in _loaded(items):
        took = len(one.data) if isinstance(one, Encoded) else 0
        if len(batch) == size or (batch and held + took > BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(one)
        held += took
    if batch:
        yield batch


def _loaded(items: Iterable[Item]) -> Iterator[Encoded | Failure]:
    """Each item's image, in order."""
    waiting: deque[Callable[[], Encoded | Failure]] = deque()
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        for item in items:
            waiting.append(pool.submit(_load, item).result if item.waits else partial(_load, item))
            if len(waiting) == DOWNLOADS:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()


def _load(item: Item) -> Encoded | Failure:
    try:
        return encode(item.load(), item.name)
    except UserError as error:
        return Failure(item.name, str(error))


def _answered(run: Run, batch: list[Encoded], source: str) -> list[Prediction | Failure]:
    if not batch:
        return []
    try:
        outputs = run("serving_default", [image.data for image in batch])
    except ServingError as refusal:
        if not _is_of_content(refusal):
            raise
        if len(batch) > 1:
            return [answer for image in batch for answer in _answered(run, [image], source)]
        run("serving_default", [GOOD_IMAGE])  # raises where it is not for the image
        return [Failure(batch[0].name, str(_of_image(batch[0].name, refusal)))]
    return list(_predictions(batch, outputs, source))


def _predictions(
    batch: Sequence[Encoded], outputs: dict[str, np.ndarray], source: str
) -> Iterator[Prediction]:
    probabilities = checked(outputs, "probabilities", len(batch), NUMBERS, source)
    classes = checked(outputs, "classes", len(batch), TEXT, source)
    scores = checked(outputs, "scores", len(batch), NUMBERS, source)
    if classes.shape != scores.shape or not classes.size:
        raise _unlike_ours("scores", source)
    for image, names, values, row in zip(
        batch, classes, scores, probabilities.astype(np.float32), strict=True
    ):
        top = list(zip(names.tolist(), values.tolist(), strict=True))
        yield Prediction(image.name, *top[0], top, row)


def features(run: Run, images: Image | Iterable[Image], batch_size: int, source: str) -> np.ndarray:
    """The features of images, float32 (images, features); `run` queries the model."""
    rows = [
        checked(outputs, "features", len(batch), NUMBERS, source)
        for batch, outputs in _answers(run, "features", images, batch_size)
    ]
    return np.concatenate(rows).astype(np.float32) if rows else np.empty((0, 0), np.float32)


def _answers(
    run: Run, signature: str, images: Image | Iterable[Image], batch_size: int
) -> Iterator[tuple[list[Encoded], dict[str, np.ndarray]]]:
    for batch in batches(images, batch_size):
        try:
            outputs = run(signature, [image.data for image in batch])
        except ServingError as refusal:
            if not _is_of_content(refusal):
                raise
            outputs = _second_try(run, signature, batch, refusal)
        yield batch, outputs


def _second_try(
    run: Run, signature: str, batch: Sequence[Encoded], refusal: ServingError
) -> dict[str, np.ndarray]:
    """Retry a rejected batch, unless one of its images or the request itself is the cause.

    A server with batching rejects a whole batch for one corrupt image, possibly another client's.
    """

    def refused(data: bytes) -> ServingError | None:
        try:
            run(signature, [data])
        except ServingError as error:
            if not _is_of_content(error):
                raise
            return error
        return None

    if refused(GOOD_IMAGE):
        raise refusal
    for image in batch:
        if error := refused(image.data):
            raise _of_image(image.name, error) from None
    try:
        return run(signature, [image.data for image in batch])
    except ServingError as error:
        reason = f"the model takes each of {len(batch)} images, but not all at once: {error}"
        raise ServingError(error.code, f"{reason}; choose a smaller batch_size") from None


def _is_of_content(error: ServingError) -> bool:
    """Whether the content was rejected: a corrupt image, for example, or more bytes than the server
    accepts."""
    return error.code == "INVALID_ARGUMENT" or (error.code == "RESOURCE_EXHAUSTED" and error.lasting)


def _of_image(name: str, error: ServingError) -> ServingError:
    if error.code == "RESOURCE_EXHAUSTED":
        return ServingError(error.code, f"{name} is too large for the server: {error}", lasting=True)
    size = WRONG_SIZE.search(str(error))
    return ServingError(error.code, unreadable(name, size and "e{} {} {}".format(*size.groups())))


def checked(
    outputs: dict[str, np.ndarray], name: str, count: int, kinds: str, source: str, ndim: int = 2
) -> np.ndarray:
    """A required output, with a row for each image; it may have arrived without its name."""
    value = outputs.get(name, outputs.get(""))
    fits = value is not None and value.ndim == ndim and len(value) == count
    if value is None or not fits or value.dtype.kind not in kinds:
        raise _unlike_ours(name, source)
    return value


def _unlike_ours(name: str, source: str) -> ServingError:
    message = f"{source} gives no fitting `{name}`: was the model exported by this package?"
    return ServingError("UNKNOWN", message)
