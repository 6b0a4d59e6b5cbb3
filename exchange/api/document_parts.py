"""The parts of the OpenAPI documents that no single route owns: titles, tags, schemes, headers, problem responses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from exchange.api.codes import ENTRIES
from exchange.api.problems import BEARER_ERRORS, MEDIA_TYPE
from exchange.oauth.scopes import Scope

_LICENSE: Final = {"name": "Apache 2.0", "identifier": "Apache-2.0"}
_PSEUDONYM: Final = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}

INFO: Final[dict[str, Any]] = {
    "title": "Referral exchange: agency API",
    "summary": "What an agency's own systems say to their node.",
    "description": (
        "One agency asks another to help one person. Contract and consent decide field by field what may go; the rest "
        "stays. Names travel only after the receiver has accepted.\n\n"
        "Every refusal is a problem document (RFC 9457) whose `type` has a page in the documentation, and whose `who` "
        "says who has to act. Nothing submitted is ever repeated in one. Members without a value are left out; nothing "
        "is ever null. Times are RFC 3339, with an offset.\n\n"
        "A body is one JSON object in UTF-8, not compressed. Members and query parameters that are not listed are "
        "refused (422). A method that is not listed at an address is 405, and `Allow` names those that are."
    ),
    "license": _LICENSE,
}
FEDERATION_INFO: Final[dict[str, Any]] = {
    "title": "Referral exchange: node API",
    "summary": "What nodes say to each other.",
    "description": (
        "Sealed, signed envelopes, and answers that may be asked for again. Keys and addresses of nodes come from the "
        "roster of the federation, never from here. docs/protocol.md is the normative text."
    ),
    "license": _LICENSE,
}
TAGS: Final[tuple[dict[str, str], ...]] = (
    {"name": "access", "description": "Tokens, metadata and the node card."},
    {"name": "consents", "description": "Her yes, and her no."},
    {"name": "referrals", "description": "For the agency that asks."},
    {"name": "inbox", "description": "For the agency that is asked: list, lease, open, take over."},
    {"name": "decisions", "description": "For the agency that is asked: decide, report, attest."},
    {"name": "sealing", "description": "For an agency whose own software holds its keys: hand in what it sealed."},
    {"name": "contracts", "description": "The protocol in force, and peers' keys."},
    {"name": "federation", "description": "Between nodes."},
    {"name": "health", "description": "For whoever operates the node."},
)
_SCOPES: Final[dict[Scope, str]] = {
    Scope.CONSENTS_WRITE: "Record, read, renew and narrow consents; pass on her no.",
    Scope.REFERRALS_WRITE: "Preview and send referrals, and act on one's own.",
    Scope.REFERRALS_READ: "Follow one's own referrals.",
    Scope.INBOX_READ: "List, lease and acknowledge what arrived; never its content.",
    Scope.INBOX_OPEN: "Open what arrived.",
    Scope.INBOX_DECIDE: "Decide, report and attest.",
    Scope.CONTRACTS_READ: "Read contracts and peers' keys.",
}
SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "client": {
        "type": "oauth2",
        "description": "Client credentials with `private_key_jwt`. Tokens live five minutes.",
        "flows": {
            "clientCredentials": {
                "tokenUrl": "/oauth/token",
                "scopes": {scope.value: text for scope, text in _SCOPES.items()},
            }
        },
    },
    "node": {
        "type": "oauth2",
        "description": "The node of another member; it proves itself with the node key that stands in the roster.",
        "flows": {
            "clientCredentials": {
                "tokenUrl": "/oauth/token",
                "scopes": {Scope.FEDERATION.value: "Deliver envelopes and ask for what was lost."},
            }
        },
    },
}
ACTOR: Final[dict[str, Any]] = {
    "name": "Actor",
    "in": "header",
    "required": True,
    "description": "The worker on whose behalf this is done: a pseudonymous id, for the record only. Never a name.",
    "schema": _PSEUDONYM,
    "example": "worker-7f3a",
}
UNIT: Final[dict[str, Any]] = {
    "name": "Unit",
    "in": "header",
    "required": False,
    "description": (
        "Narrows to one branch of the agency: what is its own, and what arrived and no branch has taken over yet. "
        "A client that is bound to a branch is narrowed without it, and can name no other."
    ),
    "schema": _PSEUDONYM,
    "example": "penang",
}
IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": (
        "Random, one for each request that creates something. The same key with the same bytes gets the first answer "
        "again for 24 hours, where the operation says nothing else; with other bytes it is refused."
    ),
    "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,128}$"},
    "example": "2f1c9a7e-50d4-4c8b-9b86-d1f3e7a0c542",
}
BEARER_HEADER: Final = {
    "WWW-Authenticate": {
        "description": "The challenge of RFC 6750.",
        "schema": {"type": "string"},
        "example": "Bearer",
    }
}
IF_NONE_MATCH: Final[dict[str, Any]] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of an earlier answer: 304 without a body while it is still the same.",
    "schema": {"type": "string"},
    "example": '"0f5a1c9e7b3d48268a6c2e5d91b07f43"',
}
ANSWER_HEADERS: Final[dict[str, Any]] = {
    "ETag": {
        "description": "For `If-None-Match` of the next request.",
        "schema": {"type": "string"},
        "example": '"0f5a1c9e7b3d48268a6c2e5d91b07f43"',
    },
    "Link": {
        "description": 'The next page, `rel="next"` (RFC 8288), with the query of this one; absent without one.',
        "schema": {"type": "string"},
        "example": '</v1/inbox?cursor=57&wait=25>; rel="next"',
    },
    "Vary": {
        "description": "The answer depends on this header of the request.",
        "schema": {"type": "string"},
        "example": "Accept",
    },
}
_RETRY_HEADER: Final = {
    "Retry-After": {
        "description": "Seconds after which the same request may succeed.",
        "schema": {"type": "integer"},
        "example": 5,
    }
}
_DESCRIPTIONS: Final = {
    400: "The request is not well formed.",
    401: "No access token, or no good one.",
    403: "The token, a rule or a consent says no.",
    404: "There is nothing here, or nothing that this caller may see.",
    408: "The body took too long.",
    409: "What is on record says otherwise.",
    410: "It was destroyed.",
    413: "Too large.",
    415: "Another content type is expected.",
    422: "The request cannot be understood.",
    429: "Too many requests.",
    500: "Something went wrong in this node.",
    503: "Not now.",
}


def problem_responses(codes: Iterable[str]) -> dict[str, Any]:
    """The responses for some codes of the catalogue, one for each status with an example for each code."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(ENTRIES[code].status, []).append(code)
    return {str(status): _response(status, found) for status, found in sorted(by_status.items())}


def _response(status: int, codes: list[str]) -> dict[str, Any]:
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    headers: dict[str, Any] = {}
    if set(codes) & set(BEARER_ERRORS.values()):
        headers |= BEARER_HEADER
    if any(ENTRIES[code].retry_after for code in codes) or "too-many-requests" in codes:
        headers |= _RETRY_HEADER
    schema = {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {
        "description": _DESCRIPTIONS[status],
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }
    return {**response, "headers": headers} if headers else response


def problem_examples(paths: dict[str, Any]) -> dict[str, Any]:
    """The examples that the problem responses of these paths refer to."""
    used = {
        code
        for operations in paths.values()
        for described in operations.values()
        for response in described["responses"].values()
        for code in response["content"].get(MEDIA_TYPE, {}).get("examples", {})
    }
    return {code: {"summary": ENTRIES[code].title, "value": problem_example(code)} for code in sorted(used)}


def problem_example(code: str) -> dict[str, Any]:
    """The problem document of one code, without fields."""
    entry = ENTRIES[code]
    document: dict[str, Any] = {
        "type": entry.type,
        "title": entry.title,
        "status": entry.status,
        "code": entry.code,
        "who": entry.who.value,
        "detail": entry.advice,
        "fields": [],
    }
    return document if entry.retry_after is None else {**document, "retry_after": entry.retry_after}


def without_null(schema: Any) -> Any:
    """A schema as this API writes and reads it: a member without a value is absent, never null."""
    if isinstance(schema, list):
        return [without_null(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: without_null(part) for name, part in schema.items() if not (name == "default" and part is None)}
    options = result.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        kept = [option for option in options if option != {"type": "null"}]
        del result["anyOf"]
        result = {**kept[0], **result} if len(kept) == 1 else {**result, "anyOf": kept}
    properties, required = schema.get("properties"), result.get("required")
    if isinstance(properties, dict) and isinstance(required, list):
        result["required"] = [name for name in required if not _nullable(properties.get(name))]
    return result


def _nullable(schema: Any) -> bool:
    return isinstance(schema, dict) and {"type": "null"} in schema.get("anyOf", ())
