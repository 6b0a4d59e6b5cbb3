"""A node without keys that lies: it lists as arrived, and hands out, what an honest one would have refused.

The agency's own software does the steps before 13 again, by the roster, the contracts and the cases that it knows
itself. What certainly fails is refused; what another roster or an unopened offer may explain is not opened and raises.

Not in the table, since only the node knows it: which ids were used before (8 `id-conflict`), and what became of a
referral (9: an offer or a disclosure after her no, an offer behind a stop). Nor what was opened before: that is given
out unchanged or not at all (`test_opening_elsewhere`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from support.blind_room import Room, blind_room
from support.forgeries import aged, ahead, header_bytes, with_release
from support.lies import TABLE, Lie
from support.rosters import with_member, without

from exchange.client.vault import DoubtfulItemError, RefusedItemError
from exchange.demo.federation import HELPLINE, LABOUR_OFFICE
from exchange.envelope.errors import EnvelopeError
from exchange.envelope.format import Envelope
from exchange.envelope.header import parse_header
from exchange.limits import DAY_MS, HOUR_MS, LIMITS
from exchange.roster import RosterSnapshot, Status
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import InboxItem, OpeningRequest, RefusalRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOT_HERE = {
    "3-anothers-envelope-replayed",
    "3-anothers-envelope-signed-anew",
    "8-same-id-other-digest",
    "9-offer-after-her-no",
    "9-offer-behind-her-no",
    "9-offer-behind-its-recall",
    "9-offer-behind-error",
    "9-disclosure-after-her-no",
}
BEFORE_OPENING = [lie for lie in TABLE if 3 <= lie.refusal.step < 13 and lie.id not in NOT_HERE]
CERTAIN = {1, 2, 8}
"""What no other roster and no other envelope explains."""


@dataclass
class LyingNode:
    """What the software is handed out, and what it said of it."""

    room: Room
    honest: InboxItem
    """An item as a node lists it."""
    refused: list[str]

    async def hands_out(self, forged: Envelope, **listed: Any) -> None:
        """The software opens this, listed as its header says as far as that can be read, and as having come now."""
        item = self.honest.model_copy(
            update={"received_at": self.room.scene.liar.liar.node.now()} | _as_its_header_says(forged) | listed
        )

        async def sealed(_item: str) -> WireEnvelope:
            return WireEnvelope.model_validate(forged.to_json())

        async def refuse(_item: str, request: RefusalRequest) -> InboxItem:
            self.refused.append(request.code)
            return item

        async def take_over(_item: str, _request: OpeningRequest) -> InboxItem:
            return item

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(self.room.office.client.inbox, "sealed", sealed)
            patched.setattr(self.room.office.client.inbox, "take_over", take_over)
            patched.setattr(self.room.office.client.inbox, "refuse", refuse)
            await self.room.vault.open(item)

    async def is_refused(self, forged: Envelope, step: int, code: str, **listed: Any) -> None:
        """Nothing is opened or kept; the sender is told only of what certainly fails."""
        certain = step in CERTAIN
        self.refused.clear()
        with pytest.raises(RefusedItemError if certain else DoubtfulItemError) as raised:
            await self.hands_out(forged, **listed)
        assert (raised.value.step, raised.value.code) == (step, code)
        assert self.refused == (["cannot-open"] if certain else [])
        assert self.room.identity.store.taken(_as_its_header_says(forged).get("id", self.honest.id)) is None

    @contextmanager
    def believing(self, change: Callable[[RosterSnapshot], RosterSnapshot]) -> Iterator[None]:
        """The software has another roster than the node."""
        identity = self.room.identity
        with pytest.MonkeyPatch.context() as patched:
            changed = replace(identity, roster=change(identity.roster))
            patched.setattr(self.room.vault, "_identity", changed)
            yield


def _as_its_header_says(forged: Envelope) -> dict[str, Any]:
    try:
        header = parse_header(forged.header)
    except EnvelopeError:
        return {}
    names = ("id", "referral", "sender", "kind", "event", "purpose", "priority")
    return {name: getattr(header, name) for name in names}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LyingNode]:
    async with blind_room(tmp_path_factory.mktemp("room")) as room:
        yield LyingNode(room, await room.arrived(room.scene.liar.forward()), [])


@pytest.mark.parametrize("lie", BEFORE_OPENING, ids=lambda lie: lie.id)
async def test_what_its_node_let_through_is_not_opened(node: LyingNode, lie: Lie) -> None:
    forged = lie.forge(node.room.scene)
    assert isinstance(forged, Envelope)
    # Whose envelope it is, is the node's word and the header's: they have to agree.
    listed = {"sender": HELPLINE.agency} if lie.refusal.step == 3 else {}
    await node.is_refused(forged, lie.refusal.step, lie.refusal.code, **listed)


async def test_1_a_part_that_is_larger_than_any_envelope_is_refused(node: LyingNode) -> None:
    large = node.room.scene.liar.forward()._replace(ciphertext=bytes(LIMITS.envelope_bytes + 1))
    await node.is_refused(large, 1, "too-large")


async def test_2_a_header_in_another_spelling_is_refused(node: LyingNode) -> None:
    await node.is_refused(header_bytes(node.room.scene, lambda raw: raw.replace(b":", b": ", 1)), 2, "malformed")


async def test_3_an_item_that_the_node_lists_as_anothers(node: LyingNode) -> None:
    await node.is_refused(node.room.scene.liar.forward(), 3, "wrong-recipient", sender=LABOUR_OFFICE.agency)


async def test_6_an_offer_that_is_listed_as_having_come_in_time(node: LyingNode) -> None:
    """The time of arrival is the node's word, the only one that it is believed; the release statement is not."""
    at = node.room.scene.liar.liar.node.now()
    late = aged(node.room.scene, -2 * DAY_MS, -26 * HOUR_MS)
    await node.is_refused(late, 6, "expired")
    await node.hands_out(late, received_at=at - timedelta(hours=3))
    held = with_release(node.room.scene, node.room.scene.accepted, released_at=ahead(node.room.scene))
    await node.is_refused(held, 6, "from-the-future")


async def test_7_a_sender_that_is_in_no_roster_of_the_softwares(node: LyingNode) -> None:
    with node.believing(lambda roster: without(roster, HELPLINE.agency)):
        await node.is_refused(node.room.scene.liar.forward(), 7, "unknown-sender")


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.LEFT])
async def test_7_a_sender_that_is_no_active_member(node: LyingNode, status: Status) -> None:
    with node.believing(lambda roster: with_member(roster, HELPLINE.agency, status=status)):
        await node.is_refused(node.room.scene.liar.forward(), 7, "not-in-good-standing")


async def test_7_a_real_member_and_an_invented_person(node: LyingNode) -> None:
    with node.believing(lambda roster: with_member(roster, HELPLINE.agency, synthetic=False)):
        await node.is_refused(node.room.scene.liar.forward(), 7, "synthetic-mixed")


async def test_7_a_sender_that_has_another_key_by_now(node: LyingNode) -> None:
    another = node.room.scene.other.agency_key.public
    with node.believing(lambda roster: with_member(roster, HELPLINE.agency, agency_key=another)):
        await node.is_refused(node.room.scene.liar.forward(), 7, "unknown-key")


async def test_10_a_contract_that_is_not_in_force_between_the_two(node: LyingNode) -> None:
    with node.believing(lambda roster: replace(roster, contracts=())):
        await node.is_refused(node.room.scene.liar.forward(), 10, "contract-not-in-force")


async def test_9_another_members_referral(node: LyingNode) -> None:
    """It exists here, with somebody else: nothing tells it from one that does not."""
    about = with_release(node.room.scene, node.room.scene.foreign)
    await node.is_refused(about, 9, "unknown-referral")


async def test_what_holds_at_every_step_is_opened(node: LyingNode) -> None:
    await node.hands_out(with_release(node.room.scene, node.room.scene.accepted))
