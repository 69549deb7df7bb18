"""Self-contained HTML pages: an evaluation's, and an inspection's."""

from __future__ import annotations

import html
from base64 import b64encode
from importlib import resources
from string import Template

import cv2
import numpy as np

from keras_googlenet.text import printable

THUMBNAIL_SIDE = 256  # pixels, at most
SMALL_SIDE = 100  # what a browser enlarges is smoothed from here on


def filled(template: str, title: str, **values: str) -> str:
    """A page whose content is one of this folder's templates; the values are HTML."""
    folder = resources.files("keras_googlenet") / "evaluation"
    page, body = (Template((folder / name).read_text(encoding="utf-8")) for name in ("page.html", template))
    style = (folder / "page.css").read_text(encoding="utf-8")
    return page.substitute(style=style, title=title, body=body.substitute(title=title, **values))


def escape(text: str) -> str:
    """Text escaped for a page: without tags, and valid UTF-8."""
    return html.escape(printable(text))


def card(name: str, figure: str, remark: str) -> str:
    """A figure in large type."""
    return f'<div class="card">{escape(name)}<b>{figure}</b><span class="faint">{escape(remark)}</span></div>'


def image(pixels: np.ndarray, name: str) -> str:
    """A small picture, uint8 (height, width, 1 or 3)."""
    small = ' class="small"' if max(pixels.shape[:2]) < SMALL_SIDE else ""
    jpeg = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()  # OpenCV's colors are BGR
    return f'<img{small} title="{escape(name)}" alt="{escape(name)}" src="{data_uri("jpeg", jpeg)}">'


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """The image, no larger than `THUMBNAIL_SIDE` on either side; uint8."""
    height, width = pixels.shape[:2]
    shrink = min(1, THUMBNAIL_SIDE / max(height, width))
    if shrink == 1:
        return pixels
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], pixels.shape[-1])


def data_uri(kind: str, content: bytes) -> str:
    """An image file as a data URI."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
