"""Where the keys lie elsewhere the node hands out what is sealed under the same conditions under which one opens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import select
from support.blind import BlindStory, referred
from support.federation import Federation, federation
from support.people import CANARY_NAME
from support.stories import now_of, safe_contact

from contracts.vocabulary import Group, WithdrawalForm
from exchange.client import ProblemError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.roster import Member
from exchange.storage.tables import CONSENT


@pytest_asyncio.fixture
async def mixed(tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline that holds its keys, and a shelter whose keys lie elsewhere."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as together:
        yield together


async def _disclosed(mixed: Federation) -> BlindStory:
    story = await referred(mixed, mixed[HELPLINE], mixed[SHELTER])
    await story.accepted()
    opened = await story.helps.open(story.id, "disclosure")
    assert opened.content is not None
    assert opened.content.preferred_name == CANARY_NAME
    return story


def _asked(mixed: Federation) -> int:
    return sum(path.endswith("/consent-status") for _, path, _ in mixed.network.posted)


async def _withheld(story: BlindStory) -> set[str]:
    """With which codes the node keeps offer, disclosure and advice back."""
    codes = set()
    assert story.helps.vault is not None
    for work in (
        story.helps.open(story.id, "offer"),
        story.helps.open(story.id, "disclosure"),
        story.helps.vault.contact_advice(story.id),
    ):
        with pytest.raises(ProblemError) as refused:
            await work
        codes.add(refused.value.problem.code)
    return codes


async def test_after_72_hours_without_a_word_nothing_is_handed_out(mixed: Federation) -> None:
    story = await _disclosed(mixed)
    assert _asked(mixed) == 0
    mixed.clock.pass_by(hours=2)
    await story.helps.open(story.id, "disclosure")
    assert _asked(mixed) == 1
    mixed.leave(HELPLINE)
    mixed.clock.pass_by(hours=71)
    await story.helps.open(story.id, "disclosure")
    mixed.clock.pass_by(hours=2)
    assert await _withheld(story) == {"consent-not-fresh"}


async def test_after_a_known_end_nothing_is_handed_out_although_no_stop_has_come(mixed: Federation) -> None:
    story = await _disclosed(mixed)
    await story.asks.client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SERVICE)
    mixed.clock.pass_by(hours=2)
    assert await _withheld(story) == {"consent-ended"}


async def test_after_her_no_to_the_service_nothing_is_handed_out(mixed: Federation) -> None:
    story = await _disclosed(mixed)
    await story.asks.client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SERVICE)
    await mixed.travel()
    for kind in ("offer", "disclosure"):
        with pytest.raises(ProblemError) as refused:
            await story.helps.open(story.id, kind)
        assert refused.value.problem.code == "consent-ended"
    assert (await story.helps.client.referrals.read(story.id)).state == "withdrawn"


async def test_where_a_later_plan_is_not_handed_out_nobody_is_advised_by_an_older_one(mixed: Federation) -> None:
    story = await _disclosed(mixed)
    vault, asks = story.helps.own_vault, story.asks.client
    assert (await vault.contact_advice(story.id)).code == "she-initiates"
    mixed.network.answers_lost = True
    newest = safe_contact(now_of(mixed), who_initiates="neither", channels=[], safe_times=[])
    await asks.referrals.update_safe_contact(story.id, newest)
    await mixed.travel(rounds=1)
    mixed.network.answers_lost = False
    (consent,) = await mixed[HELPLINE].node.database.read(lambda conn: conn.execute(select(CONSENT.c.id)).one())
    (line,) = (await asks.consents.read(consent)).record.provisions
    await asks.consents.narrow(consent, (line.model_copy(update={"groups": line.groups - {Group.CONTACT}}),))
    mixed.clock.pass_by(hours=2)
    await story.helps.open(story.id, "disclosure")
    with pytest.raises(ProblemError, match="consent-ended"):
        await vault.contact_advice(story.id)


async def test_what_another_was_told_of_the_end_meanwhile_holds_for_who_was_not_answered(mixed: Federation) -> None:
    story = await _disclosed(mixed)
    node, item = story.helps.node.node, (await story.helps.item(story.id, "disclosure")).id
    await story.asks.client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SERVICE)
    mixed.clock.pass_by(hours=2)
    real = node.ask_consent_status

    async def is_lost(_peer: Member, _ids: Sequence[str]) -> None:
        node.ask_consent_status = real
        with pytest.raises(ProblemError, match="consent-ended"):
            await story.helps.client.inbox.sealed(item)

    node.ask_consent_status = is_lost
    with pytest.raises(ProblemError, match="consent-ended"):
        await story.helps.client.inbox.sealed(item)
