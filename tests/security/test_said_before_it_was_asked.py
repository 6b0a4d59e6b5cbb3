"""A receiver that says beforehand what it will owe later: that she is erased, that it has heard a recall."""

from __future__ import annotations

from typing import Any

import pytest
from support.federation import Federation
from support.lying_peer import LyingPeer
from support.stories import Story, begin

from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.envelope.format import Envelope
from exchange.envelope.kinds import Kind, SignedBy
from exchange.storage.tables import ATTESTATION, EVENT

FAR: int = 2**53 - 1


async def _attested(story: Story) -> dict[str, bool]:
    found = await story.rows(ATTESTATION, at=story.sender)
    return {row["party"]: row["done_at"] is not None for row in found}


def _both_words(liar: LyingPeer, referral: str) -> list[Envelope]:
    at = liar.now()
    return [
        liar.stop(Kind.ERASURE_RECEIPT, referral=referral, event="erased-by-node", number=at),
        liar.stop(
            Kind.ERASURE_RECEIPT,
            referral=referral,
            event="erased-by-agency",
            signed_by=SignedBy.AGENCY,
            number=at + 1,
        ),
    ]


async def test_destruction_that_was_signed_before_anything_was_held_is_none(pair: Federation) -> None:
    story = await begin(pair)
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    answers = await liar.deliver(*_both_words(liar, story.id))
    assert [answer.result for answer in answers] == ["accepted", "accepted"]
    assert await _attested(story) == {}
    await story.decides("accepted")
    assert (await story.opened("disclosure")).content is not None
    pair.cut_off(SHELTER)
    await story.says_no("erase")
    assert await _attested(story) == {"own-node": True, "peer-node": False, "peer-agency": False}


@pytest.mark.parametrize("by", [HELPLINE, SHELTER], ids=["sender", "receiver"])
async def test_destruction_counts_once_either_side_was_asked_for_it(pair: Federation, by: AgencyPlan) -> None:
    story = await begin(pair)
    pair.cut_off(SHELTER if by is HELPLINE else HELPLINE)
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    if by is HELPLINE:
        await story.says_no("erase")
    else:
        erase = liar.stop(Kind.WITHDRAWAL, referral=story.id, event="erase", number=liar.now() - 1)
        assert [answer.result for answer in await liar.deliver(erase)] == ["accepted"]
    await liar.deliver(*_both_words(liar, story.id))
    attested = await _attested(story)
    assert (attested["peer-node"], attested["peer-agency"]) == (True, True)


async def _in_service(story: Story, liar: LyingPeer, number: int, **says: Any) -> Envelope:
    about = {"referral": story.id, "in_reply_to": await story.offer(), "number": number}
    return liar.answer(Kind.PROGRESS, "in-service", {"state": "in-service"}, **(about | says))


async def test_a_recall_is_not_answered_before_it_is_made(pair: Federation) -> None:
    story = await begin(pair)
    await story.decides("accepted")
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    at = liar.now()
    said = [await _in_service(story, liar, at + 1), await _in_service(story, liar, at + 2, seen=FAR)]
    assert [answer.result for answer in await liar.deliver(*said)] == ["accepted", "accepted"]
    pair.cut_off(SHELTER)
    pair.clock.pass_by(seconds=5)
    for _ in range(2):
        await story.asks.referrals.recall(story.id)
        assert (await story.asks.referrals.read(story.id)).state == "recall-requested"


async def test_a_service_that_began_is_not_over_by_a_recall_that_was_seen_too_early(pair: Federation) -> None:
    """Heard beforehand the recall would count as made before the service began: recalled, and she is being served."""
    story = await begin(pair)
    await story.decides("accepted")
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    assert [one.result for one in await liar.deliver(await _in_service(story, liar, liar.now() + 1, seen=FAR))] == [
        "accepted"
    ]
    pair.clock.pass_by(seconds=5)
    await story.asks.referrals.recall(story.id)
    assert (await story.asks.referrals.read(story.id)).state == "recall-requested"


async def test_who_has_heard_more_than_a_restored_sender_remembers_has_heard_it(pair: Federation) -> None:
    """Both sides count the same then, whenever what was forgotten comes back."""
    story = await begin(pair)
    await story.decides("accepted")
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    pair.clock.pass_by(seconds=5)
    at = liar.now()
    (answer,) = await liar.deliver(await _in_service(story, liar, at, seen=at - 1000))
    assert answer.result == "accepted"
    (event,) = [row for row in await story.rows(EVENT) if row["name"] == "in-service"]
    assert event["seen"] == at - 1000 > (await story.record())["number"]


async def test_what_was_heard_too_early_is_the_same_event_when_it_is_said_again(pair: Federation) -> None:
    story = await begin(pair)
    await story.decides("accepted")
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    at = liar.now()
    for _ in range(2):
        # The second time under a fresh id, after words of this side that raise what may be heard.
        (answer,) = await liar.deliver(await _in_service(story, liar, at + 1, seen=FAR, created=at))
        assert answer.result == "accepted"
        pair.clock.pass_by(seconds=5)
        await story.asks.referrals.recall(story.id)
    (event,) = [row for row in await story.rows(EVENT) if row["name"] == "in-service"]
    assert at - 60_000 < event["seen"] < at + 60_000
    # Another event under that number is none, as ever.
    (answer,) = await liar.deliver(await _in_service(story, liar, at + 1, seen=0, created=at))
    assert answer.problem is not None
    assert answer.problem.code == "not-legal"
