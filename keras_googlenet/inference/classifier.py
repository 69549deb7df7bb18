"""`load(name)`: a trained network that classifies images, however it is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_googlenet.errors import UserError, checked_names
from keras_googlenet.evaluation.views import VIEWS, views_of
from keras_googlenet.export.formats import LABELS, PREPROCESSING, cause, is_file_of_format, load_file
from keras_googlenet.images.decoder import decoder
from keras_googlenet.images.numpy import resize
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.inference.explain import Explanation, as_shown, enlarged, explanation
from keras_googlenet.names import TOP_K
from keras_googlenet.network.googlenet import GoogLeNet
from keras_googlenet.network.surgery import strip_aux
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.config import CONFIG
from keras_googlenet.run.folder import read_labels
from keras_googlenet.serving.client.answers import (
    BATCH,
    Failure,
    Item,
    Prediction,
    Run,
    each,
    predictions,
)
from keras_googlenet.serving.client.images import Encoded, Image, batches, unreadable
from keras_googlenet.serving.client.retries import ServingError
from keras_googlenet.versions import EXTRA, PROVENANCE, version_folder
from keras_googlenet.weights.fetch import published_run
from keras_googlenet.weights.imagenet import class_names as imagenet_class_names
from keras_googlenet.weights.published import imagenet_spec
from keras_googlenet.weights.shipped import IMAGENET, check_network, is_address, is_shipped, located


@dataclass(frozen=True)
class Classifier:
    """A trained network that classifies images; `load` creates it.

    Attributes:
        name: What was loaded.
        model: The network with its main head only; `None` for an exported version or file.
        class_names: In the order of the probabilities.
        preprocessing: How an image becomes the network's input.
    """

    name: str
    model: keras.Model | None
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    _run: Run | None = field(default=None, repr=False)  # of an exported version or file
    _with_heads: keras.Model | None = field(default=None, repr=False)  # of a run

    def predict(
        self,
        images: Image | Iterable[Image],
        *,
        views: int = 1,
        channel_order: Literal["rgb", "bgr"] = "rgb",
        batch_size: int = BATCH,
    ) -> list[Prediction]:
        """Classify images: for each, the best classes first.

        Args:
            images: One image or several, each a file's path, the bytes of a file, or uint8 pixels,
                (height, width, 3), (height, width, 1) or (height, width).
            views: Number of views per image, whose probabilities are averaged: 1 (the image), 2 (and its
                mirror image), 6 (and one-pixel shifts). An export supports only 1.
            channel_order: Channel order of arrays: `"rgb"` as in Keras and Pillow, or `"bgr"` as in OpenCV.
            batch_size: Number of images per step.

        Raises:
            UserError: An image cannot be read, or an argument is not as above.
        """
        if batch_size < 1:
            raise UserError(f"expected `batch_size` to be at least 1, got {batch_size}")
        if channel_order not in ("rgb", "bgr"):
            raise UserError(f'expected `channel_order` to be "rgb" or "bgr", got {channel_order!r}')
        if views not in VIEWS or (views > 1 and self.model is None):
            expected = ", ".join(map(str, VIEWS)) if self.model is not None else "1 of an export"
            raise UserError(f"expected `views` to be {expected}, got {views}")
        return predictions(self._asked(views), as_opencv(images, channel_order), batch_size, self.name)

    def each(self, items: Iterable[Item], *, batch_size: int = BATCH) -> Iterator[Prediction | Failure]:
        """Classify any number of images; a failed image does not stop the others.

        Args:
            items: The images.
            batch_size: Images per step.
        """
        return each(self._asked(views=1), items, batch_size, self.name)

    def explain(
        self,
        image: Image,
        *,
        top: int = 3,
        blocks: Sequence[str] = (),
        channel_order: Literal["rgb", "bgr"] = "rgb",
    ) -> Explanation:
        """Where in an image the network sees its best classes: their class activation maps.

        Args:
            image: As for `predict`.
            top: Number of classes; at most 5 for an exported version.
            blocks: Names of Inception blocks, such as `["3b", "5b"]`, whose outputs to return as well.
            channel_order: Channel order of an array, as for `predict`.

        Raises:
            UserError: The image cannot be read, the network does not end in a global pool and a Dense layer
                or has no such block, the version was exported without `cam`, or it is an exported file.
        """
        if not top >= 1:
            raise UserError(f"expected `top` to be at least 1, got {top}")
        ((one,),) = batches(as_opencv(image, channel_order), 1)
        try:
            decode = decoder(turns=self.preprocessing.turns, background=self.preprocessing.background)
            pixels = decode(one.data, self.preprocessing.channels)
        except ValueError:
            raise UserError(unreadable(one.name)) from None
        network = self._with_heads or self.model
        if network is not None:
            return explanation(network, self.preprocessing, self.class_names, pixels, top, blocks)
        assert self._run is not None
        if blocks:
            raise UserError(f"{self.name} is an export, which has no blocks: explain its run")
        if is_file_of_format(Path(self.name)):
            raise UserError(f"{self.name} is a file, which has no class activation maps: explain its run")
        return _exported_explanation(self._run, self, one, pixels, top)

    def _asked(self, views: int) -> Run:
        if self._run is not None:
            return self._run
        assert self.model is not None
        return _answering(self.model.predict_on_batch, self.preprocessing, self.class_names, views)


@checked_names
def load(name: str | Path, *, variant: str = "paper") -> Classifier:
    """Load a classifier.

    Args:
        name: A network of the package (`shipped_names()`), such as `"cifar10"`. Or `"imagenet"`: published
            weights, downloaded on first use. Or the folder of a finished run, of an exported version, or of a
            model, for its highest version. Or an exported `.onnx`, `.tflite` or `.xml` file. Or the address
            of a zipped run folder with its hash: `https://.../flowers.zip#sha256=...` or
            `hf://OWNER/REPOSITORY/FILE#sha256=...`. A name of the package takes precedence over a folder of
            that name: pass `./cifar10` for the folder.
        variant: With `"imagenet"`: `"paper"` (BVLC's weights), `"torchvision"` or `"slim"`.

    Raises:
        UserError: There is no such network, or it cannot be downloaded or is damaged.
    """
    if not is_address(name) and is_file_of_format(Path(name)):
        return _of_file(Path(name))
    check_network(name)
    if name == IMAGENET:
        return _imagenet(variant)
    if is_address(name):
        return _of_run(str(name), published_run(str(name)))
    folder = located(name)
    if is_shipped(name) or (folder / CONFIG).is_file():
        return _of_run(str(name), folder)
    return _of_export(folder)


def as_opencv(images: Any, channel_order: str) -> Any:
    """Images as the client takes them: arrays of pixels in the order blue, green, red."""
    if channel_order == "bgr" or isinstance(images, str | Path | bytes | bytearray | memoryview):
        return images
    if isinstance(images, np.ndarray):
        colored = images.ndim >= 3 and images.shape[-1] == 3
        return np.ascontiguousarray(images[..., ::-1]) if colored else images
    return (as_opencv(image, channel_order) for image in images) if isinstance(images, Iterable) else images


def _answering(
    answer: Callable[[np.ndarray], np.ndarray],
    preprocessing: Preprocessing,
    class_names: Sequence[str],
    views: int = 1,
) -> Run:
    """What answers encoded images with the outputs of an exported version.

    Args:
        answer: From the network's inputs to its probabilities.
        preprocessing: From images to the network's inputs.
        class_names: In the order of the probabilities.
        views: Number of views per image.
    """
    names = np.array(class_names)
    decode = decoder(turns=preprocessing.turns, background=preprocessing.background)

    def run(signature: str, encoded: Sequence[bytes]) -> dict[str, np.ndarray]:
        try:
            pixels = [resize(decode(one, preprocessing.channels), preprocessing) for one in encoded]
        except ValueError as error:
            raise ServingError("INVALID_ARGUMENT", str(error)) from None
        probabilities = np.zeros((len(encoded), len(names)))
        for weight, view in views_of(preprocessing.normalize(np.stack(pixels)), views):
            probabilities += weight * answer(view)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP_K]
        scores = np.take_along_axis(probabilities, best, axis=1)
        return {"probabilities": probabilities, "classes": names[best], "scores": scores}

    return run


def _exported_explanation(
    run: Run, classifier: Classifier, encoded: Encoded, image: np.ndarray, top: int
) -> Explanation:
    """An explanation by an exported version's signature `cam`."""
    answer = run("serving_default", [encoded.data])
    try:
        maps = run("cam", [encoded.data])["maps"][0]
    except KeyError:
        raise UserError(
            f"{classifier.name} has no class activation maps: export it again with `cam`"
        ) from None
    best = zip(answer["classes"][0], answer["scores"][0], strict=True)
    preprocessing = classifier.preprocessing
    pixels = resize(image, preprocessing)
    return Explanation(
        pixels=as_shown(pixels),
        image=image,
        region=preprocessing.region(*image.shape[:2]),
        classes=tuple((str(label), float(score)) for label, score in best)[:top],
        maps=enlarged(maps[:top], pixels.shape[:2]),
    )


def _imagenet(variant: str) -> Classifier:
    spec = imagenet_spec(variant, aux_heads=False)
    names = imagenet_class_names()
    model = GoogLeNet(variant=spec.variant, weights=IMAGENET, aux_heads=False, classes=len(names))
    return Classifier(IMAGENET, model, names, spec.preprocessing)


def _of_run(name: str, folder: Path) -> Classifier:
    run = run_folder.load(folder)
    main = strip_aux(run.model)
    return Classifier(name, main, run.class_names, run.preprocessing, _with_heads=run.model)


def _of_export(folder: Path) -> Classifier:
    from keras_googlenet.serving.client.local import local_model

    version = version_folder(folder)
    run = local_model(version)
    try:
        told = json.loads((version / EXTRA / PROVENANCE).read_text(encoding="utf-8"))
        preprocessing = Preprocessing.from_dict(told["preprocessing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {version / EXTRA / PROVENANCE}: {error}; export it again") from None
    return Classifier(str(folder), None, run_folder.load_labels(version / EXTRA), preprocessing, run)


def _of_file(file: Path) -> Classifier:
    answer = load_file(file)
    labels, left = read_labels(file.with_suffix(LABELS)), file.with_suffix(PREPROCESSING)
    try:
        preprocessing = Preprocessing.from_dict(json.loads(left.read_text(encoding="utf-8")))
        shape = (1, preprocessing.height, preprocessing.width, preprocessing.channels)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {left}: {error}; export it again") from None
    try:
        classes = answer(np.zeros(shape, "float32")).shape[1]
    except Exception as error:  # each runtime has its own
        raise UserError(f"{file} does not fit {left.name}: {cause(error)}; export it again") from None
    if classes != len(labels):
        raise UserError(f"expected {classes} class names next to {file}, got {len(labels)}: export it again")
    return Classifier(str(file), None, labels, preprocessing, _answering(answer, preprocessing, labels))
