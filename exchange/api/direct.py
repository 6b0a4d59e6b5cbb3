"""The hot routes, called without the framework between: it costs more than half of what such a call does itself.

Rules:

* A direct route is one of FastAPI's own routes. Its endpoint, its dependencies, their order and the table of problems
  are the same objects, taken from the route: nothing is declared a second time.
* What is not exactly such a request goes through FastAPI: another method or spelling of the address, query parameters
  that their model refuses, and a request that is traced.
* A route with anything that is not understood here cannot be made direct: that is refused while the application is
  built, not when somebody calls.

`docs/decisions/0013-hot-path.md` has the measurements.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from exchange.api.headers import Guard
from exchange.api.problems import ANSWERED, answer
from exchange.telemetry.access import ROUTE_KEY

Dependency = Callable[[Request], Awaitable[Any]]

HOT: Final = (
    ("POST", "/v1/referrals"),
    ("POST", "/federation/v1/envelopes"),
    ("GET", "/v1/inbox"),
    ("POST", "/v1/inbox/open"),
)
"""What every referral passes on its way, at either side."""
_TRACED: Final = "fastapi.telemetry"
"""Where FastAPI leaves the span of a request."""


class NotDirectError(Exception):
    """A route that only FastAPI can call. A mistake in this program."""


class Direct:
    """ASGI middleware around everything that FastAPI is made of."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        """Take what answers every other request, and the routes of the application.

        Raises:
            NotDirectError: a hot route takes something that is not understood here.
        """
        self.app = app
        found = {
            (method, route.path): route for route in routes if isinstance(route, APIRoute) for method in _of(route)
        }
        self._hot = {hot: Guard(DirectRoute(found[hot], otherwise=app)) for hot in HOT}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        hot = self._hot.get((scope.get("method", ""), scope.get("path", "")))
        if hot is None or scope.get("root_path") or scope.get(_TRACED) is not None:
            await self.app(scope, receive, send)
        else:
            await hot(scope, receive, send)


class DirectRoute:
    """One of FastAPI's routes, as an application of its own."""

    def __init__(self, route: APIRoute, *, otherwise: ASGIApp) -> None:
        """Take the route, and what answers a request with a query that its model refuses.

        Raises:
            NotDirectError: it takes something else than the request, dependencies of it, and one model of the query.
        """
        takes = route.dependant
        if takes.path_params or takes.header_params or takes.cookie_params or takes.body_params:
            raise NotDirectError(route.path)
        self._path = route.path
        self._endpoint: Callable[..., Awaitable[Response]] = route.endpoint
        self._otherwise = otherwise
        self._request = takes.request_param_name
        self._query = _query(route)
        self._dependencies = [_dependency(route, inner) for inner in takes.dependencies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        values: dict[str, Any] = {}
        if self._query is not None:
            name, model = self._query
            try:
                values[name] = model.model_validate(dict(request.query_params))
            except ValidationError:
                # FastAPI says what is wrong with it, after it has looked at the caller.
                await self._otherwise(scope, receive, send)
                return
        scope[ROUTE_KEY] = self._path
        if self._request is not None:
            values[self._request] = request
        try:
            for name, dependency in self._dependencies:
                values[name] = await dependency(request)
            response = await self._endpoint(**values)
        except ANSWERED as error:
            response = await answer(request, error)
        await response(scope, receive, send)


def _of(route: APIRoute) -> Iterable[str]:
    return route.methods or ()


def _query(route: APIRoute) -> tuple[str, type[BaseModel]] | None:
    if not route.dependant.query_params:
        return None
    [parameter, *more] = route.dependant.query_params
    model = parameter.field_info.annotation
    if more or not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise NotDirectError(route.path)
    return parameter.name, model


def _dependency(route: APIRoute, inner: Dependant) -> tuple[str, Dependency]:
    name, call = inner.name, inner.call
    alone = Dependant(
        name=name, call=call, path=inner.path, request_param_name="request", own_oauth_scopes=[], parent_oauth_scopes=[]
    )
    if name is None or call is None or inner != alone:
        raise NotDirectError(route.path)
    return name, call
