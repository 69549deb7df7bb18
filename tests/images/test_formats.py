"""One matrix: every format, with and without transparency, by every way into the network, against Pillow."""

import io
import struct

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_googlenet import Preprocessing, UserError
from keras_googlenet.data import loading, numpy_batches
from keras_googlenet.data.inspection import inspect_images
from keras_googlenet.data.inspection import pixels as inspected
from keras_googlenet.data.parts import Part
from keras_googlenet.data.prepare import prepare
from keras_googlenet.data.sources import load_data
from keras_googlenet.images.decoder import decoder
from keras_googlenet.images.files import FORMATS, TRAINED_NAMES
from keras_googlenet.images.numpy import decode
from keras_googlenet.images.spec import MAX_PIXELS, WHITE
from keras_googlenet.images.tensorflow import decode_image, load_images, resize
from keras_googlenet.inference.classifier import Classifier
from keras_googlenet.serving.client.images import encode

HEIGHT, WIDTH = 29, 37
RANDOM = np.random.default_rng(1)
PIXELS = cv2.resize(RANDOM.integers(0, 256, (6, 7, 4), dtype=np.uint8), (WIDTH, HEIGHT))
PICTURE = Image.fromarray(PIXELS)
SHADES = Image.fromarray(RANDOM.integers(0, 20, (HEIGHT, WIDTH), dtype=np.uint8))
PALETTE = SHADES.copy()
PALETTE.putpalette(RANDOM.integers(0, 256, 768).tolist())


def saved(kind: str, image: Image.Image = PICTURE, mode: str | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    image.convert(mode or image.mode).save(buffer, kind, **options)
    return buffer.getvalue()


def bmp_from_top_to_bottom() -> bytes:
    whole = bytearray(saved("BMP", mode="RGB"))
    offset, height = struct.unpack_from("<I8xi", whole, 10)[0], HEIGHT
    rows = np.frombuffer(whole[offset:], np.uint8).reshape(height, -1)[::-1]
    whole[22:26] = struct.pack("<i", -height)
    return bytes(whole[:offset]) + rows.tobytes()


def gif_in_a_corner() -> bytes:
    """A frame smaller than the image."""
    whole = bytearray(saved("GIF", mode="RGB"))
    whole[6:10] = struct.pack("<HH", WIDTH + 8, HEIGHT + 4)
    frame = whole.index(b"\x2c", 13 + 3 * 2 ** (whole[10] % 8 + 1))
    whole[frame + 1 : frame + 5] = struct.pack("<HH", 5, 3)
    return bytes(whole)


LATER = {"save_all": True, "append_images": [PICTURE.rotate(90)]}
IN_GRAPH = {  # what an export decodes as well
    "jpeg": saved("JPEG", mode="RGB", quality=95, subsampling=0),
    "jpeg, gray": saved("JPEG", mode="L", quality=95),
    "png": saved("PNG", mode="RGB"),
    "png, alpha": saved("PNG"),
    "png, gray and alpha": saved("PNG", mode="LA"),
    "png, palette": saved("PNG", PALETTE),
    "png, a transparent color of the palette": saved("PNG", PALETTE, transparency=3),
    "png, a palette with alpha": saved("PNG", PALETTE, transparency=bytes(range(0, 200, 10))),
    "png, a transparent color": saved("PNG", SHADES.convert("RGB"), transparency=(5, 5, 5)),
    "png, a transparent gray": saved("PNG", SHADES, transparency=7),
    "png, a transparent bit": saved("PNG", SHADES.point(lambda x: 255 * (x > 9)), "1", transparency=1),
    "bmp": saved("BMP", mode="RGB"),
    "bmp, 32 bits": saved("BMP", mode="RGBA"),
    "bmp, from top to bottom": bmp_from_top_to_bottom(),
    "webp, lossy": saved("WEBP", mode="RGB"),
    "webp, lossy with alpha": saved("WEBP"),
    "webp, lossless": saved("WEBP", mode="RGB", lossless=True),
    "webp, lossless with alpha": saved("WEBP", lossless=True, exact=True),
}
IN_PYTHON = {
    "bmp, palette": saved("BMP", PALETTE),
    "bmp, gray": saved("BMP", SHADES),
    "bmp, a bit": saved("BMP", mode="1"),
    "webp, animated": saved("WEBP", mode="RGB", lossless=True, **LATER),
    "webp, animated with alpha": saved("WEBP", lossless=True, exact=True, **LATER),
    "gif": saved("GIF", mode="RGB"),
    "gif, gray": saved("GIF", SHADES),
    "gif, transparent": saved("GIF", PALETTE, transparency=3),
    "gif, animated": saved("GIF", mode="RGB", **LATER),
    "gif, in a corner": gif_in_a_corner(),
}
ALL = IN_GRAPH | IN_PYTHON


def truth(encoded: bytes, mode: str = "RGB") -> np.ndarray:
    """Pillow's pixels, on white."""
    image = Image.open(io.BytesIO(encoded)).convert("RGBA")
    white = Image.new("RGBA", image.size, (WHITE,) * 4)
    return np.asarray(Image.alpha_composite(white, image).convert(mode)).astype(int)


def tolerance(name: str) -> int:
    """Levels of 255 between builds of a lossy codec."""
    return 2 if name.startswith(("jpeg", "webp, lossy")) else 0


def check(found, name: str) -> None:
    found = np.asarray(found)
    assert found.dtype == np.uint8
    channels = found.shape[-1]
    expected = truth(ALL[name])
    if channels == 1:
        found, expected = found[..., 0], truth(ALL[name], "L")
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= tolerance(name) + (channels == 1), name


by_tensorflow, before = decoder(), decoder(background=None)


@pytest.mark.parametrize("name", ALL)
def test_both_decoders(name):
    for channels in (3, 1):
        check(decode(ALL[name], channels), name)
        check(by_tensorflow(ALL[name], channels), name)


@pytest.mark.parametrize("name", IN_GRAPH)
def test_the_graph_of_an_export(name):
    for channels in (3, 1):
        check(decode_image(IN_GRAPH[name], channels), name)


def test_a_large_image_is_composed_in_parts(monkeypatch):
    monkeypatch.setattr("keras_googlenet.images.tensorflow.COMPOSED_AT_ONCE", 3 * WIDTH)
    check(decode_image(IN_GRAPH["png, alpha"], 3), "png, alpha")


def test_any_gray_may_be_the_background():
    for background in (0, 100):
        image = Image.open(io.BytesIO(ALL["png, alpha"]))
        expected = Image.alpha_composite(Image.new("RGBA", image.size, (background,) * 3 + (255,)), image)
        for found in (
            decode(ALL["png, alpha"], 3, background=background),
            decode_image(ALL["png, alpha"], 3, background=background),
        ):
            np.testing.assert_array_equal(found, np.asarray(expected.convert("RGB")))
    for wrong in (-1, 256, 1.5):
        with pytest.raises(UserError, match="expected a background from 0 to 255"):
            Preprocessing(8, 8, background=wrong)


OLD = Preprocessing.from_dict({"height": 16, "width": 16})


@pytest.mark.parametrize("name", ALL)
def test_runs_of_before_drop_transparency(name):
    """Both decoders alike; a JPEG or PNG as the versions that wrote those runs did."""
    assert OLD.background is None
    found = decode(ALL[name], 3, background=None)
    with_tensorflow = before(ALL[name], 3)
    assert np.abs(found.astype(int) - with_tensorflow).max() <= tolerance(name)
    if name.startswith(("jpeg", "png")):
        pixels = cv2.imdecode(np.frombuffer(ALL[name], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(found, pixels)
    if name in IN_GRAPH:
        in_graph = decode_image(ALL[name], 3, background=None).numpy()
        assert np.abs(found.astype(int) - in_graph).max() <= tolerance(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("photos")
    for name, encoded in ALL.items():
        (made / f"{name}.{name.split(',')[0]}").write_bytes(encoded)
    return made


def resized(name: str, preprocessing: Preprocessing) -> np.ndarray:
    return resize(tf.constant(truth(ALL[name]).astype("uint8")), preprocessing).numpy()


def test_batches_and_the_client():
    """The client makes PNG of what an earlier export would refuse, transparency kept."""
    preprocessing = Preprocessing(16, 16, mean=0, scale=1)
    part = Part(list(ALL.values()), np.zeros(len(ALL), "int32"))
    (images,) = [images for images, _ in loading.batches(part, preprocessing, batch_size=len(ALL))]
    (by_numpy,) = [images for images, _ in numpy_batches.batches(part, preprocessing, batch_size=len(ALL))]
    sent = [encode(encoded, "one").data for encoded in ALL.values()]
    assert {bytes(one[:4]) for one in sent} == {b"\x89PNG", b"\xff\xd8\xff\xe0"}
    for found in (images, by_numpy, load_images(tf.constant(sent), preprocessing)):
        for name, one in zip(ALL, np.asarray(found), strict=True):
            np.testing.assert_allclose(one, resized(name, preprocessing), atol=tolerance(name) + 0.1)
    exported = load_images(tf.constant(list(IN_GRAPH.values())), preprocessing).numpy()
    np.testing.assert_allclose(exported, images[: len(IN_GRAPH)], atol=2.1)
    # An export of before drops the transparency that it is sent.
    old = load_images(tf.constant(sent), OLD).numpy()
    for name, one in zip(ALL, old, strict=True):
        expected = numpy_batches.load(Part([ALL[name]], np.zeros(1, "int32")), 0, OLD)
        np.testing.assert_allclose(one, expected, atol=tolerance(name) + 0.1)


def test_inspection_and_preparation(folder, tmp_path):
    prepare(folder, tmp_path / "same", size=HEIGHT)
    for name in ALL:
        part = Part([ALL[name]], np.zeros(1, "int32"))
        gray = inspected(part, 0)
        check(np.repeat(gray, 3, -1) if gray.shape[-1] == 1 else gray, name)
    made = sorted((tmp_path / "same").iterdir())
    assert {path.suffix for path in made} == {".jpeg", ".png"}
    assert len(made) == len(ALL)
    for path in made:
        name = path.name.removesuffix(".png").rpartition(".")[0] or path.stem
        name = name if name in ALL else path.stem
        if name != "gif, in a corner":  # which is larger, and made smaller
            check(decode(path.read_bytes(), 3), name)


def test_a_network_of_a_run(folder):
    inputs = keras.Input((16, 16, 3))
    outputs = keras.layers.Dense(3, "softmax", name="main")(keras.layers.Flatten()(inputs))
    classifier = Classifier("a", keras.Model(inputs, outputs), tuple("abc"), Preprocessing(16, 16))
    files = sorted(folder.iterdir())
    found = classifier.predict(files)
    pixels = np.stack([resized(path.stem, classifier.preprocessing) for path in files])
    expected = classifier.model.predict_on_batch(classifier.preprocessing.normalize(pixels))
    for one, probabilities in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, probabilities, atol=0.05)


def test_a_folder_of_every_format(tmp_path):
    """Its images are found, checked, inspected and batched."""
    kinds = ["jpg", "png", "bmp", "webp", "gif"]
    for number in range(20):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        file = tmp_path / "ab"[number % 2] / f"{number}.{kinds[number % 5]}"
        PICTURE.convert("RGB").rotate(18 * number).save(file)
    data = load_data(str(tmp_path), validation_fraction=0.2)
    report, _ = inspect_images(data)
    assert sum(report["images"].values()) == 20
    assert report["corrupt"] == []
    assert report["sizes"]["median"] == [HEIGHT, WIDTH]
    batches = loading.batches(data.train, Preprocessing(16, 16), batch_size=10)
    assert sum(len(images) for images, _ in batches) == data.train.count


# --- refusals ------------------------------------------------------------------------------------


def refusal(read, encoded: bytes) -> str | None:
    try:
        read(encoded, 3)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        return str(error)
    return None


def with_size(name: str, width: int, height: int) -> bytes:
    """A file whose header announces another size."""
    whole = bytearray(ALL[name])
    if name == "bmp":
        whole[18:26] = struct.pack("<ii", width, height)
    elif name == "gif":
        whole[6:10] = struct.pack("<HH", width, height)
    elif name == "webp, lossless":
        whole[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    elif name == "webp, lossy with alpha":
        whole[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    else:
        whole[26:30] = struct.pack("<HH", width, height)
    return bytes(whole)


LARGE = {
    "bmp": [(20_000, 20_000), (20_000, -20_000), (MAX_PIXELS + 1, 1), (2**31 - 1, 2**31 - 1), (1, -(2**31))],
    "gif": [(60_000, 60_000), (0, 5)],
    "webp, lossless": [(16_384, 16_384)],
    "webp, lossy with alpha": [(16_383, 16_383), (2**24, 2**24), (70_000, 1)],
    "webp, lossy": [(16_383, 16_383), (0, 5)],
}


@pytest.mark.parametrize(
    ("name", "size"), [pytest.param(n, s, id=f"{n} {s}") for n, sizes in LARGE.items() for s in sizes]
)
def test_size_in_the_header_is_refused(name, size, monkeypatch):
    """Before there is room made for the pixels."""
    monkeypatch.setattr(cv2, "imdecode", None)
    encoded = with_size(name, *size)
    assert "expected an image of 1 to" in refusal(decode, encoded)
    if name != "gif":
        assert "Expected an image of 1 to" in refusal(decode_image, encoded)


@pytest.mark.parametrize("name", ["bmp", "gif", *(name for name in ALL if name.startswith("webp"))])
def test_a_file_cut_short_is_refused(name):
    whole = ALL[name]
    kept = [0, 1, 2, 4, 8, 12, 13, 20, 25, 30, 33, *range(40, len(whole) // 2, 97), len(whole) // 2]
    first = len(whole) if "animated" not in name else 2 * kept[-1] // 3  # a later frame is not read
    for end in {*kept, first - 2}:
        assert refusal(decode, whole[: min(end, first)]), end
        assert refusal(decode_image, whole[:end]), end


def test_what_the_graph_leaves_to_the_client():
    """TensorFlow's operation reads a BMP's palette as grays, all frames of a GIF, and past a WebP's end."""
    for name, encoded in IN_PYTHON.items():
        expected = {
            "bmp": "Expected a BMP image of 24 or 32 bits a pixel, not compressed",
            "webp": "Expected a WebP image that is not animated",
            "gif": "Expected the bytes of a JPEG, PNG, BMP or WebP image",
        }[name.partition(",")[0]]
        assert expected in refusal(decode_image, encoded)


def test_a_webp_that_hides_another_size():
    """libwebp demands that the image is of the canvas's size."""
    hidden = with_size("webp, lossy with alpha", 8, 8)
    assert refusal(decode_image, hidden)
    assert refusal(decode, hidden)


def test_a_gif_s_frame_beyond_the_image_is_refused():
    assert refusal(decode, with_size("gif", WIDTH - 1, HEIGHT)) == "corrupt"


def test_names_of_the_formats():
    assert TRAINED_NAMES == "JPEG, PNG, BMP, WebP or GIF"
    assert len({suffix for each in FORMATS for suffix in each.suffixes}) == 17
