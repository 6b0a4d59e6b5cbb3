"""RFC 9457 problem documents: the one table from errors to status, type, title and words.

Rules:

* Every refusal is `application/problem+json`, also for an unknown address, a wrong method and a failure of this node.
* `type` is a stable URI with a place in docs/problems.md; `who` says who has to act.
* Nothing submitted is repeated: not a value, not an invented name, not a part of the address.
* Of an error that nobody expected nothing is shown: not its class, its text or its place.
* An object that does not exist and one that the caller may not see are the same document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from exchange.api.catalogue import Entry
from exchange.api.codes import ENTRIES
from exchange.api.invalid import described
from exchange.api.refused import RefusedRequestError
from exchange.envelope.errors import ContentTooLargeError, EnvelopeError
from exchange.envelope.errors import TooLargeError as TooLargeEnvelopeError
from exchange.oauth.bearer import (
    BearerError,
    InsufficientScopeError,
    InvalidTokenError,
    MalformedTokenRequestError,
    MissingTokenError,
)
from exchange.oauth.scopes import Scope
from exchange.schemas.problems import Problem, ProblemField, Who
from exchange.storage.errors import CommitFailedError, StorageUnavailableError
from exchange.telemetry.logs import get_logger
from exchange.use_cases.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    UseCaseError,
)

MEDIA_TYPE: Final = "application/problem+json"
_RETRY_AFTER_S: Final = 5
_WRONG_METHOD: Final = 405
_SERVER: Final = 500

#: Error class of a use case: status, and the title where the catalogue has none of its own.
USE_CASE_ERRORS: Final[Mapping[type[UseCaseError], tuple[int, str]]] = {
    NotFoundError: (404, "There is nothing here"),
    ConflictError: (409, "What is on record says otherwise"),
    ForbiddenError: (403, "A rule or a consent says no"),
    InvalidError: (422, "The request cannot be understood"),
    TooLargeError: (413, "The content is too large"),
    GoneError: (410, "It was destroyed"),
    UnavailableError: (503, "Not now"),
}
BEARER_ERRORS: Final[Mapping[type[BearerError], str]] = {
    MissingTokenError: "token-missing",
    MalformedTokenRequestError: "invalid-credentials",
    InvalidTokenError: "token-invalid",
    InsufficientScopeError: "insufficient-scope",
}
#: What the router and the server refuse by themselves.
HTTP_ERRORS: Final[Mapping[int, str]] = {
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
}


#: What is answered with a problem document of its own; anything else is a failure of this node.
ANSWERED: Final = (
    UseCaseError,
    RefusedRequestError,
    BearerError,
    StorageUnavailableError,
    EnvelopeError,
    RequestValidationError,
    HTTPException,
    ClientDisconnect,
)


def install(app: FastAPI) -> None:
    """Answer every error of this application with a problem document."""
    for kind in ANSWERED:
        app.add_exception_handler(kind, answer)


def problem(
    entry: Entry,
    *,
    detail: str | None = None,
    who: Who | None = None,
    fields: tuple[ProblemField, ...] = (),
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for one entry of the catalogue."""
    wait = retry_after if retry_after is not None else entry.retry_after
    document = Problem(
        type=entry.type,
        title=entry.title,
        status=entry.status,
        code=entry.code,
        who=who or entry.who,
        detail=detail or entry.advice,
        fields=fields,
        retry_after=wait,
    )
    more = {"Retry-After": str(wait)} if wait is not None else {}
    return Response(
        document.model_dump_json(exclude_none=True),
        status_code=entry.status,
        headers={**more, **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def failure() -> Response:
    """The answer to an error nobody expected."""
    return problem(ENTRIES["internal-error"])


def unavailable(error: StorageUnavailableError) -> Response:
    """The answer where a database cannot be used now."""
    get_logger().warning("storage-unavailable", code=error.code)
    certain = not isinstance(error, CommitFailedError)
    return problem(ENTRIES["storage-unavailable" if certain else "storage-commit-failed"])


async def answer(request: Request, error: Exception) -> Response:
    """The problem document of an error that stands in `ANSWERED`."""
    match error:
        case UseCaseError():
            return _use_case(error)
        case RefusedRequestError():
            return problem(ENTRIES[error.code], detail=error.detail, fields=error.fields, headers=error.headers)
        case BearerError():
            fields = () if error.scope is None else (_scope_field(error.scope),)
            challenge = {"WWW-Authenticate": error.www_authenticate}
            return problem(ENTRIES[BEARER_ERRORS[type(error)]], fields=fields, headers=challenge)
        case StorageUnavailableError():
            return unavailable(error)
        case EnvelopeError():
            status = 413 if isinstance(error, (TooLargeEnvelopeError, ContentTooLargeError)) else 422
            known = ENTRIES.get(error.code)
            title = known.title if known else "The envelope is refused"
            return problem(Entry(error.code, status, Who(error.who.value), title, str(error)))
        case RequestValidationError():
            return _parameters(request, error)
        case HTTPException():
            return _http(request, error)
        case _:
            return problem(ENTRIES["not-json"])  # the client went away: nobody reads this


def _scope_field(scope: Scope) -> ProblemField:
    return ProblemField(path="header.Authorization", code="scope", sentence=f"This call needs the scope `{scope}`.")


def who_acts(error: UseCaseError) -> Who:
    """Whom the error names, or else the list of problems."""
    known = ENTRIES.get(error.code)
    return error.who or (known.who if known else Who.SENDER)


def _use_case(error: UseCaseError) -> Response:
    status, title = next(row for kind, row in USE_CASE_ERRORS.items() if isinstance(error, kind))
    known = ENTRIES.get(error.code)
    entry = Entry(error.code, status, who_acts(error), known.title if known else title, error.sentence)
    wait = error.retry_after
    if wait is None and isinstance(error, UnavailableError):
        wait = _RETRY_AFTER_S
    return problem(entry, fields=error.fields, retry_after=wait)


def _parameters(request: Request, error: RequestValidationError) -> Response:
    details = error.errors()
    if any(detail["loc"][0] == "path" for detail in details):
        if _written_out(request):
            return problem(ENTRIES["method-not-allowed"], headers=_allowed(request))
        return problem(ENTRIES["not-found"])  # an id in another form is the id of nothing
    # Every name here is one that a route declares: an unknown one is reported at its parent.
    names = frozenset(step for detail in details for step in detail["loc"] if isinstance(step, str))
    return problem(ENTRIES["invalid-request"], fields=described(details, names))


def _http(request: Request, error: HTTPException) -> Response:
    entry = ENTRIES.get(HTTP_ERRORS.get(error.status_code, ""))
    if entry is None:
        return problem(ENTRIES["internal-error"] if error.status_code >= _SERVER else ENTRIES["invalid-request"])
    return problem(entry, headers=_allowed(request) if entry.status == _WRONG_METHOD else {})


def _allowed(request: Request) -> dict[str, str]:
    """Every method that this address takes; the router itself names those of its first route only."""
    routes = _written_out(request) or _matching(request)
    methods = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return {"Allow": ", ".join(sorted(methods))}


def _matching(request: Request) -> list[BaseRoute]:
    routes = [context.original_route for context in iter_route_contexts(request.app.routes)]
    return [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]


def _written_out(request: Request) -> list[BaseRoute]:
    """`/v1/referrals/preview` has the form of `/v1/referrals/{referral_id}`, and is an address of its own."""
    # A place that the caller has left as the documentation writes it is the id of nothing.
    path = request.url.path
    return [route for route in _matching(request) if getattr(route, "path", None) == path and "{" not in path]
