"""What a branch may not see is not read: otherwise the time of a 404 tells it (`make timing` measures that)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Connection, update
from support.federation import Federation, TestNode
from support.people import consent_request, referral_request
from support.stories import begin, now_of, refusal, rows

from contracts.vocabulary import WithdrawalForm
from exchange.client import ProblemError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.storage.consents import load_consent
from exchange.storage.inbox import load_arrived, standings
from exchange.storage.referrals import load_referral, load_referrals
from exchange.storage.tables import CONSENT, INBOX, REFERRAL


async def _of_branch(node: TestNode, unit: str | None) -> None:
    def hold(conn: Connection) -> None:
        for table in (REFERRAL, CONSENT):
            conn.execute(update(table).values(unit=unit))

    await node.node.database.write(hold)


@pytest.mark.parametrize(
    ("held_by", "asked_by", "sender_sees", "receiver_sees"),
    [
        pytest.param("north", None, True, True, id="whole-agency"),
        pytest.param("north", "north", True, True, id="its-own"),
        pytest.param("north", "south", False, False, id="anothers"),
        pytest.param(None, "south", False, True, id="nobodys-yet"),
        pytest.param(None, None, True, True, id="nobodys-and-whole-agency"),
    ],
)
async def test_what_is_read(
    two: Federation, held_by: str | None, asked_by: str | None, sender_sees: bool, receiver_sees: bool
) -> None:
    story = await begin(two)
    (arrived,) = await rows(two[SHELTER], INBOX)
    for agency, sees in ((HELPLINE, sender_sees), (SHELTER, receiver_sees)):
        node = two[agency]
        await _of_branch(node, held_by)
        found = await node.node.database.read(lambda conn: load_referrals(conn, [story.id], asked_by))
        assert (story.id in found) is sees
        one = await node.node.database.read(lambda conn: load_referral(conn, story.id, asked_by))
        assert (one is not None) is sees
        stands = await node.node.database.read(lambda conn: standings(conn, [story.id], asked_by))
        assert (story.id in stands) is sees
    # A consent is nobody's to find: what the whole agency recorded for itself is no branch's.
    mine = asked_by is None or asked_by == held_by
    consent = await two[HELPLINE].node.database.read(lambda conn: load_consent(conn, story.consent, asked_by))
    assert (consent is not None) is mine
    items = await two[SHELTER].node.database.read(lambda conn: load_arrived(conn, [arrived["id"]], asked_by))
    assert (arrived["id"] in items) is receiver_sees


@pytest.mark.parametrize("change", ["renewed", "narrowed", "withdrawn"])
async def test_what_the_whole_agency_changes_stays_its_branchs(two: Federation, change: str) -> None:
    """The head office changes a consent that a branch has recorded: it is the branch's afterwards too."""
    agency, client = two[HELPLINE], two[HELPLINE].client()
    north = client.acting_as("w-branch", "north")
    consent = consent_request(SHELTER.agency)
    kept = await north.consents.record(consent)
    if change == "renewed":
        await client.consents.renew(kept.id, kept.expires_at + timedelta(days=1))
    elif change == "narrowed":
        await client.consents.narrow(kept.id, consent.provisions)
    else:
        await client.withdrawals.of_consent(kept.id, WithdrawalForm.STOP_SHARING)
    row = await agency.node.database.read(lambda conn: load_consent(conn, kept.id))
    assert row is not None
    assert (row.unit, row.version) == ("north", 2)
    assert (await north.consents.read(kept.id)).id == kept.id


async def test_a_branch_records_nothing_about_a_person_of_another(two: Federation) -> None:
    client, consent = two[HELPLINE].client(), consent_request(SHELTER.agency)
    north, south = [client.acting_as("w-branch", unit) for unit in ("north", "south")]
    hers = consent.model_copy(update={"subject": (await north.consents.record(consent)).subject})
    with pytest.raises(ProblemError) as refused:
        await south.consents.record(hers)
    assert refused.value.problem.code == "unknown-subject"
    for asks in (north, client):
        assert (await asks.consents.record(hers)).subject == hers.subject


async def test_a_branch_says_nothing_about_what_another_holds_and_is_told_nothing_of_it(two: Federation) -> None:
    story = await begin(two)
    await _of_branch(two[HELPLINE], "north")
    client = two[HELPLINE].client()
    north, south = [client.acting_as("w-branch", unit) for unit in ("north", "south")]
    for form in WithdrawalForm:
        with pytest.raises(ProblemError) as refused:
            await south.withdrawals.of_referral(story.id, form)
        assert (refused.value.problem.status, refused.value.problem.code) == (404, "not-found")
    assert (await client.referrals.read(story.id)).state == "received"
    assert (await south.referrals.changes()).items == ()
    assert {change.referral.id for change in (await north.referrals.changes()).items} == {story.id}


@pytest.mark.parametrize("of_its_own", [True, False])
async def test_when_another_branchs_referral_is_destroyed_is_not_said(two: Federation, of_its_own: bool) -> None:
    """Her no reaches it: the time alone told that there is one."""
    client = two[HELPLINE].client()
    north = client.acting_as("w-branch", "north")
    consent = (await north.consents.record(consent_request(SHELTER.agency, now=now_of(two)))).id
    made = [await north.referrals.send(referral_request(SHELTER.agency, consent, now=now_of(two))) for _ in range(2)]
    others = [one.id for one in made][of_its_own:]
    await two[HELPLINE].node.database.write(
        lambda conn: conn.execute(update(REFERRAL).where(REFERRAL.c.id.in_(others)).values(unit="south")).rowcount
    )
    answer = await north.withdrawals.of_consent(consent, WithdrawalForm.ERASE)
    assert len(answer.referrals) == of_its_own
    assert (answer.destroyed_at is not None) is of_its_own
    assert [row["state"] for row in await rows(two[HELPLINE], REFERRAL)] == ["withdrawn"] * 2


async def test_what_is_open_under_a_consent_is_shown_to_whom_may_see_it(two: Federation) -> None:
    """Who does not know whether it was sent looks here, and learns nothing of another branch's consent."""
    client = two[HELPLINE].client()
    north, south = [client.acting_as("w-branch", unit) for unit in ("north", "south")]
    consent = (await north.consents.record(consent_request(SHELTER.agency, now=now_of(two)))).id
    assert (await north.referrals.open_under(consent)).items == ()
    first, second = [
        await north.referrals.send(referral_request(SHELTER.agency, consent, now=now_of(two))) for _ in range(2)
    ]
    for asks in (north, client):
        assert [one.id for one in (await asks.referrals.open_under(consent)).items] == [first.id, second.id]
    for nobody in (south.referrals.open_under(consent), client.referrals.open_under("0" * 32)):
        problem = await refusal(nobody)
        assert (problem.status, problem.code) == (404, "not-found")
    await north.referrals.recall(first.id)
    await two.travel()
    assert [one.id for one in (await north.referrals.open_under(consent)).items] == [second.id]
    # Nobody came by to write the expiry down: it holds all the same.
    two.clock.pass_by(hours=24 * 8)
    assert (await north.referrals.open_under(consent)).items == ()


async def test_each_side_takes_its_own_steps_and_none_of_the_others(two: Federation) -> None:
    story = await begin(two)
    for step in (story.helps.referrals.recall, story.helps.referrals.release, story.helps.referrals.enter_in_error):
        problem = await refusal(step(story.id))
        assert (problem.status, problem.code) == (404, "not-found")
    await story.both_say("received")
