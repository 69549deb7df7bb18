"""The REST interface, row by row of its contract: bodies and images that are refused."""

import json

import cv2
import numpy as np
import pytest

from conformance.contract import b64, columns, error

pytest_plugins = ["conformance.rest_requests"]


REFUSED = {
    "empty": b"",
    "truncated": b'{"instances": [',
    "trailing": b'{"instances": ["x"]} x',
    "no object": b"[1]",
    "not UTF-8": b'{"instances": ["\xff\xfe"]}\x80',
    "neither key": {},
    "both keys": {"instances": ["x"], "inputs": ["x"]},
    "empty instances": {"instances": []},
    "instances no list": {"instances": "x"},
    "instances null": {"instances": None},
    "inputs null": {"inputs": None},
    "empty inputs": {"inputs": {}},
    "signature no string": {"signature_name": 3, "instances": ["x"]},
    "number for bytes": {"instances": [1]},
    "ragged bytes": {"instances": [["x"], "x"]},
    "mixed rows": {"instances": [{"images": "x"}, "x"]},
    "missing input": {"instances": [{}]},
    "extra key of a row": {"instances": [{"images": "x", "extra": 1}]},
    "wrong key": {"instances": [{"picture": "x"}]},
    "b64 with another key": {"instances": [{"b64": "AAAA", "x": 1}]},
    "b64 of the URL alphabet": {"instances": [{"b64": "-_-_"}]},
    "b64 of a number": {"instances": [{"b64": 3}]},
    "bytes of rank 2": {"instances": [[{"b64": "AAAA"}]]},
    "bytes of rank 0": {"inputs": {"b64": "AAAA"}},
    "no bytes": {"inputs": []},
    "empty image": {"instances": [{"b64": ""}]},
    "half a surrogate pair": {"instances": ["\ud800"]},
    "no image": {"instances": [{"b64": "AAAA"}]},
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_body_is_refused(predict, body):
    error(predict(body), 400)


def test_unknown_signature(predict, pngs):
    message = error(predict({"signature_name": "absent", "instances": [b64(pngs[0])]}), 400)
    assert "absent" in message


def test_extra_key_of_inputs_is_ignored(predict, pngs, answers):
    outputs = columns(predict({"inputs": {"images": [b64(pngs[0])], "extra": 1}}))
    assert outputs["classes"] == [answers[0]["classes"]]


def test_long_message_is_cut(predict):
    message = error(predict({"signature_name": "x" * 5000, "instances": ["x"]}), 400)
    assert len(message) <= 1024


@pytest.mark.parametrize("signature", ["tensor", "tensor_uint8"])
@pytest.mark.parametrize("wrong", ["rank 0", "rank 1", "rank 2", "rank 3", "rank 5", "high", "gray", "none"])
def test_pixels_of_a_wrong_shape(predict, pixels_shape, signature, wrong):
    height, width, channels = pixels_shape
    shape = {
        "rank 0": (),
        "rank 1": (3,),
        "rank 2": (height, width),
        "rank 3": pixels_shape,
        "rank 5": (1, 1, *pixels_shape),
        "high": (1, height + 1, width, channels),
        "gray": (1, height, width, 4 - channels),
        "none": (0,),
    }[wrong]
    values = np.zeros(shape, "uint8").tolist()
    error(predict({"signature_name": signature, "inputs": values}), 400)


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        *(("tensor", value) for value in ("1", True, None, [1], {}, 2**24, 1e39)),
        *(("tensor_uint8", value) for value in ("1", True, None, [1], {}, 1.5, 2**31)),
    ],
)
def test_values_that_are_no_pixel_levels(predict, pixels_shape, signature, value):
    """Numbers that the dtype cannot hold are refused as well, but for a byte's, which wrap."""
    image = np.zeros(pixels_shape, int).tolist()
    image[0][0][0] = value
    error(predict({"signature_name": signature, "instances": [image]}), 400)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_pixels_that_are_no_numbers(predict, pixels_shape, value):
    """A pool takes NaN for the least number, so they would be answered with a class in silence."""
    image = json.dumps(np.zeros(pixels_shape, int).tolist())
    body = f'{{"signature_name": "tensor", "instances": [{image.replace("0", value, 1)}]}}'
    error(predict(body.encode()), 400)


# --- images that are refused -----------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG file of this size."""
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0"


def jpeg_header(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG file with another size in its frame header."""
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + height.to_bytes(2) + width.to_bytes(2) + jpeg[start + 4 :]


def test_bombs_are_refused_by_their_header(predict, jpeg):
    for bomb in (png_header(20_000, 20_000), png_header(2**31 - 1, 1), jpeg_header(jpeg, 20_000, 20_000)):
        message = error(predict({"instances": [b64(bomb)]}), 400)
        assert "pixels" in message


def test_images_of_other_formats(predict, pixels):
    for suffix in (".gif", ".tiff"):
        encoded = cv2.imencode(suffix, pixels[0])[1].tobytes()
        assert "JPEG, PNG, BMP or WebP" in error(predict({"instances": [b64(encoded)]}), 400)


def test_truncated_images(predict, pngs, jpeg):
    for image in (pngs[0], jpeg):
        for share in (0.1, 0.5, 0.9):
            error(predict({"instances": [b64(image[: int(len(image) * share)])]}), 400)
