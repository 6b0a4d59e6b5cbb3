"""The inbox is a list: nothing is skipped, nobody handles an item twice, the most urgent one can be asked for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update
from support.federation import Federation, TestNode
from support.lying_peer import LyingPeer
from support.people import consent_request, referral_request
from support.stories import begin, refusal, rows

from contracts.vocabulary import WithdrawalForm
from exchange.cli.founding import add_client
from exchange.cli.profile import Profile
from exchange.client import AgencyClient, ClientKey
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.limits import DAY_MS, HOUR_MS
from exchange.storage import inbox
from exchange.storage.access import revoke_client
from exchange.storage.database import Connection
from exchange.storage.tables import AUDIT, CHANGE, INBOX, OAUTH_CLIENT
from exchange.use_cases import poll_inbox

OTHER = "night-laptop"


async def test_pages_follow_each_other_without_gap_or_repetition(pair: Federation) -> None:
    first = await begin(pair, travel=False)
    stories = [first, *[await begin(pair, consent=first.consent, travel=False) for _ in range(6)]]
    await pair.travel()
    seen: list[str] = []
    cursor = None
    while (page := await first.helps.inbox.list(cursor, limit=3)).items:
        assert len(page.items) <= 3
        seen += [item.referral for item in page.items]
        cursor = page.next_cursor
    assert seen == [story.id for story in stories]
    assert page.next_cursor == cursor
    late = await begin(pair, consent=first.consent)
    assert [item.referral for item in (await first.helps.inbox.list(cursor)).items] == [late.id]


async def test_what_came_for_one_referral_can_be_asked_for(pair: Federation) -> None:
    story = await begin(pair)
    other = await begin(pair, consent=story.consent)
    await other.decides("accepted")
    await story.decides("accepted")
    page = await story.helps.inbox.list(referral=story.id, limit=1)
    assert [(item.referral, item.kind) for item in page.items] == [(story.id, "offer")]
    rest = await story.helps.inbox.list(page.next_cursor, referral=story.id)
    assert [(item.referral, item.kind) for item in rest.items] == [(story.id, "disclosure")]
    await story.helps.inbox.acknowledge(page.items[0].id)
    assert [item.kind async for item in story.helps.inbox.pages(referral=story.id, status="new")] == ["disclosure"]
    assert [item.id async for item in story.helps.inbox.pages(referral="f" * 32)] == []
    urgent = await story.helps.inbox.list(referral=other.id, urgent_first=True)
    assert [(item.referral, item.kind) for item in urgent.items] == [(other.id, "offer")]


async def test_a_cursor_ahead_of_everything_is_refused_and_the_last_one_is_not(pair: Federation) -> None:
    """Who went on with one of another list, or of before a backup, would wait and believe that nothing comes."""
    story = await begin(pair)
    await story.decides("accepted")
    inbox, changes = await story.helps.inbox.list(), await story.asks.referrals.changes()
    assert inbox.next_cursor is not None
    assert (await story.helps.inbox.list(inbox.next_cursor)).next_cursor == inbox.next_cursor
    assert (await story.asks.referrals.changes(changes.next_cursor)).next_cursor == changes.next_cursor
    ahead = str(max(int(inbox.next_cursor), int(changes.next_cursor)) + 1)
    for asking in (story.helps.inbox.list(ahead, wait_s=20), story.asks.referrals.changes(ahead, wait_s=20)):
        assert (await refusal(asyncio.wait_for(asking, 5))).code == "bad-cursor"

    # The rows of what has ended go, and who has seen the last of them goes on.
    def forget(conn: Connection) -> None:
        for table in (INBOX, CHANGE):
            conn.execute(table.delete())

    for agency in (SHELTER, HELPLINE):
        await pair[agency].node.database.write(forget)
    assert (await story.helps.inbox.list(inbox.next_cursor)).items == ()
    assert (await story.asks.referrals.changes(changes.next_cursor)).items == ()


async def test_a_waiting_poller_is_woken_by_an_arrival(on_both: Federation) -> None:
    story = await begin(on_both, travel=False)
    waiting = asyncio.create_task(story.helps.inbox.list(wait_s=20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await story.travel()
    page = await asyncio.wait_for(waiting, 5)
    assert [item.kind for item in page.items] == ["offer"]


async def test_a_waiting_poller_is_answered_with_an_empty_page_at_the_end(two: Federation) -> None:
    page = await two[SHELTER].client().inbox.list(wait_s=0.2)
    assert (page.items, page.next_cursor) == ((), "0")


async def test_the_sender_hears_of_a_change_while_it_waits(two: Federation) -> None:
    story = await begin(two)
    cursor = (await story.asks.referrals.changes()).next_cursor
    waiting = asyncio.create_task(story.asks.referrals.changes(cursor, wait_s=20))
    await story.decides("declined", reason="no-capacity")
    page = await asyncio.wait_for(waiting, 5)
    assert page.items[0].what == "declined"


def _revoked(conn: Connection, client_id: str) -> None:
    assert revoke_client(conn, client_id)


def _narrowed(conn: Connection, client_id: str) -> None:
    conn.execute(update(OAUTH_CLIENT).where(OAUTH_CLIENT.c.client_id == client_id).values(scopes="consents:write"))


def _bound_to_a_branch(conn: Connection, client_id: str) -> None:
    conn.execute(update(OAUTH_CLIENT).where(OAUTH_CLIENT.c.client_id == client_id).values(unit="north"))


def another_system(node: TestNode) -> AgencyClient:
    """One more system of the whole agency."""
    home = node.home / OTHER
    home.mkdir(mode=0o700)
    profile = Profile(url=node.member.node_url, client_id=OTHER, key_file=Path("key.jwk"))
    add_client(node.settings.database_url.get_secret_value(), node.node.storage_key, home, profile)
    key = ClientKey.load(home / "key.jwk")
    client = AgencyClient(node.member.node_url, OTHER, key, actor="w-test", transport=node.network)
    node.clients.append(client)
    return client


@pytest.mark.parametrize("ends", [_revoked, _narrowed, _bound_to_a_branch])
async def test_who_may_not_call_any_more_hears_nothing_of_what_comes_while_it_waits(
    two: Federation, ends: Callable[[Connection, str], None]
) -> None:
    story = await begin(two)
    newest = (await story.asks.referrals.changes()).next_cursor
    listening = [(two[SHELTER], "/v1/inbox", "1"), (two[HELPLINE], "/v1/referrals", newest)]
    async with httpx2.AsyncClient(transport=two.network) as http:

        async def waits(node: TestNode, path: str, cursor: str) -> httpx2.Response:
            headers = {"Authorization": f"Bearer {await another_system(node).access_token()}"}
            return await http.get(
                f"{node.member.node_url}{path}", params={"cursor": cursor, "wait": 20}, headers=headers
            )

        waiting = [asyncio.create_task(waits(*one)) for one in listening]
        await asyncio.sleep(0.1)
        for node, _, _ in listening:
            await node.node.database.write(lambda conn: ends(conn, OTHER))
        await story.decides("accepted")
        for answer in await asyncio.wait_for(asyncio.gather(*waiting), 5):
            assert (answer.status_code, answer.json()["code"]) == (401, "token-invalid")
            assert story.id not in answer.text


async def test_the_most_urgent_offer_stands_on_top(two: Federation) -> None:
    routine = await begin(two, priority="routine")
    emergency = await begin(two, consent=routine.consent, priority="emergency")
    urgent = await begin(two, consent=routine.consent)
    page = await routine.helps.inbox.list(urgent_first=True)
    assert [item.referral for item in page.items] == [emergency.id, urgent.id, routine.id]
    assert page.next_cursor is None


async def test_the_most_urgent_page_has_offers_only(two: Federation) -> None:
    """As the document says: who polls it alone hears neither her no nor her name."""
    story = await begin(two)
    await story.decides("accepted")
    await story.asks.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SHARING)
    await two.travel()
    listed = [item.kind async for item in story.helps.inbox.pages(status="new", referral=story.id)]
    assert listed == ["offer", "disclosure", "withdrawal"]
    urgent = await story.helps.inbox.list(urgent_first=True, referral=story.id)
    assert [item.kind for item in urgent.items] == ["offer"]
    acknowledged = await story.helps.inbox.list(urgent_first=True, referral=story.id, status="acknowledged")
    assert acknowledged == urgent


async def test_offers_behind_the_most_urgent_page_are_reached_with_its_cursor(on_both: Federation) -> None:
    first = await begin(on_both, priority="routine")
    more = [await begin(on_both, consent=first.consent, priority=name) for name in ("emergency", "urgent", "urgent")]
    inbox, seen = first.helps.inbox, []
    cursor: str | None = None
    for _ in range(2):
        page = await inbox.list(cursor, urgent_first=True, limit=2)
        seen += [item.referral for item in page.items]
        cursor = page.next_cursor or cursor
    assert seen == [*(story.id for story in more), first.id]
    assert page.next_cursor is None
    # What was taken over meanwhile moves nothing.
    await inbox.acknowledge(await more[0].offer())
    page = await inbox.list(cursor, urgent_first=True)
    assert [item.referral for item in page.items] == [more[2].id, first.id]
    by_arrival = (await inbox.list()).next_cursor
    for asking in (inbox.list(by_arrival, urgent_first=True), inbox.list(cursor)):
        assert (await refusal(asking)).code == "bad-cursor"


@pytest.mark.parametrize(
    "cursor", ["-", "7", "7-", "-7", "7-7-7", "x-7", "7-x", "7.1", "9" * 19 + "-1", "1-" + "9" * 18]
)
async def test_what_is_no_cursor_of_the_most_urgent_is_refused(two: Federation, cursor: str) -> None:
    problem = await refusal(two[SHELTER].client().inbox.list(cursor, urgent_first=True))
    assert (problem.code, [field.path for field in problem.fields]) == ("bad-cursor", ["query.cursor"])


async def test_the_link_to_the_next_page_of_the_most_urgent_keeps_the_order(two: Federation) -> None:
    story = await begin(two)
    await begin(two, consent=story.consent)
    node = two[SHELTER]
    headers = {"Authorization": f"Bearer {await node.client().access_token()}"}
    async with httpx2.AsyncClient(transport=two.network) as http:
        said = await http.get(
            f"{node.member.node_url}/v1/inbox", params={"order": "urgent", "limit": 1}, headers=headers
        )
    assert said.headers["Link"] == f'</v1/inbox?cursor={said.json()["next_cursor"]}&limit=1&order=urgent>; rel="next"'


async def test_no_member_hides_the_offers_of_others_behind_those_that_nobody_can_answer(pair: Federation) -> None:
    liar = await LyingPeer.of(pair[HELPLINE], pair[SHELTER])
    due = pair.clock() - 23 * HOUR_MS
    old = {"created": due - 1000, "respond_by": due, "expires": due + DAY_MS}
    answers = await liar.deliver(*(liar.forward(referral=secrets.token_hex(16), **old) for _ in range(3)))
    assert [answer.result for answer in answers] == ["accepted"] * 3
    story = await begin(pair)
    page = await story.helps.inbox.list(urgent_first=True, limit=3)
    assert story.id not in {item.referral for item in page.items}
    page = await story.helps.inbox.list(page.next_cursor, urgent_first=True, limit=3)
    assert [item.referral for item in page.items] == [story.id]
    # A day after the time to answer nobody can, whether or not somebody has taken the item over.
    pair.clock.pass_by(hours=1)
    page = await story.helps.inbox.list(urgent_first=True, limit=3)
    assert [item.referral for item in page.items] == [story.id]


@pytest.mark.parametrize("unit", [None, "north"])
async def test_the_most_urgent_page_has_no_offer_of_a_referral_that_has_ended(
    two: Federation, unit: str | None
) -> None:
    story = await begin(two)
    other = await begin(two, consent=story.consent)
    await story.asks.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SERVICE)
    await two.travel()
    inbox = story.helps.inbox if unit is None else branch(two[SHELTER], unit).inbox
    assert "offer" in [item.kind async for item in inbox.pages(status="new", referral=story.id)]
    assert [item.referral for item in (await inbox.list(urgent_first=True)).items] == [other.id]
    assert (await inbox.list(urgent_first=True, referral=story.id)).items == ()


async def test_of_two_pollers_one_gets_the_item(on_both: Federation) -> None:
    story = await begin(on_both)
    item = await story.offer()
    results = await asyncio.gather(*(story.helps.inbox.lease(item, 60) for _ in range(4)), return_exceptions=True)
    leases = [result for result in results if not isinstance(result, BaseException)]
    assert len(leases) == 1
    without = await refusal(story.helps.inbox.acknowledge(item))
    anothers = await refusal(story.helps.inbox.acknowledge(item, "0" * 32))
    assert [without.code, anothers.code] == ["leased", "leased"]
    assert [(one.path, one.code) for one in without.fields] == [("lease", "lease-needed")]
    assert [(one.path, one.code) for one in anothers.fields] == [("lease", "not-the-lease")]
    assert "0" * 32 not in anothers.model_dump_json()
    assert leases[0].token not in anothers.model_dump_json()
    done = await story.helps.inbox.acknowledge(item, leases[0].token)
    assert done.status == "acknowledged"
    assert (await story.helps.inbox.acknowledge(item, leases[0].token)).status == "acknowledged"
    assert (await story.helps.inbox.list(status="new")).items == ()
    again = await refusal(story.helps.inbox.lease(item))
    assert (again.status, again.code) == (409, "not-new")
    assert "taken over" in again.detail


async def test_what_was_destroyed_is_not_leased(two: Federation) -> None:
    story = await begin(two)
    item = await story.offer()
    await story.says_no("erase")
    refused = await refusal(story.helps.inbox.lease(item))
    assert refused.code == "not-new"
    assert "destroyed" in refused.detail


async def test_a_lost_lease_acknowledges_nothing_once_another_holds_the_item(two: Federation) -> None:
    story = await begin(two)
    item = await story.offer()
    lost = await story.helps.inbox.lease(item, 10)
    two.clock.pass_by(seconds=11)
    other = await story.helps.inbox.lease(item, 60)
    assert (await refusal(story.helps.inbox.acknowledge(item, lost.token))).code == "leased"
    assert (await story.helps.inbox.acknowledge(item, other.token)).status == "acknowledged"


async def test_an_unknown_item_is_not_found(two: Federation) -> None:
    shelter = two[SHELTER].client()
    assert (await refusal(shelter.inbox.lease("0" * 32))).code == "not-found"
    assert (await refusal(shelter.inbox.open("0" * 32))).code == "not-found"
    opened = await shelter.inbox.open_many(["0" * 32])
    assert opened.missing == ("0" * 32,)


async def test_a_cursor_that_is_none_is_refused(two: Federation) -> None:
    problem = await refusal(two[SHELTER].client().inbox.list("12x"))
    assert (problem.code, [field.path for field in problem.fields]) == ("bad-cursor", ["query.cursor"])


def branch(node: TestNode, unit: str) -> AgencyClient:
    """The agency's software of one branch."""
    return node.client().acting_as("w-branch", unit)


async def test_a_branch_sees_the_changes_of_its_own_referrals_only(two: Federation) -> None:
    north, south = branch(two[HELPLINE], "north"), branch(two[HELPLINE], "south")
    consents = [await unit.consents.record(consent_request(SHELTER.agency)) for unit in (north, south)]
    of_north = await north.referrals.send(referral_request(SHELTER.agency, consents[0].id))
    of_south = await south.referrals.send(referral_request(SHELTER.agency, consents[1].id))
    await two.travel()
    assert {change.referral.id for change in (await north.referrals.changes()).items} == {of_north.id}
    assert {change.referral.id for change in (await south.referrals.changes()).items} == {of_south.id}
    everything = {change.referral.id for change in (await two[HELPLINE].client().referrals.changes()).items}
    assert everything == {of_north.id, of_south.id}


async def test_opening_is_on_record_under_the_workers_id(two: Federation) -> None:
    story = await begin(two)
    worker = two[SHELTER].client("w-night")
    item = await story.offer()
    await worker.inbox.open(item)
    await worker.inbox.open_many([item])
    lines = await rows(two[SHELTER], AUDIT, AUDIT.c.subject_id == item)
    assert [row["actor"] for row in lines if row["action"] == "opened"] == ["w-night", "w-night"]
    (row,) = await rows(two[SHELTER], INBOX)
    assert row["opened_at"] is not None


async def test_listing_shows_no_content(two: Federation) -> None:
    story = await begin(two)
    page = await story.helps.inbox.list()
    assert "women-only" not in page.model_dump_json()
    assert isinstance(page.items[0].received_at, datetime)


@pytest.mark.parametrize("status", ["acknowledged", "destroyed"])
async def test_an_item_that_another_process_takes_over_or_destroys_meanwhile(
    on_both: Federation, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    story = await begin(on_both)
    item, database = await story.offer(), on_both[SHELTER].node.database
    real = poll_inbox.find_item

    def found(conn: Connection, *args: Any) -> Any:
        monkeypatch.setattr(poll_inbox, "find_item", real)
        before = real(conn, *args)
        # The writers of SQLite are serialised: there this one would wait.
        if database.dialect == "postgresql":
            database.write_sync(lambda other: other.execute(update(INBOX).values(status=status)).rowcount)
        return before

    monkeypatch.setattr(poll_inbox, "find_item", found)
    done = await story.helps.inbox.acknowledge(item)
    assert done.status == (status if database.dialect == "postgresql" else "acknowledged")
    assert (await refusal(story.helps.inbox.lease(item))).code == "not-new"


async def test_an_item_that_is_no_longer_new_when_it_is_to_be_leased(
    on_both: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await begin(on_both)
    item, database = await story.offer(), on_both[SHELTER].node.database
    real = inbox.lease

    def late(conn: Connection, *args: Any, **more: Any) -> bool:
        if database.dialect == "postgresql":
            database.write_sync(lambda other: other.execute(update(INBOX).values(status="acknowledged")).rowcount)
        return real(conn, *args, **more)

    monkeypatch.setattr(inbox, "lease", late)
    if database.dialect == "postgresql":
        assert (await refusal(story.helps.inbox.lease(item))).code == "not-new"
    else:
        assert (await story.helps.inbox.lease(item)).token
