"""Read the floating-point tensors of each source's files, by their names there."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.errors import UserError

Tensors = dict[str, np.ndarray]


def read_onnx(path: Path) -> Tensors:
    """Initializers of an ONNX graph; integers (shapes of Reshape nodes) are not weights."""
    onnx = _required("onnx", "onnx")
    from onnx import numpy_helper

    initializers = onnx.load(str(path)).graph.initializer
    if not initializers:
        raise ValueError("it has no initializer")
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in initializers}
    return {name: array for name, array in arrays.items() if np.issubdtype(array.dtype, np.floating)}


def read_torch(path: Path) -> Tensors:
    """A PyTorch state dict. `weights_only`, so that nothing in the pickle is executed."""
    torch = _required("torch", "torch")
    state = torch.load(path, map_location="cpu", weights_only=True)
    # num_batches_tracked counts steps; it is not a weight.
    return {name: tensor.numpy() for name, tensor in state.items() if tensor.is_floating_point()}


def read_checkpoint(path: Path) -> Tensors:
    """A TensorFlow checkpoint: its prefix, its index file, or a .tar.gz that holds one."""
    import tensorflow as tf

    if path.name.endswith((".tar.gz", ".tgz")):
        with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
            found = sorted(
                {p.with_suffix("") if p.suffix == ".index" else p for p in Path(folder).rglob("*.ckpt*")}
            )
            prefixes = [p for p in found if p.suffix == ".ckpt"]
            if len(prefixes) != 1:
                raise ValueError(f"expected one checkpoint in it, found {len(prefixes)}")
            return read_checkpoint(prefixes[0])
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    reader = tf.train.load_checkpoint(str(prefix))
    arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    return {name: array for name, array in arrays.items() if np.issubdtype(array.dtype, np.floating)}


def read_caffe(path: Path) -> Tensors:
    """Blobs of a `.caffemodel`, named `layer:index`, in the new and the old format of the file."""
    net = _caffe_message("NetParameter")()
    net.ParseFromString(path.read_bytes())
    tensors = {}
    for layer in [*net.layer, *net.layers]:
        for index, blob in enumerate(layer.blobs):
            shape = list(blob.shape.dim) or [blob.num, blob.channels, blob.height, blob.width]
            values = np.array(blob.data, "float32").reshape(shape)
            # The old format gives a bias four dimensions.
            tensors[f"{layer.name}:{index}"] = values.reshape(-1) if index else values
    if not tensors:
        raise ValueError("it has no layer with weights")
    return tensors


READERS: dict[str, Callable[[Path], Tensors]] = {
    "onnx": read_onnx,
    "caffe": read_caffe,
    "torchvision": read_torch,
    "slim": read_checkpoint,
}


def read(path: Path, source: str) -> Tensors:
    """Read a source's file.

    Raises:
        UserError: It is missing, truncated or of another kind, or its library is not installed.
    """
    if not path.is_file() and not path.with_name(path.name + ".index").is_file():
        raise UserError(f"no weights file at {path}")
    try:
        return READERS[source](path)
    except UserError:
        raise
    except Exception as error:  # whatever the library raises on a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"cannot read {path} as {source} weights: {reason}") from error


def _required(module: str, extra: str) -> Any:
    try:
        return __import__(module)
    except ModuleNotFoundError:
        raise UserError(
            f'{module} is needed to read these weights: pip install "keras-googlenet[{extra}]"'
        ) from None


# The few fields of caffe.proto that hold weights: (message, field, number, type, repeated).
CAFFE_FIELDS = (
    ("BlobShape", "dim", 1, "int64", True),
    ("BlobProto", "num", 1, "int32", False),
    ("BlobProto", "channels", 2, "int32", False),
    ("BlobProto", "height", 3, "int32", False),
    ("BlobProto", "width", 4, "int32", False),
    ("BlobProto", "data", 5, "float", True),
    ("BlobProto", "shape", 7, "BlobShape", False),
    ("V1LayerParameter", "name", 4, "string", False),
    ("V1LayerParameter", "blobs", 6, "BlobProto", True),
    ("LayerParameter", "name", 1, "string", False),
    ("LayerParameter", "blobs", 7, "BlobProto", True),
    ("NetParameter", "layers", 2, "V1LayerParameter", True),
    ("NetParameter", "layer", 100, "LayerParameter", True),
)


def _caffe_message(name: str) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="caffe_weights.proto", package="caffe")
    kinds = descriptor_pb2.FieldDescriptorProto
    messages: dict[str, Any] = {}
    for message, field, number, kind, repeated in CAFFE_FIELDS:
        if message not in messages:
            messages[message] = file.message_type.add(name=message)
        row = messages[message].field.add(name=field, number=number)
        row.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        if kind[0].isupper():
            row.type, row.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
        else:
            row.type = getattr(kinds, f"TYPE_{kind.upper()}")
            row.options.packed = repeated
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
