"""A client, or a peer that delivers, hangs up in the middle of its request or of the answer to it.

Nothing is half-done, and it may repeat.

Rules:

* A request that was not sent whole changes nothing.
* One that was is done once, whatever became of its answer; the repeat (under the same Idempotency-Key where the request
  has one) is answered with the same bytes, a peer's with the same receipts.
* The node says nothing about it that is personal, and nothing of it is a failure of the node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.blind import Office
from support.databases import POSTGRES_IN_FAULTS, MakeDatabase
from support.federation import Federation, TestNode
from support.federation_fixtures import federation_on
from support.ledger import record
from support.lying_peer import row_counts
from support.people import CANARIES, consent_request, referral_request
from support.real_line import as_bytes, real_line
from support.stories import begin

from contracts.vocabulary import WithdrawalForm
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.inbox import DecisionRequest


class HeldError(Exception):
    """The request was kept and not sent."""


@dataclass(frozen=True)
class Act:
    """Something that an agency's software asks of its node, or a peer's courier of it."""

    asks: Callable[[Federation], Awaitable[Callable[[], Awaitable[Any]]]]
    """Brings it so far that it may be asked, and returns how."""
    path: str
    node: str
    once: dict[str, int]
    """Rows that it adds, once."""
    each: dict[str, int]
    """Rows that every whole request adds."""
    blind: bool = False


async def _hand_in(two: Federation) -> Callable[[], Awaitable[Any]]:
    client = two[HELPLINE].client()
    consent = await client.consents.record(consent_request(SHELTER.agency))
    return lambda: client.referrals.send(referral_request(SHELTER.agency, consent.id))


async def _sealed_hand_in(two: Federation) -> Callable[[], Awaitable[Any]]:
    office = Office.of(two[HELPLINE])
    consent = await office.client.consents.record(consent_request(SHELTER.agency))
    return lambda: office.refer(referral_request(SHELTER.agency, consent.id))


async def _open(two: Federation) -> Callable[[], Awaitable[Any]]:
    story = await begin(two)
    offer = await story.offer()
    return lambda: story.helps.inbox.open_many([offer])


async def _acknowledge(two: Federation) -> Callable[[], Awaitable[Any]]:
    story = await begin(two)
    offer = await story.offer()
    lease = await story.helps.inbox.lease(offer)
    return lambda: story.helps.inbox.acknowledge(offer, lease.token)


async def _decide(two: Federation) -> Callable[[], Awaitable[Any]]:
    story = await begin(two)
    offer = await story.offer()
    return lambda: story.helps.inbox.decide(offer, DecisionRequest(decision="accepted"))


async def _release(two: Federation) -> Callable[[], Awaitable[Any]]:
    story = await begin(two)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await two[SHELTER].courier.run_once()
    assert (await story.outgoing())["disclosure"] == ["held"]
    return lambda: story.asks.referrals.release(story.id)


async def _say_no(two: Federation) -> Callable[[], Awaitable[Any]]:
    story = await begin(two)
    await story.decides("accepted")
    return lambda: story.asks.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)


async def _deliver(two: Federation) -> Callable[[], Awaitable[Any]]:
    """One that is new here and one that is known, and her no about the known one."""
    known = await begin(two)
    new = await begin(two, consent=known.consent, travel=False)
    await known.says_no("stop-service", travel=False)
    wires = [await new.wire_of("offer"), await known.wire_of("withdrawal")]
    return lambda: new.post(*wires)


_REFERRAL = {"referral": 1, "event": 1, "outbox": 2, "idempotency": 1, "change": 1, "audit": 1}
# The agency's own name for her is gone with the referral, and what each party owes is on record.
_HER_NO = {"event": 1, "outbox": 2, "idempotency": 1, "change": 1, "audit": 2, "attestation": 3, "client_code": -1}
_DELIVERY = {"referral": 1, "event": 2, "inbox": 2, "seen_envelope": 2, "audit": 2}
ACTS = {
    "hand in": Act(_hand_in, "/v1/referrals", HELPLINE.agency, _REFERRAL | {"client_code": 1}, {}),
    "hand in, sealed": Act(_sealed_hand_in, "/v1/envelopes", HELPLINE.agency, _REFERRAL, {}, blind=True),
    "open": Act(_open, "/v1/inbox/open", SHELTER.agency, {}, {"audit": 1}),
    "acknowledge": Act(_acknowledge, "/acknowledgement", SHELTER.agency, {"audit": 1}, {}),
    "decide": Act(_decide, "/decision", SHELTER.agency, {"audit": 1, "event": 1, "outbox": 1}, {}),
    "release": Act(_release, "/release", HELPLINE.agency, {"audit": 1, "change": 1, "event": 1}, {}),
    "say no": Act(_say_no, "/v1/withdrawals", HELPLINE.agency, _HER_NO, {}),
    "deliver, as a peer": Act(_deliver, "/federation/v1/envelopes", SHELTER.agency, _DELIVERY, {}),
}


async def _kept(two: Federation, act: Act, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    """Head and body of the request, which is kept back."""
    ask = await act.asks(two)
    kept: list[tuple[bytes, bytes]] = []
    real = two.network.handle_async_request

    async def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith(act.path):
            kept.append(as_bytes(request, await request.aread()))
            raise HeldError
        return await real(request)

    monkeypatch.setattr(two.network, "handle_async_request", handle)
    with pytest.raises(HeldError):
        await ask()
    monkeypatch.undo()
    return kept[0]


async def _grown(node: TestNode, before: dict[str, int]) -> dict[str, int]:
    after = await row_counts(node.node.database)
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


@pytest.mark.parametrize("kind", POSTGRES_IN_FAULTS)
@pytest.mark.parametrize("name", list(ACTS))
async def test_nothing_is_half_done_and_a_repeat_is_answered_the_same(
    tmp_path: Path,
    name: str,
    kind: str,
    make_on: Callable[[str], MakeDatabase],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    act = ACTS[name]
    plans, blind = (HELPLINE, SHELTER), (HELPLINE,) if act.blind else ()
    async with federation_on(tmp_path, plans, make_on(kind), blind=blind) as two:
        node = two.nodes[act.node]
        head, body = await _kept(two, act, monkeypatch)
        request = head + body
        before = await row_counts(node.node.database)
        async with real_line(two, node) as line:
            cuts = (len(head) // 2, len(head), len(head) + 1, len(head) + len(body) // 2, len(request) - 1)
            for sent in (cut for cut in cuts if cut < len(request)):
                await line.break_off(request[:sent])
                assert await _grown(node, before) == {}, f"{sent} bytes of {len(request)} were sent"
            for reads in (0, 1, 20):
                await line.break_off(request, reads=reads)
            answers = [await line.ask(request) for _ in range(2)]
            whole = len([status for status in line.statuses if status < 300])
            assert whole >= 4
            assert answers[0] == answers[1]
            assert 200 <= answers[0][0] < 300
            grown = act.once | {table: rows * whole for table, rows in act.each.items()}
            assert await _grown(node, before) == grown
            assert [status for status in line.statuses if status >= 500] == []
            assert line.raised == []
            record("clients that broke off", lost=0, doubled=0)
    said = "".join(capfd.readouterr())
    assert not [word for word in CANARIES if word in said]
    assert "Traceback" not in said
    assert '"level":"error"' not in said
