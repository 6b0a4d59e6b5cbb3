from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.api_node import Bench

from exchange.api import build_api
from exchange.api.codes import ENTRIES
from exchange.api.envelope_codes import ENVELOPE
from exchange.api.form_codes import FORM
from exchange.api.gate_codes import GATE
from exchange.api.problem_page import problem_page
from exchange.api.problems import USE_CASE_ERRORS
from exchange.api.state_codes import STATE
from exchange.envelope.errors import (
    BadSignatureError,
    ContentTooLargeError,
    EpochFault,
    KeyUnusableError,
    MalformedError,
    ReceiptFault,
    StatementFault,
    UnknownSuiteError,
    UnknownVocabularyError,
)
from exchange.envelope.errors import TooLargeError as TooLargeEnvelopeError
from exchange.schemas.problems import Problem, ProblemField, Who
from exchange.storage.errors import CommitFailedError, StorageBusyError, StorageUnavailableError
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

ROOT = Path(__file__).resolve().parents[3]
INBOX = "/v1/inbox"


async def problem_of(api: Bench, error: Exception) -> tuple[int, Problem, dict[str, str]]:
    api.failure = error
    async with api.http() as http:
        answer = await http.get(INBOX, headers={"Authorization": f"Bearer {api.token()}"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    return answer.status_code, Problem.model_validate_json(answer.content), dict(answer.headers)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        pytest.param(NotFoundError, 404, id="not-found"),
        pytest.param(ConflictError, 409, id="conflict"),
        pytest.param(ForbiddenError, 403, id="forbidden"),
        pytest.param(InvalidError, 422, id="invalid"),
        pytest.param(TooLargeError, 413, id="too-large"),
        pytest.param(GoneError, 410, id="gone"),
        pytest.param(UnavailableError, 503, id="unavailable"),
    ],
)
async def test_use_case_errors(api: Bench, kind: type[UseCaseError], status: int) -> None:
    field = ProblemField(path="content.needs[0]", code="unknown-term", sentence="Not a need.")
    found, document, headers = await problem_of(api, kind("some-code", "Do this.", who=Who.PEER, fields=(field,)))
    assert (found, document.status, document.code, document.who) == (status, status, "some-code", Who.PEER)
    assert document.detail == "Do this."
    assert document.fields == (field,)
    assert ("retry-after" in headers) is (status == 503)


def test_every_use_case_error_has_a_status() -> None:
    ours = {one for one in UseCaseError.__subclasses__() if one.__module__.startswith("exchange.")}
    assert set(USE_CASE_ERRORS) == ours


async def test_retry_after_is_the_use_cases_own(api: Bench) -> None:
    _, document, headers = await problem_of(api, UnavailableError("peer-keys-unknown", "Later.", retry_after=30))
    assert (document.retry_after, headers["retry-after"]) == (30, "30")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(StorageUnavailableError("CANARY"), "storage-unavailable", id="unavailable"),
        pytest.param(StorageBusyError("CANARY"), "storage-unavailable", id="busy"),
        pytest.param(CommitFailedError("CANARY"), "storage-commit-failed", id="commit"),
    ],
)
async def test_storage_away_is_503(api: Bench, error: Exception, code: str) -> None:
    status, document, headers = await problem_of(api, error)
    assert (status, document.code, document.who) == (503, code, Who.NODE)
    assert headers["retry-after"] == "5"
    assert "CANARY" not in document.model_dump_json()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(MalformedError("header"), 422, id="malformed"),
        pytest.param(TooLargeEnvelopeError(), 413, id="too-large"),
    ],
)
async def test_envelope_errors(api: Bench, error: Exception, status: int) -> None:
    found, _, _ = await problem_of(api, error)
    assert found == status


async def test_what_is_malformed_in_an_envelope_is_named(api: Bench) -> None:
    _, document, _ = await problem_of(api, MalformedError("header"))
    assert document.detail == "The envelope is not written as the protocol demands: header."


async def test_500_shows_nothing(api: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    status, document, _ = await problem_of(api, RuntimeError("CANARY"))
    assert (status, document.code, document.who) == (500, "internal-error", Who.NODE)
    shown = document.model_dump_json()
    assert "CANARY" not in shown
    assert "RuntimeError" not in shown
    assert "CANARY" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "path", ["/CANARY", "/v1/CANARY", "/v1/inbox/", "/docs/assets/CANARY", "/v1/peers/CANARY/keys"]
)
async def test_unknown_address_is_a_problem(api: Bench, path: str) -> None:
    async with api.http() as http:
        answer = await http.get(path, headers={"Authorization": f"Bearer {api.token()}"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert "CANARY" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        pytest.param("DELETE", "/v1/referrals", "GET, POST", id="two-routes"),
        pytest.param("PUT", "/v1/inbox", "GET", id="one-route"),
        pytest.param("GET", "/oauth/token", "POST", id="token"),
        pytest.param("PUT", "/v1/referrals/preview", "POST", id="beside-an-id"),
        pytest.param("HEAD", "/v1/inbox", "GET", id="head"),
        pytest.param("OPTIONS", "/v1/consents", "POST", id="options"),
    ],
)
async def test_405_keeps_allow(api: Bench, method: str, path: str, allow: str) -> None:
    async with api.http() as http:
        answer = await http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    if method != "HEAD":
        assert answer.json()["code"] == "method-not-allowed"


async def test_a_place_that_nobody_filled_in_is_404(api: Bench) -> None:
    async with api.http() as http:
        headers = {"Authorization": f"Bearer {api.token()}", "Actor": "worker-1"}
        answer = await http.get("/v1/consents/{consent_id}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize("path", ["/v1/referrals/preview", "/v1/inbox/open"])
async def test_an_address_that_looks_like_an_id_is_405(api: Bench, path: str) -> None:
    async with api.http() as http:
        answer = await http.get(path, headers={"Authorization": f"Bearer {api.token()}", "Actor": "worker-1"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_without_a_node_every_call_is_503(api: Bench) -> None:
    api.app.state.serving = None
    async with api.http() as http:
        answers = [await http.get(INBOX), await http.get("/.well-known/referral-node"), await http.get("/health/ready")]
        alive = await http.get("/health/live")
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "starting")}
    assert alive.status_code == 200


async def test_two_nodes_in_one_process_share_nothing(api: Bench) -> None:
    other = build_api()
    assert getattr(other.state, "serving", None) is None
    assert api.app.state.serving.node is api.node


def test_codes_are_listed_once() -> None:
    assert len(ENTRIES) == len(FORM) + len(GATE) + len(STATE) + len(ENVELOPE)


def test_documentation_is_the_table() -> None:
    page = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")
    assert page == problem_page(), "run `exchange openapi`"
    for code in ENTRIES:
        assert f"\n## {code}\n" in page


def test_every_code_of_the_use_cases_is_documented() -> None:
    missing = {f"{path.name}: {code}" for path, code in _literal_codes() if code not in ENTRIES}
    assert missing == set()


def test_every_code_of_what_is_handed_in_sealed_is_documented() -> None:
    kinds = (
        TooLargeEnvelopeError,
        ContentTooLargeError,
        MalformedError,
        UnknownSuiteError,
        UnknownVocabularyError,
        BadSignatureError,
        KeyUnusableError,
    )
    faults = {*ReceiptFault, *StatementFault, EpochFault.WENT_BACK, EpochFault.NOT_A_WEEK}
    assert {kind.code for kind in kinds} | {fault.value for fault in faults} <= set(ENTRIES)


def _literal_codes() -> list[tuple[Path, str]]:
    """The first argument of every use-case error that is made with a literal code."""
    names = {kind.__name__ for kind in UseCaseError.__subclasses__()} | {"Refusal", "Refused", "TransitionError"}
    found = []
    for folder in ("use_cases", "referral", "."):
        for path in sorted((ROOT / "exchange" / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names):
                    continue
                if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                    found.append((path, node.args[0].value))
    return found
