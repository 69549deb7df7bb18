import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from conftest import run_python
from PIL import Image

from keras_googlenet.images import tensorflow as images
from keras_googlenet.images.spec import JPEG_SCAN, MAX_SCANS, MAX_SIDE, Preprocessing
from keras_googlenet.images.tensorflow import MAX_PIXELS, antialiased, decode_image, load_images, resize

COLOR = np.random.default_rng(1).integers(0, 256, (45, 61, 3), dtype=np.uint8)  # RGB noise
GRAY = COLOR[..., 0]


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


JPEG = encode(COLOR, ".jpg")
PNG = encode(COLOR, ".png")


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_jpeg_has_opencvs_colors(quality):
    encoded = encode(COLOR, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)
    assert largest_difference(decode_image(encoded, 3), opencv_rgb(encoded)) <= 1


@pytest.mark.parametrize(
    "encoded",
    [pillow(COLOR, "jpeg", progressive=True), encode(GRAY, ".jpg")],
    ids=["progressive", "gray"],
)
def test_other_jpegs_have_opencvs_colors(encoded):
    assert largest_difference(decode_image(encoded, 3), opencv_rgb(encoded)) <= 1


def test_png_is_exact():
    pixels = decode_image(PNG, 3)
    assert pixels.dtype == tf.uint8
    np.testing.assert_array_equal(pixels, COLOR)


@pytest.mark.parametrize("encoded", [JPEG, PNG], ids=["jpeg", "png"])
def test_one_channel_is_opencvs_luma(encoded):
    pixels = decode_image(encoded, 1)
    assert pixels.dtype == tf.uint8
    expected = cv2.cvtColor(np.ascontiguousarray(opencv_rgb(encoded)), cv2.COLOR_RGB2GRAY)
    assert largest_difference(pixels[..., 0], expected) <= 1


def test_alpha_may_be_dropped():
    alpha = np.full((*GRAY.shape, 1), 7, np.uint8)
    encoded = cv2.imencode(".png", np.concatenate([COLOR[..., ::-1], alpha], axis=-1))[1].tobytes()
    np.testing.assert_array_equal(decode_image(encoded, 3, background=None), COLOR)


def test_gray_png_is_repeated_in_three_channels():
    np.testing.assert_array_equal(decode_image(encode(GRAY, ".png"), 3), np.stack([GRAY] * 3, axis=-1))


def test_gray_png_keeps_its_values_in_one_channel():
    np.testing.assert_array_equal(decode_image(encode(GRAY, ".png"), 1)[..., 0], GRAY)


def test_palette_png():
    encoded = pillow(COLOR, "png", mode="P")
    np.testing.assert_array_equal(decode_image(encoded, 3), opencv_rgb(encoded))


def test_sixteen_bit_png_keeps_the_high_byte():
    encoded = cv2.imencode(".png", COLOR[..., ::-1].astype("uint16") * 257)[1].tobytes()
    np.testing.assert_array_equal(decode_image(encoded, 3), COLOR)


# --- refusals ------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int, before: bytes = b"", pixels: bytes = bytes(1000)) -> bytes:
    """A PNG whose chunks are sound and whose header announces a size, over a few bytes of data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + before + chunks


def black_png(width: int, height: int, before: bytes = b"") -> bytes:
    """A whole PNG."""
    return png_of_size(width, height, before, bytes((1 + 3 * width) * height))


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are so many."""
    encoded = pillow(COLOR, "jpeg", progressive=True)
    last = encoded[encoded.rindex(b"\xff\xda") : -2]
    scans = encoded.count(b"\xff\xda\0")
    return encoded[:-2] + last * (count - scans) + b"\xff\xd9"


def jpeg_of_size(width: int, height: int) -> bytes:
    """`JPEG` with another size in its start-of-frame header."""
    size = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:size] + struct.pack(">HH", height, width) + JPEG[size + 4 :]


def flip_byte(encoded: bytes, index: int) -> bytes:
    return encoded[:index] + bytes([encoded[index] ^ 0xFF]) + encoded[index + 1 :]


OTHER = {"empty": b"", "text": b"text", "gif": pillow(COLOR, "gif"), "tiff": pillow(COLOR, "tiff")}
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
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected the bytes of a JPEG, PNG, BMP"):
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


# What a reader of the first chunk's first bytes takes for a size of 8 x 8.
FIRST_CHUNKS = {
    kind: chunk(kind, struct.pack(">II", 8, 8) + bytes(5)) for kind in (b"fcTL", b"viSu", b"CgBI")
}


@pytest.mark.parametrize("before", FIRST_CHUNKS.values(), ids=FIRST_CHUNKS)
def test_a_png_whose_first_chunk_is_not_ihdr_is_refused(before):
    """libpng skips the chunk, and would decode the 400 million pixels that the second announces."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="whose first chunk is IHDR"):
        decode_image(png_of_size(20_000, 20_000, before), 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="whose first chunk is IHDR"):
        decode_image(black_png(8, 8, before), 3)


@pytest.mark.parametrize("size", [(MAX_SIDE + 1, 1), (1, MAX_SIDE + 1)])
def test_a_side_that_is_too_long_is_refused(size):
    """3 KB of a PNG of 1,000,000 x 1 pixels took 5 GiB to resize to 224 x 224."""
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {MAX_SIDE} a side"):
        decode_image(black_png(*size), 3)


def test_a_jpeg_of_many_scans_is_refused():
    """20,000 of them, 1.6 MB, kept a core busy for 73 s."""
    assert decode_image(jpeg_of_scans(MAX_SCANS), 3).shape == COLOR.shape
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {MAX_SCANS} JPEG scans"):
        decode_image(jpeg_of_scans(MAX_SCANS + 1), 3)


def test_a_large_jpeg_may_have_fewer_scans():
    """Their time is that of scans x pixels."""
    encoded = jpeg_of_scans(40)
    assert decode_image(encoded, 3, 2 * GRAY.size).shape == COLOR.shape
    with pytest.raises(tf.errors.InvalidArgumentError, match="20 where it has 5489 pixels"):
        decode_image(encoded, 3, 2 * GRAY.size - 1)


def test_a_comment_may_have_markers_but_not_more_starts_of_scans_than_an_image():
    """Scans are counted by their first bytes, wherever they are."""
    assert decode_image(pillow(COLOR, "jpeg", comment=b"\xff\xda\xff" * 100), 3).shape == COLOR.shape
    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG scans"):
        decode_image(pillow(COLOR, "jpeg", comment=JPEG_SCAN * (MAX_SCANS + 1)), 3)


@pytest.mark.parametrize("encoded", [JPEG, PNG], ids=["jpeg", "png"])
def test_load_images_refuses_more_pixels_than_max_pixels(encoded):
    load = tf.function(lambda images, most: load_images(images, Preprocessing(8, 8), most))
    assert load(tf.constant([encoded]), GRAY.size).shape == (1, 8, 8, 3)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"Expected an image of 1 to {GRAY.size - 1} pixels"
    ):
        load(tf.constant([encoded]), GRAY.size - 1)


def test_images_of_more_pixels_together_are_decoded_one_at_a_time(monkeypatch):
    """No image is refused for another's; what is decoded at once stays within the bound."""
    encoded = [JPEG, PNG, encode(GRAY[:20, :30], ".png")] * 5
    preprocessing = Preprocessing(50, 40)

    def load(most):
        @tf.function
        def loaded(images):
            return load_images(images, preprocessing, most)

        return loaded(tf.constant(encoded))

    at_once = []
    map_fn = tf.map_fn

    def spied(*arguments, parallel_iterations=None, **options):
        at_once.append(parallel_iterations)
        return map_fn(*arguments, parallel_iterations=parallel_iterations, **options)

    monkeypatch.setattr(images.tf, "map_fn", spied)
    one_at_a_time, together = load(GRAY.size), load(MAX_PIXELS)
    np.testing.assert_array_equal(one_at_a_time, together)
    assert at_once == [None, None, 1] * 2  # the headers, and the two ways to decode


# --- resizing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(45, 100), (80, 61), (90, 122), (224, 224)])
def test_enlarging_is_opencvs_bilinear(size):
    expected = cv2.resize(COLOR.astype("float32"), size[::-1], interpolation=cv2.INTER_LINEAR)
    assert largest_difference(resize(COLOR, Preprocessing(*size)), expected) <= 0.5


@pytest.mark.parametrize("size", [(9, 7), (31, 31), (44, 60), (20, 200)])
def test_shrinking_is_pillows_antialiased_bilinear(size):
    expected = Image.fromarray(COLOR).resize(size[::-1], Image.Resampling.BILINEAR)
    assert largest_difference(resize(COLOR, Preprocessing(*size)), expected) <= 1.5


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(9, 7), (31, 31), (20, 200), (90, 122), COLOR.shape[:2]])
@pytest.mark.parametrize("pixels", [COLOR, GRAY[..., None], np.stack([COLOR] * 2)], ids=["3", "1", "batch"])
def test_antialiased_is_tensorflow_s_to_the_bit(pixels, size, method):
    expected = tf.image.resize(pixels, size, method, antialias=True)
    np.testing.assert_array_equal(antialiased(pixels, size, method), expected)


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_an_image_of_the_resized_size_is_only_cropped(keep_aspect):
    preprocessing = Preprocessing(21, 28, crop_fraction=0.5, keep_aspect=keep_aspect)
    assert preprocessing.resized == (42, 56)
    any_size = [tf.TensorSpec((None, None, 3), tf.uint8)]
    crop = tf.function(lambda image: resize(image, preprocessing), input_signature=any_size)
    pixels = COLOR[:42, :56]
    np.testing.assert_array_equal(crop(pixels), pixels[10:31, 14:42])
    larger = tf.image.resize(COLOR[:43, :56], (42, 56), antialias=True)
    if not keep_aspect:
        np.testing.assert_allclose(crop(COLOR[:43, :56]), larger[10:31, 14:42], atol=1e-3)


@pytest.mark.parametrize("shape", [(2, 300, 3), (300, 2, 3), (9, 400, 1), (2, 9, 400, 3)])
@pytest.mark.parametrize("size", [(31, 31), (5, 70)])
def test_elongated_images_are_tensorflow_s(shape, size):
    pixels = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    expected = tf.image.resize(pixels, size, "bilinear", antialias=True)
    assert largest_difference(antialiased(pixels, size), expected) <= 1e-3
    in_graph = tf.function(
        lambda image: antialiased(image, size),
        input_signature=[tf.TensorSpec([None] * (len(shape) - 1) + [shape[-1]], tf.uint8)],
    )
    assert largest_difference(in_graph(pixels), expected) <= 1e-3


LONG = {"wide": (MAX_SIDE, 1), "wide of many rows": (MAX_SIDE, 60), "tall": (1, MAX_SIDE)}


@pytest.mark.ci
@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("size", LONG.values(), ids=LONG)
def test_a_long_image_takes_little_memory(size, keep_aspect):
    """Covering 224 x 224 pixels it has 224 x 14,679,840; resized by its height alone, 224 x 65,535."""
    output = run_python(MEMORY_OF_A_LONG_IMAGE, *map(str, size), "keep" if keep_aspect else "")
    assert int(output.splitlines()[-1]) < 150


MEMORY_OF_A_LONG_IMAGE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))  # not this machine's, where it goes wrong
import numpy as np, tensorflow as tf
from keras_googlenet.images.tensorflow import load_images
from keras_googlenet.images.spec import Preprocessing

width, height, keep = sys.argv[1:]
preprocessing = Preprocessing(224, 224, keep_aspect=keep == "keep")
load = tf.function(lambda images: load_images(images, preprocessing))
small, long = (
    tf.constant([tf.io.encode_png(np.zeros((*size, 3), "uint8")).numpy()])
    for size in ((8, 8), (int(height), int(width)))
)
load(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert not load(long).numpy().any()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_same_size_changes_nothing():
    np.testing.assert_array_equal(resize(COLOR, Preprocessing(*GRAY.shape)), COLOR.astype("float32"))


@pytest.mark.parametrize("channels", [1, 3])
def test_load_images_is_each_image_alone(channels):
    encoded = [JPEG, PNG, encode(GRAY[:20, :30], ".png")]
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
def test_center_crop_is_pillow_s(size, keep_aspect, random):
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
