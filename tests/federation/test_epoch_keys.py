"""Keys that end: five weeks ahead for a sleeping receiver, destroyed when nothing needs them."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.databases import MakeDatabase
from support.federation import Federation
from support.federation_fixtures import federation_on
from support.people import referral_request
from support.stories import begin, now_of, travelled

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.federation.peers import fetch_peer_keys, refresh_peers
from exchange.limits import DAY_MS, SECOND_MS, WEEK_MS
from exchange.storage.database import Connection, Database
from exchange.storage.epochs import StoredEpoch, own_epochs, peer_epochs, publish_epochs
from exchange.use_cases import own_epochs as numbering
from exchange.use_cases.acting import Acting
from exchange.use_cases.errors import UnavailableError
from exchange.use_cases.idempotency import Idempotency
from exchange.use_cases.maintain import destroy_ended, maintain
from exchange.use_cases.own_epochs import publish_own_epochs, revoke_own_epochs
from exchange.use_cases.send_referral import send_referral


async def test_this_week_and_the_five_after_it_are_published_and_mirrored(two: Federation) -> None:
    published = await two[SHELTER].node.database.read(own_epochs)
    mirrored = await two[HELPLINE].node.database.read(lambda conn: peer_epochs(conn, SHELTER.agency))
    assert len(published) == 6
    assert [row.key_id for row in mirrored] == [row.key_id for row in published]
    assert all(later.not_before == row.not_after for row, later in itertools.pairwise(published))
    keys = await two[HELPLINE].client().federation.peer_keys(SHELTER.agency)
    assert [epoch.key_id for epoch in keys.epochs] == [row.key_id for row in published]


async def test_a_receiver_that_sleeps_for_three_weeks_can_be_written_to_and_opens_what_came(two: Federation) -> None:
    two.leave(SHELTER)
    two.clock.pass_by(hours=24 * 21)
    story = await begin(two)
    two.come_back(SHELTER)
    await story.later(hours=2)
    assert (await story.opened("offer")).content is not None
    await story.decides("accepted")
    assert (await story.flags()).disclosed


async def test_without_a_key_of_this_week_nothing_is_stored(two: Federation) -> None:
    story = await begin(two)
    two.leave(SHELTER)
    two.clock.pass_by(hours=24 * 7 * 7)
    request = referral_request(SHELTER.agency, story.consent, now=now_of(two))
    before = len((await story.asks.referrals.changes()).items)
    acting, act = Acting("case-system", "w-test", None), Idempotency("case-system", "one-act", b"{}")
    with pytest.raises(UnavailableError) as refused:
        await send_referral(two[HELPLINE].node, acting, request, act)
    assert refused.value.code == "peer-keys-unknown"
    assert len((await story.asks.referrals.changes()).items) == before


async def test_a_week_is_published_again_every_week_and_fetched_before_it_is_needed(two: Federation) -> None:
    two.clock.pass_by(hours=24 * 7 * 3)
    for one in two.nodes.values():
        await maintain(one.node)
    await refresh_peers(two[HELPLINE].node, two[HELPLINE].courier._transport)
    mirrored = await two[HELPLINE].node.database.read(lambda conn: peer_epochs(conn, SHELTER.agency))
    assert max(row.not_after for row in mirrored) >= two.clock() + 5 * WEEK_MS
    assert [row.seq for row in mirrored] == sorted(row.seq for row in mirrored)


async def test_a_clock_that_was_ahead_for_a_while_takes_no_week_from_the_card(two: Federation) -> None:
    """By it the later weeks got their numbers first: when these begin, the highest is that of a week that is over."""
    shelter, helpline = two[SHELTER].node, two[HELPLINE]
    shelter_as_listed = helpline.node.world().roster.member(SHELTER.agency)
    await publish_own_epochs(replace(shelter, clock=lambda: two.clock() + 8 * WEEK_MS))
    heard = []
    for weeks in (2, 6, 1):
        two.clock.pass_by(hours=24 * 7 * weeks)
        await publish_own_epochs(shelter)
        heard.append(await fetch_peer_keys(helpline.node, helpline.courier._transport, shelter_as_listed))
    assert heard == [True, True, True]
    numbers = [row.seq for row in await shelter.database.read(own_epochs)]
    assert numbers == sorted(set(numbers))


async def test_two_processes_that_publish_at_once_publish_each_week_once(on_both: Federation) -> None:
    node = on_both[SHELTER].node
    on_both.clock.pass_by(hours=24 * 7 * 3)
    await asyncio.gather(*(publish_own_epochs(node) for _ in range(4)))
    rows = await node.database.read(own_epochs)
    begins = [row.not_before for row in rows]
    assert len(begins) == len(set(begins)) == 9
    numbers = [row.seq for row in rows]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("revoking", [False, True], ids=["publishes too", "revokes"])
async def test_a_process_that_comes_while_another_publishes_a_week_waits_and_sees_it(
    tmp_path: Path, make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch, revoking: bool
) -> None:
    """They read the clock a second apart: that both use other numbers is no sign that nobody was there."""
    async with federation_on(tmp_path, (HELPLINE, SHELTER), make_database) as pair:
        pair.clock.pass_by(hours=24 * 7)
        node = pair[SHELTER].node
        same = pair[SHELTER].settings.database_url
        assert same is not None
        first = replace(node, database=Database.open(same.get_secret_value()))
        second = replace(node, clock=lambda: pair.clock() + SECOND_MS)
        published, go_on = threading.Event(), threading.Event()

        def publish_and_stay_open(conn: Connection, epochs: Sequence[StoredEpoch]) -> None:
            publish_epochs(conn, epochs)
            if not published.is_set():
                published.set()
                go_on.wait(0.5)

        monkeypatch.setattr(numbering, "publish_epochs", publish_and_stay_open)
        try:
            opened = asyncio.create_task(publish_own_epochs(first))
            assert await asyncio.to_thread(published.wait, 10)
            if revoking:
                await revoke_own_epochs(second, compromised_since=1)
            else:
                await publish_own_epochs(second)
            go_on.set()
            await opened
        finally:
            go_on.set()
            await first.database.close()
        rows = await node.database.read(own_epochs)
        begins = [row.not_before for row in rows]
        assert len(begins) == len(set(begins)) == (6 if revoking else 7)


async def test_a_private_half_is_destroyed_three_weeks_after_its_week(two: Federation) -> None:
    node = two[SHELTER].node
    first = (await node.database.read(own_epochs))[0]
    two.clock.offset += first.not_after + 20 * DAY_MS - two.clock()
    await destroy_ended(node)
    assert first.key_id in await node.key_store.epoch_key_ids()
    two.clock.pass_by(hours=24.1)
    await destroy_ended(node)
    assert first.key_id not in await node.key_store.epoch_key_ids()
    assert await node.key_store.epoch_key(first.key_id) is None


async def test_what_was_opened_on_arrival_outlives_the_key_it_was_sealed_to(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.later(hours=24 * 40)
    sealed_to = travelled(two)[0].header.epoch_key
    assert sealed_to not in await two[SHELTER].node.key_store.epoch_key_ids()
    assert (await story.opened("disclosure")).content is not None


async def test_an_envelope_that_comes_after_its_key_was_destroyed_is_refused(two: Federation) -> None:
    two.leave(SHELTER)
    story = await begin(two, priority="routine")
    wire = await story.wire_of("offer")
    two.clock.pass_by(hours=24 * 30)
    two.come_back(SHELTER)
    answer = (await story.post(wire)).answers[0]
    assert answer.problem is not None
    assert answer.problem.code == "expired"
