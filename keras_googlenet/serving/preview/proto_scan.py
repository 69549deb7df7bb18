"""Checks a serialized protocol buffer before it is parsed: two bytes of it can become a hundred in memory.

Format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from keras_googlenet.serving.preview.errors import StatusError, invalid

MAX_FIELDS = 200_000  # of a message and those in it; packed numbers are one field
MAX_PACKED_BYTES = 3 * 2**23  # a packed number of one byte takes eight, and twice that while a list grows
VARINT, FIXED64, DELIMITED, GROUP, END_GROUP, FIXED32 = range(6)
GZIP, ZLIB = b"\x1f\x8b", b"\x78"  # no request that Serving knows begins with either
VARINTS = {
    getattr(FieldDescriptor, f"TYPE_{name}")
    for name in ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "BOOL", "ENUM")
}


def parse(kind: Any, data: bytes) -> Any:
    """A message from its bytes.

    Args:
        kind: The message's class.
        data: Its bytes.

    Raises:
        StatusError: They are corrupt, or have more fields than any legitimate request.
    """
    try:
        check_fields(data, kind.DESCRIPTOR)
        return kind.FromString(data)
    except (DecodeError, IndexError):
        raise invalid(f"expected a serialized {kind.DESCRIPTOR.name}: the message is corrupt") from None


def unpack(data: bytes, limit: int) -> bytes:
    """The bytes of a message that a client may have compressed (gRPC's `gzip` and `deflate`).

    Raises:
        StatusError: They are corrupt, or more than `limit`.
    """
    if not data.startswith((GZIP, ZLIB)):
        return data
    unpacker = zlib.decompressobj(47)  # of either kind
    try:
        unpacked = unpacker.decompress(data, limit + 1)
    except zlib.error:
        raise invalid("cannot decompress the message") from None
    if len(unpacked) > limit:
        raise too_long(limit)
    return unpacked


def too_long(limit: int) -> StatusError:
    """A message is beyond the limit."""
    return invalid(f"expected a message of at most {limit} bytes once decompressed (--max-request-bytes)")


def check_fields(data: bytes, descriptor: Descriptor) -> None:
    """Refuse a message of very many fields.

    Raises:
        StatusError: There are more than `MAX_FIELDS`, or more than `MAX_PACKED_BYTES` of packed integers.
        IndexError: The message ends within a field.
    """
    left, packed = MAX_FIELDS, MAX_PACKED_BYTES
    pending: list[tuple[int, int, Descriptor]] = [(0, len(data), descriptor)]
    while pending:
        place, end, kind = pending.pop()
        messages, integers = _fields(kind)
        while place < end:
            left -= 1
            if left < 0:
                raise invalid(f"expected a message of at most {MAX_FIELDS} fields")
            tag, place = _varint(data, place)
            wire, number = tag & 7, tag >> 3
            if wire == VARINT:
                _, place = _varint(data, place)
            elif wire == FIXED64:
                place += 8
            elif wire == FIXED32:
                place += 4
            elif wire == DELIMITED:
                length, place = _varint(data, place)
                if place + length > end:
                    raise IndexError
                if number in messages:
                    pending.append((place, place + length, messages[number]))
                elif number in integers:
                    packed -= length
                    if packed < 0:
                        raise invalid(f"expected at most {MAX_PACKED_BYTES} bytes of packed integers")
                place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    byte = data[place]
    if byte < 128:
        return byte, place + 1
    value, shift = byte & 127, 7
    while True:
        place += 1
        byte = data[place]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place + 1
        shift += 7
        if shift > 63:
            raise IndexError


@functools.cache
def _fields(descriptor: Descriptor) -> tuple[dict[int, Descriptor], frozenset[int]]:
    """Of a message: those of its fields that are messages, by number, and those of integers."""
    messages = {
        field.number: field.message_type for field in descriptor.fields if field.message_type is not None
    }
    integers = frozenset(field.number for field in descriptor.fields if field.type in VARINTS)
    return messages, integers
