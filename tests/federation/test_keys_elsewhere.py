"""The life of a referral where one of two nodes holds no agency key. Both: tests/exchange/demo/test_blind_demo.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.blind import referred
from support.federation import Federation, federation
from support.people import CANARY_NAME

from contracts.vocabulary import WithdrawalForm
from exchange.client import ProblemError, UnreadableItemsError
from exchange.client.inbox import Inbox
from exchange.client.inbox_page import ReadPage
from exchange.client.vault.errors import VaultError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.referral.content import ReferralContent
from exchange.schemas.inbox import DecisionRequest, InboxPage, ProgressRequest, RecallAnswerRequest
from exchange.startup import StartRefusedError, check_start, open_node

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[pytest.param(HELPLINE, id="blind-to-holding"), pytest.param(SHELTER, id="holding-to-blind")],
)
async def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    """A helpline and a shelter, one of them with its keys elsewhere."""
    folder = tmp_path_factory.mktemp("mixed")
    async with federation(folder, (HELPLINE, SHELTER), blind=(request.param,)) as together:
        yield together


async def test_the_whole_life(mixed: Federation) -> None:
    story = await referred(mixed, mixed[HELPLINE], mixed[SHELTER])
    asks, helps = story.asks, story.helps
    assert (await asks.client.referrals.read(story.id)).flags.delivered
    offer = await helps.open(story.id, "offer")
    assert offer.content is not None
    assert (offer.content.preferred_name, offer.client_code) == (None, story.created.client_code)
    await story.accepted()
    disclosed = await helps.open(story.id, "disclosure")
    assert disclosed.content is not None
    assert disclosed.content.preferred_name == CANARY_NAME
    if helps.vault is not None:
        advice = await helps.vault.contact_advice(story.id)
    else:
        advice = await helps.client.inbox.contact_advice((await helps.item(story.id, "disclosure")).id)
    assert (advice.may_contact, advice.code) == (False, "she-initiates")
    if helps.vault is not None:
        with pytest.raises(VaultError) as ends:
            await helps.vault.contact_advice(story.id, at=datetime.max.replace(tzinfo=UTC))
        assert ends.value.code == "moment-too-far"
    decision = await asks.open(story.id, "decision")
    assert decision.answer == {"decision": "accepted"}
    for state in ("in-service", "completed"):
        await helps.report(story.id, ProgressRequest(state=state))  # type: ignore[arg-type]
        await mixed.travel()
    assert (await asks.client.referrals.read(story.id)).state == "completed"
    told = await asks.open(story.id, "progress")
    assert told.answer == {"state": "completed"}


@pytest.mark.parametrize("marked", [True, None], ids=["drill", "real"])
async def test_whatever_follows_the_offer_of_a_drill_is_called_one_when_opened(
    mixed: Federation, marked: bool | None
) -> None:
    """By the offer alone: a node without keys does not know, and one that says so is not believed."""
    story = await referred(mixed, mixed[HELPLINE], mixed[SHELTER], exercise=bool(marked))
    offer = await story.helps.open(story.id, "offer")
    await story.accepted()
    opened = await story.helps.open(story.id, "disclosure")
    assert (offer.item.exercise, opened.item.exercise) == (marked, marked)
    if story.helps.vault is not None:
        assert (await story.helps.item(story.id, "disclosure")).exercise is None
        for said in (True, None):
            again = await story.helps.vault.open(opened.item.model_copy(update={"exercise": said}))
            assert again.item.exercise is marked
        assert (await story.helps.vault.contact_advice(story.id)).exercise is marked


async def test_advice_and_the_answer_to_a_question_read_what_came_for_one_referral(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE, SHELTER)) as together:
        story = await referred(together, together[HELPLINE], together[SHELTER])
        await story.helps.open(story.id, "offer")
        await story.helps.decide(story.id, DecisionRequest(decision="information-requested", fields=["party"]))
        await story.accepted()
        await together.travel()
        read: list[object] = []
        listed = Inbox.list

        async def noted(inbox: Inbox, cursor: str | None = None, **query: Any) -> InboxPage:
            read.append(query.get("referral"))
            return await listed(inbox, cursor, **query)

        monkeypatch.setattr(Inbox, "list", noted)
        assert story.helps.vault is not None
        assert story.asks.vault is not None
        await story.helps.vault.contact_advice(story.id)
        await story.asks.vault.inform(story.id, ReferralContent.model_validate({"party": {"adults": 1}}))
        assert set(read) == {story.id}


async def test_there_is_no_advice_by_an_older_plan_where_something_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be her newer plan, of a later version than this software."""
    listed = Inbox.list

    async def with_another(inbox: Inbox, cursor: str | None = None, **query: Any) -> ReadPage:
        page = await listed(inbox, cursor, **query)
        return page if cursor is not None else page.model_copy(update={"unreadable": ("f" * 32,)})

    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as together:
        story = await referred(together, together[HELPLINE], together[SHELTER])
        vault = story.helps.own_vault
        await story.accepted()
        await story.helps.open(story.id, "disclosure")
        assert (await vault.contact_advice(story.id)).code == "she-initiates"
        monkeypatch.setattr(Inbox, "list", with_another)
        with pytest.raises(UnreadableItemsError):
            await vault.contact_advice(story.id)


async def test_her_no_destroys_on_both_sides_and_is_attested_twice(mixed: Federation) -> None:
    story = await referred(mixed, mixed[HELPLINE], mixed[SHELTER])
    await story.accepted()
    await story.helps.open(story.id, "disclosure")
    await story.asks.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await mixed.travel()
    await story.helps.attest(story.id)
    await mixed.travel()
    seen = await story.asks.client.referrals.read(story.id)
    assert seen.state == "withdrawn"
    assert {one.party for one in seen.attestations if one.done_at} == {"own-node", "peer-node", "peer-agency"}
    for office in (story.asks, story.helps):
        if office.vault is not None:
            await office.vault.destroy_ended()
            assert office.vault._identity.store.case(story.id) is None
    with pytest.raises(ProblemError) as gone:
        await story.helps.open(story.id, "disclosure")
    assert gone.value.problem.code == "destroyed"


async def test_a_node_says_at_its_start_whether_it_holds_the_agency_key(mixed: Federation) -> None:
    for one in mixed.nodes.values():
        assert check_start(one.settings) is (one.agency_home == one.home)


async def test_a_node_that_cannot_mark_a_drill_does_not_start_as_one(mixed: Federation) -> None:
    """The mark is inside the seal. Unmarked, every drill would be a woman whom somebody waits for tonight."""
    for one in mixed.nodes.values():
        drill = one.settings.model_copy(update={"exercise": True})
        if one.agency_home == one.home:
            assert check_start(drill)
            continue
        with pytest.raises(StartRefusedError, match="EXCHANGE_EXERCISE"):
            check_start(drill)
        with pytest.raises(StartRefusedError, match="EXCHANGE_EXERCISE"):
            async with open_node(drill):
                pass


async def test_what_only_the_agencys_software_can_make_or_open_is_refused_by_both_nodes(tmp_path: Path) -> None:
    """Each call that would need the agency's keys, by somebody who does not know that they are elsewhere."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE, SHELTER)) as together:
        story = await referred(together, together[HELPLINE], together[SHELTER])
        asks, helps = story.asks.client, story.helps.client
        offer = await story.helps.item(story.id, "offer")
        served = ProgressRequest(state="in-service")
        plan = ReferralContent.model_validate({"safe_contact": {"who_initiates": "survivor"}})
        assert plan.safe_contact is not None

        async def is_refused(call: Awaitable[object]) -> None:
            with pytest.raises(ProblemError) as refused:
                await call
            assert (refused.value.problem.status, refused.value.problem.code) == (409, "keys-elsewhere")

        await story.helps.open(story.id, "offer")
        await is_refused(helps.inbox.open(offer.id))
        await is_refused(helps.inbox.open_many([offer.id]))
        await is_refused(helps.inbox.contact_advice(offer.id))
        await is_refused(helps.inbox.decide(offer.id, DecisionRequest(decision="accepted")))
        await is_refused(helps.inbox.attest_erasure(offer.id))
        await is_refused(asks.referrals.replace_disclosure(story.id, plan))
        await story.helps.decide(story.id, DecisionRequest(decision="information-requested", fields=["party"]))
        await together.travel()
        await is_refused(asks.referrals.send_information(story.id, plan))
        await story.accepted()
        await is_refused(asks.referrals.update_safe_contact(story.id, plan.safe_contact))
        await is_refused(helps.inbox.report_progress(offer.id, served))
        await story.helps.report(story.id, served)
        await together.travel()
        await asks.referrals.recall(story.id)
        await together.travel()
        recall = await story.helps.item(story.id, "recall")
        await is_refused(helps.inbox.answer_recall(recall.id, RecallAnswerRequest(agreed=False)))
