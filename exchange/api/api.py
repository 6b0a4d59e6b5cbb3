"""Builds the application of a node. Nothing is global: build it twice and two nodes share nothing."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware

from exchange.api import (
    access,
    consents,
    contracts,
    decisions,
    documentation,
    federation,
    health,
    inbox,
    referrals,
    sealing,
)
from exchange.api.arriving import InTime
from exchange.api.direct import Direct
from exchange.api.headers import Guard
from exchange.api.problems import install
from exchange.api.serving import attach
from exchange.use_cases.node import Node

ROUTERS = (
    access.router,
    consents.router,
    referrals.router,
    inbox.router,
    decisions.router,
    sealing.router,
    contracts.router,
    federation.router,
    health.router,
    documentation.router,
)
#: FastAPI's own telemetry would put addresses, queries and exceptions into spans as soon as there is a provider.
_SILENT = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False)


def build_api(node: Node | None = None, *, telemetry: TelemetryConfig | None = None) -> FastAPI:
    """The application.

    Args:
        node: the node it serves; without one every call that needs it is 503 until `attach` is called.
        telemetry: what FastAPI may record (`Telemetry.fastapi()`); nothing unless given.
    """
    app = FastAPI(
        title="referral-exchange",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Guard)],
        telemetry=telemetry or _SILENT,
    )
    app.state.documents = {}
    install(app)
    for router in ROUTERS:
        # Not `include_router`, which analyses every route once more for each application: these were made, and hold
        # nothing of a node, when their modules were loaded.
        app.router.routes.extend(router.routes)
    app.middleware_stack = InTime(Direct(app.build_middleware_stack(), app.routes))
    if node is not None:
        attach(app, node)
    return app
