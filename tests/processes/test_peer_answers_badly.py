"""The courier over real HTTP, against a peer that answers as it should not.

Whatever comes back that is not the peer's signed receipt for exactly these bytes leaves the envelope in the queue; once
the peer is well it is delivered, and lies in the inbox once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from support.federation import Federation, federation
from support.misbehaving_peer import Forward, MisbehavingPeer, misbehaving_peer, write_answer
from support.networks import OverSockets
from support.people import consent_request, referral_request

from contracts.vocabulary import WithdrawalForm
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.keys import NodeKey
from exchange.envelope.statements import DeliveryReceipt, parse_statement, sign_statement
from exchange.envelope.wire import from_base64url, to_base64url
from exchange.federation import courier
from exchange.federation import way as way_module
from exchange.storage.tables import INBOX, OUTBOX, PEER
from exchange.use_cases import line

Writer = asyncio.StreamWriter
Sign = Callable[[bytes], bytes]


@dataclass(slots=True)
class Way:
    """A helpline, a shelter, and what stands between them."""

    together: Federation
    peer: MisbehavingPeer

    async def hand_in(self, count: int = 1) -> list[str]:
        """Referrals that are queued at the helpline."""
        client = self.together[HELPLINE].client()
        consent = await client.consents.record(consent_request(SHELTER.agency))
        request = referral_request(SHELTER.agency, consent.id)
        return [(await client.referrals.send(request)).id for _ in range(count)]

    async def deliver(self) -> None:
        """One round of the helpline's courier."""
        await self.together[HELPLINE].courier.run_once()

    async def delivered(self, referral: str) -> bool:
        """Whether the helpline has the shelter's signed word."""
        return (await self.together[HELPLINE].client().referrals.read(referral)).flags.delivered

    async def status(self) -> list[str]:
        """How the helpline's offers stand."""
        query = select(OUTBOX.c.status).where(OUTBOX.c.kind == "offer").order_by(OUTBOX.c.seq)
        return await self.together[HELPLINE].node.database.read(lambda conn: list(conn.execute(query).scalars()))

    async def due_in_s(self) -> float:
        """After how many seconds the shelter is tried again."""
        node = self.together[HELPLINE].node
        due: int = await node.database.read(lambda conn: conn.execute(select(PEER.c.due_at)).scalar_one())
        return (due - node.clock()) / 1000

    async def recover(self) -> None:
        """The peer is well, and time passes until it is tried again."""
        self.peer.misbehaviour = None
        self.together.clock.pass_by(hours=2)
        await self.deliver()

    async def arrived(self) -> list[str]:
        """The referrals of the items in the shelter's inbox."""
        return [item.referral for item in (await self.together[SHELTER].client().inbox.list()).items]

    async def stopped(self) -> list[str]:
        """The referrals that were taken back, as the shelter has heard it."""
        query = select(INBOX.c.referral).where(INBOX.c.kind == "withdrawal").order_by(INBOX.c.seq)
        return await self.together[SHELTER].node.database.read(lambda conn: list(conn.execute(query).scalars()))


@pytest.fixture
async def way(tmp_path: Path) -> AsyncIterator[Way]:
    """The shelter's node stands behind a server of the test; the helpline reaches it over a socket."""
    async with federation(tmp_path, (HELPLINE, SHELTER)) as together:
        shelter = together[SHELTER]
        behind = together.network.apps[shelter.port]
        async with misbehaving_peer(behind, shelter.member.node_url) as peer, OverSockets() as sockets:

            class Redirected(httpx2.ASGITransport):
                async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
                    if not request.url.path.startswith(("/federation/", "/oauth/token")) or "actor" in request.headers:
                        return await behind.handle_async_request(request)
                    request.url = request.url.copy_with(port=peer.port)
                    return await sockets.handle_async_request(request)

            together.network.apps[shelter.port] = Redirected(app=behind.app)
            yield Way(together, peer)


async def _html(writer: Writer, _: Forward) -> None:
    write_answer(writer, 200, b"<html>Sign in to this network</html>", content_type="text/html")


async def _empty(writer: Writer, _: Forward) -> None:
    write_answer(writer, 200, b"")


async def _wrong_type(writer: Writer, forward: Forward) -> None:
    write_answer(writer, 200, await forward(), content_type="text/plain")


async def _oversized(writer: Writer, forward: Forward) -> None:
    write_answer(writer, 200, await forward() + b" " * (2 * 1024 * 1024))


async def _not_json(writer: Writer, _: Forward) -> None:
    write_answer(writer, 200, b'{"answers": [')


async def _error(writer: Writer, _: Forward) -> None:
    write_answer(writer, 500, b"oops", content_type="text/plain")


async def _error_after_storing(writer: Writer, forward: Forward) -> None:
    await forward()
    write_answer(writer, 502, b"", content_type="text/html")


async def _redirect(writer: Writer, _: Forward) -> None:
    write_answer(writer, 307, b"", more="location: http://127.0.0.1:1/elsewhere\r\n")


async def _hangs_up(_: Writer, forward: Forward) -> None:
    await forward()


async def _aborts(writer: Writer, forward: Forward) -> None:
    body = await forward()
    write_answer(writer, 200, body[: len(body) // 2], length=len(body))


async def _not_zipped(writer: Writer, forward: Forward) -> None:
    write_answer(writer, 200, await forward(), more="content-encoding: gzip\r\n")


async def _no_answers(writer: Writer, forward: Forward) -> None:
    await forward()
    write_answer(writer, 200, b'{"answers":[]}')


async def _accepted_without_receipt(writer: Writer, forward: Forward) -> None:
    await forward()
    write_answer(writer, 200, b'{"answers":[{"result":"accepted"}]}')


async def _receipt_is_no_statement(writer: Writer, forward: Forward) -> None:
    await forward()
    write_answer(writer, 200, b'{"answers":[{"result":"accepted","receipt":"AAAA"}]}')


BAD = [
    pytest.param(_html, id="HTML"),
    pytest.param(_empty, id="empty body"),
    pytest.param(_wrong_type, id="wrong content type"),
    pytest.param(_oversized, id="oversized body"),
    pytest.param(_not_json, id="half of a JSON document"),
    pytest.param(_error, id="500"),
    pytest.param(_error_after_storing, id="502 after it was stored"),
    pytest.param(_redirect, id="redirect"),
    pytest.param(_hangs_up, id="hangs up after it was stored"),
    pytest.param(_aborts, id="aborts in the middle of the answer"),
    pytest.param(_not_zipped, id="says gzip and is not"),
    pytest.param(_no_answers, id="no item answered"),
    pytest.param(_accepted_without_receipt, id="accepted without a receipt"),
    pytest.param(_receipt_is_no_statement, id="a receipt that is no statement"),
]


@pytest.mark.parametrize("misbehaviour", BAD)
async def test_stays_queued_and_is_delivered_once(
    way: Way, misbehaviour: Callable[[Writer, Forward], Awaitable[None]]
) -> None:
    (referral,) = await way.hand_in()
    way.peer.misbehaviour = misbehaviour
    await way.deliver()
    assert way.peer.asked == 1
    assert await way.status() == ["queued"]
    assert not await way.delivered(referral)
    assert 0.5 < await way.due_in_s() < 10
    await way.recover()
    assert way.peer.asked == 2
    assert await way.delivered(referral)
    assert await way.arrived() == [referral]


def _forged(way: Way, sign: Sign | None, **changes: Any) -> Callable[[Writer, Forward], Awaitable[None]]:
    """The shelter's real answer with another receipt in it."""

    async def misbehave(writer: Writer, forward: Forward) -> None:
        answer = json.loads(await forward())
        (item,) = answer["answers"]
        shelter = way.together[SHELTER].node
        raw = from_base64url(item["receipt"], member="receipt", longest=4096)
        receipt = parse_statement(DeliveryReceipt, raw).verify(shelter.node_key.public)
        item["receipt"] = to_base64url(
            sign_statement(replace(receipt, **changes), sign or shelter.node_key.sign).to_bytes()
        )
        write_answer(writer, 200, json.dumps(answer).encode())

    return misbehave


@pytest.mark.parametrize(
    ("wrong_key", "changes"),
    [
        pytest.param(True, {}, id="signed by another key"),
        pytest.param(False, {"digest": "0" * 64}, id="for another digest"),
        pytest.param(False, {"envelope": "0" * 32}, id="for another envelope"),
        pytest.param(False, {"recipient": "another-agency"}, id="of another recipient"),
    ],
)
async def test_a_receipt_for_something_else_is_no_receipt(way: Way, wrong_key: bool, changes: dict[str, str]) -> None:
    (referral,) = await way.hand_in()
    way.peer.misbehaviour = _forged(way, NodeKey(b"\x07" * 32).sign if wrong_key else None, **changes)
    await way.deliver()
    assert await way.status() == ["queued"]
    assert 0.5 < await way.due_in_s() < 10
    await way.recover()
    assert await way.delivered(referral)
    assert await way.arrived() == [referral]


async def test_too_few_answers_settle_only_what_they_answer(way: Way) -> None:
    first, second, third = await way.hand_in(3)

    async def one_of_three(writer: Writer, forward: Forward) -> None:
        answer = json.loads(await forward())
        write_answer(writer, 200, json.dumps({"answers": answer["answers"][:1]}).encode())

    way.peer.misbehaviour = one_of_three
    await way.deliver()
    assert await way.status() == ["delivered", "queued", "queued"]
    await way.recover()
    assert await way.status() == ["delivered"] * 3
    assert await way.arrived() == [first, second, third]


async def test_answers_in_another_order_settle_nothing_wrongly(way: Way) -> None:
    referrals = await way.hand_in(2)

    async def swapped(writer: Writer, forward: Forward) -> None:
        answer = json.loads(await forward())
        write_answer(writer, 200, json.dumps({"answers": answer["answers"][::-1]}).encode())

    way.peer.misbehaviour = swapped
    await way.deliver()
    assert await way.status() == ["queued", "queued"]
    await way.recover()
    assert await way.arrived() == referrals


@pytest.mark.parametrize(
    ("status", "asked", "low", "high"),
    [
        pytest.param(429, "120", 119, 121, id="429 is honoured"),
        pytest.param(503, "120", 119, 121, id="503 is honoured"),
        pytest.param(429, "999999", 3599, 3601, id="an hour at most"),
        pytest.param(429, "9" * 5000, 3599, 3601, id="a number without end"),
        pytest.param(503, "Wed, 21 Oct 2026 07:28:00 GMT", 0.5, 5, id="a date is not in the protocol"),
        pytest.param(429, "-5", 0.5, 5, id="negative"),
        pytest.param(503, "0", 0.5, 5, id="at once is not at once"),
    ],
)
async def test_retry_after(way: Way, status: int, asked: str, low: float, high: float) -> None:
    (referral,) = await way.hand_in()

    async def busy(writer: Writer, _: Forward) -> None:
        write_answer(writer, status, b"", more=f"retry-after: {asked}\r\n")

    way.peer.misbehaviour = busy
    await way.deliver()
    assert low < await way.due_in_s() < high
    way.peer.misbehaviour = None
    way.together.clock.pass_by(seconds=low - 2 if low > 2 else 0)
    await way.deliver()
    assert not await way.delivered(referral)
    await way.recover()
    assert await way.arrived() == [referral]


async def _no(way: Way, referral: str) -> None:
    client = way.together[HELPLINE].client()
    await client.withdrawals.of_referral(referral, WithdrawalForm.STOP_SERVICE)


@pytest.mark.parametrize("status", [429, 503])
async def test_her_no_is_tried_once_and_then_waits_as_well(
    way: Way, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Told to wait with a stop behind other things: the stop goes alone, is put off too, and nothing calls again.

    Both are put off in the same millisecond, until the same one: the clock moves only where the test says so.
    """
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    taken_back, other, later = await way.hand_in(3)
    await way.deliver()
    await way.hand_in()
    await _no(way, taken_back)

    async def busy(writer: Writer, _: Forward) -> None:
        write_answer(writer, status, b"", more="retry-after: 120\r\n")

    way.peer.misbehaviour = busy
    before = way.peer.asked
    await way.deliver()
    assert way.peer.asked == before + 2
    assert 119 < await way.due_in_s() < 121
    for seconds, referral in ((1, other), (60, later), (50, None)):
        way.together.clock.pass_by(seconds=seconds)
        if referral is not None:
            await _no(way, referral)
        await way.deliver()
        assert way.peer.asked == before + 2
    way.peer.misbehaviour = None
    way.together.clock.pass_by(seconds=10)
    await way.deliver()
    assert await way.stopped() == [taken_back, other, later]


async def test_her_no_whose_answer_is_lost_goes_again_and_takes_nothing_along(way: Way) -> None:
    (taken_back,) = await way.hand_in()
    await way.deliver()
    (waiting,) = await way.hand_in()
    await _no(way, taken_back)
    before = way.peer.asked

    async def busy_then_hangs_up(writer: Writer, forward: Forward) -> None:
        if way.peer.asked == before + 1:
            write_answer(writer, 429, b"", more="retry-after: 120\r\n")
        else:
            await forward()

    way.peer.misbehaviour = busy_then_hangs_up
    await way.deliver()
    assert way.peer.asked == before + 2
    assert 0.5 < await way.due_in_s() < 10
    way.peer.misbehaviour = None
    way.together.clock.pass_by(seconds=10)
    await way.deliver()
    assert way.peer.asked == before + 3
    assert await way.stopped() == [taken_back]
    assert await way.status() == ["delivered", "queued"]
    assert 105 < await way.due_in_s() < 111
    way.together.clock.pass_by(seconds=111)
    await way.deliver()
    assert await way.delivered(waiting)
    assert await way.stopped() == [taken_back]


async def test_her_no_that_comes_while_another_is_written_down_goes_at_once(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is committed when nothing more is loaded, and the lease is not given back yet."""
    taken_back, other = await way.hand_in(2)
    await way.deliver()
    await way.hand_in()
    await _no(way, taken_back)
    before, settled = way.peer.asked, 0
    settle = way_module.settle

    async def meanwhile(*given: Any, **last: Any) -> int | None:
        nonlocal settled
        settled += 1
        if settled == 1:
            await _no(way, other)
        return await settle(*given, **last)

    async def busy_once(writer: Writer, forward: Forward) -> None:
        if way.peer.asked == before + 1:
            write_answer(writer, 429, b"", more="retry-after: 120\r\n")
        else:
            write_answer(writer, 200, await forward())

    monkeypatch.setattr(way_module, "settle", meanwhile)
    way.peer.misbehaviour = busy_once
    await way.deliver()
    assert await way.stopped() == [taken_back, other]
    assert way.peer.asked == before + 3
    assert await way.status() == ["delivered", "delivered", "queued"]
    assert 105 < await way.due_in_s() < 121


@pytest.mark.parametrize(("asked", "low", "high"), [(30, 25, 31), (600, 105, 121)])
async def test_her_no_that_is_answered_later_does_not_go_round(way: Way, asked: int, low: float, high: float) -> None:
    """It waits as long as it was told, and at most as long as what the peer has put off."""
    (taken_back,) = await way.hand_in()
    await way.deliver()
    await way.hand_in()
    await _no(way, taken_back)
    before = way.peer.asked

    async def busy_then_later(writer: Writer, _: Forward) -> None:
        if way.peer.asked == before + 1:
            write_answer(writer, 429, b"", more="retry-after: 120\r\n")
        else:
            write_answer(writer, 200, b'{"answers":[{"result":"later","retry_after":%d}]}' % asked)

    way.peer.misbehaviour = busy_then_later
    await way.deliver()
    assert way.peer.asked == before + 2
    assert low < await way.due_in_s() < high
    assert await way.stopped() == []


async def test_without_a_time_nothing_is_put_off_and_nothing_goes_ahead(way: Way) -> None:
    """429 without Retry-After is a peer that did not answer: the schedule counts, for her no as well."""
    (taken_back,) = await way.hand_in()
    await way.deliver()
    await way.hand_in()
    await _no(way, taken_back)
    before = way.peer.asked

    async def busy(writer: Writer, _: Forward) -> None:
        write_answer(writer, 429, b"")

    way.peer.misbehaviour = busy
    await way.deliver()
    assert way.peer.asked == before + 1
    assert 0.5 < await way.due_in_s() < 10


async def test_a_byte_at_a_time_is_not_waited_for(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    (referral,) = await way.hand_in()
    monkeypatch.setattr(line, "EXCHANGE_S", 0.3)

    async def dribble(writer: Writer, _: Forward) -> None:
        write_answer(writer, 200, b"", length=100_000)
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    way.peer.misbehaviour = dribble
    await way.deliver()
    assert await way.status() == ["queued"]
    monkeypatch.undo()
    await way.recover()
    assert await way.arrived() == [referral]


async def test_with_every_way_taken_the_courier_waits(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is told to stop: what hangs is cancelled, its lease given back, and it goes after the next start."""
    monkeypatch.setattr(courier, "WAYS", 1)
    monkeypatch.setattr(courier, "FINISH_MS", 100)
    (referral,) = await way.hand_in()
    asked, rounds = asyncio.Event(), 0
    helpline = way.together[HELPLINE]

    async def hang(_writer: Writer, _: Forward) -> None:
        asked.set()
        await asyncio.sleep(30)

    way.peer.misbehaviour = hang
    stop = asyncio.Event()
    real = helpline.courier._round

    async def counted() -> int:
        nonlocal rounds
        rounds += 1
        return await real()

    monkeypatch.setattr(helpline.courier, "_round", counted)
    running = asyncio.create_task(helpline.courier.run(stop))
    await asyncio.wait_for(asked.wait(), 10)
    # Another peer is due, and there is no way free: nothing to do but wait.
    await helpline.node.database.write(lambda conn: conn.execute(OUTBOX.update().values(peer="nobody")).rowcount)
    await helpline.node.database.write(
        lambda conn: conn.execute(PEER.insert().values(agency="nobody", due_at=0, lease_until=0, attempts=0)).rowcount
    )
    before = rounds
    await asyncio.sleep(0.3)
    assert rounds - before <= 3
    await helpline.node.database.write(lambda conn: conn.execute(OUTBOX.update().values(peer=SHELTER.agency)).rowcount)
    stop.set()
    await asyncio.wait_for(running, 5)
    query = select(PEER.c.lease_until).where(PEER.c.agency == SHELTER.agency)
    assert await helpline.node.database.read(lambda conn: conn.execute(query).scalar_one()) == 0
    way.peer.misbehaviour = None
    helpline.courier._stopping = False
    way.together.clock.pass_by(hours=2)
    await way.deliver()
    assert await way.arrived() == [referral]
