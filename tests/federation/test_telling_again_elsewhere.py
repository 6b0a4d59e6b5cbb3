"""What the agency's own software tells about a referral, repeated late by its caller: it takes the place of nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import pytest
import pytest_asyncio
from support.blind import BlindStory, referred
from support.federation import Federation, federation
from support.losing_line import vault_on_losing_line
from support.people import consent_request, referral_request
from support.stories import content, now_of, plan, safe_contact

from contracts.vocabulary import Field, WithdrawalForm
from exchange.client import AgencyClient, NodeUnreachableError, ProblemError
from exchange.client.vault import VaultError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.referral.content import ReferralContent
from exchange.schemas.inbox import DecisionRequest, ReferralAct, RefusalRequest
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest
from exchange.use_cases import hand_in_sealed

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOBODY_CALLS: dict[str, Any] = {"who_initiates": "neither", "channels": [], "safe_times": []}
BOTH_STAGES = ReferralContent.model_validate({"party": {"adults": 1}, "preferred_name": "Canary-Baru"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def blind(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    """A helpline whose node is blind, and a shelter."""
    async with federation(tmp_path_factory.mktemp("blind"), (HELPLINE, SHELTER), blind=(HELPLINE,)) as together:
        yield together


@pytest_asyncio.fixture(loop_scope="module")
async def story(blind: Federation) -> BlindStory:
    return await referred(blind, blind[HELPLINE], blind[SHELTER])


def _key(story: BlindStory, name: str) -> str:
    return f"{story.id}-{name}"


def _dies(monkeypatch: pytest.MonkeyPatch, client: AgencyClient, *, after: bool, at: int = 1) -> None:
    """The line breaks at this hand-in, before the node has it or after."""
    hand_in, handed = client.sealing.hand_in, list[EnvelopesRequest]()

    async def dies(request: EnvelopesRequest, **more: Any) -> EnvelopesAnswer:
        handed.append(request)
        if len(handed) < at:
            return await hand_in(request, **more)
        if after:
            await hand_in(request, **more)
        raise NodeUnreachableError

    monkeypatch.setattr(client.sealing, "hand_in", dies)


async def _breaks(monkeypatch: pytest.MonkeyPatch, story: BlindStory, tells: Awaitable[Any], **how: Any) -> None:
    with monkeypatch.context() as patched:
        _dies(patched, story.asks.client, **how)
        with pytest.raises(NodeUnreachableError) as ended:
            await tells
    assert ended.value.idempotency_key is not None


async def _arrived(story: BlindStory, kind: str) -> int:
    await story.together.travel()
    return len([i async for i in story.helps.client.inbox.pages(referral=story.id) if i.kind == kind])


async def _advice(story: BlindStory) -> str | None:
    await story.together.travel()
    offer = await story.helps.item(story.id, "offer")
    return (await story.helps.client.inbox.contact_advice(offer.id)).code


async def _asked(story: BlindStory) -> None:
    question = DecisionRequest(decision="information-requested", fields=(Field.PARTY, Field.PREFERRED_NAME))
    await story.helps.decide(story.id, question)
    await story.together.travel()


async def _sealed_before(again: Awaitable[Any], story: BlindStory) -> None:
    with pytest.raises(VaultError, match=story.id) as over:
        await again
    assert over.value.code == "sealed-before"


async def test_a_disclosure_that_is_repeated_late_takes_the_place_of_nothing(story: BlindStory) -> None:
    """The caller never heard that it was stored, and she changed her plan before it was sent again."""
    vault, at = story.asks.own_vault, now_of(story.together)
    older, newer = content(safe_contact=plan(at)), content(safe_contact=plan(at, **NOBODY_CALLS))
    first = await vault.replace_disclosure(story.id, older, idempotency_key=_key(story, "older"))
    await vault.replace_disclosure(story.id, newer, idempotency_key=_key(story, "newer"))
    again = await story.asks.node.vault().replace_disclosure(story.id, older, idempotency_key=_key(story, "older"))
    assert again.fields == first.fields
    await story.accepted()
    assert await _advice(story) == "nobody-initiates"


@pytest.mark.parametrize("after", [False, True], ids=["before-the-node-has-it", "after-the-node-has-it"])
async def test_a_disclosure_of_which_nobody_knows_whether_it_came_is_not_handed_in_over_a_newer_one(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    vault, at = story.asks.own_vault, now_of(story.together)
    older, newer = content(safe_contact=plan(at)), content(safe_contact=plan(at, **NOBODY_CALLS))
    tells = vault.replace_disclosure(story.id, older, idempotency_key=_key(story, "older"))
    await _breaks(monkeypatch, story, tells, after=after)
    await vault.replace_disclosure(story.id, newer)
    again = vault.replace_disclosure(story.id, older, idempotency_key=_key(story, "older"))
    await _sealed_before(again, story)
    await story.accepted()
    assert await _advice(story) == "nobody-initiates"


@pytest.mark.parametrize("after", [False, True], ids=["before-the-node-has-it", "after-the-node-has-it"])
async def test_a_disclosure_of_which_nobody_knows_whether_it_came_does_not_undo_a_change_of_plan(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Where nobody has a plan yet nothing is sealed of the new one: what is held with the older one is deleted."""
    vault, at = story.asks.own_vault, now_of(story.together)
    older, key = content(safe_contact=plan(at)), _key(story, "older")
    await _breaks(monkeypatch, story, vault.replace_disclosure(story.id, older, idempotency_key=key), after=after)
    told = await vault.update_safe_contact(story.id, safe_contact(at, **NOBODY_CALLS))
    assert told.referral.flags.awaiting_disclosure
    await _sealed_before(story.asks.node.vault().replace_disclosure(story.id, older, idempotency_key=key), story)
    assert (await story.asks.client.referrals.read(story.id)).flags.awaiting_disclosure
    await vault.replace_disclosure(story.id, content(safe_contact=plan(at, **NOBODY_CALLS)))
    await story.accepted()
    assert await _advice(story) == "nobody-initiates"


async def test_a_change_of_plan_that_was_only_begun_is_made_when_it_is_repeated_whatever_else_was_told(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older plan stays held until then, and an acceptance would release it."""
    await _asked(story)
    vault, client, key = story.asks.own_vault, story.asks.client, _key(story, "plan")
    newest = safe_contact(now_of(story.together), **NOBODY_CALLS)

    async def away(_: str) -> ReferralAct:
        raise NodeUnreachableError

    with monkeypatch.context() as patched:
        patched.setattr(client.referrals, "drop_disclosure", away)
        with pytest.raises(NodeUnreachableError):
            await vault.update_safe_contact(story.id, newest, idempotency_key=key)
    await vault.inform(story.id, ReferralContent.model_validate({"party": {"adults": 1}}))
    told = await story.asks.node.vault().update_safe_contact(story.id, newest, idempotency_key=key)
    assert told.referral.flags.awaiting_disclosure
    await story.accepted()
    assert await _arrived(story, "disclosure") == 0


@pytest.mark.parametrize("after", [False, True], ids=["before-the-node-has-it", "after-the-node-has-it"])
async def test_a_disclosure_whose_answer_never_came_goes_when_it_is_repeated(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    fresh = content(preferred_name="Canary-Baru", safe_contact=plan(now_of(story.together)))
    tells = story.asks.own_vault.replace_disclosure(story.id, fresh, idempotency_key=_key(story, "fresh"))
    await _breaks(monkeypatch, story, tells, after=after)
    for _ in range(2):
        told = await story.asks.node.vault().replace_disclosure(story.id, fresh, idempotency_key=_key(story, "fresh"))
        assert told.fields
    await story.accepted()
    opened = await story.helps.open(story.id, "disclosure")
    assert opened.content is not None
    assert opened.content.preferred_name == "Canary-Baru"


LOST = pytest.mark.parametrize("lost", ["request", "answer"])
Lost = Literal["request", "answer"]


@LOST
@pytest.mark.parametrize("colleague", ["discloses", "changes-the-plan"])
async def test_a_disclosure_that_the_line_lost_is_not_tried_again_over_what_a_colleague_told_meanwhile(
    story: BlindStory, lost: Lost, colleague: str
) -> None:
    """Within the one call, by the SDK itself: nobody has been told that the first try was lost."""
    colleagues, at = story.asks.own_vault, now_of(story.together)

    async def meanwhile() -> None:
        if colleague == "discloses":
            await colleagues.replace_disclosure(story.id, content(safe_contact=plan(at, **NOBODY_CALLS)))
        else:
            await colleagues.update_safe_contact(story.id, safe_contact(at, **NOBODY_CALLS))

    vault, line = vault_on_losing_line(story.asks.node, lost, meanwhile)
    older, key = content(safe_contact=plan(at)), _key(story, "older")
    for _ in range(2):
        await _sealed_before(vault.replace_disclosure(story.id, older, idempotency_key=key), story)
    assert line.tries == 1
    flags = (await story.asks.client.referrals.read(story.id)).flags
    assert flags.awaiting_disclosure is (colleague == "changes-the-plan")
    if flags.awaiting_disclosure:
        await colleagues.replace_disclosure(story.id, content(safe_contact=plan(at, **NOBODY_CALLS)))
    await story.accepted()
    assert await _advice(story) == "nobody-initiates"


@LOST
async def test_a_disclosure_that_a_caller_repeats_is_not_tried_again_over_a_newer_one_either(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch, lost: Lost
) -> None:
    colleagues, at = story.asks.own_vault, now_of(story.together)
    older, key = content(safe_contact=plan(at)), _key(story, "older")
    tells = colleagues.replace_disclosure(story.id, older, idempotency_key=key)
    await _breaks(monkeypatch, story, tells, after=False)
    newer = content(safe_contact=plan(at, **NOBODY_CALLS))
    vault, line = vault_on_losing_line(story.asks.node, lost, lambda: colleagues.replace_disclosure(story.id, newer))
    await _sealed_before(vault.replace_disclosure(story.id, older, idempotency_key=key), story)
    assert line.tries == 1
    await story.accepted()
    assert await _advice(story) == "nobody-initiates"


@LOST
async def test_a_disclosure_that_the_line_lost_is_tried_again_where_it_is_the_newest_still(
    story: BlindStory, lost: Lost
) -> None:
    """Information that a colleague tells meanwhile is no plan."""
    await _asked(story)
    party = ReferralContent.model_validate({"party": {"adults": 1}})
    vault, line = vault_on_losing_line(story.asks.node, lost, lambda: story.asks.own_vault.inform(story.id, party))
    at = now_of(story.together)
    told = await vault.replace_disclosure(story.id, content(safe_contact=plan(at, **NOBODY_CALLS)))
    assert (line.tries, told.referral.flags.awaiting_disclosure) == (2, False)
    await story.accepted()
    assert await _advice(story) == "nobody-initiates"


@LOST
async def test_a_plan_that_the_line_lost_is_not_sealed_again_over_a_colleagues(story: BlindStory, lost: Lost) -> None:
    """The node refuses its number, and sealed anew it had the highest."""
    await story.accepted()
    colleagues, at, key = story.asks.own_vault, now_of(story.together), _key(story, "older")
    newer = safe_contact(at, **NOBODY_CALLS)
    vault, _ = vault_on_losing_line(story.asks.node, lost, lambda: colleagues.update_safe_contact(story.id, newer))
    tells = vault.update_safe_contact(story.id, safe_contact(at), idempotency_key=key)
    if lost == "request":
        await _sealed_before(tells, story)
    else:
        assert [one.outcome for one in (await tells).fields] == ["allowed"]
    assert await _advice(story) == "nobody-initiates"
    assert await _arrived(story, "update") == (1 if lost == "request" else 2)


async def test_a_plan_that_was_long_on_its_way_is_not_sealed_again_over_a_colleagues(story: BlindStory) -> None:
    """Nothing is lost, and the node refuses it at the first try."""
    await story.accepted()
    colleagues, at = story.asks.own_vault, now_of(story.together)
    newer = safe_contact(at, **NOBODY_CALLS)
    vault, line = vault_on_losing_line(
        story.asks.node, "nothing", lambda: colleagues.update_safe_contact(story.id, newer)
    )
    older = vault.update_safe_contact(story.id, safe_contact(at), idempotency_key=_key(story, "older"))
    await _sealed_before(older, story)
    assert (line.tries, await _advice(story), await _arrived(story, "update")) == (1, "nobody-initiates", 1)


@pytest.mark.parametrize("repeated", [False, True])
async def test_a_disclosure_that_was_long_on_its_way_is_not_held_over_a_colleagues(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch, repeated: bool
) -> None:
    """The node takes it, and cannot know: it is deleted, and a fresh one asked for."""
    colleagues, at, key = story.asks.node.vault(), now_of(story.together), _key(story, "older")
    older, newer = content(safe_contact=plan(at)), content(safe_contact=plan(at, **NOBODY_CALLS))
    if repeated:
        mine = story.asks.own_vault
        await _breaks(monkeypatch, story, mine.replace_disclosure(story.id, older, idempotency_key=key), after=False)
    vault, line = vault_on_losing_line(
        story.asks.node, "nothing", lambda: colleagues.replace_disclosure(story.id, newer)
    )
    await _sealed_before(vault.replace_disclosure(story.id, older, idempotency_key=key), story)
    assert line.tries == 1
    assert (await story.asks.client.referrals.read(story.id)).flags.awaiting_disclosure
    await colleagues.replace_disclosure(story.id, newer)
    await story.accepted()
    assert await _advice(story) == "nobody-initiates"


async def test_a_plan_that_the_line_lost_is_sealed_again_over_what_is_no_plan(story: BlindStory) -> None:
    await _asked(story)
    await story.accepted()
    party = ReferralContent.model_validate({"party": {"adults": 1}})
    vault, _ = vault_on_losing_line(story.asks.node, "request", lambda: story.asks.own_vault.inform(story.id, party))
    await vault.update_safe_contact(story.id, safe_contact(now_of(story.together), **NOBODY_CALLS))
    assert await _advice(story) == "nobody-initiates"


@LOST
async def test_a_plan_is_not_told_over_a_colleagues_that_came_while_the_line_lost_its_beginning(
    story: BlindStory, lost: Lost
) -> None:
    """What is held is deleted first; by the time that this is answered there is a newer plan."""
    await story.accepted()
    colleagues, at = story.asks.own_vault, now_of(story.together)
    newer = safe_contact(at, **NOBODY_CALLS)
    vault, line = vault_on_losing_line(
        story.asks.node,
        lost,
        lambda: colleagues.update_safe_contact(story.id, newer),
        call=("DELETE", f"/v1/referrals/{story.id}/disclosure"),
    )
    key = _key(story, "older")
    await _sealed_before(vault.update_safe_contact(story.id, safe_contact(at), idempotency_key=key), story)
    assert line.tries == 2
    assert await _advice(story) == "nobody-initiates"


@pytest.mark.parametrize("lost", ["nothing", "answer", "hand-in"])
async def test_a_plan_that_is_repeated_late_is_not_the_newest(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Sealed anew it had the highest number: she would be called although she said no since."""
    await story.accepted()
    vault, at = story.asks.own_vault, now_of(story.together)
    older, key = safe_contact(at), _key(story, "older")
    tells = vault.update_safe_contact(story.id, older, idempotency_key=key)
    if lost == "nothing":
        await tells
    else:
        await _breaks(monkeypatch, story, tells, after=lost == "answer")
    await vault.update_safe_contact(story.id, safe_contact(at, **NOBODY_CALLS))
    again = story.asks.node.vault().update_safe_contact(story.id, older, idempotency_key=key)
    if lost == "hand-in":
        await _sealed_before(again, story)
    else:
        assert [one.outcome for one in (await again).fields] == ["allowed"]
    assert await _advice(story) == "nobody-initiates"
    assert await _arrived(story, "update") == (1 if lost == "hand-in" else 2)


@pytest.mark.parametrize("lost", [False, True])
async def test_a_plan_that_had_nobody_to_be_told_deletes_and_tells_nothing_when_it_is_repeated_late(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """What is held since, and what has arrived since, has her newest plan."""
    vault, at = story.asks.own_vault, now_of(story.together)
    older, key, client = safe_contact(at), _key(story, "older"), story.asks.client
    drop = client.referrals.drop_disclosure

    async def dies(referral: str) -> None:
        await drop(referral)
        raise NodeUnreachableError

    with monkeypatch.context() as patched:
        if lost:
            patched.setattr(client.referrals, "drop_disclosure", dies)
        try:
            told = await vault.update_safe_contact(story.id, older, idempotency_key=key)
            assert told.referral.flags.awaiting_disclosure
        except NodeUnreachableError:
            assert lost
    # As long as nothing is sealed it is the newest.
    again = await vault.update_safe_contact(story.id, older, idempotency_key=key)
    assert again.referral.flags.awaiting_disclosure
    await vault.replace_disclosure(story.id, content(safe_contact=plan(at, **NOBODY_CALLS)))
    for _ in range(2):
        again = await vault.update_safe_contact(story.id, older, idempotency_key=key)
        assert not again.referral.flags.awaiting_disclosure
        await story.accepted()
    assert await _advice(story) == "nobody-initiates"
    assert await _arrived(story, "update") == 0


async def test_a_plan_whose_deletion_nobody_answered_is_not_told_over_a_newer_one(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, at, client = story.asks.own_vault, now_of(story.together), story.asks.client
    older, key = safe_contact(at), _key(story, "older")

    async def dies(_referral: str) -> None:
        raise NodeUnreachableError

    with monkeypatch.context() as patched:
        patched.setattr(client.referrals, "drop_disclosure", dies)
        with pytest.raises(NodeUnreachableError):
            await vault.update_safe_contact(story.id, older, idempotency_key=key)
    await vault.replace_disclosure(story.id, content(safe_contact=plan(at, **NOBODY_CALLS)))
    await _sealed_before(vault.update_safe_contact(story.id, older, idempotency_key=key), story)
    await story.accepted()
    await _sealed_before(vault.update_safe_contact(story.id, older, idempotency_key=key), story)
    assert await _advice(story) == "nobody-initiates"


async def test_what_is_held_with_an_older_plan_goes_also_where_the_key_store_keeps_nothing(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = story.asks.own_vault

    def full(*_: object, **__: object) -> bool:
        raise VaultError("store-unusable", "The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(vault._identity.store, "put_told", full)
        with pytest.raises(VaultError, match="full"):
            await vault.update_safe_contact(story.id, safe_contact(now_of(story.together)))
    assert (await story.asks.client.referrals.read(story.id)).flags.awaiting_disclosure


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("after", [False, True], ids=["before-the-node-has-it", "after-the-node-has-it"])
async def test_information_of_two_stages_arrives_once_each_whenever_the_line_broke(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch, after: bool, at: int
) -> None:
    await _asked(story)
    await story.accepted()
    tells = story.asks.own_vault.inform(story.id, BOTH_STAGES, idempotency_key=_key(story, "told"))
    await _breaks(monkeypatch, story, tells, after=after, at=at)
    for _ in range(2):
        told = await story.asks.node.vault().inform(story.id, BOTH_STAGES, idempotency_key=_key(story, "told"))
        assert told.fields
    assert await _arrived(story, "information") == 2


async def test_of_information_that_is_refused_nothing_goes(story: BlindStory) -> None:
    """The receiver is not what she was told: a refusal means all of it, as where the node has the keys."""
    await _asked(story)
    await story.accepted()
    together, vault = story.together, story.asks.own_vault
    movement = {"freedom_of_movement": "Nobody leaves alone."}
    await together.new_roster(
        member=lambda one: one.model_copy(update={"told_first": one.told_first.model_copy(update=movement)})
    )
    for _ in range(2):
        with pytest.raises(ProblemError) as refused:
            await vault.inform(story.id, BOTH_STAGES)
        assert refused.value.problem.code == "not-told-first"
    assert await _arrived(story, "information") == 0


async def test_a_plan_that_is_repeated_late_does_not_delete_the_newer_one_that_is_held(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a disclosure that nobody could open a fresh one is held, whose release the process does not live to see."""
    await story.accepted()
    item = await story.helps.item(story.id, "disclosure")
    await story.helps.client.inbox.refuse(item.id, RefusalRequest(code="cannot-decrypt"))
    await story.together.travel()
    vault, at, key = story.asks.own_vault, now_of(story.together), _key(story, "older")
    older, newer = safe_contact(at), content(safe_contact=plan(at, **NOBODY_CALLS))
    tells = vault.update_safe_contact(story.id, older, idempotency_key=key)
    await _breaks(monkeypatch, story, tells, after=False)
    story.together.clock.pass_by(seconds=1)

    async def dies(*_: object) -> None:
        raise SystemError("the process ended")

    with monkeypatch.context() as patched:
        patched.setattr(hand_in_sealed, "release_disclosure", dies)
        with pytest.raises((SystemError, ProblemError, NodeUnreachableError)):
            await vault.replace_disclosure(story.id, newer, idempotency_key=_key(story, "newer"))
    await _sealed_before(vault.update_safe_contact(story.id, older, idempotency_key=key), story)
    await vault.replace_disclosure(story.id, newer, idempotency_key=_key(story, "newer"))
    assert await _advice(story) == "nobody-initiates"
    # What is sealed now is newer, and is told.
    await vault.update_safe_contact(story.id, safe_contact(at))
    assert await _advice(story) == "may-contact"


async def test_a_key_is_of_one_request(story: BlindStory) -> None:
    vault, at = story.asks.own_vault, now_of(story.together)
    other = safe_contact(at, address="+00 12 000 0002")
    key = _key(story, "one")
    await vault.update_safe_contact(story.id, safe_contact(at), idempotency_key=key)
    consent = await story.asks.client.consents.record(consent_request(SHELTER.agency))
    referring = referral_request(SHELTER.agency, consent.id)
    await vault.refer(referring, idempotency_key=_key(story, "refers"))
    others: list[Callable[[], Awaitable[Any]]] = [
        lambda: vault.update_safe_contact(story.id, other, idempotency_key=key),
        lambda: vault.replace_disclosure(story.id, content(safe_contact=plan(at)), idempotency_key=key),
        lambda: vault.refer(referring, idempotency_key=key),
        lambda: vault.update_safe_contact(story.id, other, idempotency_key=_key(story, "refers")),
    ]
    for act in others:
        with pytest.raises(VaultError) as reused:
            await act()
        assert reused.value.code == "idempotency-key-reused"


async def test_after_her_no_what_was_sealed_to_be_told_is_destroyed(
    story: BlindStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, vault, key = content(safe_contact=plan(now_of(story.together))), story.asks.own_vault, _key(story, "fresh")
    await _breaks(monkeypatch, story, vault.replace_disclosure(story.id, fresh, idempotency_key=key), after=True)
    store = vault._identity.store._connection
    query = "SELECT count(*) FROM act WHERE referral = ? AND sealed IS NOT NULL"
    assert store.execute(query, (story.id,)).fetchone()[0]
    await vault._client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    with pytest.raises((VaultError, ProblemError)):
        await vault.replace_disclosure(story.id, fresh, idempotency_key=key)
    await story.together.travel()
    assert story.id in await vault.destroy_ended()
    assert store.execute(query, (story.id,)).fetchone()[0] == 0
    await _sealed_before(vault.replace_disclosure(story.id, fresh, idempotency_key=key), story)
