"""A member that goes on saying what may be said again and again of one referral: it ends, and her no does not."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

from support.federation import Federation
from support.lying_peer import LyingPeer
from support.stories import begin, refusal

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.format import Envelope
from exchange.envelope.kinds import Kind
from exchange.limits import LIMITS
from exchange.referral.lifecycle import EventName
from exchange.schemas.federation import ItemAnswer
from exchange.schemas.inbox import ProgressRequest
from exchange.storage.tables import EVENT

BATCH = 50


async def _tell(liar: LyingPeer, envelopes: list[Envelope]) -> list[ItemAnswer]:
    answers = []
    for start in range(0, len(envelopes), BATCH):
        answers += await liar.deliver(*envelopes[start : start + BATCH])
    return answers


async def test_a_receiver_is_not_heard_without_end_and_her_no_is(pair: Federation) -> None:
    story = await begin(pair)
    await story.decides("accepted")
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    offer, at = await story.offer(), liar.now()
    more: dict[str, Any] = {"referral": story.id, "in_reply_to": offer, "seen": at}
    told = [
        liar.answer(Kind.PROGRESS, state, {"state": state}, number=at + place, **more)
        for place, state in enumerate(islice(cycle(("scheduled", "not-reached")), LIMITS.events_received + 10), start=1)
    ]
    answers = await _tell(liar, told)
    taken = [answer.result for answer in answers].count("accepted")
    assert [answer.result for answer in answers] == ["accepted"] * taken + ["refused"] * (len(told) - taken)
    assert {answer.problem.code for answer in answers if answer.problem is not None} == {"not-legal"}
    recorded = [row for row in await story.rows(EVENT, at=pair[HELPLINE]) if row["side"] == "receiving"]
    assert len(recorded) == LIMITS.events_received
    # A stop is still heard, once as an event and as often as it comes as what it is.
    last = at + len(told)
    stops = [
        liar.stop(Kind.WITHDRAWAL, referral=story.id, event="stop-service", number=last + place)
        for place in range(1, 60)
    ]
    assert {answer.result for answer in await _tell(liar, stops)} == {"accepted"}
    (view, _) = await story.views()
    assert view.state == "withdrawn"
    recorded = [row for row in await story.rows(EVENT, at=pair[HELPLINE]) if row["side"] == "receiving"]
    assert len(recorded) == LIMITS.events_received + 1


async def test_a_sender_that_recalls_without_end_is_acknowledged_and_recorded_no_more(pair: Federation) -> None:
    story = await begin(pair)
    liar = await LyingPeer.of(pair[HELPLINE], pair[SHELTER])
    at = liar.now()
    recalls = [
        liar.stop(Kind.RECALL, referral=story.id, number=at + place) for place in range(1, LIMITS.events_received + 20)
    ]
    assert {answer.result for answer in await _tell(liar, recalls)} == {"accepted"}
    recorded = [row for row in await story.rows(EVENT, at=pair[SHELTER]) if row["side"] == "referring"]
    assert len(recorded) == LIMITS.events_received
    erase = liar.stop(Kind.WITHDRAWAL, referral=story.id, event="erase", number=at + 1000)
    assert [answer.result for answer in await liar.deliver(erase)] == ["accepted"]
    recorded = [row for row in await story.rows(EVENT, at=pair[SHELTER]) if row["side"] == "referring"]
    assert len(recorded) == LIMITS.events_received + 1


async def test_what_is_on_record_already_makes_the_change_list_no_longer(pair: Federation) -> None:
    story = await begin(pair)
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    at, more = liar.now(), {"referral": story.id, "in_reply_to": await story.offer()}
    before = await story.changes()

    def yes() -> Envelope:
        return liar.answer(Kind.DECISION, "accepted", {"decision": "accepted"}, number=at, created=at, **more)

    assert {answer.result for answer in await _tell(liar, [yes() for _ in range(60)])} == {"accepted"}
    assert await story.changes() == [*before, "accepted"]
    refusals = [liar.stop(Kind.REFUSAL, event="other", number=at + place, **more) for place in range(1, 61)]
    assert {answer.result for answer in await _tell(liar, refusals)} == {"accepted"}
    assert (await story.flags()).undeliverable
    assert await story.changes() == [*before, "accepted", "other"]


async def test_destruction_is_told_once_and_unasked_not_at_all(pair: Federation) -> None:
    story = await begin(pair)
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    before = await story.changes()

    def words() -> list[Envelope]:
        said = {"referral": story.id, "event": "erased-by-node"}
        return [liar.stop(Kind.ERASURE_RECEIPT, number=liar.now() + place, **said) for place in range(60)]

    assert {answer.result for answer in await _tell(liar, words())} == {"accepted"}
    assert await story.changes() == before
    pair.cut_off(SHELTER)
    await story.says_no("erase")
    assert {answer.result for answer in await _tell(liar, words())} == {"accepted"}
    assert (await story.changes()).count("erased-by-node") == 1


async def test_an_agency_is_told_in_time_and_can_still_say_how_it_ended(pair: Federation) -> None:
    story = await begin(pair)
    await story.decides("accepted")
    offer, told = await story.offer(), cycle(("scheduled", "not-reached"))
    said = len([row for row in await story.rows(EVENT, at=pair[SHELTER]) if row["side"] == "receiving"])
    for state in islice(told, LIMITS.events_own - said):
        await story.helps.inbox.report_progress(offer, ProgressRequest(state=EventName(state)))
    problem = await refusal(story.helps.inbox.report_progress(offer, ProgressRequest(state=EventName(next(told)))))
    assert (problem.status, problem.code) == (409, "too-many-events")
    await story.reports("in-service", "completed")
    await story.both_say("completed")
