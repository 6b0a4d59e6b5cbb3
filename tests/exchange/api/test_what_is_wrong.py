"""A request that is wrong in its form hears where and how, and never hears itself."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import httpx2
import pytest
from support.api_node import Bench

from exchange.api.bodies import LARGEST_BODY
from exchange.schemas.referrals import SMALLEST_REFERRAL

REFERRAL: dict[str, Any] = dict(SMALLEST_REFERRAL)
CONTENT: dict[str, Any] = REFERRAL["content"]
INBOX = "/v1/inbox"
ITEM = f"{INBOX}/{'3c' * 16}"
CANARY = "Maria-Canary"


async def post(api: Bench, content: bytes, path: str = "/v1/referrals", **headers: str) -> dict[str, Any]:
    sent = {
        "Authorization": f"Bearer {api.token()}",
        "Actor": "worker-1",
        "Idempotency-Key": "one",
        "Content-Type": "application/json",
        **headers,
    }
    async with api.http() as http:
        answer = await http.post(path, content=content, headers={name: value for name, value in sent.items() if value})
    return refused(api, answer)


def refused(api: Bench, answer: httpx2.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert CANARY not in answer.text
    assert api.calls == []
    document: dict[str, Any] = answer.json()
    return document


def with_content(**members: Any) -> bytes:
    return json.dumps(REFERRAL | {"content": CONTENT | members}).encode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"\xef\xbb\xbf{}", "begins with a byte order mark", id="byte-order-mark"),
        pytest.param('{"é": '.encode() + CANARY.encode(), "not JSON at byte 7", id="no-json-counted-in-bytes"),
        pytest.param(b'{"a": "\xff' + CANARY.encode(), "not UTF-8 at byte 7", id="no-utf-8"),
        pytest.param(b'{"a": NaN}', "NaN and Infinity", id="not-a-number"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", "number that is too long", id="long-number"),
        pytest.param(b"[]", "not an object", id="list"),
        pytest.param(b"[" * 40, "more than 32 deep", id="deep"),
    ],
)
async def test_what_is_no_json_says_where_it_ends_to_be(api: Bench, content: bytes, says: str) -> None:
    document = await post(api, content)
    assert document["code"] == "not-json"
    assert says in document["detail"]


@pytest.mark.parametrize(
    ("content", "code", "paths"),
    [
        pytest.param(with_content(needs=None), "null-member", ["content.needs"], id="null"),
        pytest.param(
            with_content(party={"dependants": [{"sex": "male"}, {"sex": None}]}),
            "null-member",
            ["content.party.dependants[1].sex"],
            id="null-in-a-list",
        ),
        pytest.param(with_content(**{CANARY: None}), "null-member", ["content.*"], id="null-of-an-invented-name"),
        pytest.param(
            b'{"to": "a", "content": {"needs": [], "needs": []}}', "repeated-member", ["content.needs"], id="twice"
        ),
        pytest.param(b'{"to": null, "Maria-Canary": ', "not-json", [], id="cut-after-a-null"),
        pytest.param(b'{"content": {"needs": null}, "Maria-Canary": ', "null-member", [], id="null-and-then-no-json"),
    ],
)
async def test_a_member_that_is_null_or_repeated_is_named_where_the_model_has_it(
    api: Bench, content: bytes, code: str, paths: list[str]
) -> None:
    document = await post(api, content)
    assert document["code"] == code
    assert [field["path"] for field in document.get("fields", [])] == paths


async def test_many_nulls_name_few_places(api: Bench) -> None:
    document = await post(api, json.dumps({f"{CANARY}{number}": None for number in range(1000)}).encode())
    assert len(document["fields"]) == 20


@pytest.mark.parametrize(
    ("content", "path", "says"),
    [
        pytest.param(
            json.dumps(REFERRAL | {"consent": CANARY}).encode(),
            "consent",
            "Expected: 32 lower-case hexadecimal characters.",
            id="id",
        ),
        pytest.param(
            json.dumps(REFERRAL | {"to": CANARY}).encode(), "to", "lower-case letters, digits and dashes", id="agency"
        ),
        pytest.param(
            with_content(preferred_name=CANARY * 20), "content.preferred_name", "at most 80 characters", id="long"
        ),
        pytest.param(with_content(party={"adults": 10**6}), "content.party.adults", "at most ", id="large"),
        pytest.param(
            with_content(safe_contact={"who_initiates": "survivor", "last_confirmed_at": "2026-11-23T02:10:00"}),
            "content.safe_contact.last_confirmed_at",
            "RFC 3339 date and time with an offset",
            id="no-offset",
        ),
    ],
)
async def test_a_limit_or_form_of_the_schema_is_named(api: Bench, content: bytes, path: str, says: str) -> None:
    document = await post(api, content)
    assert document["code"] == "invalid-request"
    (field,) = document["fields"]
    assert field["path"] == path
    assert says in field["sentence"]


async def test_a_limit_of_a_list_and_of_a_parameter_is_named(api: Bench) -> None:
    many = await post(api, json.dumps({"ids": ["3c" * 16] * 51}).encode(), f"{INBOX}/open")
    assert many["fields"][0]["sentence"] == "Expected: at most 50 entries."
    headers = {"Authorization": f"Bearer {api.token()}", "Actor": "worker-1"}
    lines = {"provisions": [{}] * 51}
    async with api.http() as http:
        answers = [
            await http.patch(f"/v1/consents/{'3c' * 16}/provisions", json=lines, headers=headers),
            await http.get(f"{INBOX}?wait=26", headers=headers),
            await http.get(f"{ITEM}/contact-advice?at=2026-11-29T14:00:00", headers=headers),
        ]
    wider, long, naive = (refused(api, answer)["fields"][0] for answer in answers)
    assert (wider["path"], wider["sentence"]) == ("provisions", "Expected: at most 50 entries.")
    assert (long["code"], long["sentence"]) == ("out-of-range", "Expected: at most 25.")
    assert naive["code"] == "wrong-form"
    assert "with an offset" in naive["sentence"]


async def test_a_body_that_is_too_large_hears_the_limit(api: Bench) -> None:
    document = await post(api, b" " * (LARGEST_BODY + 1))
    assert (document["code"], "at most 256 KiB" in document["detail"]) == ("body-too-large", True)


@pytest.mark.parametrize("name", ["Actor", "Idempotency-Key"])
async def test_a_header_that_is_missing_is_named(api: Bench, name: str) -> None:
    document = await post(api, json.dumps(REFERRAL).encode(), **{name: ""})
    assert document["code"] == "header-missing"
    field = {"path": f"header.{name}", "code": "missing", "sentence": f"The header {name} is missing."}
    assert document["fields"] == [field]


async def test_a_header_in_another_form_is_not_said_to_be_missing(api: Bench) -> None:
    document = await post(api, json.dumps(REFERRAL).encode(), Actor="Maria Canary")
    assert (document["code"], document["fields"][0]["code"]) == ("header-invalid", "wrong-form")


async def test_a_token_that_is_not_accepted_says_what_to_do_when_none_is_given(api: Bench) -> None:
    document = await post(api, b"{}", Authorization="Bearer x")
    assert document["code"] == "token-invalid"
    assert "If that is refused, ask whoever runs the node." in document["detail"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity, gzip"])
async def test_a_compressed_body_is_not_called_broken_json(api: Bench, coding: str) -> None:
    document = await post(api, gzip.compress(json.dumps(REFERRAL).encode()), **{"Content-Encoding": coding})
    assert (document["code"], document["status"]) == ("unsupported-media-type", 415)
    assert document["fields"][0]["path"] == "header.Content-Encoding"
    assert "compressed" in document["fields"][0]["sentence"]


async def test_a_content_type_of_something_else_is_named(api: Bench) -> None:
    document = await post(api, json.dumps(REFERRAL).encode(), **{"Content-Type": "text/plain"})
    assert [field["path"] for field in document["fields"]] == ["header.Content-Type"]


async def test_half_a_character_is_no_json(api: Bench) -> None:
    document = await post(api, with_content(preferred_name=f"{CANARY}\ud800"))
    assert (document["code"], document["status"]) == ("not-json", 400)
    assert "half of a character" in document["detail"]


@pytest.mark.parametrize(
    ("content", "path"),
    [
        pytest.param(with_content(language=CANARY), "content.language", id="language"),
        pytest.param(with_content(country_of_work=CANARY), "content.country_of_work", id="country"),
    ],
)
async def test_a_sentence_ends_once(api: Bench, content: bytes, path: str) -> None:
    [field] = (await post(api, content))["fields"]
    assert field["path"] == path
    assert re.search(r"[^.]\.$", field["sentence"])


async def test_true_is_spelt_as_in_json(api: Bench) -> None:
    document = await post(api, b'{"copies_destroyed": false}', f"{ITEM}/erasure-attestation")
    assert document["fields"] == [{"path": "copies_destroyed", "code": "unknown-term", "sentence": "Expected: true."}]
