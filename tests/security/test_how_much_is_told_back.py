"""How much a node lets be told back whose agency's own software has to say what stands inside the offer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import pytest_asyncio
from support.blind import referred
from support.blind_room import Room, blind_room
from support.federation import federation
from support.other_contract import evaluate_with
from support.people import consent_request

from contracts.vocabulary import Feedback
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.inbox import InboxItem, OpeningRequest
from exchange.storage.database import Connection
from exchange.storage.referrals import load_referral, save_referral
from exchange.use_cases.facts import Facts, open_facts, seal_facts
from exchange.use_cases.node import Node

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Room]:
    async with blind_room(tmp_path_factory.mktemp("room")) as made:
        yield made


async def facts_of(node: Node, referral: str) -> Facts:
    record = await node.database.read(lambda conn: load_referral(conn, referral))
    assert record is not None
    return open_facts(node, referral, record.sealed_facts or b"")


async def as_before(room: Room, item: InboxItem) -> None:
    """As a version has left it that did not remember what the rule allowed."""
    node = room.office.node.node
    before = (await facts_of(node, item.referral)).model_copy(update={"feedback_at_most": None})

    def commit(conn: Connection) -> None:
        record = load_referral(conn, item.referral)
        assert record is not None
        save_referral(conn, record._replace(sealed_facts=seal_facts(node, item.referral, before)))

    await node.database.write(commit)


async def says(room: Room, item: InboxItem, *levels: str | None) -> Feedback:
    """How much the node lets be told back after the software has said these, one after the other."""
    digest, node = (await room.row(item.id)).digest, room.office.node.node
    for level in levels:
        feedback = Feedback(level) if level is not None else None
        await room.office.client.inbox.take_over(item.id, OpeningRequest(digest=digest, feedback=feedback))
    return (await facts_of(node, item.referral)).feedback


def uses_no_contract(node: Node) -> None:
    """All have ended, by their own dates."""
    world = replace(node.world(), contracts=MappingProxyType({}))
    node.world = lambda: world


def lists_nobody_else(node: Node) -> None:
    world = node.world()
    members = MappingProxyType({node.agency: node.member})
    other = replace(world, roster=replace(world.roster, members=members))
    node.world = lambda: other


def lets_outcomes_travel(node: Node) -> None:
    evaluate_with(node, b"feedback: status", b"feedback: outcome")


@pytest.mark.parametrize("since", [None, uses_no_contract, lists_nobody_else, lets_outcomes_travel])
@pytest.mark.parametrize(
    ("said", "counts"),
    [
        (["decision"], "decision"),
        (["status"], "status"),
        (["outcome"], "status"),
        (["decision", "outcome"], "decision"),
        (["status", "decision"], "status"),
        ([None], "decision"),
        ([None, "status"], "status"),
    ],
)
async def test_how_much_is_told_back_is_said_once_and_bounded_by_the_rule_of_when_the_offer_arrived(
    room: Room,
    monkeypatch: pytest.MonkeyPatch,
    since: Callable[[Node], None] | None,
    said: list[str | None],
    counts: str,
) -> None:
    item, node = await room.arrived(room.scene.liar.forward()), room.office.node.node
    monkeypatch.setattr(node, "world", node.world)
    if since is not None:
        since(node)
    assert await says(room, item, *said) == counts


@pytest.mark.parametrize(
    ("since", "counts"), [(None, "status"), (uses_no_contract, "decision")], ids=["goes-on", "ended"]
)
async def test_of_an_offer_of_before_the_rule_was_remembered_it_is_that_of_today(
    room: Room, monkeypatch: pytest.MonkeyPatch, since: Callable[[Node], None] | None, counts: str
) -> None:
    """Where it is not known any more nothing is told beyond the decision, nor once it is known again."""
    item, node = await room.arrived(room.scene.liar.forward()), room.office.node.node
    await as_before(room, item)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(node, "world", node.world)
        if since is not None:
            since(node)
        assert await says(room, item, "outcome") == counts
    assert await says(room, item, "outcome") == counts


async def test_where_the_node_has_read_that_itself_nobody_says_it(tmp_path: Path) -> None:
    lines = [line.model_dump() | {"feedback": "decision"} for line in consent_request(SHELTER.agency).provisions]
    async with federation(tmp_path, (HELPLINE, SHELTER)) as two:
        story = await referred(two, two[HELPLINE], two[SHELTER], provisions=lines)
        offer = await story.helps.open(story.id, "offer")
        said = OpeningRequest(digest=offer.digest, feedback=Feedback.OUTCOME)
        await story.helps.client.inbox.take_over(offer.item.id, said)
        assert (await facts_of(two[SHELTER].node, story.id)).feedback == "decision"
