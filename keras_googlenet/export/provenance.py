"""The origin of an exported version, recorded in its `assets.extra/`."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_googlenet import __version__
from keras_googlenet.data.sources import without_folders
from keras_googlenet.errors import UserError
from keras_googlenet.export.network import CONSTANTS, ServedNetwork
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.folder import read_metrics
from keras_googlenet.versions import EXTRA, PROVENANCE

HASHED = (
    "the sorted SHA-256 digests, one a line, of each of tf.train.list_variables, but its object graph, and "
    "of each constant weights/* of saved_model.pb: dtype and shape in a line, then the values"
)

# Options that name files of the training machine: only the last component is recorded.
PATHS = ("data", "run", "tfds_manual_dir", "weights", "variant", "test_split", "groups")


def write_provenance(
    folder: Path, network: ServedNetwork, details: Mapping[str, Any], origin: Mapping[str, Any]
) -> None:
    """Write `labels.txt`, a name a line in label order, and `provenance.json`.

    Args:
        folder: The version's, its variables written.
        network: The exported network.
        details: More fields about the export.
        origin: Facts about the training, such as those of `run_origin`.
    """
    extra = folder / EXTRA
    extra.mkdir(exist_ok=True)
    run_folder.write_labels(extra / run_folder.LABELS, network.class_names)
    told = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "keras_googlenet": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "network": network.model.name,
        "preprocessing": network.preprocessing.to_dict(),
        "temperature": network.temperature,
        **details,
        "weights_sha256": weights_sha256(folder),
        "weights_sha256_of": HASHED,
        **origin,
    }
    run_folder.write_json(extra / PROVENANCE, told)


def weights_sha256(folder: Path) -> str:
    """SHA-256 of a version's weights: of their values, independent of the files that store them.

    Covers each variable in `tf.train.list_variables`, except the object graph, and each constant
    `weights/...` of the graph. Hashes dtype and shape as a line of text such as `float32 (3, 4)`, then the
    values in C order, little-endian; then the sorted digests, each a line of hexadecimal digits. Names do not
    count: TensorFlow numbers variables in another order in each process.

    Args:
        folder: The version's.
    """
    digests = []
    for values in weights(folder).values():
        digest = hashlib.sha256(f"{values.dtype} {values.shape}\n".encode())
        swapped = values.byteswap() if sys.byteorder == "big" else values
        digest.update(np.ascontiguousarray(swapped).tobytes())
        digests.append(f"{digest.hexdigest()}\n")
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def weights(folder: Path) -> dict[str, np.ndarray]:
    """A version's weights by name: its variables, and the weights that are constants of its graph.

    Args:
        folder: The version's.
    """
    stored = tf.train.load_checkpoint(str(folder / "variables/variables"))
    names = set(stored.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    constants = {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for graph in saved.meta_graphs
        for function in graph.graph_def.library.function
        for node in function.node_def
        if node.op == "Const" and node.name.startswith(CONSTANTS)
    }
    return {name: stored.get_tensor(name) for name in names} | constants


def run_origin(run: Path) -> dict[str, Any]:
    """A finished run's options, figures and the metrics of its saved epoch, without the paths of its machine.

    Raises:
        UserError: Its configuration is missing or corrupt.
    """
    try:
        config = run_folder.recorded(run)
        figures = run_folder.summary(run) or {}
        for name in PATHS:
            if config.get(name) is not None:
                config[name] = _last_component(config[name])
        metrics = read_metrics(run) if (run / run_folder.METRICS).is_file() else {}
        epoch = figures.get("saved_epoch", 0)
        if any(len(values) < epoch for values in metrics.values()):
            raise UserError(
                f"{run / run_folder.METRICS} has no row of epoch {epoch}, which was saved: restore it"
            )
        config["skipped_files"] = [Path(name).name for name in config.get("skipped_files", ())]
    except UserError:
        raise
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{run / run_folder.CONFIG} is not a run's configuration ({error!r})") from None
    return {
        "run": {
            "config": config,
            "summary": figures,
            "metrics": {name: values[epoch - 1] for name, values in metrics.items()},
            "model_keras_sha256": hashlib.sha256((run / run_folder.MODEL).read_bytes()).hexdigest(),
        }
    }


def _last_component(value: str) -> str:
    return value if value.startswith("every:") else without_folders(value)
