"""One damaged row of the receiver's key store holds up only what needs that key: on the way in, and when it is opened.

Her no needs none, whether it is about another referral or about the one whose key is damaged.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Table, select
from structlog.testing import CapturingLogger
from support.federation import Federation, TestNode
from support.stories import Story, begin, refusal, released_and_waiting

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.format import parse_envelope
from exchange.envelope.header import parse_header
from exchange.limits import HOUR_MS
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.database import Connection
from exchange.storage.epochs import own_epochs
from exchange.storage.node_keyring import NodeKeyring
from exchange.storage.tables import EPOCH_PRIVATE, REFERRAL_KEY
from exchange.telemetry.allowed import LOG_KEYS
from exchange.use_cases import row_by_row


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    """What is said of rows that cannot be read."""
    said = CapturingLogger()
    monkeypatch.setattr(row_by_row, "get_logger", lambda: said)
    return said


def line_about(kind: str, **more: str) -> tuple[Any, ...]:
    assert LOG_KEYS["kind"](kind)  # else it is dropped
    return "error", ("row-unreadable",), {**more, "kind": kind, "error_type": "SealedRowError"}


async def overwrite(node: TestNode, table: Table, name: str, wrapped: bytes = b"damaged" * 12) -> bytes:
    """Somebody writes this over a wrapped key; returns what lay there. No process remembers the key."""
    [column] = table.primary_key.columns

    def write(conn: Connection) -> bytes:
        lay = conn.execute(select(table.c.wrapped).where(column == name)).scalar_one()
        conn.execute(table.update().where(column == name).values(wrapped=wrapped))
        return bytes(lay)

    assert isinstance(node.node.keyring, NodeKeyring)
    node.node.keyring._known.clear()
    return await node.node.key_store.database.write(write)


async def sealed_to(story: Story) -> str:
    """The weekly key of its offer."""
    name = parse_header(parse_envelope(await story.wire_of("offer")).header).epoch_key
    assert name is not None
    return name


async def goes_in_one_batch(pair: Federation) -> list[str]:
    """All that waits for the receiver; returns how each was answered."""
    pair.clock.pass_by(hours=1)
    posted, answered = len(pair.network.posted), len(pair.network.answered)
    await pair[HELPLINE].courier.run_once()
    [body] = [body for _, path, body in pair.network.posted[posted:] if path.endswith("/envelopes")]
    [answer] = [answer for answer in pair.network.answered[answered:] if b'"answers"' in answer]
    results = [one["result"] for one in json.loads(answer)["answers"]]
    assert len(results) == len(json.loads(body)["envelopes"])
    return sorted(results)


async def test_of_a_batch_only_what_is_kept_under_that_key_waits(pair: Federation, log: CapturingLogger) -> None:
    other = await begin(pair)
    bad = await released_and_waiting(pair, consent=other.consent)
    lay = await overwrite(bad.receiver, REFERRAL_KEY, bad.id)
    pair.come_back(SHELTER)
    # Who was away is sent one envelope first.
    assert await goes_in_one_batch(pair) == ["later"]
    await other.says_no("stop-service", travel=False)
    new = await begin(pair, travel=False)
    assert await goes_in_one_batch(pair) == ["accepted", "accepted", "later"]
    assert (await other.outgoing())["withdrawal"] == ["delivered"]
    assert (await new.opened("offer")).content is not None
    await bad.later(hours=1)
    assert (await bad.outgoing())["disclosure"] == ["queued"]
    assert await bad.items("disclosure") == []
    assert log.calls == [line_about("referral-key", peer=HELPLINE.agency)]
    await overwrite(bad.receiver, REFERRAL_KEY, bad.id, lay)
    await bad.later(hours=1)
    assert (await bad.outgoing())["disclosure"] == ["delivered"]
    assert (await bad.opened("disclosure")).content is not None


async def test_of_a_batch_only_what_is_sealed_to_that_week_waits(pair: Federation, log: CapturingLogger) -> None:
    [first, *_] = await pair[SHELTER].node.database.read(own_epochs)
    pair.clock.offset += first.not_after - HOUR_MS - pair.clock()
    other = await begin(pair)
    bad = await begin(pair, consent=other.consent, travel=False)
    pair.clock.pass_by(hours=2)
    good = await begin(pair, travel=False)
    week = await sealed_to(bad)
    assert await sealed_to(good) != week
    lay = await overwrite(bad.receiver, EPOCH_PRIVATE, week)
    await other.says_no("stop-service", travel=False)
    assert await goes_in_one_batch(pair) == ["accepted", "accepted", "later"]
    assert (await other.outgoing())["withdrawal"] == ["delivered"]
    assert (await good.opened("offer")).content is not None
    await bad.later(hours=1)
    assert (await bad.outgoing())["offer"] == ["queued"]
    assert log.calls == [line_about("epoch-key", peer=HELPLINE.agency)]
    await overwrite(bad.receiver, EPOCH_PRIVATE, week, lay)
    await bad.later(hours=1)
    assert (await bad.opened("offer")).content is not None


async def test_her_no_about_that_referral_needs_no_key(pair: Federation) -> None:
    bad = await released_and_waiting(pair)
    await overwrite(bad.receiver, REFERRAL_KEY, bad.id)
    pair.come_back(SHELTER)
    assert await goes_in_one_batch(pair) == ["later"]
    await bad.says_no("stop-service", travel=False)
    assert await goes_in_one_batch(pair) == ["accepted"]
    await bad.both_say("withdrawn")
    [item] = await bad.items("withdrawal")
    assert (await bad.helps.inbox.open(item.id)).item.event == "stop-service"
    # Nor does what follows: it is destroyed with all others.
    await bad.says_no("erase")
    await bad.later(hours=25)
    await bad.later(hours=1)
    assert (await bad.record(at=bad.receiver))["destroyed_at"] is not None
    assert await bad.receiver.node.key_store.get(bad.id) is None


async def test_of_many_that_are_opened_only_what_is_kept_under_that_key_is_refused(
    pair: Federation, log: CapturingLogger
) -> None:
    bad = await begin(pair)
    good = await begin(pair, consent=bad.consent)
    inbox, ids = bad.helps.inbox, [await bad.offer(), await good.offer()]
    lay = await overwrite(bad.receiver, REFERRAL_KEY, bad.id)
    for _ in range(2):
        opened = await inbox.open_many(ids)
        assert [one.item.id for one in opened.items] == [ids[1]]
        assert (opened.missing, opened.withheld) == ((ids[0],), ())
    problem = await refusal(inbox.open(ids[0]))
    assert (problem.status, problem.code) == (422, "sealed-row")
    assert (await inbox.open(ids[1])).content is not None
    # Nothing is promised about what nobody here can read.
    problem = await refusal(inbox.decide(ids[0], DecisionRequest(decision="accepted")))
    assert (problem.status, problem.code) == (422, "sealed-row")
    assert log.calls == [line_about("referral-key")]
    await overwrite(bad.receiver, REFERRAL_KEY, bad.id, lay)
    assert len((await inbox.open_many(ids)).items) == 2
