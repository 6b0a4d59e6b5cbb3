"""The life of a referral where one node or both hold no agency key."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.blind import referred
from support.federation import federation
from support.people import CANARY_NAME

from contracts.vocabulary import WithdrawalForm
from exchange.client import ProblemError
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.schemas.inbox import ProgressRequest

BOTH = (HELPLINE, SHELTER)
who_is_blind = pytest.mark.parametrize(
    "blind",
    [
        pytest.param(BOTH, id="blind-to-blind"),
        pytest.param((HELPLINE,), id="blind-to-holding"),
        pytest.param((SHELTER,), id="holding-to-blind"),
    ],
)


@who_is_blind
async def test_the_whole_life(tmp_path: Path, blind: tuple[AgencyPlan, ...]) -> None:
    async with federation(tmp_path, BOTH, blind=blind) as together:
        story = await referred(together, together[HELPLINE], together[SHELTER])
        asks, helps = story.asks, story.helps
        assert (await asks.client.referrals.read(story.id)).flags.delivered
        offer = await helps.open(story.id, "offer")
        assert offer.content is not None
        assert (offer.content.preferred_name, offer.client_code) == (None, story.created.client_code)
        await story.accepted()
        disclosed = await helps.open(story.id, "disclosure")
        assert disclosed.content is not None
        assert disclosed.content.preferred_name == CANARY_NAME
        decision = await asks.open(story.id, "decision")
        assert decision.answer == {"decision": "accepted"}
        for state in ("in-service", "completed"):
            await helps.report(story.id, ProgressRequest(state=state))  # type: ignore[arg-type]
            await together.travel()
        assert (await asks.client.referrals.read(story.id)).state == "completed"
        told = await asks.open(story.id, "progress")
        assert told.answer == {"state": "completed"}


@who_is_blind
async def test_her_no_destroys_on_both_sides_and_is_attested_twice(
    tmp_path: Path, blind: tuple[AgencyPlan, ...]
) -> None:
    async with federation(tmp_path, BOTH, blind=blind) as together:
        story = await referred(together, together[HELPLINE], together[SHELTER])
        await story.accepted()
        await story.helps.open(story.id, "disclosure")
        await story.asks.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
        await together.travel()
        await story.helps.attest(story.id)
        await together.travel()
        seen = await story.asks.client.referrals.read(story.id)
        assert seen.state == "withdrawn"
        assert {one.party for one in seen.attestations if one.done_at} == {"own-node", "peer-node", "peer-agency"}
        for office in (story.asks, story.helps):
            if office.vault is not None:
                await office.vault.destroy_ended()
                assert list(office.vault._identity.store.cases()) == []
        with pytest.raises(ProblemError) as gone:
            await story.helps.open(story.id, "disclosure")
        assert gone.value.problem.code == "destroyed"
