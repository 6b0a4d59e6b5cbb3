"""One of several processes of a node on PostgreSQL is stopped (SIGSTOP), and goes on when others have taken over.

Its lease is another's then, its transaction may have been ended by the server, and she may have said no meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from support.doomed_process import Doom
from support.node_processes import NURSERY, ONCE, NodeProcesses, node_processes, until
from support.postgres import Databases

from contracts.vocabulary import WithdrawalForm
from exchange.client import AgencyClient, ClientError, new_idempotency_key
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.demo.people import melati
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.referrals import ReferralRequest
from exchange.storage.tables import INBOX, OUTBOX, REFERRAL

pytestmark = pytest.mark.faults

HAND_IN = "hand_ins.store_hand_ins"
Two = tuple[NodeProcesses, NodeProcesses]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, postgres: Databases) -> Iterator[Two]:
    """A helpline with two API processes and two couriers, and a shelter."""
    folder = tmp_path_factory.mktemp("still") / "nodes"
    with node_processes(folder, (HELPLINE, SHELTER), lambda _name: postgres.create()) as (helpline, shelter):
        helpline.start("api 1", "api 2", "courier 1", "courier 2")
        shelter.start()
        yield helpline, shelter


@asynccontextmanager
async def standing_still(node: NodeProcesses) -> AsyncIterator[int]:
    """The process that has come to where it stops; it goes on when the block ends."""
    child = await asyncio.to_thread(node.wait_until_still)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGCONT)


async def request_of(client: AgencyClient) -> ReferralRequest:
    """A referral to the shelter, under a consent of its own."""
    now = datetime.now(UTC)
    person = melati(now)
    consent = await client.consents.record(person.consent(now))
    return person.referral(consent.id)


async def arrived(node: NodeProcesses, referral: str, kind: str) -> None:
    """Returns when it lies in the inbox."""
    await asyncio.to_thread(until, lambda: node.count(INBOX, referral=referral, kind=kind) or None, f"the {kind}")


def kinds(node: NodeProcesses, referral: str) -> Counter[str]:
    """What has arrived for it."""
    query = select(INBOX.c.kind).where(INBOX.c.referral == referral)
    return Counter(node.look(lambda conn: list(conn.execute(query).scalars())))


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(("before", "HTTPTransport.post_envelopes"), id="with her name in hand"),
        pytest.param(("during", "deliver._on_their_way.mark"), id="with her referral locked"),
    ],
)
async def test_a_courier_that_goes_on_after_her_no_sends_nothing_more_of_her(two: Two, place: tuple[str, str]) -> None:
    helpline, shelter = two
    async with helpline.client() as asks, shelter.client() as helps:
        referral = (await asks.referrals.send(await request_of(asks))).id
        await arrived(shelter, referral, "offer")
        (offer,) = [item async for item in helps.inbox.pages() if item.referral == referral]
        helpline.doom(Doom("courier", *place, stands_still=True))
        await helps.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
        async with standing_still(helpline):
            started = time.monotonic()
            await asks.withdrawals.of_referral(referral, WithdrawalForm.STOP_SHARING)
            assert time.monotonic() - started < 10
            await arrived(shelter, referral, "withdrawal")
            await asyncio.sleep(3.5)  # longer than its last look holds, and than its lease
        await asyncio.sleep(2)
        assert kinds(shelter, referral) == {"offer": 1, "withdrawal": 1}
        states = {(await client.referrals.read(referral)).state for client in (asks, helps)}
        assert len(states) == 1
    assert helpline.count(OUTBOX, referral=referral, status="queued") == 0


@pytest.mark.parametrize("moment", ["before", "during", "after"])
async def test_a_hand_in_that_stands_still_is_made_once_however_it_goes_on(two: Two, moment: str) -> None:
    helpline, shelter = two
    async with helpline.client(retries=ONCE) as client:
        request, key = await request_of(client), new_idempotency_key()
        helpline.doom(Doom("api", moment, HAND_IN, stands_still=True))
        sending = asyncio.create_task(client.referrals.send(request, idempotency_key=key))
        # The repeat goes over a connection of its own, and so to the other process.
        async with standing_still(helpline), helpline.client() as repeats:
            made = (await repeats.referrals.send(request, idempotency_key=key)).id
        with_answer = await asyncio.gather(sending, return_exceptions=True)
        assert all(isinstance(one, ClientError) or one.id == made for one in with_answer)
        async with helpline.client() as repeats:
            assert (await repeats.referrals.send(request, idempotency_key=key)).id == made
    assert helpline.count(REFERRAL, consent_id=request.consent) == 1
    await arrived(shelter, made, "offer")


async def test_one_of_several_is_killed_while_many_hand_in(two: Two) -> None:
    """In the middle of a transaction of several: the others go on, and what got no answer is repeated."""
    helpline, _ = two
    answered: dict[str, str] = {}
    asked: dict[str, ReferralRequest] = {}

    async def hand_in() -> None:
        async with helpline.client() as patient:
            request = await request_of(patient)
        for _ in range(15):
            async with helpline.client(retries=ONCE) as client:
                key = new_idempotency_key()
                asked[key] = request
                try:
                    answered[key] = (await client.referrals.send(request, idempotency_key=key)).id
                except ClientError:
                    continue

    clients = [asyncio.create_task(hand_in()) for _ in range(8)]
    await asyncio.to_thread(until, lambda: len(answered) >= 10 or None, "the first answers")
    helpline.doom(Doom("api", "during", HAND_IN, stands_still=True))
    child = await asyncio.to_thread(helpline.wait_until_still)
    os.kill(child, signal.SIGKILL)
    (role,) = [role for role, process in helpline.running.items() if process == child]
    del helpline.running[role]
    assert await asyncio.to_thread(NURSERY.wait, child) == -signal.SIGKILL
    await asyncio.gather(*clients)
    assert 0 < len(asked) - len(answered) <= len(clients)
    async with helpline.client() as client:
        again = {key: (await client.referrals.send(request, idempotency_key=key)).id for key, request in asked.items()}
    assert {key: again[key] for key in answered} == answered
    assert len(set(again.values())) == len(asked)
    await asyncio.to_thread(helpline.start, role)
