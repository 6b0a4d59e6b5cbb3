"""When a peer is asked for its card: in time for whoever seals or releases, and seldom where nothing goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from support.federation import CARD_PATH, Federation
from support.people import consent_request, referral_request
from support.stories import Story, begin, travelled

from contracts.vocabulary import WithdrawalForm
from exchange.demo.federation import EMBASSY, HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.federation.peers import refresh_peers
from exchange.limits import HOUR_MS, SECOND_MS
from exchange.roster import Member, Status
from exchange.schemas.inbox import DecisionRequest
from exchange.use_cases import peer_cards
from exchange.use_cases.errors import UnavailableError
from exchange.use_cases.maintain import maintain
from exchange.use_cases.outgoing import current_peer_epoch
from exchange.use_cases.own_epochs import revoke_own_epochs


async def revokes(two: Federation) -> list[str]:
    node = two[SHELTER].node
    return list(await revoke_own_epochs(node, compromised_since=node.clock() - HOUR_MS))


async def looks(two: Federation) -> int:
    """The helpline's courier looks whose card is due; how many were asked and answered."""
    before = two.network.cards_asked
    await refresh_peers(two[HELPLINE].node, two[HELPLINE].courier._transport)
    return two.network.cards_asked - before


async def seals(two: Federation) -> str:
    """The key to which the helpline would seal to the shelter now."""
    return (await current_peer_epoch(two[HELPLINE].node, two[SHELTER].member)).key_id


async def known(two: Federation) -> str:
    """The same, where nobody may be asked."""
    two.leave(SHELTER)
    found = await seals(two)
    two.come_back(SHELTER)
    return found


async def test_a_peer_for_which_something_is_held_is_asked_every_hour_and_again_until_it_answers(
    two: Federation,
) -> None:
    story = await begin(two)
    assert (await story.outgoing())["disclosure"] == ["held"]
    await looks(two)
    revoked = await revokes(two)
    two.clock.pass_by(seconds=59 * 60)
    assert await looks(two) == 0
    two.clock.pass_by(seconds=60)
    two.leave(SHELTER)
    assert await looks(two) == 0
    two.come_back(SHELTER)
    assert await looks(two) == 1
    assert await known(two) not in revoked
    await story.decides("accepted")
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)


async def test_a_peer_for_which_something_is_queued_is_asked_every_hour(pair: Federation) -> None:
    """Her no may replace what is queued, and nobody is asked at that moment."""
    await begin(pair, travel=False)
    pair.clock.pass_by(seconds=3600)
    assert await looks(pair) == 1


async def test_a_peer_with_which_nothing_goes_on_is_asked_twice_a_day(two: Federation) -> None:
    asked = []
    for _ in range(24 * 6):
        two.clock.pass_by(seconds=600)
        asked.append(await looks(two))
    assert sum(asked) == 2


async def test_a_quiet_peer_that_does_not_answer_is_asked_again_an_hour_later(two: Federation) -> None:
    two.clock.pass_by(hours=12)
    two.leave(SHELTER)
    assert await looks(two) == 0
    two.come_back(SHELTER)
    two.clock.pass_by(seconds=59 * 60)
    assert await looks(two) == 0
    two.clock.pass_by(seconds=60)
    assert await looks(two) == 1


async def test_who_refers_after_an_hour_seals_to_no_key_that_was_revoked_meanwhile(pair: Federation) -> None:
    """The courier has not asked."""
    before = pair.network.cards_asked
    revoked = await revokes(pair)
    await seals(pair)
    assert pair.network.cards_asked == before
    pair.clock.pass_by(hours=1)
    for one in pair.nodes.values():
        await maintain(one.node)
    await begin(pair)
    assert pair.network.cards_asked == before + 1
    assert travelled(pair)[-1].header.epoch_key is not None
    assert {one.header.epoch_key for one in travelled(pair)}.isdisjoint(revoked)


async def test_who_answers_after_an_hour_does_not_either(two: Federation) -> None:
    story = await begin(two)
    node = two[HELPLINE].node
    revoked = list(await revoke_own_epochs(node, compromised_since=node.clock() - HOUR_MS))
    two.clock.pass_by(hours=1)
    await story.decides("accepted")
    (decision,) = [one.header for one in travelled(two) if one.header.kind == "decision"]
    assert decision.epoch_key is not None
    assert decision.epoch_key not in revoked


async def test_what_another_process_of_this_node_has_read_within_the_hour_is_not_asked_for_again(
    on_both: Federation,
) -> None:
    on_both[HELPLINE].node.card_read_at.clear()
    before = on_both.network.cards_asked
    await seals(on_both)
    assert on_both.network.cards_asked == before
    on_both.clock.pass_by(seconds=3600)
    await seals(on_both)
    assert on_both.network.cards_asked == before + 1


async def test_of_many_that_seal_at_once_one_asks_and_all_heed(two: Federation) -> None:
    revoked = await revokes(two)
    two.clock.pass_by(hours=1)
    before = two.network.cards_asked
    assert not set(await asyncio.gather(*(seals(two) for _ in range(20)))) & set(revoked)
    assert two.network.cards_asked == before + 1


async def test_one_that_hangs_up_while_it_asks_leaves_the_question_to_the_next(two: Federation) -> None:
    revoked = await revokes(two)
    two.clock.pass_by(hours=1)
    impatient = asyncio.create_task(seals(two))
    await asyncio.sleep(0)
    next_one = asyncio.create_task(seals(two))
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert await next_one not in revoked


async def test_to_a_peer_that_is_away_is_sealed_as_before_and_it_is_asked_again_after_ten_minutes(
    two: Federation,
) -> None:
    revoked = await revokes(two)
    two.clock.pass_by(hours=1)
    assert await known(two) in revoked
    two.clock.pass_by(seconds=9 * 60)
    assert await seals(two) in revoked
    two.clock.pass_by(seconds=60)
    assert await seals(two) not in revoked


class Silence(httpx2.AsyncBaseTransport):
    """A peer that takes the question and says nothing."""

    def __init__(self) -> None:
        self.asked = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        del request
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
async def silent(two: Federation, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Silence]:
    monkeypatch.setattr(peer_cards, "_WAITED_FOR_S", 0.3)
    silence, port = Silence(), two[SHELTER].port
    there, two.network.apps[port] = two.network.apps[port], silence  # type: ignore[assignment]
    yield silence
    two.network.apps[port] = there


async def test_who_refers_waits_once_for_a_peer_that_says_nothing(two: Federation, silent: Silence) -> None:
    two.clock.pass_by(hours=1)
    client = two[HELPLINE].client()
    consent = await client.consents.record(consent_request(SHELTER.agency))
    requests = [referral_request(SHELTER.agency, consent.id) for _ in range(5)]
    await asyncio.gather(*(client.referrals.send(one) for one in requests))
    await client.referrals.send(requests[0])
    assert silent.asked == 1


async def test_where_no_key_is_known_many_wait_once_and_are_told_when_to_try_again(
    two: Federation, silent: Silence
) -> None:
    """By the house's own clock the wait is over soon, however slow the peer; and nothing waits behind it."""
    two.clock.pass_by(hours=24 * 43)  # six weeks are known of, and today is the first or the last day of one
    loop = asyncio.get_running_loop()

    async def refused() -> tuple[str, int | None]:
        with pytest.raises(UnavailableError) as caught:
            await seals(two)
        return caught.value.code, caught.value.retry_after

    async with asyncio.timeout(5):
        assert set(await asyncio.gather(*(refused() for _ in range(20)))) == {("peer-keys-unknown", 30)}
    assert silent.asked == 1
    began = loop.time()
    await refused()
    assert loop.time() - began < 0.2
    two.clock.pass_by(seconds=30)
    await refused()
    assert silent.asked == 2


async def test_members_that_say_nothing_keep_no_other_from_being_asked(four: Federation) -> None:
    node, transport = four[HELPLINE].node, four[HELPLINE].courier._transport
    *silent, last = [agency for agency in node.world().roster.members if agency != HELPLINE.agency]
    plans = {plan.agency: plan for plan in (SHELTER, EMBASSY, LABOUR_OFFICE)}
    apps: dict[int, Any] = {four[plans[agency]].port: Silence() for agency in silent}
    there = {port: four.network.apps[port] for port in apps}
    four.network.apps.update(apps)
    four.clock.pass_by(hours=12)
    before = node.clock()
    asking = asyncio.create_task(refresh_peers(node, transport))
    try:
        async with asyncio.timeout(5):
            while node.card_read_at.get(last, 0) < before:  # noqa: ASYNC110 - a node has no event for it
                await asyncio.sleep(0.01)
        assert not asking.done()
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        four.network.apps.update(there)


async def test_a_clock_that_was_put_back_asks_again(two: Federation) -> None:
    revoked = await revokes(two)
    two.clock.pass_by(seconds=-5)
    assert await seals(two) not in revoked
    assert two[HELPLINE].node.clock() + 5 * SECOND_MS > two[HELPLINE].node.card_read_at[SHELTER.agency]


_ENVELOPES = "/federation/v1/envelopes"


async def _refers_again(story: Story) -> None:
    request = referral_request(story.receiver.agency, story.consent)
    await story.asks.referrals.send(request)


async def _decides(story: Story) -> None:
    await story.helps.inbox.decide(await story.offer(), DecisionRequest.model_validate({"decision": "accepted"}))


async def _recalls(story: Story) -> None:
    await story.asks.referrals.recall(story.id)


async def _was_a_mistake(story: Story) -> None:
    await story.asks.referrals.enter_in_error(story.id)


async def _says_no_to_all(story: Story) -> None:
    await story.asks.withdrawals.of_consent(story.consent, WithdrawalForm.ERASE)


def _says_no(form: WithdrawalForm, *, to_the_receiver: bool = False) -> Callable[[Story], Awaitable[None]]:
    async def said(story: Story) -> None:
        await story.says_no(form, by=story.receiver if to_the_receiver else None, travel=False)

    return said


WHAT_GOES = {
    "a referral": _refers_again,
    "an answer": _decides,
    "a recall": _recalls,
    "a mistake taken back": _was_a_mistake,
    "stop sharing": _says_no(WithdrawalForm.STOP_SHARING),
    "erase": _says_no(WithdrawalForm.ERASE),
    "erase, said to the receiver": _says_no(WithdrawalForm.ERASE, to_the_receiver=True),
    "her whole consent": _says_no_to_all,
}


ANSWERED = {"an answer", "erase", "her whole consent"}


@pytest.mark.parametrize("what", WHAT_GOES)
async def test_on_the_line_everything_looks_alike_to_whoever_asks_for_the_card_first(
    two: Federation, what: str
) -> None:
    """Her no needs no key of the peer, and still is not told from a referral by a question that is missing."""
    story = await begin(two)
    await story.offer()
    for hours in (0, 1):
        two.clock.pass_by(hours=hours)
        two.network.paths.clear()
        await (WHAT_GOES[what] if hours else _refers_again)(story)
        await story.travel()
        paths = [path for path in two.network.paths if path in {CARD_PATH, _ENVELOPES}]
        # Her name follows an acceptance, an attestation what she wants erased: the other side asks in its turn.
        ways = 2 if hours and what in ANSWERED else 1
        assert paths == ([CARD_PATH] * hours + [_ENVELOPES]) * ways


async def test_another_process_of_the_node_need_not_ask_again(on_both: Federation) -> None:
    """The API process asks before it seals; the courier, which knows nothing of it, looks into the database."""
    helpline = on_both[HELPLINE].node
    story = await begin(on_both)
    on_both.clock.pass_by(hours=1)
    await seals(on_both)
    helpline.card_read_at.clear()
    helpline.card_asked_at.clear()
    before = on_both.network.cards_asked
    await story.asks.referrals.enter_in_error(story.id)
    await story.travel()
    assert on_both.network.cards_asked == before


async def test_her_no_holds_at_once_and_reaches_a_peer_that_keeps_its_card_to_itself(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As late as a referral would, and asked in vain it is not asked again each time."""
    monkeypatch.setattr(peer_cards, "_WAITED_FOR_S", 0.3)
    helpline, asked = two[HELPLINE].node, []

    async def in_vain(peer: Member) -> None:
        asked.append(peer.agency)
        await asyncio.Event().wait()

    helpline.fetch_peer_keys = in_vain
    story, later = await begin(two), await begin(two)
    two.clock.pass_by(hours=1)
    await story.says_no(WithdrawalForm.ERASE, travel=False)
    assert ((await story.views())[0].state.value, asked) == ("withdrawn", [])
    await story.travel()
    await story.both_say("withdrawn")
    await later.says_no(WithdrawalForm.ERASE)
    await later.both_say("withdrawn")
    assert asked == [SHELTER.agency]


async def test_a_suspended_member_is_told_her_no_and_not_asked(two: Federation) -> None:
    """Nothing else goes to it, so there is nothing to be told from."""
    story = await begin(two)

    def suspend(member: Member) -> Member:
        return member.model_copy(update={"status": Status.SUSPENDED}) if member.agency == SHELTER.agency else member

    await two.new_roster(member=suspend)
    two.clock.pass_by(hours=1)
    before = two.network.cards_asked
    await story.says_no(WithdrawalForm.STOP_SHARING)
    assert two.network.posted[-1][0] == two[SHELTER].port
    assert two.network.cards_asked == before
    two.clock.pass_by(hours=24)
    assert await looks(two) == 0
