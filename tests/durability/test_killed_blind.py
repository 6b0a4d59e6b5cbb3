"""kill -9 of the processes of two nodes without keys, at every step of a sealed hand-in, its opening and its answers.

As `test_killed`, with its points and its rules; here the agencies' own software seals and opens, and repeats what was
not answered. Lost: 0. Doubled: 0.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_asyncio
from support.blind_lives import STEPS, live_blind, office_of
from support.doomed_process import Doom
from support.ledger import record
from support.lives import EMBASSY, HELPLINE, Death, Pair
from support.node_processes import node_processes
from support.postgres import Databases

from exchange.demo import federation as demo

pytestmark = pytest.mark.faults
MOMENTS: Final = ("before", "during", "after")
REQUEST_MOMENTS: Final = ("arrived", "half-answered", "answered")


@dataclass(frozen=True, slots=True)
class Place:
    """A place of the code in a step of a life, with the moments at which an API process dies there."""

    step: str
    node: str
    place: str
    moments: tuple[str, ...] = MOMENTS
    ends: str = "erased"


TABLE: Final = (
    # The helpline's software asks for the embassy's key, seals, and hands in.
    Place("hand in", HELPLINE, f"GET /v1/peers/{demo.EMBASSY.agency}/keys", REQUEST_MOMENTS),
    Place("hand in", HELPLINE, "POST /v1/envelopes", REQUEST_MOMENTS),
    Place("hand in", HELPLINE, "hand_ins.store_hand_ins"),
    # The embassy's node signs for what it cannot read.
    Place("hand in", EMBASSY, "POST /federation/v1/envelopes", REQUEST_MOMENTS),
    Place("hand in", EMBASSY, "receive_envelopes._commit.commit"),
    # Its software verifies, opens, and takes the key over.
    Place("open", EMBASSY, "GET /v1/inbox/{id}", REQUEST_MOMENTS),
    Place("open", EMBASSY, "open_items.sealed_envelope.commit", ("during", "after")),
    Place("open", EMBASSY, "PUT /v1/inbox/{id}/opening", REQUEST_MOMENTS),
    Place("open", EMBASSY, "record_opening.record_opening.commit"),
    # Or it does not verify: it is refused, and the node destroys it.
    Place("refuse", EMBASSY, "POST /v1/inbox/{id}/refusal", REQUEST_MOMENTS, ends="refused"),
    Place("refuse", EMBASSY, "refuse_item.refuse_item.step.commit", ends="refused"),
    Place("refuse", HELPLINE, "receive_envelopes._commit.commit", ends="refused"),
    # It accepts, in an envelope that it seals and signs itself.
    Place("decide", EMBASSY, f"GET /v1/peers/{demo.HELPLINE.agency}/keys", REQUEST_MOMENTS),
    Place("decide", EMBASSY, "POST /v1/envelopes", REQUEST_MOMENTS),
    Place("decide", EMBASSY, "sealed_answer.store_sealed_answer.commit"),
    Place("decide", EMBASSY, "sealed_answer._again.commit", ("during", "after")),
    Place("decide", HELPLINE, "receive_envelopes._commit.commit"),
    Place("hear", HELPLINE, "PUT /v1/inbox/{id}/opening", REQUEST_MOMENTS),
    Place("hear", HELPLINE, "record_opening.record_opening.commit"),
    # Her name is released by the node, which cannot read it, and taken over.
    Place("release", HELPLINE, "release_disclosure._let_go.commit"),
    Place("release", EMBASSY, "receive_envelopes._commit.commit"),
    Place("release", EMBASSY, "record_opening.record_opening.commit"),
    # She says no; the embassy's own copies are destroyed, and it signs for that.
    Place("say no", EMBASSY, "receive_envelopes._commit.commit", ("during", "after")),
    Place("attest", EMBASSY, "POST /v1/envelopes", REQUEST_MOMENTS),
    Place("attest", EMBASSY, "sealed_answer.store_sealed_attestation.commit"),
    Place("attest", HELPLINE, "receive_envelopes._commit.commit", ("during", "after")),
)


def rows() -> Iterator[object]:
    """Every point, as a parameter of the test."""
    for place in TABLE:
        for moment in place.moments:
            yield pytest.param(place, moment, id=f"{place.step}: {place.node} {moment} {place.place}")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both nodes, running, without any agency key."""
    new_database = None
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("postgres")
        new_database = lambda _name: databases.create()  # noqa: E731
    folder = tmp_path_factory.mktemp(f"blind-{request.param}")
    plans = (demo.HELPLINE, demo.EMBASSY)
    with node_processes(folder / "nodes", plans, new_database, keys_elsewhere=True) as (helpline, embassy):
        for node in (helpline, embassy):
            node.start()
        yield Pair(helpline, embassy)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(nodes: Pair) -> AsyncIterator[Pair]:
    """Both agencies have published their weekly keys."""
    for node in nodes.both:
        async with office_of(node) as office:
            await office.vault.publish_epochs()
    yield nodes


@pytest.mark.parametrize(("place", "moment"), list(rows()))
async def test_killed(pair: Pair, place: Place, moment: str) -> None:
    found = await live_blind(pair, place.ends, Death(place.node, Doom("api", moment, place.place), place.step))
    record("crash points without keys", lost=len(found.lost), doubled=len(found.doubled))
    assert (found.lost, found.doubled, found.differs) == ([], [], [])


async def test_no_transaction_of_these_lives_is_missing_in_the_table(pair: Pair) -> None:
    """Whatever a node's API commits in one of the lives stands in the table, or below with the reason why not."""
    for ends in STEPS:
        await live_blind(pair, ends)
    reached = {
        (name, place)
        for name, node in ((HELPLINE, pair.helpline), (EMBASSY, pair.embassy))
        for role, place in node.transactions()
        if role == "api" and place not in ELSEWHERE
    }
    said_by_both = {(node, place) for node in (HELPLINE, EMBASSY) for place in SAME_ON_BOTH}
    assert sorted(reached - {(place.node, place.place) for place in TABLE} - said_by_both) == []


SAME_ON_BOTH: Final = {"open_items.sealed_envelope.commit"}
"""The helpline reads the decision as the embassy reads the offer."""
ELSEWHERE: Final = {
    # In the table of `test_killed`: a node does the same whoever holds the keys.
    "withdraw._withdraw.commit",
    "destroy.destroy_referrals.commit",
    "key_store.KeyStore._destroy.<lambda>",
    # Left out there as well, with the reasons.
    "authenticate.remember_jti.commit",
    "engine.check_writable",
    "peers._ask_for_card.commit",
    "peer_cards.note_asked.<lambda>",
    "receive_envelopes._commit.<lambda>",
    "record_consent.record_consent.work.commit",
    "clock_jumps.ClockWatch.look.commit",  # tests/federation/test_a_clock_that_jumped.py; repeated every minute
    "clock_jumps.confirm_clock.<lambda>",  # the same; a peer confirms again
    "maintain.remember_used_roster.commit",
    "visibility.settle_restored",
    "publish_epochs.take_epochs.commit",  # before the lives; the same statements again change nothing
}
