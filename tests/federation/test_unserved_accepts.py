"""A receiver that accepts everything gets no more names until it serves or a worker confirms.

The contract's `max_unserved_accepts` is 2 here.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from support.federation import Federation, TestNode
from support.other_contract import evaluate_with
from support.people import consent_request, referral_request
from support.rosters import without
from support.stories import Story, begin

from contracts.vocabulary import Priority, ServiceType, WithdrawalForm
from exchange.cli.examination import Level, look_at_receivers
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.limits import DAY_MS
from exchange.schemas.inbox import DecisionRequest, ProgressRequest
from exchange.settings import Environment, load_settings
from exchange.storage.database import Connection, Database
from exchange.storage.unserved import unserved_by_peer
from exchange.telemetry.allowed import allowed
from exchange.telemetry.measurements import Measurements
from exchange.use_cases import places, release_disclosure
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.maintain import maintain
from exchange.use_cases.node import Node
from exchange.use_cases.release_disclosure import release_due

MOST = 2


def be_strict(node: Node) -> None:
    """Both agencies adopted a lower number."""
    evaluate_with(node, b"max_unserved_accepts: 10", b"max_unserved_accepts: 2")


async def accepted(two: Federation, count: int, **changes: object) -> list[Story]:
    """So many referrals that the shelter has accepted."""
    stories = [await begin(two, travel=False, **changes) for _ in range(count)]  # type: ignore[arg-type]
    await two.travel(1)
    for story in stories:
        await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await two.travel(2)
    return stories


async def reports(story: Story, *states: str, **more: str) -> None:
    """The shelter's progress, step by step; delivered, with what follows."""
    for state in states:
        told = ProgressRequest.model_validate({"state": state} | more)
        await story.helps.inbox.report_progress(await story.offer(), told)
    await story.together.travel(2)


@pytest.fixture
def strict(two: Federation) -> Federation:
    be_strict(two[HELPLINE].node)
    return two


async def test_the_third_waits_for_a_worker_or_for_service(strict: Federation) -> None:
    first, second, third, fourth, fifth = await accepted(strict, MOST + 3)
    assert [(await story.flags()).disclosed for story in (first, second)] == [True] * MOST
    for story in (third, fourth, fifth):
        flags = await story.flags()
        assert (flags.disclosed, flags.awaiting_confirmation, flags.receiver_unserved) == (False, True, True)
        assert "receiver-unserved" in await story.changes()
        assert story.kinds_posted() == ["offer", "decision"]
    # A word that is no service frees no place.
    await reports(first, "scheduled")
    await reports(second, "not-reached", "not-arrived")
    assert (await third.flags()).receiver_unserved
    # The receiver serves one: the one that waits longest goes by itself, and no other.
    await reports(first, "in-service")
    assert (await third.flags()).disclosed
    await reports(first, "completed")
    assert (await fourth.flags()).receiver_unserved
    # A worker confirms.
    assert (await fourth.asks.referrals.release(fourth.id)).released
    await fourth.together.travel(1)
    flags = await fourth.flags()
    assert (flags.disclosed, flags.awaiting_confirmation, flags.receiver_unserved) == (True, False, False)
    assert fourth.kinds_posted()[-1] == "disclosure"
    # One too many by her worker's word: two have to end before the next goes by itself.
    await reports(second, "failed", fail_reason="not-arrived")
    assert (await fifth.flags()).receiver_unserved
    await third.says_no("stop-service", travel=False)
    await strict.travel(2)
    assert (await fifth.flags()).disclosed


async def test_her_no_deletes_what_waits_and_an_emergency_does_not_wait(strict: Federation) -> None:
    third = (await accepted(strict, MOST + 1))[-1]
    await third.says_no("stop-service", travel=False)
    await strict.travel(2)
    assert not (await third.flags()).disclosed
    assert (await third.outgoing()).get("disclosure") is None
    (urgent,) = await accepted(strict, 1, priority="emergency")
    assert (await urgent.flags()).disclosed
    at = strict.clock()
    found = await strict[HELPLINE].node.database.read(lambda conn: unserved_by_peer(conn, at))
    assert found == {SHELTER.agency: (MOST + 1, 0)}


async def test_her_no_to_everything_where_one_of_hers_waits_for_another(strict: Federation) -> None:
    """The first that ends frees a place, and the one of hers that waits for it is another than before."""
    asks, helps = strict[HELPLINE].client(), strict[SHELTER].client()
    hers, anothers = [(await asks.consents.record(consent_request(SHELTER.agency))).id for _ in range(2)]
    made = []
    for consent in (hers, anothers, hers, anothers):
        made.append((await asks.referrals.send(referral_request(SHELTER.agency, consent))).id)
        await strict.travel(1)
        offer = (await helps.inbox.list(referral=made[-1])).items[0].id
        await helps.inbox.decide(offer, DecisionRequest(decision="accepted"))
        await strict.travel(2)

    async def disclosed() -> list[bool]:
        return [(await asks.referrals.read(one)).flags.disclosed for one in made]

    assert await disclosed() == [True, True, False, False]
    answer = await asks.withdrawals.of_consent(hers, WithdrawalForm.STOP_SERVICE)
    assert {one.id: one.state for one in answer.referrals} == dict.fromkeys((made[0], made[2]), "withdrawn")
    await strict.travel(2)
    # She does not take the place: it goes on to whoever waits behind her.
    assert await disclosed() == [True, True, False, True]


async def test_a_receiver_that_may_not_tell_counts_for_a_while(strict: Federation) -> None:
    provisions = consent_request(SHELTER.agency).model_dump(mode="json")["provisions"]
    quiet = {"provisions": [entry | {"feedback": "decision"} for entry in provisions]}
    await accepted(strict, MOST, consent=quiet)
    at = strict.clock()
    for days, count in ((29, MOST), (31, 0)):
        then = at + days * DAY_MS
        found = await strict[HELPLINE].node.database.read(lambda conn, then=then: unserved_by_peer(conn, then))  # type: ignore[misc]
        assert found.get(SHELTER.agency, (0, 0))[0] == count


async def test_a_name_that_no_longer_counts_makes_room_for_the_one_that_waits(strict: Federation) -> None:
    """Nobody says so: the receiver may not tell, and the thirty days are over."""
    provisions = consent_request(SHELTER.agency).model_dump(mode="json")["provisions"]
    quiet = {"provisions": [entry | {"feedback": "decision"} for entry in provisions]}

    async def maintained() -> None:
        for one in (HELPLINE, SHELTER):
            await maintain(strict[one].node)
        await strict.travel(2)

    await accepted(strict, MOST, consent=quiet)
    strict.clock.pass_by(hours=24 * 29)
    await maintained()
    (third,) = await accepted(strict, 1)
    assert (await third.flags()).receiver_unserved
    strict.clock.pass_by(hours=25)
    await maintained()
    assert (await third.flags()).disclosed


async def test_one_that_may_not_take_a_place_does_not_keep_it_from_those_behind(
    strict: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is the rule's, and two rules may let the same receiver have another number of names."""
    real = places.most_unserved

    def most(node: Node, peer: str, contract: str, facts: Facts) -> int:
        return 1 if facts.priority is Priority.ROUTINE else real(node, peer, contract, facts)

    for one in (places, release_disclosure):
        monkeypatch.setattr(one, "most_unserved", most)
    names = await accepted(strict, MOST)
    (lower,) = await accepted(strict, 1, priority="routine")
    (higher,) = await accepted(strict, 1)
    await reports(names[0], "in-service")
    assert ((await lower.flags()).receiver_unserved, (await higher.flags()).disclosed) == (True, True)


async def test_one_that_does_not_take_its_place_is_tried_once_a_round(
    strict: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that has jumped nothing is released, and whatever else is due goes on."""
    names = await accepted(strict, MOST)
    (third,) = await accepted(strict, 1)

    async def jumped(_node: Node) -> bool:
        return True

    with monkeypatch.context() as ahead:
        ahead.setattr(release_disclosure, "clock_jumped", jumped)
        async with asyncio.timeout(20):
            await reports(names[0], "in-service")
        assert (await third.flags()).receiver_unserved
    await strict.travel(2)
    assert (await third.flags()).disclosed


async def test_a_place_given_to_one_that_is_served_already_goes_on_to_the_next(strict: Federation) -> None:
    """It was served before its release: her name takes no place, and nothing would ever free the one it was given."""
    names = await accepted(strict, MOST)
    (served_without,) = await accepted(strict, 1)
    await reports(served_without, "in-service")
    strict.clock.pass_by(hours=1)
    behind = await accepted(strict, 2)
    await reports(names[0], "in-service")
    assert [(await one.flags()).disclosed for one in (served_without, *behind)] == [True, True, False]


async def test_who_is_given_a_time_meanwhile_keeps_her_turn(strict: Federation) -> None:
    """It is the one whose name waits longest, and not the one of which nothing was heard for longest."""
    first, _, third, fourth = await accepted(strict, MOST + 2)
    await reports(third, "scheduled")
    assert (await third.flags()).receiver_unserved
    await reports(first, "in-service")
    assert [(await story.flags()).disclosed for story in (third, fourth)] == [True, False]


async def test_a_place_that_is_freed_while_it_is_counted_is_not_missed(
    on_both: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver's word that it serves is written down while a courier counts, which has not seen it yet."""
    helpline, shelter = on_both[HELPLINE], on_both[SHELTER]
    be_strict(helpline.node)
    first, _ = await accepted(on_both, MOST)
    await reports(first, "scheduled")
    third = await begin(on_both, travel=False)
    await on_both.travel(1)
    await third.helps.inbox.decide(await third.offer(), DecisionRequest(decision="accepted"))
    await shelter.courier.run_once()
    await first.helps.inbox.report_progress(await first.offer(), ProgressRequest(state="in-service"))
    loop, told, real = asyncio.get_running_loop(), list[Future[int]](), release_disclosure.count_unserved

    def count(conn: Connection, *asked: Any, **more: Any) -> int:
        counted = real(conn, *asked, **more)
        if not told and conn.dialect.name == "postgresql":  # the writers of SQLite are serialised
            told.append(asyncio.run_coroutine_threadsafe(shelter.courier.run_once(), loop))
            wait(told, timeout=0.5)
        return counted

    monkeypatch.setattr(release_disclosure, "count_unserved", count)
    await release_due(helpline.node)
    for delivery in told:
        await asyncio.wrap_future(delivery)
    await on_both.travel(2)
    assert (await third.flags()).disclosed


async def test_where_no_rule_says_how_many_the_receiver_gets_no_name(two: Federation) -> None:
    story, node = await begin(two), two[HELPLINE].node
    record, world = await story.record(), node.world()
    facts, contract = open_facts(node, story.id, record["sealed_facts"]), record["contract"]
    wages = facts.model_copy(update={"service": ServiceType.WAGE_CLAIM})
    assert places.most_unserved(node, SHELTER.agency, contract, facts) == 10
    assert places.most_unserved(node, SHELTER.agency, contract, wages) == 0
    assert places.most_unserved(node, SHELTER.agency, "0" * 64, facts) == 0
    for agency in (SHELTER.agency, HELPLINE.agency):
        unlisted = replace(world, roster=without(world.roster, agency))
        node.world = lambda unlisted=unlisted: unlisted  # type: ignore[misc]
        assert places.most_unserved(node, SHELTER.agency, contract, facts) == 0


async def test_two_couriers_never_both_take_the_last_place(on_both: Federation) -> None:
    """Both look at the same referrals at the same time; what they release together is never one too many."""
    node = on_both[HELPLINE].node
    be_strict(node)
    stories = [await begin(on_both, travel=False) for _ in range(MOST + 3)]
    await on_both[HELPLINE].courier.run_once()
    for story in stories:
        await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await on_both[SHELTER].courier.run_once()
    url = node.database._write_engine.url.set(drivername=node.database.dialect)
    file = node.database._file
    there = Database.open(f"sqlite:///{file.path}" if file is not None else url.render_as_string(hide_password=False))
    other = replace(node, database=there)
    await asyncio.gather(*(release_due(one) for one in (node, other, node, other)))
    await there.close()
    disclosed = [(await story.flags()).disclosed for story in stories]
    assert sum(disclosed) == MOST
    assert sum([(await story.flags()).receiver_unserved for story in stories]) == len(stories) - MOST


async def test_doctor_and_metrics_name_the_receiver(strict: Federation) -> None:
    helpline: TestNode = strict[HELPLINE]
    reader = InMemoryMetricReader()
    helpline.node.measurements = Measurements(MeterProvider([reader]).get_meter("test"))
    await accepted(strict, MOST + 1)
    (of_resource,) = json.loads(reader.get_metrics_data().to_json())["resource_metrics"]  # type: ignore[union-attr]
    (of_scope,) = of_resource["scope_metrics"]
    (waits,) = [metric for metric in of_scope["metrics"] if metric["name"] == "exchange.release.waits"]
    points = waits["data"]["data_points"]
    attributes = {"peer.agency": SHELTER.agency, "exchange.code": "receiver-unserved"}
    assert [(point["value"], allowed(point["attributes"])) for point in points] == [(1, attributes)]
    settings = load_settings(
        home=helpline.home,
        environment=Environment.DEMO,
        public_url=helpline.member.node_url,
        database_url=f"sqlite:///{helpline.node.database._file.path}",  # type: ignore[union-attr]
    )
    (finding,) = look_at_receivers(settings, strict.clock())
    assert finding.level is Level.WARN
    assert SHELTER.agency in finding.subject
    assert f"{MOST} names" in finding.sentence
    assert "1 more" in finding.sentence
