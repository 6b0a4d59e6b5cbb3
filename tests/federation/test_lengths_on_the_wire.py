"""What the length of a request between nodes tells: how many envelopes of which of three sizes, and nothing else."""

from __future__ import annotations

import json
from typing import Final

import pytest
from support.federation import Federation
from support.lying_peer import ENVELOPES
from support.stories import begin, content, now_of, safe_contact, travelled
from vectors.samples import sample_envelope

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.header import parse_header
from exchange.envelope.kinds import SHAPES, Kind, KindClass
from exchange.limits import LIMITS
from exchange.messages import SealedMessage
from exchange.schemas.inbox import RecallAnswerRequest
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
