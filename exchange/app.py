"""The composition root of a process that serves: an application whose node is opened when the server starts it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from exchange.api.api import build_api
from exchange.api.serving import Serving, attach, detach
from exchange.federation.http_connections import Network
from exchange.settings import Settings
from exchange.startup import StartRefusedError, begin_telemetry, open_node
from exchange.telemetry import AccessLog
from exchange.telemetry.measurements import Measurements


def create_app(
    settings: Settings,
    *,
    network: Network | None = None,
    refused: Callable[[StartRefusedError], object] = lambda _refused: None,
) -> Application:
    """The application of a node; the node is opened when the server starts it.

    Args:
        settings: what is set.
        network: replaces the sockets to other nodes, in tests.
        refused: is told why the node does not start, before the server is: that one says it to nobody.
    """
    telemetry = begin_telemetry(settings)
    app = build_api(telemetry=telemetry.fastapi())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                node = await stack.enter_async_context(open_node(settings, telemetry=telemetry, network=network))
            except StartRefusedError as reasons:
                refused(reasons)
                raise
            attach(app, node)
            stack.callback(detach, app)
            yield

    app.router.lifespan_context = lifespan
    return Application(app, telemetry.measurements)


class Application(AccessLog):
    """A node's application, for a server that tells it before it stops."""

    def __init__(self, app: FastAPI, measurements: Measurements) -> None:
        """Take the application whose node is opened by its lifespan."""
        super().__init__(app, measurements=measurements)
        self._state = app.state

    def let_go(self) -> None:
        """The server is about to stop: who waits for news is answered now, with what is there."""
        served = getattr(self._state, "serving", None)
        if isinstance(served, Serving):
            served.node.database.wake.let_go()
