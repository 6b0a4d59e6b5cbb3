"""What the length of a request between nodes tells: how many envelopes of which of three sizes, and nothing else."""

from __future__ import annotations

import json
from typing import Final

from support.federation import Federation
from support.stories import begin, content, now_of, safe_contact, travelled

from exchange.limits import LIMITS
from exchange.schemas.inbox import RecallAnswerRequest

_AROUND: Final = len('{"envelopes":[]}')
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
