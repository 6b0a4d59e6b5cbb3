"""Pages for people: the landing page and the API's documentation, served by the node itself.

Rules:

* No request leaves for anybody else: Swagger UI's own two files come from the installed package `fastapi_offline`.
* No script stands in a page, and the policy of the page allows none: `script-src 'self'`.
* The landing page says what software answers here, and nothing of what it is used for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from exchange import api as this_room
from exchange.api.openapi import agency_document, federation_document
from exchange.api.refused import RefusedRequestError
from exchange.api.rendering import revalidated, to_json

router = APIRouter(include_in_schema=False)

AGENCY_DOCUMENT: Final = "/openapi.json"
FEDERATION_DOCUMENT: Final = "/federation/openapi.json"
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSETS: Final = {
    "swagger-ui-bundle.js": ("fastapi_offline", "text/javascript"),
    "swagger-ui.css": ("fastapi_offline", "text/css"),
    "docs.js": (this_room.__name__, "text/javascript"),
}
_A_DAY: Final = 86_400
_DOCS: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>referral-exchange API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="docs" data-document="{document}"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/docs.js"></script>
</body>
</html>
"""
_LANDING: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>referral-exchange</title>
</head>
<body>
<h1>referral-exchange</h1>
<p><a href="/docs">API documentation</a> · <a href="/docs/federation">Node API documentation</a></p>
</body>
</html>
"""


def _page(html: str) -> Response:
    return Response(html, media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY})


def _document(request: Request, name: str, make: Callable[[FastAPI], dict[str, Any]]) -> Response:
    """A document of this application, made once: making it takes longer than anything an anonymous caller may ask."""
    made: dict[str, bytes] = request.app.state.documents
    if name not in made:
        made[name] = to_json(make(request.app))
    return revalidated(request, made[name])


@router.get("/")
async def landing() -> Response:
    """Which software answers here."""
    return _page(_LANDING)


@router.get("/docs")
async def agency_docs() -> Response:
    """The documentation of the API for an agency's own systems."""
    return _page(_DOCS.format(document=AGENCY_DOCUMENT))


@router.get("/docs/federation")
async def federation_docs() -> Response:
    """The documentation of the API between nodes."""
    return _page(_DOCS.format(document=FEDERATION_DOCUMENT))


@router.get("/docs/assets/{name}")
async def asset(request: Request, name: str) -> Response:
    """One of the files that the documentation needs."""
    if name not in _ASSETS:
        raise RefusedRequestError("not-found")
    package, media_type = _ASSETS[name]
    body = (files(package) / "static" / name).read_bytes()
    return revalidated(request, body, media_type=media_type, max_age=_A_DAY)


@router.get(AGENCY_DOCUMENT)
async def agency_openapi(request: Request) -> Response:
    """The OpenAPI document of the API for an agency's own systems."""
    return _document(request, AGENCY_DOCUMENT, agency_document)


@router.get(FEDERATION_DOCUMENT)
async def federation_openapi(request: Request) -> Response:
    """The OpenAPI document of the API between nodes."""
    return _document(request, FEDERATION_DOCUMENT, federation_document)
