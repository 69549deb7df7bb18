"""The page to try a model: static files, for the preview or any server in front of TensorFlow Serving."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from urllib.parse import quote

FOLDER = Path(__file__).parent
FILES = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
NO_MODELS = '<meta name="models" content="">'
# Only the page's own files and server; images from files.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def html(models: Iterable[str]) -> str:
    """The page, which offers these models.

    Args:
        models: Their names, in the order of its list.
    """
    names = escape(",".join(quote(name, safe="") for name in models))
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    return text.replace(NO_MODELS, NO_MODELS.replace('""', f'"{names}"'))
