"""A served model's address, as a URL over HTTP or gRPC."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from keras_googlenet.errors import UserError
from keras_googlenet.versions import MAX_VERSION

GRPC_PORT = 8500
MODEL = re.compile(
    r"(?P<prefix>.*)/v1/models/(?P<model>[^/:]+)(?:/(?:versions/(?P<version>[0-9]+)|labels/(?P<label>[^/:]+)))?"
    r"(?::predict)?"
)
EXAMPLES = (
    "http://127.0.0.1:8501/v1/models/googlenet, or http://127.0.0.1:8501 or grpc://127.0.0.1:8500 and a "
    "model's name"
)


@dataclass(frozen=True)
class Address:
    """Where a model is, and which of its versions: a number, a label, or else the latest."""

    scheme: Literal["http", "https", "grpc", "grpcs"]
    host: str  # with its port
    prefix: str  # what a proxy puts before /v1
    model: str
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        which = "" if self.version is None else f"/versions/{self.version}"
        which = which if self.label is None else f"/labels/{quote(self.label, safe='')}"
        return f"{self.scheme}://{self.host}{self.prefix}/v1/models/{quote(self.model, safe='')}{which}"

    def pinned(self, version: int | None) -> Address:
        """This model at a version; unchanged if that is `None`."""
        return self if version is None else replace(self, version=version, label=None)


def parse(
    url: str, *, model: str | None = None, version: int | None = None, label: str | None = None
) -> Address:
    """A model's address from a URL of it, or from a server's URL and the model's name.

    Raises:
        UserError: The URL is invalid, or the model or version is given twice or invalid.
    """
    for what, given in (("url", url), ("model", model), ("label", label)):
        if not isinstance(given, str) and (given is not None or what == "url"):
            raise UserError(f"expected {what} to be text; got {given!r}")
    try:
        parts = urlsplit(url.rstrip("/"))
        port = parts.port
        (parts.hostname or "").encode("idna")  # a UnicodeError is a ValueError
    except ValueError as error:
        raise UserError(f"expected a model's address such as {EXAMPLES}; got {url} ({error})") from None
    known = parts.scheme in ("http", "https", "grpc", "grpcs")
    if not known or not parts.hostname or parts.query or parts.fragment:
        raise UserError(f"expected a model's address such as {EXAMPLES}; got {url}")
    named = MODEL.fullmatch(parts.path)
    if named is None and "/v1/models" in parts.path:
        raise UserError(f"expected a model's address such as {EXAMPLES}; got {url}")
    found = named.groupdict() if named else dict.fromkeys(("model", "version", "label"))
    prefix = named["prefix"] if named else parts.path
    model = _once("model", url, found["model"] and unquote(found["model"]), model)
    version_text = _once("version", url, found["version"], None if version is None else str(version))
    label = _once("label", url, found["label"] and unquote(found["label"]), label)
    if not model:
        raise UserError(f"which model? Expected an address such as {EXAMPLES}; got {url}")
    if version_text and not (version_text.isdecimal() and int(version_text) <= MAX_VERSION):
        raise UserError(f"expected version to be a number from 0 to {MAX_VERSION}; got {version_text}")
    if version_text and label:
        raise UserError(f"expected either a version or a label, and not both: {version_text} and {label}")
    host = parts.netloc
    if parts.scheme in ("grpc", "grpcs"):
        if prefix:
            raise UserError(f"expected no path before /v1 in an address of gRPC; got {url}")
        host = host if port is not None else f"{host}:{GRPC_PORT}"
    return Address(
        scheme=parts.scheme,  # type: ignore[arg-type]
        host=host,
        prefix=prefix,
        model=model,
        version=int(version_text) if version_text else None,
        label=label,
    )


def _once(what: str, url: str, in_url: str | None, given: str | None) -> str | None:
    if in_url and given and in_url != given:
        raise UserError(f"{url} says {what} {in_url}, but {what} {given} is given too")
    return in_url or given or None
