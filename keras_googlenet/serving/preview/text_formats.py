"""TensorFlow Serving's configuration files, in protobuf's text format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from keras_googlenet.errors import UserError

# Two of Serving's messages are in no package. Rows: field, number, type; `[]` marks a repeated one.
# Sources: servables/tensorflow/session_bundle_config.proto and config/monitoring_config.proto.
MESSAGES = {
    "BatchingParameters": (
        ("max_batch_size", 1, "Int64Value"),
        ("batch_timeout_micros", 2, "Int64Value"),
        ("max_enqueued_batches", 3, "Int64Value"),
        ("num_batch_threads", 4, "Int64Value"),
        ("thread_pool_name", 5, "StringValue"),
        ("allowed_batch_sizes", 6, "int64[]"),
        ("pad_variable_length_inputs", 7, "bool"),
    ),
    "PrometheusConfig": (("enable", 1, "bool"), ("path", 2, "string")),
    "MonitoringConfig": (("prometheus_config", 1, "PrometheusConfig"),),
}
PACKAGE = "keras_googlenet.preview"  # not Serving's own, whose names another package may register
FIELD = descriptor_pb2.FieldDescriptorProto


def message_types(messages: Mapping[str, Sequence[tuple[str, int, str]]]) -> dict[str, Any]:
    """Message classes by name, from such rows of fields."""
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_googlenet/preview.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message_name, rows in messages.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind in rows:
            field = message.field.add(name=name, number=number)
            field.label = FIELD.LABEL_REPEATED if kind.endswith("[]") else FIELD.LABEL_OPTIONAL
            scalar = f"TYPE_{kind.removesuffix('[]').upper()}"
            if scalar in FIELD.Type.keys():  # noqa: SIM118 (an enum wrapper is not a mapping)
                field.type = FIELD.Type.Value(scalar)
            else:
                field.type = FIELD.TYPE_MESSAGE
                field.type_name = f".{PACKAGE if kind in messages else 'google.protobuf'}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in messages
    }


TYPES = message_types(MESSAGES) | {"ModelServerConfig": ModelServerConfig}


def read(path: Path, message_name: str) -> Any:
    """A configuration file as a message.

    Args:
        path: The file.
        message_name: `BatchingParameters`, `MonitoringConfig` or `ModelServerConfig`.

    Raises:
        UserError: There is no such file, or it does not parse.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    try:
        return text_format.Parse(text, TYPES[message_name]())
    except text_format.ParseError as error:
        raise UserError(
            f"expected a {message_name} in protobuf's text format in {path}, as TensorFlow Serving "
            f"takes it; at line:column {error}"
        ) from None
