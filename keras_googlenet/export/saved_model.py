"""Export for TensorFlow Serving: the main head alone, preprocessing inside the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_googlenet.errors import UserError, checked_names
from keras_googlenet.export import reference
from keras_googlenet.export.network import served_network
from keras_googlenet.export.progress import stage
from keras_googlenet.export.provenance import write_provenance
from keras_googlenet.export.publish import check_free, prune, publish, staging
from keras_googlenet.export.signatures import Signature, signatures
from keras_googlenet.export.verify import TOLERANCES, verify
from keras_googlenet.export.warmup import check_batch_sizes, write_warmup
from keras_googlenet.images.spec import MAX_PIXELS, SERVED_PIXELS, Preprocessing
from keras_googlenet.text import reason
from keras_googlenet.versions import MAX_VERSION, WARMUP_BATCH_SIZES


@checked_names
def export_saved_model(
    model: keras.Model,
    directory: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    version: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    optimize: Literal["none", "fold", "cpu"] = "fold",
    cores: int = 1,
    preprocessing: Preprocessing | None = None,
    max_pixels: int | None = None,
    temperature: float = 1.0,
    cam: bool = False,
    warmup_batch_sizes: Sequence[int] = WARMUP_BATCH_SIZES,
    keep: int | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Path:
    """Write `model` as the next version in a TensorFlow Serving model directory.

    The SavedModel has the main head only; `export.signatures.signatures` lists its signatures. The version
    also contains warm-up records and, in `assets.extra/`, `labels.txt` and `provenance.json`. Before
    publication, a fresh process without Keras loads the version, replays the warm-up and compares its answers
    with those of `model`. The version then appears with a single rename, so a server never sees half of it.
    If the check fails or this process is killed, nothing appears.

    Args:
        model: A GoogLeNet with its top, trained on preprocessed images.
        directory: The model's directory: its name is the model's, its children are versions.
        class_names: In label order; by default "0", "1" and so on.
        version: Version number; by default the highest existing one plus 1.
        precision: Precision of the graph. Inputs and outputs are float32 in either case.
        optimize: `"fold"` for any device: batch norm and ReLU are folded into the convolutions. `"cpu"`
            for a server without a GPU: the same, and weights as constants of the graph, of which each
            signature in use has a copy. `"none"` for the layers and variables as they were trained.
        cores: Split each batch and the long convolutions into this many parts. For a server without a GPU
            that runs each operation on one thread (`--tensorflow_intra_op_parallelism=1
            --tensorflow_inter_op_parallelism=CORES`); a server with several threads per operation is slower
            with it.
        preprocessing: What the model was trained with; by default pixels scaled to -1..1, as
            `preprocess_input` does, at the model's own size and channels. Required for a model with layers
            before the first convolution, such as `Rescaling`.
        max_pixels: Largest height x width of an encoded image; larger ones are rejected by their headers. It
            also bounds the decoded pixels of a batch in memory, about 11 bytes each: a batch with more is
            decoded one image at a time. From the network's height x width to 50 million; by default 16
            million, or the network's height x width if that is more.
        temperature: Divisor of the logits before the softmax; see `export.calibration`.
        cam: Whether to add the signature `cam`, of class activation maps.
        warmup_batch_sizes: Batch sizes on which a server runs each signature before it answers the first
            request; empty for no warm-up.
        keep: Keep only this many of the highest versions; by default all. Others are deleted after the new
            version, which is always kept, has appeared.
        origin: More fields for `provenance.json`, as JSON types.

    Returns:
        The version's folder.

    Raises:
        UserError: The model, the class names, the version or an option do not fit, Keras does not run
            on TensorFlow, the folder cannot be written, or the export does not answer as the model.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"export needs Keras on TensorFlow, not {keras.backend.backend()}: save the model and "
            "run `keras-googlenet export`, or set KERAS_BACKEND=tensorflow"
        )
    if version is not None and not 0 <= version <= MAX_VERSION:
        raise UserError(f"expected `version` to be at least 0, got {version}")
    if keep is not None and keep < 1:
        raise UserError(f"expected `keep` to be at least 1, got {keep}")
    with stage("preparing the network"):
        network = served_network(
            model,
            preprocessing,
            class_names,
            temperature=temperature,
            precision=precision,
            cam=cam,
            optimize=optimize,
            cores=cores,
        )
    max_pixels = _checked_max_pixels(max_pixels, network.preprocessing)
    offered = signatures(network, cam=cam, max_pixels=max_pixels)
    check_batch_sizes(warmup_batch_sizes, len(offered))
    directory = Path(directory)
    if version is not None:
        check_free(directory, version)  # before the work, which takes a minute
    details = {
        "precision": precision,
        "optimize": optimize,
        "cores": cores,
        "max_pixels": max_pixels,
        "signatures": list(offered),
        "warmup_batch_sizes": list(warmup_batch_sizes),
    }
    with staging(directory) as folder:
        try:
            with stage("writing the graph"):
                _write(folder, offered)
            with stage("writing warm-up requests"):
                records = write_warmup(
                    folder, offered, network.preprocessing, warmup_batch_sizes, directory.absolute().name
                )
            write_provenance(folder, network, details, origin or {})
        except (OSError, tf.errors.OpError) as error:
            raise _cannot_write(directory, error) from None
        requests = reference.requests(network, max_pixels=max_pixels)
        asked = {name: inputs for name, inputs in requests.items() if name in offered}
        with stage("checking its answers in a fresh process"):
            verify(
                folder,
                asked,
                lambda: reference.answers(model, network, asked, preprocessing, precision=precision, cam=cam),
                tolerance=TOLERANCES[precision],
                records=records,
            )
        try:
            made = publish(folder, directory, version)
        except OSError as error:  # some file systems report only now that they are full
            raise _cannot_write(directory, error) from None
        if keep is not None:
            prune(directory, keep, made)
        return made


def _checked_max_pixels(max_pixels: int | None, preprocessing: Preprocessing) -> int:
    least = preprocessing.height * preprocessing.width
    if max_pixels is None:
        return max(SERVED_PIXELS, least)
    if not least <= max_pixels <= MAX_PIXELS:
        raise UserError(
            f"expected `max_pixels` from {least}, the network's {preprocessing.height} x "
            f"{preprocessing.width}, to {MAX_PIXELS}, got {max_pixels}"
        )
    return max_pixels


def _cannot_write(directory: Path, error: Exception) -> UserError:
    return UserError(f"cannot write in {directory}, nothing is published: {reason(error)}")


def _write(folder: Path, offered: Mapping[str, Signature]) -> None:
    archive = keras.export.ExportArchive()
    # Nothing is tracked: endpoints keep just the variables they use.
    for name, signature in offered.items():
        archive.add_endpoint(name, signature.function, [signature.input])
    archive.write_out(str(folder), verbose=False)
