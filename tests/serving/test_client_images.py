"""What the client makes of images: how they are sent, and which is named where it cannot be or is refused."""

import io
import struct
import sys

import cv2
import numpy as np
import pytest
from classified import classify
from PIL import Image, ImageOps
from scripted_server import GOOD_PNG, Script, failure, outputs, rest_server

from keras_googlenet import cli
from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import MAX_SIDE, SERVED_PIXELS
from keras_googlenet.serving import Client
from keras_googlenet.serving.client import images

pytest_plugins = ["scripted_clients"]

TURN = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)  # EXIF: by 90 degrees
# A graph's refusal, as TensorFlow words it.
WRONG_SIZE = (
    f"assertion failed: [Expected an image of 1 to {SERVED_PIXELS} pixels, at most {MAX_SIDE} a side; "
    "received height and width:] [10000] [9000]\n\t "
    "[[{{function_node map_while_cond_false_51}}{{node map/while/cond/Assert/Assert}}]]"
)


def huge_png() -> bytes:
    """The header of a PNG of 100 million pixels."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 10_000, 10_000) + bytes(9)


# --- how they are sent ---------------------------------------------------------------------------


def test_what_is_converted_is_turned():
    """The model turns JPEG and PNG; of what is converted the client does, for PNG is sent without EXIF."""
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    data = io.BytesIO()
    Image.fromarray(pixels[..., ::-1]).save(data, "WEBP", lossless=True, exif=TURN)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(data)))[..., ::-1]
    assert turned.shape == (4, 2, 3)
    sent = images.encode(data.getvalue(), "a").data
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_COLOR), turned)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_of_every_kind_are_one_image(kind):
    script = Script()
    with rest_server(script) as url, Client(url, "m") as client:
        assert len(client.predict(kind(GOOD_PNG))) == 1
    assert script.asked[0][2] == [GOOD_PNG]


def test_gray_pixels_may_have_a_channel():
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    assert images.encode(pixels, "a") == images.encode(pixels[..., 0], "a")


def test_large_images_go_in_batches_of_fewer(connect, monkeypatch):
    monkeypatch.setattr(images, "BATCH_BYTES", 2 * len(GOOD_PNG))
    script = Script()
    larger_alone = GOOD_PNG + bytes(3 * len(GOOD_PNG))
    assert len(connect(script).predict([GOOD_PNG] * 3 + [larger_alone] + [GOOD_PNG])) == 5
    assert [len(values) for _, _, values, _ in script.asked] == [2, 1, 1, 1]


# --- images that are not sent --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "image 0: expected a path, bytes or an array of pixels; received NoneType"),
        (5, "received int"),
        ("a" * 5000, "no image file at aaa"),
        ("a\0b", "no image file at a"),
        (np.zeros((1, 2_000_000, 3), np.uint8), "image 0: expected at most 65535 pixels a side"),
        (np.zeros((2_000_000, 1), np.uint8), "image 0: expected at most 65535 pixels a side"),
    ],
)
def test_what_cannot_be_sent_is_told(image, message):
    script = Script()
    with rest_server(script) as url, Client(url, "m") as client, pytest.raises(UserError, match=message):
        client.predict(image)
    assert script.asked == []


def test_name_of_any_length_on_the_command_line(tmp_path):
    with pytest.raises(UserError, match="no image file or folder at"):
        classify([tmp_path / ("a" * 5000)], url="http://localhost/v1/models/m")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(GOOD_PNG)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)  # who runs this may be root
    with pytest.raises(UserError, match=r"cannot read .*a\.png: Permission denied"):
        images.encode(tmp_path / "a.png", "a")


def test_predict_command_tells_a_float_tiff_in_one_line(tmp_path, monkeypatch, capfd):
    """OpenCV itself writes to the terminal about it."""
    cv2.imwrite(str(tmp_path / "a.tif"), np.zeros((4, 4, 3), np.float32))
    url = "http://localhost/v1/models/m"
    monkeypatch.setattr(sys, "argv", ["keras-googlenet", "predict", str(tmp_path / "a.tif"), "--url", url])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    out, err = capfd.readouterr()
    (line,) = out.splitlines()
    name = tmp_path / "a.tif"
    assert line.startswith(f"{name}  error: cannot read {name}: expected a JPEG, PNG, BMP, WebP or GIF")
    assert "TIFF of 8 bits" in line
    assert err == "1 of 1 images failed: see their errors\n"


# --- images that the server does not take --------------------------------------------------------


def test_an_image_of_a_size_that_is_refused_is_not_called_corrupt(connect, monkeypatch):
    def refusing(script, signature, values):
        if any(b"huge" in value for value in values):
            raise ValueError(WRONG_SIZE)
        return outputs(signature, values)

    monkeypatch.setattr("scripted_server.answered", refusing)
    error = failure(connect(Script()).predict, [GOOD_PNG, GOOD_PNG + b"huge"])
    assert error.code == "INVALID_ARGUMENT"
    assert str(error) == (
        f"cannot read image 1: expected an image of 1 to {SERVED_PIXELS} pixels, at most {MAX_SIDE} a side; "
        "received height and width: 10000 9000"
    )


def test_a_model_in_this_process_tells_the_size_too(tmp_path, exported):
    (tmp_path / "a.png").write_bytes(huge_png())
    with pytest.raises(UserError) as caught:
        classify([tmp_path / "a.png"], model=exported)
    assert str(caught.value) == (
        f"cannot read {tmp_path / 'a.png'}: expected an image of 1 to {SERVED_PIXELS} pixels, at most "
        f"{MAX_SIDE} a side; received height and width: 10000 10000"
    )


def test_a_model_in_this_process_tells_the_scans_too(tmp_path, exported):
    buffer = io.BytesIO()
    Image.new("RGB", (80, 80)).save(buffer, "jpeg", progressive=True)
    encoded = buffer.getvalue()
    scan = encoded[encoded.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(encoded[:-2] + scan * 100 + b"\xff\xd9")
    with pytest.raises(UserError, match=r"a\.jpg: expected an image of at most 50 JPEG scans, .*: 51 6400$"):
        classify([tmp_path / "a.jpg"], model=exported)


def test_an_image_of_too_many_bytes_is_named(connect):
    script = Script()
    script.max_bytes = 2000
    client = connect(script)
    error = failure(client.predict, [GOOD_PNG, GOOD_PNG + bytes(3000)])
    assert error.code == "RESOURCE_EXHAUSTED"
    assert str(error).startswith("image 1 is too large for the server: ")
    assert "tried" not in str(error)  # it is as large on every try


def test_images_of_too_many_bytes_together(connect):
    script = Script()
    script.max_bytes = 2000
    error = failure(connect(script).predict, [GOOD_PNG + bytes(800)] * 3)
    assert error.code == "RESOURCE_EXHAUSTED"
    assert "takes each of 3 images, but not all at once" in str(error)
    assert "smaller batch_size" in str(error)
