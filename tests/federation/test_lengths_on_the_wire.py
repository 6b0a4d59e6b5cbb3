"""What the length of a request between nodes tells: how many envelopes of which of three sizes, and nothing else."""

from __future__ import annotations

import json
from typing import Any, Final, get_args

import pytest
from support.federation import Federation
from support.lying_peer import ENVELOPES
from support.stories import begin, content, now_of, safe_contact, travelled
from vectors.samples import sample_envelope

from exchange.api import federation
from exchange.api.rendering import render
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.header import parse_header
from exchange.envelope.keys import NodeKey
from exchange.envelope.kinds import SHAPES, Kind, KindClass
from exchange.envelope.statements import ConsentStatus, parse_statement, sign_statement
from exchange.envelope.wire import from_base64url, to_base64url
from exchange.limits import LIMITS, MINUTE_MS
from exchange.messages import SealedMessage
from exchange.schemas.federation import ConsentStatusAnswer, ReceiptStatus
from exchange.schemas.inbox import RecallAnswerRequest
from exchange.schemas.shapes import to_millis, written
from exchange.storage.tables import OUTBOX, REFERRAL
from exchange.use_cases.consent_status import digest_of
from exchange.use_cases.leaving import Leaving
from exchange.use_cases.outgoing import put_out

_AROUND: Final = len('{"envelopes":[]}')
SEALED: Final = [kind for kind in Kind if SHAPES[kind].kind_class is not KindClass.STOP]
_PARTY: Final = {"adults": 1, "dependants": [], "infant_or_pregnant": False}


def in_envelopes(body: bytes) -> int:
    """How many bytes each envelope of a batch takes, where all take as many."""
    count = len(json.loads(body)["envelopes"])
    size, rest = divmod(len(body) - _AROUND - (count - 1), count)
    assert rest == 0
    return size


async def test_nobody_on_the_line_can_tell_her_no_from_her_name(two: Federation) -> None:
    served = await begin(two)
    await served.decides("information-requested", fields=["party"])
    await served.asks.referrals.send_information(served.id, content(party=_PARTY))
    await served.travel()
    await served.decides("accepted")
    await served.asks.referrals.update_safe_contact(served.id, safe_contact(now_of(two)))
    await served.travel()
    await served.reports("in-service")
    await served.says_no("erase")
    recalled = await begin(two)
    await recalled.decides("accepted")
    await recalled.reports("in-service")
    await recalled.asks.referrals.recall(recalled.id)
    await recalled.travel()
    asked = await recalled.item("recall")
    await recalled.helps.inbox.answer_recall(asked.id, RecallAnswerRequest(agreed=False))
    mistaken = await begin(two)
    await mistaken.asks.referrals.enter_in_error(mistaken.id)
    await mistaken.travel()

    assert {one.header.kind.value for one in travelled(two)} >= {
        "offer",
        "information-request",
        "information",
        "decision",
        "disclosure",
        "update",
        "progress",
        "recall",
        "recall-answer",
        "withdrawal",
        "erasure-receipt",
        "entered-in-error",
    }
    posts = [(body, answer) for (_, path, body), answer in zip(two.network.posted, two.network.answered, strict=True)]
    batches = [(body, answer) for body, answer in posts if b'"envelopes"' in body[:_AROUND]]
    assert {in_envelopes(body) for body, _ in batches} == {LIMITS.wire_bytes[0]}
    assert {len(answer) / len(json.loads(answer)["answers"]) for _, answer in batches} == {LIMITS.answer_bytes}


@pytest.mark.parametrize("place", range(len(LIMITS.padding_bytes)), ids=[f"{size}" for size in LIMITS.padding_bytes])
@pytest.mark.parametrize("kind", SEALED)
async def test_every_kind_is_filled_to_the_length_of_its_size(
    two: Federation, monkeypatch: pytest.MonkeyPatch, kind: Kind, place: int
) -> None:
    """As the courier sends it; what covers it, and what its receiver thinks of it, does not matter here."""
    monkeypatch.setattr(Leaving, "_is_covered", lambda *_: True)
    monkeypatch.setattr(Leaving, "sealed_before", lambda *_: None)
    helpline = two[HELPLINE]
    parties = {"sender": helpline.agency, "recipient": two[SHELTER].agency}
    envelope = sample_envelope(kind, bytes(LIMITS.padding_bytes[place] - 1), **parties)
    sealed = SealedMessage(envelope, parse_header(envelope.header), envelope.digest())
    await helpline.node.database.write(lambda conn: put_out(helpline.node, conn, sealed))
    await helpline.courier.run_once()
    (body,) = [body for _, path, body in two.network.posted if path == ENVELOPES]
    assert in_envelopes(body) == LIMITS.wire_bytes[place]


async def test_nor_an_envelope_that_was_refused_from_one_that_was_taken(two: Federation) -> None:
    story = await begin(two)
    offer = travelled(two)[0].wire
    broken = await story.resealed(travelled(two)[0]) | {"signature": "A" * 86}
    from_the_future = await story.resealed(
        travelled(two)[0], created=two.nodes[story.sender.plan.agency].node.clock() + 10**7
    )
    for wire, said in ((offer, "accepted"), (broken, "refused"), (from_the_future, "later")):
        answer = await story.post(wire)
        assert [one.result for one in answer.answers] == [said]
    assert {len(answer) for answer in two.network.answered} == {LIMITS.answer_bytes}


async def _asks(two: Federation, receipts: list[str | None]) -> ConsentStatusAnswer:
    transport, helpline = two[SHELTER].courier._transport, two[HELPLINE].member
    answer: ConsentStatusAnswer = await transport.consent_status(helpline, receipts)  # type: ignore[attr-defined]
    assert digest_of(answer.receipts) == _statement_of(answer, helpline.node_key).receipts
    return answer


def _statement_of(answer: ConsentStatusAnswer, key: bytes) -> ConsentStatus:
    signed = from_base64url(answer.statement, member="statement", longest=LIMITS.statement_bytes)
    return parse_statement(ConsentStatus, signed).verify(key)


async def test_nor_whether_her_consent_is_live_from_the_answer_to_who_asks(two: Federation) -> None:
    held, ended, damaged = [await begin(two) for _ in range(3)]
    await ended.says_no("erase", travel=False)
    await damaged.writes(REFERRAL.update().where(REFERRAL.c.id == damaged.id).values(sealed_facts=b"damaged"))
    receipts = [(await story.rows(OUTBOX))[0]["consent_receipt"] for story in (held, ended, damaged)]
    for count in (1, 7, LIMITS.consent_status_ids):
        before = len(two.network.answered)
        said = [{one.status for one in (await _asks(two, [each] * count)).receipts} for each in receipts]
        assert said == [{"live"}, {"not-live"}, {"lost"}]
        await _asks(two, [*receipts * count][:count])
        lengths = {len(answer) for answer in two.network.answered[before:]}
        assert lengths == {LIMITS.consent_status_bytes + count * LIMITS.receipt_status_bytes}


async def test_nor_from_an_answer_that_lacks_a_word(two: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as long as what was asked makes it."""
    real = federation.consent_status

    async def without_one(*asked: Any) -> ConsentStatusAnswer:
        whole = await real(*asked)
        return whole.model_copy(update={"receipts": whole.receipts[1:]})

    monkeypatch.setattr(federation, "consent_status", without_one)
    transport = two[SHELTER].courier._transport
    await transport.consent_status(two[HELPLINE].member, ["0" * 32, "1" * 32])  # type: ignore[attr-defined]
    assert len(two.network.answered[-1]) == LIMITS.consent_status_bytes + 2 * LIMITS.receipt_status_bytes


@pytest.mark.parametrize("count", [1, LIMITS.consent_status_ids])
def test_every_answer_about_consents_fits_into_its_length(count: int) -> None:
    """With the longest ids of both agencies and the longest word about each receipt."""
    longest = "a" * 63
    status = max(get_args(ReceiptStatus.model_fields["status"].annotation), key=len)
    statement = ConsentStatus(agency=longest, recipient=longest, receipts="0" * 64, stated_at=10**13 - 1)
    signed = sign_statement(statement, NodeKey(bytes(32)).sign).to_bytes()
    receipts = tuple(ReceiptStatus(receipt=f"{number:032x}", status=status) for number in range(count))
    answer = written(ConsentStatusAnswer(receipts=receipts, statement=to_base64url(signed)))
    assert len(answer) <= LIMITS.consent_status_bytes + count * LIMITS.receipt_status_bytes


async def test_an_answer_about_consents_that_is_not_filled_is_taken_too(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a node of an earlier version answers."""
    story = await begin(two)
    monkeypatch.setattr(federation, "render", lambda answer, **_: render(answer))
    two.clock.pass_by(hours=2)
    item = await story.item("offer")
    opened = await story.helps.inbox.open(item.id)
    assert len(two.network.answered[-1]) < LIMITS.consent_status_bytes
    assert opened.consent_checked_at is not None
    assert abs(to_millis(opened.consent_checked_at) - two.clock()) < MINUTE_MS
