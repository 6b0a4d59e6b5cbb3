"""The OpenAPI 3.1 documents: of the API for an agency's own systems, and of the one between nodes.

Everything is read from the routes: who may call from the caller type, what is refused from the parameters and the
table of problems, the rest from `Operation` and the docstring. FastAPI contributes the parameters; bodies are read by
`exchange.api.bodies`, so their schemas are added here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from exchange.api.bodies import IdempotencyHeader, JsonBody, Nothing
from exchange.api.callers import Right
from exchange.api.document_parts import (
    ACTOR,
    ANSWER_HEADERS,
    BEARER_HEADER,
    FEDERATION_INFO,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    INFO,
    SECURITY_SCHEMES,
    TAGS,
    UNIT,
    problem_examples,
    problem_responses,
    without_null,
)
from exchange.api.examples import TOKEN_FORM_REFUSAL, TOKEN_REFUSAL, example_of
from exchange.api.member_words import with_words
from exchange.api.operations import Operation, operation_of
from exchange.api.rendering import JSON
from exchange.oauth.metadata import TOKEN_PATH
from exchange.oauth.scopes import Scope
from exchange.schemas.federation import EnvelopeBatch, WireEnvelope
from exchange.schemas.problems import Problem

_REFERENCE: Final = "#/components/schemas/{model}"
_ACCESS: Final = "access"
_FEDERATION: Final = "federation"
Mode = Literal["validation", "serialization"]
"""What comes in, and what goes out."""


def agency_document(app: FastAPI) -> dict[str, Any]:
    """The API for an agency's own systems."""
    return _document(INFO, [route for route in _routes(app) if _FEDERATION not in route.tags])


def federation_document(app: FastAPI) -> dict[str, Any]:
    """The API between nodes."""
    return _document(FEDERATION_INFO, [route for route in _routes(app) if {_FEDERATION, _ACCESS} & set(route.tags)])


def _routes(app: FastAPI) -> list[APIRoute]:
    found = (context.original_route for context in iter_route_contexts(app.routes))
    return [route for route in found if isinstance(route, APIRoute) and route.include_in_schema]


def _document(info: dict[str, Any], routes: list[APIRoute]) -> dict[str, Any]:
    schemas = _Schemas(routes)
    document = get_openapi(title=info["title"], version=version("referral-exchange"), routes=routes)
    paths = document["paths"]
    for route in routes:
        for method in route.methods or ():
            described = paths[route.path_format][method.lower()]
            paths[route.path_format][method.lower()] = _operation(route, described, schemas)
    schemes = {_scheme(right) for route in routes for right in _found(route, Right)}
    tags = {str(tag) for route in routes for tag in route.tags}
    return {
        "openapi": "3.1.0",
        "info": {**info, "version": document["info"]["version"]},
        "tags": [tag for tag in TAGS if tag["name"] in tags],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "examples": problem_examples(paths),
            "securitySchemes": {name: SECURITY_SCHEMES[name] for name in sorted(schemes)},
        },
    }


class _Schemas:
    """The schemas of every model that some routes read or answer."""

    def __init__(self, routes: Iterable[APIRoute]) -> None:
        wanted: dict[tuple[type[BaseModel], Mode], None] = {(Problem, "serialization"): None}
        for route in routes:
            spec = operation_of(route.endpoint)
            wanted |= {(body.model, "validation"): None for body in _found(route, JsonBody)}
            if spec.answer is not None:
                wanted[spec.answer, "serialization"] = None
            # Named by reference in these two routes' own media types.
            if "EnvelopeBatch" in str(spec.request_media):
                wanted[EnvelopeBatch, "validation"] = None
            if "WireEnvelope" in str(spec.media):
                # One schema for both directions: it is handed on as it came.
                wanted[WireEnvelope, "validation"] = None
        wanted.pop((Nothing, "validation"), None)
        references, definitions = models_json_schema(list(wanted), ref_template=_REFERENCE)
        self._references = references
        self.components = with_words(
            {name: without_null(schema) for name, schema in sorted(definitions["$defs"].items())}
        )

    def of(self, model: type[BaseModel], mode: Mode) -> dict[str, Any]:
        """A reference to the schema of a model."""
        return dict(self._references[model, mode])


def _operation(route: APIRoute, described: dict[str, Any], schemas: _Schemas) -> dict[str, Any]:
    spec = operation_of(route.endpoint)
    summary, _, text = (route.endpoint.__doc__ or "").partition("\n")
    rights = list(_found(route, Right))
    body = next((found for found in _found(route, JsonBody) if found.model is not Nothing), None)
    keyed = any(True for _ in _found(route, IdempotencyHeader))
    parameters = [without_null(parameter) for parameter in described.get("parameters", [])]
    for right in rights:
        parameters += _caller_headers(right)
    if keyed:
        parameters.append(IDEMPOTENCY_KEY)
    if spec.revalidated:
        parameters.append(IF_NONE_MATCH)
    result = {
        "tags": described["tags"],
        "summary": summary.strip().rstrip("."),
        "description": " ".join(line.strip() for line in text.strip().splitlines()),
        "operationId": route.name,
        "security": [{_scheme(right): [right.scope.value]} for right in rights],
        "parameters": parameters,
    }
    if (request := _request_body(spec, body, schemas)) is not None:
        result["requestBody"] = request
    codes = _codes(spec, rights, parameters, has_body=any(True for _ in _found(route, JsonBody)), keyed=keyed)
    result["responses"] = {**_answers(spec, schemas), **problem_responses(codes)}
    if spec.unavailable is not None:
        _add_unavailable(result["responses"], spec)
    if route.path == TOKEN_PATH:
        result["responses"] |= _token_refusals()
    return {name: value for name, value in result.items() if value != [] or name == "security"}


def _request_body(spec: Operation, body: JsonBody[Any] | None, schemas: _Schemas) -> dict[str, Any] | None:
    if spec.request_media:
        return {"required": True, "content": spec.request_media}
    if body is None:
        return None
    media = {"schema": schemas.of(body.model, "validation"), "example": example_of(body.model)}
    return {"required": not body.optional, "content": {JSON: media}}


def _answers(spec: Operation, schemas: _Schemas) -> dict[str, Any]:
    content = dict(spec.media)
    if spec.answer is not None:
        media = {"schema": schemas.of(spec.answer, "serialization"), "example": example_of(spec.answer)}
        content = {JSON: media, **content}
    named = (*spec.headers, "ETag") if spec.revalidated else spec.headers
    headers = {"headers": {name: ANSWER_HEADERS[name] for name in named}} if named else {}
    answers = {str(spec.status): {"description": spec.described, "content": content, **headers}}
    if spec.repeats:
        answers["200"] = {
            "description": "The same request came before under this key; this is the first answer.",
            "content": content,
        }
    if spec.revalidated:
        unchanged = "Still what has the `ETag` that came in `If-None-Match`."
        answers["304"] = {"description": unchanged, "content": {}, **headers}
    return answers


def _add_unavailable(responses: dict[str, Any], spec: Operation) -> None:
    """The route's own model beside the problems of the same status."""
    status = str(HTTPStatus.SERVICE_UNAVAILABLE.value)
    refused, answered = responses[status], responses[str(spec.status)]["content"][JSON]
    responses[status] = refused | {"content": {JSON: answered | {"example": spec.unavailable}, **refused["content"]}}


def _token_refusals() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["error", "error_description"],
        "properties": {
            "error": {"type": "string", "description": "A code of RFC 6749."},
            "error_description": {"type": "string", "description": "What to do."},
        },
    }
    form = {"schema": schema, "example": TOKEN_FORM_REFUSAL}
    return {
        "400": {"description": "The form is not acceptable (RFC 6749).", "content": {JSON: form}},
        "401": {
            "description": "The client did not prove who it is.",
            "content": {JSON: {"schema": schema, "example": TOKEN_REFUSAL}},
            "headers": BEARER_HEADER,
        },
    }


def _codes(
    spec: Operation, rights: list[Right], parameters: list[dict[str, Any]], *, has_body: bool, keyed: bool
) -> list[str]:
    """Every problem code that follows from what a route takes, and its own."""
    codes = [*spec.problems, "internal-error"]
    for right in rights:
        codes += ["invalid-credentials", "header-repeated", "token-missing", "token-invalid", "insufficient-scope"]
        codes += ["too-many-requests", "starting", "storage-unavailable"]
        if right.scope is not Scope.FEDERATION:
            codes += ["header-invalid", "unit-not-yours"]
        if right.names_actor:
            codes.append("header-missing")
    if any(parameter["in"] == "path" for parameter in parameters):
        codes.append("not-found")
    if any(parameter["in"] == "query" for parameter in parameters):
        codes.append("invalid-request")
    if has_body:
        codes += [
            "not-json",
            "repeated-member",
            "null-member",
            "body-too-slow",
            "body-too-large",
            "unsupported-media-type",
            "invalid-request",
        ]
    if keyed:
        codes += ["header-missing", "idempotency-key-reused", "storage-commit-failed"]
    return list(dict.fromkeys(codes))


def _caller_headers(right: Right) -> list[dict[str, Any]]:
    if right.scope is Scope.FEDERATION:
        return []
    return [ACTOR, UNIT] if right.names_actor else [UNIT]


def _scheme(right: Right) -> str:
    return "node" if right.scope is Scope.FEDERATION else "client"


def _found(route: APIRoute, kind: type[Any]) -> Iterator[Any]:
    yield from (dependant.call for dependant in _dependants(route.dependant) if isinstance(dependant.call, kind))


def _dependants(dependant: Dependant) -> Iterator[Dependant]:
    for inner in dependant.dependencies:
        yield inner
        yield from _dependants(inner)
