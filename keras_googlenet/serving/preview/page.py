"""The page at `/`: files of `serving/page`, which any server in front of TensorFlow Serving can offer too."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib import resources
from urllib.parse import quote

from starlette.responses import PlainTextResponse, Response

FOLDER = resources.files("keras_googlenet") / "serving/page"
TYPES = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
NO_MODELS = '<meta name="models" content="">'
# Only the page's own files and server; images from files.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_response(method: str, target: str, models: Iterable[str]) -> Response:
    """The page or one of its files; 404 for anything else.

    Args:
        method: The request's method.
        target: Its path as sent, without the query.
        models: Names of the models that the page offers.
    """
    if method not in ("GET", "HEAD"):
        return PlainTextResponse("Not Found", 404)
    if target == "/":
        text = (FOLDER / "index.html").read_text(encoding="utf-8")
        names = escape(",".join(quote(name, safe="") for name in models))
        text = text.replace(NO_MODELS, NO_MODELS.replace('""', f'"{names}"'))
        return Response(text, media_type="text/html", headers=HEADERS)
    name = target.removeprefix("/page/")
    if target != f"/page/{name}" or name not in TYPES:
        return PlainTextResponse("Not Found", 404)
    return Response((FOLDER / name).read_bytes(), media_type=TYPES[name], headers=HEADERS)
