"""Keys on the agency's own machine while others act: what is being handed in, or is not shown, loses none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.blind import Office, referred
from support.federation import Federation, federation
from support.people import consent_request, referral_request

from contracts.vocabulary import WithdrawalForm
from exchange.client import NodeUnreachableError, ProblemError, UnexpectedAnswerError
from exchange.client.vault import AgencyVault, VaultError, agency_keys
from exchange.client.vault.acts import SealedReferral
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.limits import DAY_MS, LIMITS
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.referrals import ReferralRequest, ReferralView
from exchange.storage.tables import REFERRAL


@pytest.fixture
async def blind(tmp_path: Path) -> AsyncIterator[Federation]:
    """Two agencies, both with their keys elsewhere."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE, SHELTER)) as together:
        yield together


async def _asked(office: Office) -> tuple[AgencyVault, ReferralRequest]:
    assert office.vault is not None
    consent = await office.client.consents.record(consent_request(SHELTER.agency))
    return office.vault, referral_request(SHELTER.agency, consent.id)


async def test_what_is_being_handed_in_keeps_its_keys(blind: Federation) -> None:
    asks, helps = Office.of(blind[HELPLINE]), Office.of(blind[SHELTER])
    vault, request = await _asked(asks)
    sealed = await vault.seal(request)
    assert await blind[HELPLINE].vault().destroy_ended() == ()
    created = await vault.hand_in(sealed)
    await blind.travel()
    await helps.open(created.id, "offer")
    await helps.decide(created.id, DecisionRequest(decision="accepted"))
    await blind.travel()
    assert (await asks.open(created.id, "decision")).answer == {"decision": "accepted"}


async def test_what_was_never_handed_in_ends_once_the_node_takes_it_no_more(blind: Federation) -> None:
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    sealed = await vault.seal(request)
    blind.clock.pass_by(hours=23)
    with pytest.raises(ProblemError) as late:
        await vault.hand_in(sealed)
    assert (late.value.problem.code, await vault.destroy_ended()) == ("too-old", ())
    blind.clock.pass_by(hours=1)
    assert await vault.destroy_ended() == (sealed.created.id,)


async def _no_answer(vault: AgencyVault, sealed: SealedReferral, patch: pytest.MonkeyPatch, *, arrives: bool) -> None:
    """It is handed in, and nobody hears whether it came."""
    sealing = vault._client.sealing
    hand_in = sealing.hand_in

    async def lost(*asked: Any, **named: Any) -> None:
        if arrives:
            await hand_in(*asked, **named)
        raise NodeUnreachableError

    with patch.context() as during:
        during.setattr(sealing, "hand_in", lost)
        with pytest.raises(NodeUnreachableError):
            await vault.hand_in(sealed)


async def test_what_another_branch_may_have_handed_in_is_not_destroyed(
    blind: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its program was not run again: the node has it, and shows it to no other branch."""
    asks, helps = Office.of(blind[HELPLINE]), Office.of(blind[SHELTER])
    north, south = [blind[HELPLINE].vault(asks.client.acting_as("w-test", unit=unit)) for unit in ("north", "south")]
    consent = await north._client.consents.record(consent_request(SHELTER.agency))
    sealed = await north.seal(referral_request(SHELTER.agency, consent.id, priority="routine"))
    await _no_answer(north, sealed, monkeypatch, arrives=True)
    await blind.travel()
    blind.clock.pass_by(hours=25)
    unseen: list[str] = []
    assert await south.destroy_ended(not_shown=unseen.append) == ()
    assert unseen == [sealed.created.id]
    await helps.open(sealed.created.id, "offer")
    await helps.decide(sealed.created.id, DecisionRequest(decision="accepted"))
    await blind.travel()
    (item,) = [item async for item in north._client.inbox.pages(referral=sealed.created.id)]
    assert (await north.open(item)).answer == {"decision": "accepted"}


async def test_what_may_have_been_handed_in_ends_once_the_node_has_said_that_it_never_came(
    blind: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    sealed = await vault.seal(request)
    await _no_answer(vault, sealed, monkeypatch, arrives=False)
    blind.clock.pass_by(hours=25)
    assert await vault.destroy_ended() == ()
    with pytest.raises(ProblemError, match="too-old"):
        await vault.hand_in(sealed)
    assert await vault.destroy_ended() == (sealed.created.id,)


async def test_a_refusal_of_what_may_be_there_does_not_mean_that_it_never_came(
    blind: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why it is refused may have come after it: the receiver has left the roster, say."""
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    first, again = await vault.seal(request), await vault.seal(request)
    await _no_answer(vault, again, monkeypatch, arrives=True)
    with pytest.raises(ProblemError) as unknown:
        await vault._client.referrals.read("f" * 32)
    problem = unknown.value.problem.model_copy(update={"status": 422, "code": "unknown-agency"})

    async def refuses(*_: Any, **__: Any) -> None:
        raise ProblemError(problem)

    monkeypatch.setattr(vault._client.sealing, "hand_in", refuses)
    for sealed in (first, again):
        with pytest.raises(ProblemError, match="unknown-agency"):
            await vault.hand_in(sealed)
    known = [vault._identity.store.case(sealed.created.id) for sealed in (first, again)]
    assert [case.may_be_at_node() for case in known if case is not None] == [False, True]


async def test_what_came_while_a_contract_was_in_force_is_opened_after_its_end(
    blind: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await referred(blind, blind[HELPLINE], blind[SHELTER])
    contract = next(iter(story.helps.identity.contracts.values()))
    after_days = (contract.ends_at - story.helps.identity.now()).days + 2
    monkeypatch.setattr(agency_keys, "clock", lambda: blind.clock() + after_days * 24 * 3_600_000)
    reopened = blind[SHELTER].vault()
    late = AgencyVault(replace(reopened._identity, clock=agency_keys.clock), reopened._client)
    opened = await late.open(await story.helps.item(story.id, "offer"))
    assert opened.content is not None
    # Nothing new goes under it, whether the folder was opened late or was open when the contract ended.
    asks, request = await _asked(Office.of(blind[HELPLINE]))
    blind.clock.pass_by(hours=after_days * 24)
    for vault in (asks, blind[HELPLINE].vault()):
        with pytest.raises(VaultError) as refused:
            await vault.preview(request)
        assert refused.value.code == "no-contract"


async def test_a_branch_does_not_destroy_what_it_is_not_shown(blind: Federation) -> None:
    asks = Office.of(blind[HELPLINE])
    (one, asked), (other, handed_elsewhere) = await _asked(asks), await _asked(asks)
    first, second = await one.refer(asked), await other.seal(handed_elsewhere)
    await asks.client.sealing.hand_in(second.hand_in)
    assert await one.destroy_ended() == ()
    blind.clock.pass_by(hours=24 * 30)
    branch = blind[HELPLINE].vault(asks.client.acting_as("w-test", unit="north"))
    for referral in (first.id, second.created.id):
        with pytest.raises(ProblemError) as unseen:
            await branch._client.referrals.read(referral)
        assert unseen.value.problem.status == 404
    assert await branch.destroy_ended() == ()


async def test_a_branch_destroys_its_own_and_hears_what_it_is_not_shown(blind: Federation) -> None:
    """What another branch has taken over ends only for a client that may see it; somebody has to know that."""
    helps = Office.of(blind[SHELTER])
    north, south = [blind[SHELTER].vault(helps.client.acting_as("w-test", unit=unit)) for unit in ("north", "south")]
    stories = [await referred(blind, blind[HELPLINE], blind[SHELTER]) for _ in range(2)]
    for story, branch in zip(stories, (north, south), strict=True):
        await north.open(await helps.item(story.id, "offer"))
        await branch.decide(story.id, DecisionRequest(decision="accepted"))
    await blind.travel()
    for story in stories:
        await story.asks.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await blind.travel()
    blind.clock.pass_by(hours=25)
    unseen: list[str] = []
    assert await north.destroy_ended(not_shown=unseen.append) == (stories[0].id,)
    assert unseen == [stories[1].id]
    # Whoever may see it destroys it, be it the other branch or the whole agency.
    assert await south.destroy_ended(not_shown=unseen.append) == (stories[1].id,)
    assert list(north._identity.store.living()) == []
    assert unseen == [stories[1].id]


async def test_what_is_being_handed_in_is_nothing_that_is_not_shown(blind: Federation) -> None:
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    await vault.seal(request)
    unseen: list[str] = []
    assert await vault.destroy_ended(not_shown=unseen.append) == ()
    assert unseen == []


async def test_only_the_nodes_own_word_destroys(blind: Federation) -> None:
    story = await referred(blind, blind[HELPLINE], blind[SHELTER])
    await story.helps.open(story.id, "offer")
    vault = story.helps.vault
    assert vault is not None
    blind.leave(SHELTER)
    with pytest.raises(NodeUnreachableError):
        await vault.destroy_ended()
    blind.come_back(SHELTER)
    assert vault._identity.store.case(story.id) is not None
    await story.asks.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await blind.travel()
    assert await vault.destroy_ended() == (story.id,)


async def test_what_has_ended_is_destroyed_although_a_later_question_is_not_answered(
    blind: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stories = [await referred(blind, blind[HELPLINE], blind[SHELTER]) for _ in range(2)]
    ended, later = sorted(stories, key=lambda story: story.id)
    await ended.asks.client.withdrawals.of_referral(ended.id, WithdrawalForm.ERASE)
    await blind.travel()
    vault = blind[HELPLINE].vault()
    real, asked = ended.asks.client.referrals.read, list[str]()

    async def breaks_off(referral: str) -> ReferralView:
        asked.append(referral)
        if referral == later.id:
            raise NodeUnreachableError
        return await real(referral)

    monkeypatch.setattr(vault._client.referrals, "read", breaks_off)
    with pytest.raises(NodeUnreachableError):
        await vault.destroy_ended()
    assert asked == [ended.id, later.id]
    assert [vault._identity.store.case(one) is None for one in asked] == [True, False]


async def test_a_referral_that_cannot_be_read_keeps_no_other_from_being_destroyed(blind: Federation) -> None:
    stories = [await referred(blind, blind[HELPLINE], blind[SHELTER]) for _ in range(3)]
    damaged, ended, both = sorted(stories, key=lambda story: story.id)
    for story in (ended, both):
        await story.asks.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await blind.travel()
    vault = blind[HELPLINE].vault()
    store = vault._identity.store
    for story in (damaged, both):
        store._connection.execute("UPDATE referral SET sealed_case = x'00' WHERE id = ?", (story.id,))
    with pytest.raises(VaultError) as unreadable:
        await vault.destroy_ended()
    assert unreadable.value.code == "store-unreadable"
    assert list(store.living()) == [damaged.id]


@pytest.mark.parametrize("cannot_read", ["node", "software"])
async def test_one_that_is_not_told_readably_keeps_no_other_from_being_destroyed(
    blind: Federation, monkeypatch: pytest.MonkeyPatch, cannot_read: str
) -> None:
    """The same one would stop it every day: her no behind it would end no key, for ever."""
    stories = [await referred(blind, blind[HELPLINE], blind[SHELTER]) for _ in range(2)]
    first, ended = sorted(stories, key=lambda story: story.id)
    await ended.asks.client.withdrawals.of_referral(ended.id, WithdrawalForm.ERASE)
    await blind.travel()
    vault, node = blind[HELPLINE].vault(), blind[HELPLINE].node
    of_a_later_version = REFERRAL.update().where(REFERRAL.c.id == first.id).values(sector="of-a-later-version")
    real = vault._client.referrals.read

    async def unlike_any_view(referral: str) -> ReferralView:
        if referral == first.id:
            raise UnexpectedAnswerError(200)
        return await real(referral)

    if cannot_read == "node":
        await node.database.write(lambda conn: conn.execute(of_a_later_version).rowcount)
    else:
        monkeypatch.setattr(vault._client.referrals, "read", unlike_any_view)
    with pytest.raises(ProblemError if cannot_read == "node" else UnexpectedAnswerError):
        await vault.destroy_ended()
    assert list(vault._identity.store.living()) == [first.id]


async def test_a_referral_that_cannot_be_read_keeps_no_other_from_being_sealed(blind: Federation) -> None:
    """An emergency neither. Her code is that of the first that can be read."""
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    _, of_another = await _asked(Office.of(blind[HELPLINE]))
    damaged, kept = await vault.refer(of_another), await vault.refer(request)
    store = vault._identity.store
    store._connection.execute("UPDATE referral SET sealed_case = x'00' WHERE id = ?", (damaged.id,))
    assert (await vault.refer(request)).client_code == kept.client_code
    assert (await vault.refer(of_another)).client_code not in (damaged.client_code, kept.client_code)


async def test_two_who_refer_her_at_once_name_her_by_one_code(blind: Federation) -> None:
    asks = Office.of(blind[HELPLINE])
    vault, request = await _asked(asks)
    other = blind[HELPLINE].vault()
    blind.clock.pass_by(hours=2)
    # The receiver's card is read again before its keys are told: everybody waits there, with a code in hand.
    async with blind[HELPLINE].node.asking_for_card[SHELTER.agency]:
        acts = [asyncio.create_task(one.refer(request)) for one in (vault, other, vault)]
        await asyncio.sleep(1)
        assert not any(act.done() for act in acts)
    made = await asyncio.gather(*acts)
    assert len({one.client_code for one in made}) == 1
    assert len({one.id for one in made}) == 3
    kept = vault._identity.store.cases()
    assert {(referral, case.client_code) for referral, case in kept} == {(one.id, one.client_code) for one in made}


@pytest.mark.parametrize(("status", "code"), [(503, "unavailable"), (403, "not-found"), (404, "no-such-path")])
async def test_a_refusal_to_say_destroys_nothing_however_old_it_is(
    blind: Federation, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    created, client = await vault.refer(request), vault._client
    with pytest.raises(ProblemError) as unknown:
        await client.referrals.read("f" * 32)
    problem = unknown.value.problem.model_copy(update={"status": status, "code": code})

    async def refuses(_referral: str) -> ReferralView:
        raise ProblemError(problem)

    monkeypatch.setattr(client.referrals, "read", refuses)
    late = AgencyVault(replace(vault._identity, clock=lambda: blind.clock() + LIMITS.tombstone_ms + 2 * DAY_MS), client)
    with pytest.raises(ProblemError):
        await late.destroy_ended()
    assert vault._identity.store.case(created.id) is not None
