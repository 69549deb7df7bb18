"""What NumPy and OpenCV make of a file is what TensorFlow makes of it, refusals included."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from keras_googlenet.images.decoder import decoder
from keras_googlenet.images.numpy import decode, resize, to_channels
from keras_googlenet.images.spec import MAX_PIXELS, MAX_SCANS, MAX_SIDE, Preprocessing
from keras_googlenet.images.tensorflow import resize as resize_with_tensorflow

JPEG_LEVELS = 2  # between two builds of libjpeg; between libpng's there are none
RESIZE_LEVELS = 1e-2  # TensorFlow computes the weights in float32, NumPy in float64

decode_with_tensorflow = decoder()

NOISE = np.random.default_rng(1).integers(0, 256, (6, 7, 3), dtype=np.uint8)
COLOR = cv2.resize(NOISE, (37, 29), interpolation=cv2.INTER_CUBIC)


def pillow(kind: str, mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLOR).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def sixteen_bits(*shape: int) -> bytes:
    pixels = np.random.default_rng(2).integers(0, 2**16, shape, dtype=np.uint16)
    return cv2.imencode(".png", pixels)[1].tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose chunks are sound and whose header announces a size, over a few bytes of data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG[:8] + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """`JPEG` with another size in its start-of-frame header."""
    size = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:size] + struct.pack(">HH", height, width) + JPEG[size + 4 :]


def flip(encoded: bytes, index: int) -> bytes:
    return encoded[:index] + bytes([encoded[index] ^ 0xFF]) + encoded[index + 1 :]


JPEG, PNG = pillow("jpeg"), pillow("png")
TURNED = Image.Exif()
TURNED[0x0112] = 6  # "rotate by 90 degrees"
TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("Comment", "of no use for the pixels")
LATER = Image.fromarray(255 - COLOR)

PNGS = {
    "color": PNG,
    "gray": pillow("png", "L"),
    "palette": pillow("png", "P"),
    "palette with transparency": pillow("png", "P", transparency=3),
    "transparency": pillow("png", "RGBA"),
    "gray with transparency": pillow("png", "LA"),
    "one bit": pillow("png", "1"),
    "sixteen bits": sixteen_bits(9, 8, 3),
    "sixteen bits of gray": sixteen_bits(9, 8),
    "text": pillow("png", pnginfo=TEXT),
    "turned": pillow("png", exif=TURNED),
    "animated": pillow("png", save_all=True, append_images=[LATER]),
}
JPEGS = {
    "color": JPEG,
    "gray": pillow("jpeg", "L"),
    "cmyk": pillow("jpeg", "CMYK"),
    "progressive": pillow("jpeg", progressive=True),
    "full chroma": pillow("jpeg", quality=95, subsampling=0),
    "chroma halved once": pillow("jpeg", quality=95, subsampling=1),
    "restart markers": cv2.imencode(".jpg", COLOR, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes(),
    "turned": pillow("jpeg", exif=TURNED),
    "thumbnail": pillow("jpeg", exif=b"Exif\0\0" + JPEG),
    "comment like an end": pillow("jpeg", comment=b"\xff\xd9 is the end marker"),
    "fill bytes": JPEG[:2] + b"\xff\xff" + JPEG[2:],
    "bytes after its end": JPEG + bytes(10_000),
    "an end after its end": JPEG + b"\xff\xd9",
    "another image after its end": JPEG + pillow("jpeg", quality=10),
}


def largest_difference(a, b) -> float:
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    assert a.shape == b.shape
    return np.abs(a - b).max()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoded", PNGS.values(), ids=PNGS)
def test_png_is_decoded_exactly(encoded, channels):
    pixels = decode(encoded, channels)
    assert (pixels.dtype, pixels.shape[-1]) == (np.uint8, channels)
    np.testing.assert_array_equal(pixels, decode_with_tensorflow(encoded, channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoded", JPEGS.values(), ids=JPEGS)
def test_jpeg_is_decoded_alike(encoded, channels):
    pixels = decode(encoded, channels)
    sides = COLOR.shape[1::-1] if encoded == JPEGS["turned"] else COLOR.shape[:2]
    assert (pixels.dtype, pixels.shape) == (np.uint8, (*sides, channels))
    assert largest_difference(pixels, decode_with_tensorflow(encoded, channels)) <= JPEG_LEVELS


def test_png_has_the_pixels_that_were_written():
    np.testing.assert_array_equal(decode(PNG, 3), COLOR)


def test_channels_are_pillow_s_luma_and_repeated_gray():
    gray = np.asarray(Image.fromarray(COLOR).convert("L"))[..., np.newaxis]
    assert largest_difference(to_channels(COLOR, 1), gray) <= 1
    np.testing.assert_array_equal(to_channels(gray, 3), np.concatenate([gray] * 3, axis=-1))


# --- refusals ------------------------------------------------------------------------------------

OTHER = {"empty": b"", "text": b"text", "tiff": pillow("tiff")}


@pytest.mark.parametrize("encoded", OTHER.values(), ids=OTHER)
def test_other_formats_are_refused(encoded):
    with pytest.raises(ValueError, match="expected the bytes of a JPEG, PNG, BMP, WebP or GIF image"):
        decode(encoded, 3)


def is_refused(decode, encoded: bytes) -> bool:
    try:
        decode(encoded, 3)
    except ValueError:
        return True
    return False


KEPT = st.floats(0, 1, exclude_max=True)
KINDS = st.sampled_from([*PNGS.values(), *(JPEGS[name] for name in list(JPEGS)[:-3])])


@given(KINDS, KEPT)
@settings(max_examples=150)
@example(JPEGS["thumbnail"], 0.9)  # cut behind the thumbnail's own end marker
@example(PNG, 1 - 12 / len(PNG))  # all but the chunk that ends it
def test_a_file_cut_short_is_refused(encoded, kept):
    """A JPEG's last byte apart, which TensorFlow does not miss."""
    cut = encoded[: int(kept * (len(encoded) - 1))]
    assert is_refused(decode_with_tensorflow, cut)
    assert is_refused(decode, cut)


def test_a_large_jpeg_cut_short_is_refused():
    """Its thumbnail's end marker is among its last bytes."""
    cut = JPEGS["thumbnail"][: 100 + len(JPEG) + 700]
    assert b"\xff\xd9" in cut
    with pytest.raises(ValueError, match="corrupt"):
        decode(cut, 3)


@given(st.sampled_from(list(PNGS)), KEPT)
@settings(max_examples=150)
@example("color", 1 - 1 / len(PNG))  # the sum of the last chunk
@example("animated", 0.2)  # the sums of an animation
@example("text", 45 / len(PNGS["text"]))  # text, which neither reads
def test_a_png_with_a_changed_byte_is_refused_or_the_same(name, place):
    """Except an animation, which OpenCV may refuse for chunks that only it reads, and an orientation."""
    whole = PNGS[name]
    changed = flip(whole, int(place * len(whole)))
    if name != "animated" or is_refused(decode_with_tensorflow, changed):
        assert is_refused(decode, changed) == is_refused(decode_with_tensorflow, changed)
    if not is_refused(decode, changed):
        as_stored = [decode(one, 3, turns=False) for one in (changed, whole)]
        np.testing.assert_array_equal(*as_stored)
        if not is_refused(decode_with_tensorflow, changed):
            np.testing.assert_array_equal(decode(changed, 3), decode_with_tensorflow(changed, 3))


CORRUPT = {
    "png header cut short": PNG[:20],
    "png magic alone": PNG[:8],
    "png of an end alone": PNG[:8] + PNG[-12:],
    "png without pixels": PNG[:33] + PNG[-12:],
    "png of rubbish": PNG[:8] + b"rubbish",
    "jpeg header cut short": JPEG[:30],
    "jpeg magic alone": JPEG[:3],
    "jpeg of an end alone": JPEG[:2] + b"\xff\xd9",
    "jpeg without its end": JPEG[:-2],
    "jpeg of rubbish": JPEG[:3] + b"rubbish" * 100,
}


@pytest.mark.parametrize("encoded", CORRUPT.values(), ids=CORRUPT)
def test_corrupt_images_are_refused(encoded):
    assert is_refused(decode_with_tensorflow, encoded)
    assert is_refused(decode, encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(png_of_size(20_000, 20_000), id="png 20000 x 20000"),
        pytest.param(png_of_size(MAX_PIXELS + 1, 1), id="png one pixel too many"),
        pytest.param(png_of_size(2**32 - 1, 2**32 - 1), id="png largest uint32"),
        pytest.param(png_of_size(0, 10), id="png without width"),
        pytest.param(jpeg_of_size(60_000, 60_000), id="jpeg 60000 x 60000"),
        pytest.param(jpeg_of_size(10, 0), id="jpeg without height"),
        pytest.param(png_of_size(MAX_SIDE + 1, 1), id="png too wide"),
        pytest.param(png_of_size(1, MAX_SIDE + 1), id="png too tall"),
    ],
)
def test_size_in_the_header_is_refused(encoded, monkeypatch):
    """Before there is room made for the pixels."""
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(ValueError, match="expected an image of 1 to"):
        decode(encoded, 3)


@pytest.mark.parametrize("kind", [b"fcTL", b"viSu"])
def test_a_png_whose_first_chunk_is_not_ihdr_is_refused(kind, monkeypatch):
    """OpenCV skips the chunk, and would decode the 400 million pixels that the second announces."""
    monkeypatch.setattr(cv2, "imdecode", None)
    large = png_of_size(20_000, 20_000)
    for encoded in (PNG, large):
        before = chunk(kind, struct.pack(">II", 8, 8) + bytes(5))
        with pytest.raises(ValueError, match="first chunk is IHDR"):
            decode(encoded[:8] + before + encoded[8:], 3)


def test_a_jpeg_of_many_scans_is_refused():
    """By both, and at the same number."""
    encoded = JPEGS["progressive"]
    last = encoded[encoded.rindex(b"\xff\xda") : -2]
    most = encoded[:-2] + last * (MAX_SCANS - encoded.count(b"\xff\xda\0")) + b"\xff\xd9"
    assert not is_refused(decode, most)
    assert not is_refused(decode_with_tensorflow, most)
    for decoded in (decode, decode_with_tensorflow):
        with pytest.raises(ValueError, match=f"at most {MAX_SCANS} JPEG scans"):
            decoded(most[:-2] + last + b"\xff\xd9", 3)


# --- resizing ------------------------------------------------------------------------------------

SIDES = st.integers(1, 64)


def random_image(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, channels), "uint8")


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]))
@settings(max_examples=100)
@example(8, 9, 16, 18, 3)  # enlarging
@example(64, 50, 7, 9, 3)  # shrinking
@example(20, 40, 40, 20, 1)  # one side each
@example(33, 33, 33, 33, 3)
def test_images_are_resized_alike(height, width, new_height, new_width, channels):
    pixels = random_image(height, width, channels)
    preprocessing = Preprocessing(new_height, new_width, channels)
    resized = resize(pixels, preprocessing)
    assert resized.dtype == np.float32
    assert largest_difference(resized, resize_with_tensorflow(pixels, preprocessing)) <= RESIZE_LEVELS


@given(SIDES, SIDES, st.integers(4, 40), st.integers(4, 40), st.floats(0.3, 1), st.booleans())
@settings(max_examples=100)
@example(50, 30, 28, 28, 0.875, True)
@example(30, 50, 28, 20, 1.0, True)
@example(50, 30, 28, 28, 0.875, False)
def test_the_same_center_is_kept(height, width, new_height, new_width, crop_fraction, keep_aspect):
    pixels = random_image(height, width, 3)
    preprocessing = Preprocessing(new_height, new_width, crop_fraction=crop_fraction, keep_aspect=keep_aspect)
    resized = resize(pixels, preprocessing)
    assert resized.shape == (new_height, new_width, 3)
    assert largest_difference(resized, resize_with_tensorflow(pixels, preprocessing)) <= RESIZE_LEVELS


@pytest.mark.parametrize("size", [(9, 7), (20, 20), (28, 36)])
def test_shrinking_is_pillow_s_antialiased_bilinear(size):
    expected = Image.fromarray(COLOR).resize(size[::-1], Image.Resampling.BILINEAR)
    assert largest_difference(resize(COLOR, Preprocessing(*size)), expected) <= 1.5


@pytest.mark.parametrize("size", [(29, 80), (60, 37), (90, 122)])
def test_enlarging_is_opencv_s_bilinear(size):
    expected = cv2.resize(COLOR.astype("float32"), size[::-1], interpolation=cv2.INTER_LINEAR)
    assert largest_difference(resize(COLOR, Preprocessing(*size)), expected) <= 0.5


@pytest.mark.parametrize("shape", [(1, MAX_SIDE, 3), (MAX_SIDE, 1, 3)])
@pytest.mark.parametrize("keep_aspect", [False, True])
def test_long_images_are_resized_alike(shape, keep_aspect):
    """The cover of one would be of 28 x 1,834,980 pixels."""
    smooth = np.linspace(0, 255, max(shape)).round().astype("uint8").reshape(*shape[:2], 1).repeat(3, axis=-1)
    preprocessing = Preprocessing(28, 28, keep_aspect=keep_aspect)
    resized = resize(smooth, preprocessing)
    assert largest_difference(resized, resize_with_tensorflow(smooth, preprocessing)) <= RESIZE_LEVELS


def test_same_size_changes_nothing():
    np.testing.assert_array_equal(resize(COLOR, Preprocessing(29, 37)), COLOR.astype("float32"))
