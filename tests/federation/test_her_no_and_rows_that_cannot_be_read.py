"""Her no counts for every referral of hers, whatever row of one of them cannot be read at this node."""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import CapturingLogger
from support.federation import Federation
from support.stories import Story, begin, now_of, refusal, released_and_waiting, rows, safe_contact, travelled

from contracts.vocabulary import Group, WithdrawalForm
from exchange.demo.federation import SHELTER
from exchange.limits import DAY_MS
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.outbox import OutgoingRecord
from exchange.storage.referrals import EventRecord
from exchange.storage.tables import CONSENT, EVENT, OUTBOX, REFERRAL
from exchange.use_cases import deliver, row_by_row
from exchange.use_cases.node import Node


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    """What is said of rows that cannot be read."""
    said = CapturingLogger()
    monkeypatch.setattr(row_by_row, "get_logger", lambda: said)
    return said


async def damage(story: Story) -> None:
    await story.writes(REFERRAL.update().where(REFERRAL.c.id == story.id).values(sealed_facts=b"damaged"))


async def of_a_later_version(story: Story) -> None:
    event = EventRecord(story.id, "receiving", 1, "of-a-later-version", 0, 1)
    await story.writes(EVENT.insert().values(event._asdict()))


async def under_one_consent(together: Federation, count: int = 2, *, travel: bool = True) -> list[Story]:
    first = await begin(together, travel=False)
    stories = [first, *[await begin(together, consent=first.consent, travel=False) for _ in range(count - 1)]]
    if travel:
        await together.travel()
    return stories


async def consent_state(story: Story) -> str:
    [row] = await rows(story.sender, CONSENT, CONSENT.c.id == story.consent)
    return str(row["state"])


@pytest.mark.parametrize("form", ["stop-sharing", "stop-service", "erase"])
async def test_her_no_to_a_consent_stops_what_cannot_be_read_too(pair: Federation, form: str) -> None:
    good, bad = await under_one_consent(pair)
    await damage(bad)
    answer = await bad.asks.withdrawals.of_consent(bad.consent, WithdrawalForm(form))
    assert {view.id for view in answer.referrals} == {good.id, bad.id}
    assert answer.unreadable is None
    assert await consent_state(bad) == "withdrawn"
    await pair.travel()
    for story in (good, bad):
        await story.both_say("withdrawn")
        assert (await story.outgoing())["withdrawal"] == ["delivered"]
        assert "disclosure" not in await story.outgoing()


async def test_it_alone_is_stopped_and_kept_no_longer_than_a_day(pair: Federation) -> None:
    [bad] = await under_one_consent(pair, 1)
    await damage(bad)
    await bad.says_no("stop-service")
    await bad.both_say("withdrawn")
    record = await bad.record()
    assert record["destroy_at"] == record["closed_at"] + DAY_MS
    await bad.later(hours=25)
    assert (await bad.record())["destroyed_at"] is not None


async def test_what_she_wants_erased_is_destroyed_and_attested_though_it_cannot_be_read(pair: Federation) -> None:
    [bad] = await under_one_consent(pair, 1)
    await damage(bad)
    await bad.says_no("erase")
    await bad.nothing_is_left(at=bad.sender)
    assert (await bad.outgoing())["erasure-receipt"] == ["delivered"]


async def test_her_name_that_waits_is_taken_back_though_its_referral_cannot_be_read(pair: Federation) -> None:
    [bad] = await under_one_consent(pair, 1)
    await bad.helps.inbox.decide(await bad.offer(), DecisionRequest(decision="accepted"))
    await bad.receiver.courier.run_once()
    pair.leave(SHELTER)
    await bad.travel()
    assert (await bad.outgoing())["disclosure"] == ["queued"]
    await damage(bad)
    await bad.says_no("stop-sharing", travel=False)
    assert "disclosure" not in await bad.outgoing()


async def test_her_consent_ends_and_what_could_not_be_stopped_is_said(
    on_both: Federation, log: CapturingLogger
) -> None:
    good, bad = await under_one_consent(on_both)
    await of_a_later_version(bad)
    answer = await bad.asks.withdrawals.of_consent(bad.consent, WithdrawalForm.STOP_SERVICE)
    assert [view.id for view in answer.referrals] == [good.id]
    assert answer.unreadable == (bad.id,)
    assert await consent_state(bad) == "withdrawn"
    assert log.calls == [("error", ("row-unreadable",), {"kind": "referral", "error_type": "KeyError"})]
    await on_both.travel()
    await good.both_say("withdrawn")
    assert "withdrawal" not in await bad.outgoing()
    # Of it alone nothing else could be done: that is refused, and not answered.
    await refusal(bad.asks.withdrawals.of_referral(bad.id, WithdrawalForm.STOP_SERVICE))


@pytest.mark.parametrize("waits", ["offer", "disclosure", "update"])
async def test_nothing_leaves_of_what_could_not_be_stopped(pair: Federation, waits: str) -> None:
    """It waited for the receiver's node, and left when that was back: her name, after her no."""
    if waits == "disclosure":
        bad = await released_and_waiting(pair)
    else:
        bad = await begin(pair, travel=False)
    if waits == "update":
        await bad.travel()
        await bad.decides("accepted")
        pair.leave(SHELTER)
        await bad.asks.referrals.update_safe_contact(bad.id, safe_contact(now_of(pair)))
    before = len(travelled(pair))
    assert (await bad.outgoing())[waits] == ["queued"]
    await of_a_later_version(bad)
    answer = await bad.asks.withdrawals.of_consent(bad.consent, WithdrawalForm.ERASE)
    assert answer.unreadable == (bad.id,)
    # What is held for an acceptance goes with it.
    assert not {"queued", "held"} & {status for found in (await bad.outgoing()).values() for status in found}
    pair.come_back(SHELTER)
    await bad.later(hours=1)
    assert len(travelled(pair)) == before


async def test_a_courier_that_has_it_in_hand_leaves_it_here(pair: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = await released_and_waiting(pair)
    await of_a_later_version(bad)
    before, real = len(travelled(pair)), deliver._on_their_way

    async def says_no_first(node: Node, items: list[OutgoingRecord]) -> tuple[list[OutgoingRecord], float]:
        await bad.asks.withdrawals.of_consent(bad.consent, WithdrawalForm.STOP_SHARING)
        return await real(node, items)

    monkeypatch.setattr(deliver, "_on_their_way", says_no_first)
    pair.come_back(SHELTER)
    pair.clock.pass_by(hours=1)
    assert await bad.sender.courier.run_once() == 1
    assert len(travelled(pair)) == before


@pytest.mark.parametrize("what", ["facts", "header", "facts, after its end"])
async def test_she_allows_less_and_what_waits_and_cannot_be_read_is_barred(pair: Federation, what: str) -> None:
    good, bad = await under_one_consent(pair, travel=False)
    if what == "header":
        await bad.writes(OUTBOX.update().where(OUTBOX.c.referral == bad.id).values(sealed_header=b"damaged"))
    else:
        await damage(bad)
    if what == "facts, after its end":
        await bad.writes(REFERRAL.update().where(REFERRAL.c.id == bad.id).values(respond_by=1))
    lines = (await bad.asks.consents.read(bad.consent)).record.provisions
    less = [line.model_copy(update={"groups": line.groups - {Group.NAME}}) for line in lines]
    await bad.asks.consents.narrow(bad.consent, tuple(less))
    [stays] = (await good.outgoing())["offer"]
    assert stays == "queued"
    assert "offer" not in await bad.outgoing()


async def test_her_consent_ends_earlier_and_what_waits_and_cannot_be_read_is_barred(pair: Federation) -> None:
    _, bad = await under_one_consent(pair, travel=False)
    await damage(bad)
    await bad.writes(
        OUTBOX.update().where(OUTBOX.c.referral == bad.id).values(sealed_header=b"damaged"),
        REFERRAL.update().where(REFERRAL.c.id == bad.id).values(respond_by=1),
    )
    await bad.asks.consents.renew(bad.consent, now_of(pair) + timedelta(days=10))
    assert not {"offer", "disclosure"} & (await bad.outgoing()).keys()
