"""The committed OpenAPI documents, and whether an answer is one that they promise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
from jsonschema import Draft202012Validator, FormatChecker

PROBLEM = "application/problem+json"
HEADERS = ("ETag", "Link", "Retry-After", "Vary", "WWW-Authenticate")
"""What a caller acts by; the others say the same of every answer."""
FOLDER = Path(__file__).resolve().parents[2] / "openapi"


@dataclass(frozen=True)
class Described:
    """One operation of a document."""

    document: str
    method: str
    path: str
    described: dict[str, Any]

    @property
    def name(self) -> str:
        """Its operation id."""
        return str(self.described["operationId"])

    @property
    def scope(self) -> str | None:
        """What its caller's token must be good for; nothing where anybody may call."""
        scopes = [scope for rule in self.described["security"] for listed in rule.values() for scope in listed]
        return scopes[0] if scopes else None

    def __str__(self) -> str:
        return f"{self.document}-{self.name}"


@cache
def document(name: str) -> dict[str, Any]:
    """`openapi` (for agencies' systems) or `federation` (between nodes)."""
    read: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return read


def operations() -> list[Described]:
    """Every operation of both documents."""
    return [
        Described(name, method.upper(), path, described)
        for name in ("openapi", "federation")
        for path, methods in document(name)["paths"].items()
        for method, described in methods.items()
    ]


def assert_promised(operation: Described, answer: httpx2.Response) -> None:
    """Status, media type, headers, body and the code of a refusal are what the document says."""
    promised = operation.described["responses"]
    status = str(answer.status_code)
    assert status in promised, f"{operation.name} answers {status}, which its document does not name: {answer.text}"
    if not promised[status]["content"]:
        assert answer.content == b"", f"{operation.name} answers {status} with a body"
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    media = promised[status]["content"]
    assert media_type in media, f"{operation.name} answers {status} as {media_type}"
    schema = {"components": document(operation.document)["components"], **media[media_type]["schema"]}
    body = answer.json()
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(body)
    if media_type == PROBLEM:
        assert body["code"] in media[media_type]["examples"], f"{operation.name} does not name `{body['code']}`"
    unnamed = {name for name in HEADERS if name in answer.headers} - set(promised[status].get("headers", ()))
    assert unnamed == set(), f"{operation.name} answers {status} with headers that its document does not name"
