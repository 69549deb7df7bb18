"""The same as `images.exif`, in TensorFlow: for tf.data and for an exported graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_googlenet.images.exif import (
    APP1,
    EXIF,
    MOST_ENTRIES,
    MOST_SEGMENTS,
    ORIENTATIONS,
    PNG_KIND,
    REVERSED_COLUMNS,
    REVERSED_ROWS,
    SHORT,
    SOS,
    TAG,
    TRANSPOSED,
    UPRIGHT,
    WEBP_FIRST,
    WEBP_KIND,
)
from keras_googlenet.images.headers_graph import is_jpeg, is_png, is_webp
from keras_googlenet.images.spec import PNG_MAGIC

Tensor = Any


class Bytes(NamedTuple):
    """A range of a file's bytes: uint8, and its start and end, int64 scalars."""

    values: Tensor
    start: Tensor
    end: Tensor

    def holds(self, at: Tensor, count: int) -> Tensor:
        """Whether `count` bytes from `at` on, counted from the file's start, are among them."""
        return (at >= self.start) & (at + count <= self.end)

    def begins(self, at: Tensor, sign: bytes) -> Tensor:
        """Whether the bytes from `at` on are `sign`; of any value beyond the end."""
        places = at + tf.range(len(sign), dtype=tf.int64)
        found = tf.gather(self.values, tf.clip_by_value(places, 0, tf.size(self.values, tf.int64) - 1))
        return tf.reduce_all(found == tf.constant(list(sign), tf.uint8))

    def number(self, at: Tensor, count: int, big: Tensor | bool) -> Tensor:
        """The number, int64, that `count` bytes from `at` on make; of any value beyond the end."""
        places = at[..., tf.newaxis] + tf.range(count, dtype=tf.int64)
        last = tf.size(self.values, tf.int64) - 1
        found = tf.cast(tf.gather(self.values, tf.clip_by_value(places, 0, last)), tf.int64)
        powers = [256**power for power in range(count)]
        # Reversed here: reversing it in the graph makes Grappler's layout optimizer fail (TensorFlow 2.21).
        each = tf.where(big, tf.constant(powers[::-1], tf.int64), tf.constant(powers, tf.int64))
        return tf.reduce_sum(found * each, axis=-1)


def orientation(encoded: Tensor) -> Tensor:
    """The orientation of an encoded image, a scalar string: int32, 1 to 8; see `exif.orientation`."""

    def found(sign: bytes, find: Callable[[Bytes], Bytes]) -> Tensor:
        def parsed() -> Tensor:
            with tf.device("CPU"):  # few and small numbers, which a GPU would be sent one by one
                values = tf.io.decode_raw(encoded, tf.uint8)
                file = Bytes(values, tf.constant(0, tf.int64), tf.size(values, tf.int64))
                return _in_directory(find(file))

        # Most images have none: then nothing is parsed.
        has_sign = tf.size(tf.strings.split(encoded, sign, maxsplit=1)) > 1
        return tf.cond(has_sign, parsed, lambda: tf.constant(UPRIGHT))

    def of_webp_or_none() -> Tensor:
        return tf.cond(is_webp(encoded), lambda: found(WEBP_KIND, _of_webp), lambda: tf.constant(UPRIGHT))

    def of_others() -> Tensor:
        return tf.cond(is_png(encoded), lambda: found(PNG_KIND, _of_png), of_webp_or_none)

    return tf.cond(is_jpeg(encoded), lambda: found(EXIF, _of_jpeg), of_others)


def upright(pixels: Tensor, turned: Tensor) -> Tensor:
    """Pixels (height, width, channels) of an image of that orientation, turned upright."""

    def turn() -> Tensor:
        turned_over = tf.cond(turned >= TRANSPOSED, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
        for axis, reversed_in in ((0, REVERSED_ROWS), (1, REVERSED_COLUMNS)):
            is_reversed = tf.reduce_any(tf.equal(turned, reversed_in))
            turned_over = tf.cond(
                is_reversed, lambda x=turned_over, axis=axis: tf.reverse(x, [axis]), lambda x=turned_over: x
            )
        return turned_over

    result = tf.cond(turned > UPRIGHT, turn, lambda: pixels)
    return tf.ensure_shape(result, (None, None, pixels.shape[-1]))


def _of_jpeg(file: Bytes) -> Bytes:
    def step(at: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mark, code, length = (
            file.number(at, 1, True),
            file.number(at + 1, 1, True),
            file.number(at + 2, 2, True),
        )
        going = file.holds(at, 4) & (mark == 0xFF) & (code != SOS)
        after = tf.minimum(at + 2 + length, file.end)
        content = at + 4 + len(EXIF)
        is_exif = going & (code == APP1) & (content <= after) & file.begins(at + 4, EXIF)
        following = tf.where(going, tf.where(code == 0xFF, at + 1, at + 2 + length), file.end)
        return (
            tf.where(is_exif, file.end, following),
            tf.where(is_exif, content, start),
            tf.where(is_exif, after, end),
        )

    return _walk(file, 2, step)


def _of_png(file: Bytes) -> Bytes:
    return _of_chunks(file, len(PNG_MAGIC), PNG_KIND, big=True)


def _of_webp(file: Bytes) -> Bytes:
    found = _of_chunks(file, WEBP_FIRST, WEBP_KIND, big=False)
    has_prefix = found.holds(found.start, len(EXIF)) & found.begins(found.start, EXIF)
    return found._replace(start=found.start + tf.where(has_prefix, tf.constant(len(EXIF), tf.int64), 0))


def _of_chunks(file: Bytes, first: int, kind: bytes, *, big: bool) -> Bytes:
    """The first chunk of a kind, or nothing; see `exif.chunk`. PNG's numbers are big-endian."""

    def step(at: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        going = file.holds(at, 8)
        length = file.number(at if big else at + 4, 4, big)
        is_kind = going & file.begins(at + 4 if big else at, kind)
        following = at + 12 + length if big else at + 8 + length + length % 2
        return (
            tf.where(going & ~is_kind, following, file.end),
            tf.where(is_kind, at + 8, start),
            tf.where(is_kind, tf.minimum(at + 8 + length, file.end), end),
        )

    return _walk(file, first, step)


def _walk(file: Bytes, first: int, step: Any) -> Bytes:
    """Go from `first` on until a step has found its part, or is at the end; an empty part if none has."""
    zero = tf.constant(0, tf.int64)
    _, start, end = tf.while_loop(
        lambda at, start, end: at < file.end,
        step,
        (tf.constant(first, tf.int64), zero, zero),
        maximum_iterations=MOST_SEGMENTS,
    )
    return Bytes(file.values, start, end)


def _in_directory(tiff: Bytes) -> Tensor:
    """The orientation in the first directory of a TIFF structure."""
    order = tiff.number(tiff.start, 4, True)
    big = tf.equal(order, int.from_bytes(b"MM\0*", "big"))
    known = tiff.holds(tiff.start, 8) & (big | tf.equal(order, int.from_bytes(b"II*\0", "big")))
    at = tiff.start + tiff.number(tiff.start + 4, 4, big)
    known &= tiff.holds(at, 2)
    entries = tf.where(known, tf.minimum(tiff.number(at, 2, big), MOST_ENTRIES), 0)
    places = at + 2 + 12 * tf.range(entries, dtype=tf.int64)
    places = tf.boolean_mask(places, (places + 10 <= tiff.end) & (tiff.number(places, 2, big) == TAG))

    def read() -> Tensor:
        place = places[0]
        kind, count, value = (
            tiff.number(place + 2, 2, big),
            tiff.number(place + 4, 4, big),
            tiff.number(place + 8, 2, big),
        )
        fine = (kind == SHORT) & (count == 1) & (value >= ORIENTATIONS[0]) & (value <= ORIENTATIONS[-1])
        return tf.cast(tf.where(fine, value, UPRIGHT), tf.int32)

    return tf.cond(tf.size(places) > 0, read, lambda: tf.constant(UPRIGHT))
