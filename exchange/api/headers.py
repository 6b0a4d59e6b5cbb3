"""The outermost layer: headers that every answer carries, and the end of every unexpected error.

Rules:

* No answer is cached unless its route says so, and nothing personal says so.
* No answer is sniffed, framed or run: an answer is data. Pages of the documentation bring their own, narrower policy.
* An error that nobody expected is logged by class and place and answered as a problem that shows nothing of it.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exchange.api.problems import failure
from exchange.api.serving import Serving
from exchange.telemetry import get_logger

_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_UNLESS_SET = (
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cache-Control", "no-store"),
)
_HSTS = "max-age=31536000"


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        """Take the application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_headers(MutableHeaders(scope=message), scope)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:  # the last place before the server, which would say more than it should
            if started:
                raise
            get_logger().error("api.failed", exc_info=error)
            await failure()(scope, receive, sending)


def _add_headers(headers: MutableHeaders, scope: Scope) -> None:
    for name, value in _ALWAYS:
        headers[name] = value
    for name, value in _UNLESS_SET:
        headers.setdefault(name, value)
    serving = getattr(scope["app"].state, "serving", None)
    if isinstance(serving, Serving) and serving.node.issuer.startswith("https://"):
        headers["Strict-Transport-Security"] = _HSTS
