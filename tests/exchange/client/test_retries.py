"""What is tried again, and what never is."""

from __future__ import annotations

import json

import httpx2
import pytest
from support.scripted_node import ScriptedNode, json_answer, problem

from consent.examples import DRAFT_EXAMPLE
from exchange.client import ClientError, NodeUnreachableError, ProblemError, RetryPolicy, UnexpectedAnswerError
from exchange.client.retries import Repeat
from exchange.schemas.consents import ConsentRequest
from exchange.schemas.referrals import SMALLEST_REFERRAL, ReferralRequest
from exchange.schemas.sealing import EnvelopesRequest

REFERRALS = "/v1/referrals"
ID = "9f4e2a60c1d84b6e8a1b0c5d7e3f2a94"
VIEW = {
    "id": ID,
    "side": "referring",
    "peer": "rose-house-shelter",
    "sector": "accommodation",
    "state": "sent",
    "flags": {},
    "created_at": "2026-11-23T00:00:00Z",
    "updated_at": "2026-11-23T00:00:00Z",
    "respond_by": "2026-11-24T00:00:00Z",
    "contract": "a" * 64,
}
CREATED = {
    "id": ID,
    "client_code": "K7QF-3M2P",
    "state": "sent",
    "to": "rose-house-shelter",
    "priority": "urgent",
    "respond_by": "2026-11-24T00:00:00Z",
    "expires_at": "2026-11-25T00:00:00Z",
    "disclosure_held": True,
    "release": "automatic",
    "withheld": [],
    "call_now": False,
    "duty_contact": "+00 000",
    "told_first": {},
}
REQUEST = ReferralRequest.model_validate_json(json.dumps(SMALLEST_REFERRAL))


async def test_send_keeps_its_idempotency_key_over_every_try() -> None:
    node = ScriptedNode(
        script={
            REFERRALS: [
                httpx2.ReadError("lost"),
                problem(503, "storage-unavailable"),
                problem(429, "too-many-requests"),
                json_answer(CREATED, 201),
            ]
        }
    )
    async with node.client() as client:
        created = await client.referrals.send(REQUEST)
    assert created.id == ID
    keys = {request.headers["idempotency-key"] for request in node.asked}
    assert len(node.asked) == 4
    assert len(keys) == 1
    assert len({request.content for request in node.asked}) == 1


@pytest.mark.parametrize(
    "first",
    [httpx2.ReadError("lost"), problem(503, "storage-unavailable"), problem(401, "token-invalid")],
    ids=["no-answer", "later", "another-token"],
)
async def test_what_is_handed_in_is_checked_before_every_try(first: httpx2.Response | Exception) -> None:
    node, checked = ScriptedNode(script={"/v1/envelopes": [first]}), list[int]()

    def check() -> None:
        checked.append(len(node.asked))
        if len(checked) > 1:
            raise ClientError

    sealed = EnvelopesRequest.model_validate(
        {"envelopes": [{"header": "AA", "wrapped_key": "AA", "ciphertext": "AA", "signature": "AA"}]}
    )
    async with node.client() as client:
        with pytest.raises(ClientError) as ended:
            await client.sealing.hand_in(sealed, idempotency_key="mine", check=check)
    assert (checked, len(node.asked), ended.value.idempotency_key) == ([0, 1], 1, "mine")


async def test_two_acts_have_two_keys_and_the_callers_own_is_kept() -> None:
    node = ScriptedNode(script={REFERRALS: [json_answer(CREATED, 201)]})
    async with node.client() as client:
        await client.referrals.send(REQUEST)
        await client.referrals.send(REQUEST)
        await client.referrals.send(REQUEST, idempotency_key="mine")
    first, second, third = (request.headers["idempotency-key"] for request in node.asked)
    assert first != second
    assert third == "mine"


async def test_a_lost_send_can_be_repeated_with_the_key_in_the_error() -> None:
    node = ScriptedNode(script={REFERRALS: [httpx2.ReadError("lost")]})
    async with node.client() as client:
        with pytest.raises(NodeUnreachableError) as lost:
            await client.referrals.send(REQUEST)
    assert lost.value.idempotency_key == node.asked[0].headers["idempotency-key"]
    assert len(node.asked) == 4


NOBODY_KNOWS: dict[str, httpx2.Response | Exception] = {
    "no answer": httpx2.ReadError("lost"),
    "a commit of which nobody knows": problem(503, "storage-commit-failed"),
    "a proxy in front of it": httpx2.Response(504, text="<html>Gateway Timeout</html>"),
    "an answer of a later version": json_answer(CREATED | {"surprise": 1}, 201),
    "an answer that was cut off": httpx2.Response(
        201, text='{"id": "9f4e', headers={"content-type": "application/json"}
    ),
}


@pytest.mark.parametrize("failure", NOBODY_KNOWS.values(), ids=NOBODY_KNOWS)
@pytest.mark.parametrize("mine", [None, "mine"])
async def test_whatever_ends_a_send_says_under_which_key_it_is_repeated(
    failure: httpx2.Response | Exception, mine: str | None
) -> None:
    """It may be stored: under another key the next try would be another referral."""
    node = ScriptedNode(script={REFERRALS: [failure]})
    async with node.client() as client:
        with pytest.raises(ClientError) as ended:
            await client.referrals.send(REQUEST, idempotency_key=mine)
    assert ended.value.idempotency_key == node.asked[0].headers["idempotency-key"]
    assert mine is None or ended.value.idempotency_key == mine


@pytest.mark.parametrize(
    "token",
    [httpx2.ConnectError("down"), json_answer({"error": "invalid_client"}, 401), httpx2.Response(502, text="busy")],
    ids=["no answer", "refused", "a proxy"],
)
async def test_the_key_is_told_also_where_no_token_was_given_for_the_repeat(token: httpx2.Response | Exception) -> None:
    """The first try may be stored; whoever goes on with the key of the second one's error must go on with the same."""
    node = ScriptedNode(script={REFERRALS: [json_answer(CREATED, 201)]}, token_answers=[token] * 4)
    async with node.client() as client:
        with pytest.raises(ClientError) as ended:
            await client.referrals.send(REQUEST, idempotency_key="mine")
    assert ended.value.idempotency_key == "mine"
    assert node.asked == []


async def test_an_answer_that_cannot_be_unpacked_is_none() -> None:
    """The transport's own error would carry the request, and with it her data and the token."""
    packed = {"content-type": "application/json", "content-encoding": "gzip"}

    def broken(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(201, stream=httpx2.ByteStream(b"no gzip"), headers=packed)

    node = ScriptedNode(script={REFERRALS: [broken, broken, json_answer(CREATED, 201)]})
    async with node.client() as client:
        assert (await client.referrals.send(REQUEST)).id == ID
    node = ScriptedNode(script={f"{REFERRALS}/{ID}/release": [broken]})
    async with node.client() as client:
        with pytest.raises(NodeUnreachableError) as lost:
            await client.referrals.release(ID)
    assert (len(node.asked), lost.value.__cause__, lost.value.__suppress_context__) == (1, None, True)


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        pytest.param(httpx2.ReadError("lost"), 1, id="answer lost: it may have been done"),
        pytest.param(httpx2.ReadTimeout("slow"), 1, id="timeout: it may have been done"),
        pytest.param(problem(503, "storage-unavailable"), 1, id="503: nobody knows"),
        pytest.param(problem(502, "bad-gateway"), 1, id="502: nobody knows"),
        pytest.param(httpx2.ConnectError("down"), 4, id="no connection: certainly not done"),
        pytest.param(problem(429, "too-many-requests"), 4, id="429: certainly not done"),
    ],
)
async def test_a_call_without_key_is_repeated_only_if_not_carried_out(
    failure: httpx2.Response | Exception, tries: int
) -> None:
    node = ScriptedNode(script={f"{REFERRALS}/{ID}/release": [failure]})
    async with node.client() as client:
        with pytest.raises((NodeUnreachableError, ProblemError)):
            await client.referrals.release(ID)
    assert len(node.asked) == tries


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 413, 415, 422, 500])
async def test_refusals_are_never_tried_again(status: int) -> None:
    node = ScriptedNode(script={REFERRALS: [problem(status, "some-code")]})
    async with node.client() as client:
        with pytest.raises(ProblemError) as refused:
            await client.referrals.send(REQUEST)
    assert refused.value.problem.status == status
    assert refused.value.problem.code == "some-code"
    assert len(node.asked) == 1


async def test_retry_after_longer_than_our_patience_ends_the_tries() -> None:
    slow = problem(503, "storage-unavailable")
    slow.headers["retry-after"] = "3600"
    node = ScriptedNode(script={REFERRALS: [slow]})
    async with node.client() as client:
        with pytest.raises(ProblemError):
            await client.referrals.send(REQUEST)
    assert len(node.asked) == 1


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("0", 0.0, id="at once"),
        pytest.param("61", None, id="too long"),
        pytest.param("Wed, 21 Oct 2026 07:28:00 GMT", 0.1875, id="a date is not read: our own wait"),
        pytest.param("-5", 0.1875, id="negative is not read"),
        pytest.param(None, 0.1875, id="absent: our own wait"),
    ],
)
def test_wait_after_an_answer(retry_after: str | None, expected: float | None) -> None:
    assert RetryPolicy().wait_after_answer_s(Repeat.HARMLESS, 1, 503, retry_after, lambda: 0.5) == expected


def test_waits_double_to_a_limit_and_are_drawn() -> None:
    policy = RetryPolicy(first_wait_s=1, longest_wait_s=5)
    assert [policy.wait_s(attempt, lambda: 1.0) for attempt in (1, 2, 3, 4, 60)] == [1, 2, 4, 5, 5]
    assert policy.wait_s(3, lambda: 0.0) == 2


def test_last_try_stands() -> None:
    assert RetryPolicy(attempts=3).wait_after_answer_s(Repeat.HARMLESS, 3, 503, None, lambda: 0.5) is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx2.Response(200, text="<html>captive portal</html>"), id="another page"),
        pytest.param(json_answer(CREATED | {"client_code": None}, 201), id="a member missing"),
        pytest.param(json_answer(CREATED | {"surprise": 1}, 201), id="an unknown member"),
        pytest.param(httpx2.Response(500, text="CANARY"), id="an error that is no problem document"),
        pytest.param(httpx2.Response(301, headers={"location": "https://evil.example/"}), id="a redirect"),
        pytest.param(
            httpx2.Response(403, text="{}", headers={"content-type": "application/problem+json"}), id="an empty problem"
        ),
    ],
)
async def test_answers_that_are_not_of_this_protocol(answer: httpx2.Response) -> None:
    node = ScriptedNode(script={REFERRALS: [answer]})
    async with node.client() as client:
        with pytest.raises(UnexpectedAnswerError) as told:
            await client.referrals.send(REQUEST)
    assert "CANARY" not in str(told.value)
    # Pydantic's error holds what was received: whatever writes down the chain of this one must not come to it.
    assert told.value.__cause__ is None
    assert told.value.__context__ is None or told.value.__suppress_context__
    assert len(node.asked) == 1


async def test_a_problem_of_a_later_version_is_a_problem() -> None:
    """RFC 9457, section 3.2: members that are not known are ignored. Who must do what is not lost with them."""
    fields = [{"path": "consent", "code": "unknown", "sentence": "Look.", "later": {"a": 1}}]
    node = ScriptedNode(script={REFERRALS: [problem(403, "no-consent", fields=fields, instance="/x", later=[1])]})
    async with node.client() as client:
        with pytest.raises(ProblemError) as refused:
            await client.referrals.send(REQUEST)
    assert refused.value.problem.code == "no-consent"
    assert [one.path for one in refused.value.problem.fields] == ["consent"]


async def test_bodies_have_no_empty_members() -> None:
    node = ScriptedNode(script={REFERRALS: [json_answer(CREATED, 201)], "/v1/consents": [problem(422, "invalid")]})
    async with node.client() as client:
        await client.referrals.send(REQUEST)
        with pytest.raises(ProblemError):
            await client.consents.record(ConsentRequest.model_validate_json(json.dumps(DRAFT_EXAMPLE)))
    for request in node.asked:
        assert b"null" not in request.content
        assert request.headers["content-type"] == "application/json"
        assert request.headers["actor"] == "w-0417"
