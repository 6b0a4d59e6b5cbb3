"""What waits to leave and is covered no more, by what its receiver is now or by the contract: it stays, and is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import update
from support.blind import referred
from support.federation import Federation, federation
from support.people import consent_request, referral_request
from support.replacing import replace
from support.stories import Story, begin, content, her_content, now_of, refusal, released_and_waiting, rows

from consent.record import Provision
from contracts.vocabulary import AgencyKind, Field
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.envelope.header import parse_header
from exchange.referral.content import ReferralContent
from exchange.roster import Member, ToldFirst
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.database import Connection
from exchange.storage.outbox import queued_of
from exchange.storage.referrals import load_referral, save_referral
from exchange.storage.tables import OUTBOX, REFERRAL
from exchange.use_cases.facts import open_facts, seal_facts
from exchange.use_cases.gate_again import allowed_again
from exchange.use_cases.headers import outgoing_header

ANY_SHELTER: Final = {
    "provisions": [
        {
            "groups": ["need", "safety", "health", "name", "contact", "place"],
            "kinds": ["shelter"],
            "purposes": ["provide-safe-accommodation"],
            "feedback": "outcome",
        }
    ]
}
"""She did not name this one."""
LOCKED: Final = ToldFirst(
    reports_to=("the police",), freedom_of_movement="Nobody leaves alone.", requires_documents=False
)


def changed(plan: AgencyPlan, **changes: Any) -> Callable[[Member], Member]:
    """This member's entry, with something else in it."""
    return lambda member: member.model_copy(update=changes) if member.agency == plan.agency else member


another_kind = changed(SHELTER, kind=AgencyKind.POLICE)
_NOT_WHOM_SHE_ALLOWED = pytest.mark.parametrize(
    "change",
    [changed(SHELTER, country="SG"), changed(HELPLINE, country="SG"), changed(SHELTER, kind=AgencyKind.SOCIAL_WELFARE)],
    ids=["the receiver's country", "the sender's country", "a kind to which the contract lets as much go"],
)


async def test_her_name_does_not_go_to_a_receiver_that_has_become_another_kind_of_office(two: Federation) -> None:
    story = await released_and_waiting(two)
    await two.new_roster(member=another_kind)
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert "disclosure" not in story.kinds_posted()
    assert "disclosure" not in await story.outgoing()
    assert "disclosure-barred" in await story.changes()
    flags = await story.flags()
    assert flags.awaiting_disclosure


async def test_nor_does_an_offer(two: Federation) -> None:
    two.leave(SHELTER)
    story = await begin(two)
    await two.new_roster(member=another_kind)
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert story.kinds_posted() == []
    assert "offer-barred" in await story.changes()
    assert (await story.flags()).undeliverable


async def test_a_roster_that_changes_nothing_between_the_two_holds_up_nothing(two: Federation) -> None:
    story = await released_and_waiting(two)
    await two.new_roster()
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert (await story.outgoing())["disclosure"] == ["delivered"]


async def test_nothing_leaves_under_a_contract_that_this_node_does_not_use_any_more(two: Federation) -> None:
    """It ended by its own date, or was withdrawn, and the roster still lists it."""
    story = await released_and_waiting(two)
    for path in (two[HELPLINE].home / "contracts").glob("*.yaml"):
        path.rename(path.with_suffix(".gone"))
    await two[HELPLINE].node.refresh_world()
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert "disclosure" not in story.kinds_posted()
    assert "disclosure-barred" in await story.changes()
    assert (await story.flags()).awaiting_disclosure


@_NOT_WHOM_SHE_ALLOWED
async def test_her_name_does_not_go_to_whom_she_has_not_allowed(
    two: Federation, change: Callable[[Member], Member]
) -> None:
    """The contract lets it go; her consent was to any shelter, and within the country."""
    story = await released_and_waiting(two, consent=ANY_SHELTER)
    await two.new_roster(member=change)
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert "disclosure" not in story.kinds_posted()
    assert "disclosure-barred" in await story.changes()
    assert (await story.flags()).awaiting_disclosure


@_NOT_WHOM_SHE_ALLOWED
async def test_nor_does_what_she_needs(two: Federation, change: Callable[[Member], Member]) -> None:
    two.leave(SHELTER)
    story = await begin(two, consent=ANY_SHELTER)
    await two.new_roster(member=change)
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert story.kinds_posted() == []
    assert "offer-barred" in await story.changes()


async def test_nor_does_a_group_of_which_less_may_go_now(two: Federation) -> None:
    """Which fields are inside is sealed: her consent lets one of them over the border, and most are of that group."""
    named = {"fields": ["needs"], "agencies": [SHELTER.agency], "purposes": ["provide-safe-accommodation"]}
    lines = [{**named, "groups": [], "feedback": "outcome"}, *ANY_SHELTER["provisions"]]
    two.leave(SHELTER)
    story = await begin(two, consent={"provisions": lines}, content={"needs": ["tonight"], "language": "id"})
    await two.new_roster(member=changed(SHELTER, country="SG"))
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert story.kinds_posted() == []
    assert "offer-barred" in await story.changes()


async def test_nor_where_she_takes_back_what_only_the_roster_of_before_let_go(two: Federation) -> None:
    """Asked under the roster of now alone, her word of before and her word of now would let the same go."""
    named = {"fields": ["needs"], "agencies": [SHELTER.agency], "purposes": ["provide-safe-accommodation"]}
    kept, (taken,) = {**named, "groups": [], "feedback": "outcome"}, ANY_SHELTER["provisions"]
    two.leave(SHELTER)
    story = await begin(two, consent={"provisions": [kept, taken]}, content={"needs": ["tonight"], "language": "id"})
    await two.new_roster(member=changed(SHELTER, country="SG"))
    less = [Provision.model_validate_json(json.dumps(line)) for line in (kept, {**taken, "groups": ["safety"]})]
    await story.asks.consents.narrow(story.consent, tuple(less))
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert story.kinds_posted() == []
    assert "offer-barred" in await story.changes()


async def test_where_she_has_named_the_agency_it_goes_over_the_border_that_is_new(two: Federation) -> None:
    story = await released_and_waiting(two)
    await two.new_roster(member=changed(SHELTER, country="SG"))
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert (await story.outgoing())["disclosure"] == ["delivered"]


async def tells_her_and_sends_again(story: Story) -> None:
    await story.asks.referrals.replace_disclosure(story.id, content(**her_content(story.together)))
    await story.travel()
    assert story.kinds_posted().count("disclosure") == 1
    assert (await story.outgoing())["disclosure"] == ["delivered"]


async def test_her_name_is_not_released_to_one_that_is_not_what_she_was_told(two: Federation) -> None:
    story = await begin(two)
    await two.new_roster(member=changed(SHELTER, told_first=LOCKED))
    await story.decides("accepted")
    assert "disclosure" not in story.kinds_posted()
    assert "not-told-first" in await story.changes()
    assert (await story.flags()).awaiting_disclosure
    await tells_her_and_sends_again(story)


async def test_nor_does_it_leave_for_one(two: Federation) -> None:
    story = await released_and_waiting(two)
    await two.new_roster(member=changed(SHELTER, told_first=LOCKED))
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert "disclosure" not in story.kinds_posted()
    assert "disclosure-barred" in await story.changes()
    await tells_her_and_sends_again(story)


NAME: Final = content(preferred_name="Canary-Baru")
PLAN: Final = content(safe_contact={"who_initiates": "neither"})
PARTY: Final = content(party={"adults": 1})


async def disclosed_and_asked(two: Federation) -> Story:
    """Two words at the door have arrived, and the receiver had asked for a name."""
    words = {"arrival_words": "quiet harbour", "safe_contact": {"who_initiates": "survivor"}}
    story = await begin(two, content={"needs": ["tonight"], "age_band": "25-49", "language": "id", **words})
    await story.decides("information-requested", fields=["preferred_name", "party"])
    await story.decides("accepted")
    assert (await story.outgoing())["disclosure"] == ["delivered"]
    return story


no_longer_open = changed(SHELTER, told_first=SHELTER.told_first.model_copy(update={"freedom_of_movement": "Locked."}))


@pytest.mark.parametrize(("told", "goes"), [(NAME, False), (PLAN, True), (PARTY, True)], ids=["name", "plan", "party"])
async def test_nor_does_it_leave_as_information(two: Federation, told: ReferralContent, goes: bool) -> None:
    """Her words at the door were released under what she was told then."""
    story = await disclosed_and_asked(two)
    two.leave(SHELTER)
    await story.asks.referrals.send_information(story.id, told)
    await two.new_roster(member=no_longer_open)
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert ("information" in story.kinds_posted()) is goes
    assert ("information-barred" in await story.changes()) is not goes
    assert (await story.flags()).undeliverable is not goes


async def test_nor_is_it_taken_as_information(two: Federation) -> None:
    story = await disclosed_and_asked(two)
    await two.new_roster(member=no_longer_open)
    problem = await refusal(story.asks.referrals.send_information(story.id, NAME))
    assert (problem.status, problem.code) == (403, "not-told-first")
    assert "refer her anew" in problem.detail
    assert "information" not in await story.outgoing()
    for told in (PLAN, PARTY):
        await story.asks.referrals.send_information(story.id, told)
    assert PLAN.safe_contact is not None
    await story.asks.referrals.update_safe_contact(story.id, PLAN.safe_contact)
    await story.travel()
    assert story.kinds_posted()[-3:] == ["information", "information", "update"]


async def test_what_was_held_before_it_was_noted_what_she_was_told_is_released(two: Federation) -> None:
    """By a version of before, in which nothing was noted: she was told, and is not asked again."""
    story, node = await begin(two), two[HELPLINE].node

    def as_before(conn: Connection) -> None:
        record = load_referral(conn, story.id)
        assert record is not None
        facts = open_facts(node, story.id, record.sealed_facts).model_copy(update={"told_first": None})
        save_referral(conn, record._replace(sealed_facts=seal_facts(node, story.id, facts)))

    await node.database.write(as_before)
    await story.decides("accepted")
    assert (await story.flags()).disclosed


async def test_where_referral_facts_or_contract_cannot_be_found_or_read_nothing_goes(two: Federation) -> None:
    """Whatever else waits for the same peer goes all the same: it is no error. What cannot be read waits."""
    two.leave(SHELTER)
    story, node = await begin(two), two[HELPLINE].node
    (item,) = await node.database.write(lambda conn: queued_of(conn, story.id))
    header = parse_header(outgoing_header(node, item))
    strange = {"referral": replace(header, referral="f" * 32), "contract": replace(header, contract="a" * 64)}
    assert await allowed_again(node, node.world(), strange | {"this": header}) == ({"this"}, set())
    for facts, unreadable in ((None, set()), (b"\x01" * 80, {"this"})):

        def damage(conn: Connection, facts: bytes | None = facts) -> None:
            conn.execute(update(REFERRAL).where(REFERRAL.c.id == story.id).values(sealed_facts=facts))

        await node.database.write(damage)
        assert await allowed_again(node, node.world(), {"this": header}) == (set(), unreadable)


async def test_nor_where_the_agencys_own_software_has_sealed_it(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE,)) as both:
        helpline, at = both[HELPLINE], now_of(both)
        asks, helps = helpline.client(), both[SHELTER].client()
        consent = (await asks.consents.record(consent_request(SHELTER.agency, now=at))).id
        created = await helpline.vault(asks).refer(referral_request(SHELTER.agency, consent, now=at))
        await both.travel()
        await both.new_roster(member=changed(SHELTER, told_first=LOCKED))
        (offer,) = [item async for item in helps.inbox.pages() if item.kind == "offer"]
        await helps.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
        await both.travel()
        assert (await asks.referrals.read(created.id)).flags.awaiting_disclosure
        assert [row["kind"] for row in await rows(helpline, OUTBOX)] == ["offer"]


async def test_nor_as_information_that_the_agencys_own_software_has_sealed(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE,)) as both:
        story = await referred(both, both[HELPLINE], both[SHELTER])
        question = DecisionRequest(decision="information-requested", fields=(Field.PREFERRED_NAME,))
        await story.helps.decide(story.id, question)
        await both.travel()
        await story.accepted()
        await both.new_roster(member=no_longer_open)
        assert story.asks.vault is not None
        problem = await refusal(story.asks.vault.inform(story.id, NAME))
        assert (problem.status, problem.code) == (403, "not-told-first")
        await story.asks.vault.inform(story.id, PLAN)
