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

    The SavedModel holds the main head alone; `export.signatures.signatures` lists what it can be
    asked. With it come warm-up records and, in `assets.extra/`, `labels.txt` and `provenance.json`.
    Before it is published, a fresh process without Keras loads it, replays the warm-up and must
    answer as `model` does. The version then appears by one rename, so that a server never sees half
    of it; where that process fails or this one is killed, nothing appears.

    Args:
        model: A GoogLeNet with its top, trained on preprocessed images.
        directory: The model's directory: its name is the model's, its children are versions.
        class_names: In label order; by default "0", "1" and so on.
        version: The version's number; by default one more than the highest there.
        precision: What the graph computes in. Inputs and outputs are float32 either way.
        optimize: `"fold"` for any device: batch norm and ReLU are folded into the convolutions. `"cpu"`
            for a server without a GPU: the same, and weights as constants of the graph, of which each
            signature in use has a copy. `"none"` for the layers and variables as they were trained.
        cores: Of a server without a GPU that gives an operation one thread and runs so many at a time
            (`--tensorflow_intra_op_parallelism=1 --tensorflow_inter_op_parallelism=CORES`): a batch is
            answered in so many shares at a time, and long convolutions in so many parts. Not for a server
            that gives an operation several threads, which is slower with it.
        preprocessing: What the model was trained with; by default pixels scaled to -1..1, as
            `preprocess_input` does, at the model's own size and channels. Required for a model with layers
            before the first convolution, such as `Rescaling`.
        max_pixels: The largest height x width of an encoded image: larger ones are refused from their
            headers. Also bounds the decoded pixels that a request or a server's batch of several has in
            memory at a time, about 11 bytes each: images beyond it wait for each other. From the network's
            own height x width to 50 million; by default 16 million, or the network's own if it is more.
        temperature: What logits are divided by before the softmax; see `export.calibration`.
        cam: Whether to add the signature `cam`, of class activation maps.
        warmup_batch_sizes: A server runs each signature on each of these before it answers the first
            request; none for no warm-up.
        keep: How many versions to keep, the highest; by default all. Others are deleted once the new
            one is there, which always stays.
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
