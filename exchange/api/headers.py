"""The outermost layer: headers that every answer carries, and the end of every unexpected error.

Rules:

* No answer is cached unless its route says so, and nothing personal says so.
* No answer is sniffed, framed or run: an answer is data. Pages of the documentation bring their own, narrower policy.
* An error that nobody expected is logged by class and place and answered as a problem that shows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exchange.api.problems import failure, unavailable
from exchange.api.serving import Serving
from exchange.telemetry import get_logger
from exchange.use_cases.storage_lost import as_outage

Header = tuple[bytes, bytes]
_ALWAYS: Final[dict[bytes, bytes]] = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}
_UNLESS_SET: Final = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}
_ALWAYS_OVER_HTTPS: Final = _ALWAYS | {b"strict-transport-security": b"max-age=31536000"}


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
                message["headers"] = _guarded(message.get("headers", ()), scope)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:  # the last place before the server, which would say more than it should
            if started:
                raise
            outage = as_outage(error)
            if outage is None:
                get_logger().error("api.failed", exc_info=error)
            await (failure() if outage is None else unavailable(outage))(scope, receive, sending)


def _guarded(headers: Iterable[Header], scope: Scope) -> list[Header]:
    serving = getattr(scope["app"].state, "serving", None)
    https = isinstance(serving, Serving) and serving.node.issuer.startswith("https://")
    always = _ALWAYS_OVER_HTTPS if https else _ALWAYS
    own = [header for header in headers if header[0].lower() not in always]
    names = {name.lower() for name, _ in own}
    return [*own, *always.items(), *[header for header in _UNLESS_SET.items() if header[0] not in names]]
