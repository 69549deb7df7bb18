"""The page at `/`."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import PlainTextResponse, Response

from keras_googlenet.serving import page

HEADERS = {
    "content-security-policy": page.POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_response(method: str, target: str, models: Iterable[str]) -> Response:
    """The page or one of its files; 404 for anything else.

    Args:
        method: The request's method.
        target: Its path, without the query.
        models: Names of the models that the page offers.
    """
    if method in ("GET", "HEAD") and target == "/":
        return Response(page.html(models), media_type="text/html", headers=HEADERS)
    name = target.removeprefix("/page/")
    if method not in ("GET", "HEAD") or target != f"/page/{name}" or name not in page.FILES:
        return PlainTextResponse("Not Found", 404)
    return Response((page.FOLDER / name).read_bytes(), media_type=page.FILES[name], headers=HEADERS)
