"""Once the agency that made a referral knows that it has ended, nothing about her leaves any more, whoever ended it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import update
from support.blind import BlindStory, referred
from support.federation import Federation, federation
from support.stories import Story, begin, content, now_of, rows, safe_contact, travelled

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.kinds import Kind, KindClass, class_of
from exchange.federation.transport import PeerUnreachableError
from exchange.schemas.inbox import DecisionRequest, ProgressRequest
from exchange.storage.tables import OUTBOX, REFERRAL
from exchange.use_cases.leaving import LEAVE_AFTER_THE_END
from exchange.use_cases.release_disclosure import release_due

_PARTY = {"party": {"adults": 1, "dependants": [], "infant_or_pregnant": False}}


@pytest.fixture(params=[(), (HELPLINE,)], ids=["keys here", "keys elsewhere"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline and a shelter; the helpline's node holds its agency's keys, or does not."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=request.param) as together:
        yield together


async def _hears(together: Federation) -> None:
    """What the shelter has said reaches the helpline, which sends nothing meanwhile."""
    await together[SHELTER].courier.run_once()


async def _released(together: Federation, story: BlindStory) -> None:
    """It was accepted; her name is on its way, and has not left."""
    await story.helps.decide(story.id, DecisionRequest(decision="accepted"))
    await _hears(together)
    await release_due(together[HELPLINE].node)
    if (await story.asks.client.referrals.read(story.id)).flags.awaiting_confirmation:
        await story.asks.client.referrals.release(story.id)


def _posted(together: Federation) -> list[str]:
    return [one.header.kind.value for one in travelled(together)]


async def _queued(together: Federation) -> set[str]:
    return {row["kind"] for row in await rows(together[HELPLINE], OUTBOX) if row["status"] in {"queued", "held"}}


async def test_her_name_does_not_leave_after_the_receiver_has_said_that_it_failed(either: Federation) -> None:
    story = await referred(either, either[HELPLINE], either[SHELTER])
    await _released(either, story)
    assert await _queued(either) == {"disclosure"}
    await story.helps.report(story.id, ProgressRequest(state="failed"))
    await _hears(either)
    view = await story.asks.client.referrals.read(story.id)
    assert (view.state, view.flags.disclosed, view.flags.awaiting_disclosure) == ("failed", False, False)
    assert await _queued(either) == set()
    await either.travel()
    assert _posted(either) == ["offer", "decision", "progress"]
    assert (await story.helps.client.referrals.read(story.id)).state == "failed"
    assert not (await story.asks.client.referrals.read(story.id)).flags.undeliverable


async def _informs(story: Story) -> None:
    await story.decides("information-requested", fields=["party"])
    await story.asks.referrals.send_information(story.id, content(**_PARTY))


async def test_information_does_not_leave_after_it_was_declined_and_nobody_has_to_hear_of_it(pair: Federation) -> None:
    story = await begin(pair)
    await _informs(story)
    await story.helps.inbox.decide(
        await story.offer(), DecisionRequest.model_validate({"decision": "declined", "reason": "no-capacity"})
    )
    await _hears(pair)
    await story.travel()
    await story.both_say("declined")
    assert "information" not in story.kinds_posted()
    assert not (await story.flags()).undeliverable
    assert not {"information-refused", "information-barred"} & set(await story.changes())


async def test_a_changed_plan_does_not_leave_after_it_was_completed(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service")
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(two)))
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="completed"))
    await _hears(two)
    await story.travel()
    await story.both_say("completed")
    assert "update" not in story.kinds_posted()
    assert (await story.flags()).disclosed, "her name arrived long before"


async def test_information_does_not_leave_after_the_time_to_answer_is_over(two: Federation) -> None:
    story = await begin(two)
    await story.decides("information-requested", fields=["party"])
    two.cut_off(SHELTER)
    await story.asks.referrals.send_information(story.id, content(**_PARTY))
    await story.later(hours=24 * 5)
    view = await story.asks.referrals.read(story.id)
    assert (view.state, view.flags.undeliverable) == ("expired", True), "a yes in time would count, and it lacks this"
    assert (await story.outgoing())["information"] == ["deleted"]
    two.connect(SHELTER)
    await story.later(hours=1)
    await story.both_say("expired")
    assert "information" not in story.kinds_posted()


async def test_what_may_have_arrived_stays_on_record_and_is_not_sent_again(two: Federation) -> None:
    story = await begin(two)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await _hears(two)
    await release_due(two[HELPLINE].node)
    two.network.answers_lost = True
    await two[HELPLINE].courier.run_once()
    two.network.answers_lost = False
    assert (await story.outgoing())["disclosure"] == ["queued"]
    number, posted = (await story.record())["number"], len(two.network.posted)
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="failed"))
    await _hears(two)
    assert "disclosure" not in await story.outgoing()
    assert (await story.flags()).disclosed
    await story.later(hours=1)
    assert not [body for _, _, body in two.network.posted[posted:] if b"release" in body]
    await story.both_say("failed")
    assert (await story.record())["number"] == number


async def test_no_number_is_used_twice_where_a_release_was_taken_back(two: Federation) -> None:
    story = await begin(two)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await _hears(two)
    await release_due(two[HELPLINE].node)
    of_the_release = (await story.record())["number"]
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="failed"))
    await _hears(two)
    await story.says_no("stop-service")
    await story.both_say("withdrawn")
    (word,) = [one for one in travelled(two) if one.header.kind is Kind.WITHDRAWAL]
    assert (word.header.number or 0) > of_the_release


async def test_her_no_still_leaves_after_the_end(two: Federation) -> None:
    story = await begin(two)
    await story.decides("declined", reason="no-capacity")
    await story.says_no("erase")
    await story.both_say("withdrawn")
    assert story.kinds_posted()[-1] != "decision"


async def _posts_late(two: Federation, monkeypatch: pytest.MonkeyPatch, ends: Callable[[], Awaitable[None]]) -> None:
    """The courier has the batch in hand and stands still; it ends; then the courier goes on."""
    transport = two[HELPLINE].courier._transport
    real, stood = transport.post_envelopes, list[bytes]()

    async def stands_still(peer: object, body: bytes, *, until: float) -> object:
        if not stood:
            stood.append(body)
            await ends()
            raise PeerUnreachableError("too-late")
        return await real(peer, body, until=until)  # type: ignore[arg-type]

    monkeypatch.setattr(transport, "post_envelopes", stands_still)
    await two[HELPLINE].courier.run_once()
    assert len(stood) == 1


async def test_a_courier_that_stood_still_with_it_in_hand_looks_again(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await begin(two)
    await _informs(story)

    async def declines() -> None:
        await story.helps.inbox.decide(
            await story.offer(), DecisionRequest.model_validate({"decision": "declined", "reason": "no-capacity"})
        )
        await _hears(two)

    await _posts_late(two, monkeypatch, declines)
    await story.travel()
    assert "information" not in story.kinds_posted()
    await story.both_say("declined")


async def test_what_an_earlier_version_left_in_the_queue_does_not_leave_and_nobody_has_to_hear_of_it(
    two: Federation,
) -> None:
    story = await begin(two)
    await _informs(story)
    await story.writes(update(REFERRAL).values(state="declined", closed_at=two.clock()))
    await two[HELPLINE].courier.run_once()
    assert "information" not in story.kinds_posted()
    assert (await story.outgoing())["information"] == ["deleted"]
    assert not (await story.flags()).undeliverable


def test_nothing_that_holds_anything_of_her_is_on_the_list() -> None:
    assert {kind for kind in Kind if class_of(kind) is KindClass.STOP} <= LEAVE_AFTER_THE_END
    assert not [kind for kind in LEAVE_AFTER_THE_END if class_of(Kind(kind)) is KindClass.FORWARD]
