"""One line and one measurement for each request: route template, status, milliseconds.

Rules:

* The path, the query, the headers, the caller and the peer's address are not written. `/v1/inbox/{id}` is all there is.
* A request that no route matched is `unmatched`, so that a mistyped address with a name in it stays out.
* A request whose client went away before an answer is counted as 499.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any, Final

from exchange.telemetry.allowed import ATTRIBUTES, ROUTE
from exchange.telemetry.logs import get_logger
from exchange.telemetry.measurements import Measurements

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Where a plain ASGI route leaves its template; FastAPI leaves its own under `route`.
ROUTE_KEY: Final = "exchange.route"
UNMATCHED: Final = "unmatched"
_NO_ANSWER: Final = 499
_FAILED: Final = 500


class AccessLog:
    """ASGI middleware, the outermost of the application."""

    def __init__(self, app: Application, *, measurements: Measurements) -> None:
        """Take the application and what counts."""
        self._app = app
        self._measurements = measurements
        # Bound once: otherwise structlog makes a logger anew for each line.
        self._log = get_logger().bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and write its line when it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _NO_ANSWER
        started = perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            status = _FAILED
            raise
        finally:
            self._write(scope, status, (perf_counter() - started) * 1000)

    def _write(self, scope: Scope, status: int, ms: float) -> None:
        method = scope["method"] if ATTRIBUTES["http.request.method"](scope["method"]) else "_OTHER"
        route = route_template(scope)
        self._measurements.request(method=method, route=route, status=status, ms=ms)
        if not route.startswith("/health/"):
            self._log.info("api.request", method=method, route=route, status=status, ms=round(ms, 1))


def route_template(scope: Scope) -> str:
    """The template of the route that served this request, or `unmatched`."""
    template = scope.get(ROUTE_KEY) or getattr(scope.get("route"), "path_format", None)
    return template if isinstance(template, str) and ROUTE(template) else UNMATCHED
