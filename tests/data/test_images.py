import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_googlenet.data.images import MAX_PIXELS, antialiased, decode_image, load_images, resize
from keras_googlenet.preprocessing import Preprocessing

COLOUR = np.random.default_rng(1).integers(0, 256, (45, 61, 3), dtype=np.uint8)  # RGB noise
GREY = COLOUR[..., 0]


def encode(rgb: np.ndarray, suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, rgb[..., ::-1] if rgb.ndim == 3 else rgb, options)[1].tobytes()


def opencv_rgb(encoded: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def pillow(rgb: np.ndarray, suffix: str, mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).convert(mode).save(buffer, suffix, **options)
    return buffer.getvalue()


def largest_difference(a, b) -> float:
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    assert a.shape == b.shape
    return np.abs(a - b).max()


JPEG = encode(COLOUR, ".jpg")
PNG = encode(COLOUR, ".png")


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_jpeg_has_opencvs_colours(quality):
    encoded = encode(COLOUR, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)
    assert largest_difference(decode_image(encoded, 3), opencv_rgb(encoded)) <= 1


@pytest.mark.parametrize(
    "encoded",
    [pillow(COLOUR, "jpeg", progressive=True), encode(GREY, ".jpg")],
    ids=["progressive", "grey"],
)
def test_other_jpegs_have_opencvs_colours(encoded):
    assert largest_difference(decode_image(encoded, 3), opencv_rgb(encoded)) <= 1


def test_png_is_exact():
    pixels = decode_image(PNG, 3)
    assert pixels.dtype == tf.uint8
    np.testing.assert_array_equal(pixels, COLOUR)


@pytest.mark.parametrize("encoded", [JPEG, PNG], ids=["jpeg", "png"])
def test_one_channel_is_opencvs_luma(encoded):
    pixels = decode_image(encoded, 1)
    assert pixels.dtype == tf.uint8
    expected = cv2.cvtColor(np.ascontiguousarray(opencv_rgb(encoded)), cv2.COLOR_RGB2GRAY)
    assert largest_difference(pixels[..., 0], expected) <= 1


def test_alpha_is_dropped():
    alpha = np.full((*GREY.shape, 1), 7, np.uint8)
    encoded = cv2.imencode(".png", np.concatenate([COLOUR[..., ::-1], alpha], axis=-1))[1].tobytes()
    np.testing.assert_array_equal(decode_image(encoded, 3), COLOUR)


def test_grey_png_is_repeated_in_three_channels():
    np.testing.assert_array_equal(decode_image(encode(GREY, ".png"), 3), np.stack([GREY] * 3, axis=-1))


def test_grey_png_keeps_its_values_in_one_channel():
    np.testing.assert_array_equal(decode_image(encode(GREY, ".png"), 1)[..., 0], GREY)


def test_palette_png():
    encoded = pillow(COLOUR, "png", mode="P")
    np.testing.assert_array_equal(decode_image(encoded, 3), opencv_rgb(encoded))


def test_sixteen_bit_png_keeps_the_high_byte():
    encoded = cv2.imencode(".png", COLOUR[..., ::-1].astype("uint16") * 257)[1].tobytes()
    np.testing.assert_array_equal(decode_image(encoded, 3), COLOUR)


# --- refusals ------------------------------------------------------------------------------------


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose chunks are sound and whose header announces a size, over a few bytes of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_of_size(width: int, height: int) -> bytes:
    """`JPEG` with another size in its start-of-frame header."""
    size = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:size] + struct.pack(">HH", height, width) + JPEG[size + 4 :]


def flip_byte(encoded: bytes, index: int) -> bytes:
    return encoded[:index] + bytes([encoded[index] ^ 0xFF]) + encoded[index + 1 :]


OTHER = {"empty": b"", "text": b"text", "gif": pillow(COLOUR, "gif"), "bmp": encode(COLOUR, ".bmp")}
CORRUPT = {
    "truncated png": PNG[: len(PNG) // 2],
    "png without its end": PNG[:-12],
    "png with a wrong checksum": flip_byte(PNG, 200),
    "png header cut short": PNG[:20],
    "png magic alone": PNG[:8],
    "truncated jpeg": JPEG[: len(JPEG) // 2],
    "jpeg header cut short": JPEG[:30],
    "jpeg magic alone": JPEG[:3],
}


@pytest.mark.parametrize("encoded", OTHER.values(), ids=OTHER)
def test_other_formats_are_refused(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected the bytes of a JPEG or PNG image"):
        decode_image(encoded, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoded", CORRUPT.values(), ids=CORRUPT)
def test_corrupt_images_are_refused(encoded, channels):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(encoded, channels)


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(png_of_size(20_000, 20_000), id="png 20000 x 20000"),
        pytest.param(png_of_size(MAX_PIXELS + 1, 1), id="png one pixel too many"),
        pytest.param(png_of_size(2**31 - 1, 2**31 - 1), id="png largest int32"),
        pytest.param(png_of_size(2**32 - 1, 2**32 - 1), id="png negative int32"),
        pytest.param(png_of_size(0, 10), id="png without width"),
        pytest.param(jpeg_of_size(60_000, 60_000), id="jpeg 60000 x 60000"),
    ],
)
def test_size_in_the_header_is_refused(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected an image of 1 to"):
        decode_image(encoded, 3)


# --- resizing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(45, 100), (80, 61), (90, 122), (224, 224)])
def test_enlarging_is_opencvs_bilinear(size):
    expected = cv2.resize(COLOUR.astype("float32"), size[::-1], interpolation=cv2.INTER_LINEAR)
    assert largest_difference(resize(COLOUR, Preprocessing(*size)), expected) <= 0.5


@pytest.mark.parametrize("size", [(9, 7), (31, 31), (44, 60), (20, 200)])
def test_shrinking_is_pillows_antialiased_bilinear(size):
    expected = Image.fromarray(COLOUR).resize(size[::-1], Image.Resampling.BILINEAR)
    assert largest_difference(resize(COLOUR, Preprocessing(*size)), expected) <= 1.5


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(9, 7), (31, 31), (20, 200), (90, 122)])
@pytest.mark.parametrize("pixels", [COLOUR, GREY[..., None], np.stack([COLOUR] * 2)], ids=["3", "1", "batch"])
def test_antialiased_is_tensorflow_s_to_the_bit(pixels, size, method):
    expected = tf.image.resize(pixels, size, method, antialias=True)
    np.testing.assert_array_equal(antialiased(pixels, size, method), expected)


def test_same_size_changes_nothing():
    np.testing.assert_array_equal(resize(COLOUR, Preprocessing(*GREY.shape)), COLOUR.astype("float32"))


@pytest.mark.parametrize("channels", [1, 3])
def test_load_images_is_each_image_alone(channels):
    encoded = [JPEG, PNG, encode(GREY[:20, :30], ".png")]
    preprocessing = Preprocessing(50, 40, channels)
    batch = load_images(tf.constant(encoded), preprocessing)
    assert batch.dtype == tf.float32
    for one, bytes_ in zip(batch, encoded, strict=True):
        assert largest_difference(one, resize(decode_image(bytes_, channels), preprocessing)) <= 1e-3


@pytest.mark.parametrize("size", [(90, 122), (31, 31)], ids=["enlarging", "shrinking"])
def test_graph_gives_what_eager_gives(size):
    preprocessing = Preprocessing(*size)
    encoded = tf.constant([JPEG, PNG])
    in_graph = tf.function(lambda images: load_images(images, preprocessing))(encoded)
    for one, bytes_ in zip(in_graph, [JPEG, PNG], strict=True):
        assert largest_difference(one, resize(decode_image(bytes_, 3), preprocessing)) <= 1e-2


def test_graph_refuses_a_batch_with_one_corrupt_image():
    in_graph = tf.function(lambda images: load_images(images, Preprocessing(8, 8)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        in_graph(tf.constant([PNG, PNG[:100]]))


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (100, 90)])
@pytest.mark.parametrize("keep_aspect", [False, True])
def test_centre_crop_is_pillow_s(size, keep_aspect, random):
    """The whole image, or its shorter side, to 64 pixels; then the middle 56."""
    smooth = cv2.GaussianBlur(random.integers(0, 256, (*size, 3), dtype=np.uint8), (0, 0), 3)
    height, width = size
    scale = 64 / min(size)
    target = (round(width * scale), round(height * scale)) if keep_aspect else (64, 64)
    resized = Image.fromarray(smooth).resize(target, Image.Resampling.BILINEAR)
    left, top = ((side - 56) // 2 for side in target)
    expected = np.asarray(resized.crop((left, top, left + 56, top + 56)), "float32")
    specification = Preprocessing(56, 56, crop_fraction=0.875, keep_aspect=keep_aspect)
    result = resize(tf.constant(smooth), specification)
    assert result.shape == (56, 56, 3)
    np.testing.assert_allclose(result.numpy(), expected, atol=1.5)
