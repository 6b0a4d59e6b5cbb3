"""A referral that the agency's own software repeats: sealed under a key it stays one, whenever the software died."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
from support.blind import BlindStory, Office
from support.federation import Federation, federation
from support.losing_line import vault_on_losing_line
from support.people import consent_request, referral_request
from support.stories import content, now_of, plan, rows, safe_contact

from contracts.vocabulary import WithdrawalForm
from exchange.client import AgencyClient, NodeUnreachableError, ProblemError
from exchange.client.vault import AgencyVault, VaultError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.referrals import ReferralCreated, ReferralRequest
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest
from exchange.storage.tables import IDEMPOTENCY, REFERRAL

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = "case-4711"
NOBODY_CALLS: dict[str, Any] = {"who_initiates": "neither", "channels": [], "safe_times": []}


@pytest_asyncio.fixture(loop_scope="module")
async def blind(tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline whose node is blind, and a shelter."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE,)) as together:
        yield together


@pytest_asyncio.fixture(loop_scope="module")
async def request_(blind: Federation) -> ReferralRequest:
    consent = await Office.of(blind[HELPLINE]).client.consents.record(consent_request(SHELTER.agency))
    return referral_request(SHELTER.agency, consent.id)


def _started_again(blind: Federation) -> AgencyVault:
    """The software, in a new process: it has the key store and nothing else."""
    return blind[HELPLINE].vault()


async def _at_the_node(blind: Federation) -> list[str]:
    return [row["id"] for row in await rows(blind[HELPLINE], REFERRAL)]


def _dies(monkeypatch: pytest.MonkeyPatch, client: AgencyClient, *, after: bool) -> None:
    hand_in = client.sealing.hand_in

    async def dies(request: EnvelopesRequest, **more: Any) -> EnvelopesAnswer:
        if after:
            await hand_in(request, **more)
        raise NodeUnreachableError

    monkeypatch.setattr(client.sealing, "hand_in", dies)


@pytest.mark.parametrize("after", [False, True], ids=["before-the-node-has-it", "after-the-node-has-it"])
async def test_a_referral_whose_answer_never_came_stays_one_under_its_key(
    blind: Federation, request_: ReferralRequest, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    first = _started_again(blind)
    with monkeypatch.context() as patched:
        _dies(patched, first._client, after=after)
        with pytest.raises(NodeUnreachableError) as ended:
            await first.refer(request_, idempotency_key=KEY)
    assert ended.value.idempotency_key == KEY
    created = await _started_again(blind).refer(request_, idempotency_key=KEY)
    # Also where it has died after the answer, before its own system had written it down.
    assert await _started_again(blind).refer(request_, idempotency_key=KEY) == created
    assert await _at_the_node(blind) == [created.id]
    assert [referral for referral, _ in first._identity.store.cases()] == [created.id]


async def test_the_error_has_the_key_under_which_it_is_the_same_act(
    blind: Federation, request_: ReferralRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = _started_again(blind)
    with monkeypatch.context() as patched:
        _dies(patched, vault._client, after=True)
        with pytest.raises(NodeUnreachableError) as ended:
            await vault.refer(request_)
    created = await vault.refer(request_, idempotency_key=ended.value.idempotency_key)
    assert await _at_the_node(blind) == [created.id]
    # Without a key it is another one, as ever.
    assert (await vault.refer(request_)).id != created.id


async def test_two_programs_that_begin_one_act_at_once_make_one_referral(
    blind: Federation, request_: ReferralRequest
) -> None:
    both = [_started_again(blind), _started_again(blind)]
    blind.clock.pass_by(hours=2)
    # The receiver's card is read again before its keys are told: both wait there, and neither has sealed.
    async with blind[HELPLINE].node.asking_for_card[SHELTER.agency]:
        acts = [asyncio.create_task(vault.refer(request_, idempotency_key=KEY)) for vault in both]
        await asyncio.sleep(1)
        assert not any(act.done() for act in acts)
    one, other = await asyncio.gather(*acts)
    assert one == other
    assert await _at_the_node(blind) == [one.id]


async def test_a_key_that_came_with_another_request_is_refused(blind: Federation, request_: ReferralRequest) -> None:
    vault = _started_again(blind)
    created = await vault.refer(request_, idempotency_key=KEY)
    with pytest.raises(VaultError) as reused:
        await vault.refer(request_.model_copy(update={"exercise": True}), idempotency_key=KEY)
    assert reused.value.code == "idempotency-key-reused"
    assert await _at_the_node(blind) == [created.id]


async def test_what_the_gate_refuses_uses_up_no_key(blind: Federation, request_: ReferralRequest) -> None:
    vault = _started_again(blind)
    with pytest.raises(ProblemError):
        await vault.refer(request_.model_copy(update={"consent": "f" * 32}), idempotency_key=KEY)
    created = await vault.refer(request_, idempotency_key=KEY)
    assert await _at_the_node(blind) == [created.id]


async def test_after_a_day_a_key_gives_nothing_and_names_the_referral(
    blind: Federation, request_: ReferralRequest
) -> None:
    vault = _started_again(blind)
    created = await vault.refer(request_, idempotency_key=KEY)
    blind.clock.pass_by(hours=25)
    for _ in range(2):
        with pytest.raises(VaultError, match=created.id) as over:
            await vault.refer(request_, idempotency_key=KEY)
        assert over.value.code == "sealed-before"
        await vault.destroy_ended()
    assert vault._identity.store._connection.execute("SELECT sealed FROM act").fetchall() == [(None,)]
    assert await _at_the_node(blind) == [created.id]


async def test_what_never_came_and_is_too_old_now_is_said_to_be_and_goes_under_another_key(
    blind: Federation, request_: ReferralRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = _started_again(blind)
    with monkeypatch.context() as patched:
        _dies(patched, vault._client, after=False)
        with pytest.raises(NodeUnreachableError):
            await vault.refer(request_, idempotency_key=KEY)
    ((referral, _),) = vault._identity.store.cases()
    blind.clock.pass_by(seconds=660)
    for _ in range(2):
        with pytest.raises(VaultError, match=referral) as over:
            await vault.refer(request_, idempotency_key=KEY)
        assert (over.value.code, await _at_the_node(blind)) == ("sealed-before", [])
    created = await vault.refer(request_, idempotency_key="case-4711-again")
    assert await _at_the_node(blind) == [created.id]


async def test_after_her_no_what_was_sealed_for_her_is_destroyed_and_its_key_makes_no_other(
    blind: Federation, request_: ReferralRequest
) -> None:
    vault = _started_again(blind)
    created = await vault.refer(request_, idempotency_key=KEY)
    (kept,) = vault._identity.store._connection.execute("SELECT sealed FROM act").fetchone()
    folder = blind[HELPLINE].agency_home

    def lies() -> bool:
        # Its end: the whole of it is longer than a page, and in the file nowhere in one piece.
        return any(kept[-64:] in file.read_bytes() for file in folder.glob("agency-keys.db*"))

    assert lies()
    await vault._client.withdrawals.of_referral(created.id, WithdrawalForm.ERASE)
    await blind.travel()
    assert await vault.destroy_ended() == (created.id,)
    assert not lies()
    with pytest.raises(VaultError) as destroyed:
        await _started_again(blind).refer(request_, idempotency_key=KEY)
    assert destroyed.value.code == "sealed-before"
    assert await _at_the_node(blind) == [created.id]


@pytest.mark.parametrize("key_at_the_node", [KEY, None])
@pytest.mark.parametrize("hours", [0, 0.5])
async def test_what_the_node_alone_has_destroyed_so_far_is_named_as_well(
    blind: Federation, request_: ReferralRequest, hours: float, key_at_the_node: str | None
) -> None:
    """Her no has reached the node, and nobody has told the software yet what has ended."""
    vault = _started_again(blind)
    created = await vault.hand_in(await vault.seal(request_, idempotency_key=KEY), idempotency_key=key_at_the_node)
    await vault._client.withdrawals.of_referral(created.id, WithdrawalForm.ERASE)
    await blind.travel()
    blind.clock.pass_by(hours=hours)
    with pytest.raises(VaultError, match=created.id) as destroyed:
        await _started_again(blind).refer(request_, idempotency_key=KEY)
    assert destroyed.value.code == "sealed-before"
    assert await _at_the_node(blind) == [created.id]


async def test_neither_key_nor_request_lies_in_the_clear(blind: Federation, request_: ReferralRequest) -> None:
    vault = _started_again(blind)
    sealed = await vault.seal(request_, idempotency_key=KEY)
    data = b"".join(file.read_bytes() for file in blind[HELPLINE].agency_home.glob("agency-keys.db*"))
    for secret in (KEY, sealed.created.client_code, sealed.hand_in.envelopes[0].header[:64]):
        assert secret.encode() not in data
        assert secret not in repr(sealed)


async def test_a_key_that_can_be_guessed_is_found_neither_in_the_key_store_nor_at_the_node(
    blind: Federation, request_: ReferralRequest
) -> None:
    """A case number, or worse her telephone number: who has the file, or the node, tries them all."""
    vault = _started_again(blind)
    created = await vault.refer(request_, idempotency_key=KEY)
    guesses = [KEY.encode(), hashlib.sha256(KEY.encode()).hexdigest().encode(), hashlib.sha256(KEY.encode()).digest()]
    office = b"".join(file.read_bytes() for file in blind[HELPLINE].agency_home.glob("agency-keys.db*"))
    kept = [str(row["key"]).encode() for row in await rows(blind[HELPLINE], IDEMPOTENCY)]
    assert created.id.encode() in office
    assert kept
    assert not [guess for guess in guesses if guess in office or any(guess in key for key in kept)]


def _with_plan(blind: Federation, request: ReferralRequest, **changes: Any) -> ReferralRequest:
    return request.model_copy(update={"content": content(safe_contact=plan(now_of(blind), **changes))})


async def _changes_plan(blind: Federation, vault: AgencyVault, *, arrived: bool) -> str:
    """She wants no call any more; the referral that it is about."""
    ((referral, _),) = vault._identity.store.cases()
    changes = vault.update_safe_contact(referral, safe_contact(now_of(blind), **NOBODY_CALLS), idempotency_key="plan")
    if arrived:
        assert (await changes).referral.flags.awaiting_disclosure
    else:
        with pytest.raises(ProblemError) as unknown:
            await changes
        assert unknown.value.problem.code == "not-found"
    return referral


async def _nobody_calls(blind: Federation, created: ReferralCreated) -> None:
    await blind.travel()
    story = BlindStory(blind, Office.of(blind[HELPLINE]), Office.of(blind[SHELTER]), created)
    await story.accepted()
    offer = await story.helps.item(created.id, "offer")
    assert (await story.helps.client.inbox.contact_advice(offer.id)).code == "nobody-initiates"


@pytest.mark.parametrize("way", ["refer", "hand-in"])
async def test_a_referral_whose_plan_changed_before_it_was_handed_in_is_sealed_anew(
    blind: Federation, request_: ReferralRequest, way: str
) -> None:
    """The node does not know it yet, so that nothing could be deleted there."""
    vault, older = _started_again(blind), _with_plan(blind, request_)
    sealed = await vault.seal(older, idempotency_key=KEY)
    referral = await _changes_plan(blind, vault, arrived=False)
    for _ in range(2):
        with pytest.raises(VaultError, match=referral) as over:
            await (vault.hand_in(sealed) if way == "hand-in" else vault.refer(older, idempotency_key=KEY))
        assert (over.value.code, await _at_the_node(blind)) == ("sealed-before", [])
    # It was never sent, and ends as such.
    case = vault._identity.store.case(referral)
    assert case is not None
    assert not case.may_be_at_node()
    created = await vault.refer(_with_plan(blind, request_, **NOBODY_CALLS), idempotency_key="case-4711-again")
    assert await _at_the_node(blind) == [created.id]
    await _nobody_calls(blind, created)


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_a_referral_that_the_line_lost_is_not_tried_again_with_an_older_plan_and_stays_one(
    blind: Federation, request_: ReferralRequest, lost: Literal["request", "answer"]
) -> None:
    """Within the one call, by the SDK itself. Where it has arrived, what is held there is deleted, and it is said."""
    colleague, arrived = _started_again(blind), lost == "answer"
    vault, line = vault_on_losing_line(blind[HELPLINE], lost, lambda: _changes_plan(blind, colleague, arrived=arrived))
    older, newer = _with_plan(blind, request_), _with_plan(blind, request_, **NOBODY_CALLS)
    if arrived:
        created = await vault.refer(older, idempotency_key=KEY)
        assert await colleague.refer(older, idempotency_key=KEY) == created
        await colleague.replace_disclosure(created.id, newer.content)
    else:
        for _ in range(2):
            with pytest.raises(VaultError) as over:
                await vault.refer(older, idempotency_key=KEY)
            assert (over.value.code, await _at_the_node(blind)) == ("sealed-before", [])
        created = await vault.refer(newer, idempotency_key="case-4711-again")
    assert (line.tries, await _at_the_node(blind)) == (1 if arrived else 2, [created.id])
    await _nobody_calls(blind, created)


async def test_a_referral_whose_plan_changed_since_is_answered_as_there_and_what_is_held_stays(
    blind: Federation, request_: ReferralRequest
) -> None:
    """Its answer came, and the program died before it had written it down. Once it is destroyed its key names it."""
    vault, older = _started_again(blind), _with_plan(blind, request_)
    created = await vault.refer(older, idempotency_key=KEY)
    await _changes_plan(blind, vault, arrived=True)
    await vault.replace_disclosure(created.id, _with_plan(blind, request_, **NOBODY_CALLS).content)
    assert await _started_again(blind).refer(older, idempotency_key=KEY) == created
    assert await _at_the_node(blind) == [created.id]
    await _nobody_calls(blind, created)
    await vault._client.withdrawals.of_referral(created.id, WithdrawalForm.ERASE)
    await blind.travel()
    with pytest.raises(VaultError, match=created.id) as destroyed:
        await vault.refer(older, idempotency_key=KEY)
    assert destroyed.value.code == "sealed-before"


async def test_a_referral_whose_plan_changes_while_it_is_handed_in_holds_no_older_one(
    blind: Federation, request_: ReferralRequest
) -> None:
    """Nothing is lost: the colleague is told that the node does not know it yet, and the next moment it does."""
    colleague = _started_again(blind)
    vault, line = vault_on_losing_line(
        blind[HELPLINE], "nothing", lambda: _changes_plan(blind, colleague, arrived=False)
    )
    older = _with_plan(blind, request_)
    created = await vault.refer(older, idempotency_key=KEY)
    assert (line.tries, await _at_the_node(blind)) == (1, [created.id])
    assert (await vault._client.referrals.read(created.id)).flags.awaiting_disclosure
    fresh = _with_plan(blind, request_, **NOBODY_CALLS).content
    await colleague.replace_disclosure(created.id, fresh)
    assert await vault.refer(older, idempotency_key=KEY) == created
    await _nobody_calls(blind, created)


async def test_a_referral_in_doubt_whose_plan_changed_is_in_doubt_no_more_hours_later(
    blind: Federation, request_: ReferralRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise her code would be kept for two years as that of one which the node may have."""
    vault, older = _started_again(blind), _with_plan(blind, request_)
    with monkeypatch.context() as patched:
        _dies(patched, vault._client, after=False)
        with pytest.raises(NodeUnreachableError):
            await vault.refer(older, idempotency_key=KEY)
    referral = await _changes_plan(blind, vault, arrived=False)
    for hours, in_doubt in ((0.5, True), (3, False)):
        blind.clock.pass_by(hours=hours)
        with pytest.raises(VaultError, match=referral) as over:
            await vault.refer(older, idempotency_key=KEY)
        case = vault._identity.store.case(referral)
        assert case is not None
        assert (over.value.code, case.in_doubt, await _at_the_node(blind)) == ("sealed-before", in_doubt, [])
    blind.clock.pass_by(hours=24)
    assert await vault.destroy_ended() == (referral,)
