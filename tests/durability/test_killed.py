"""kill -9 of every process of two nodes, at every kind of point of a referral's life, in one step of it at least.

Lost: 0. Doubled: 0.

A point is named in the code's own terms: a transaction function (`before` it is asked for, `during`: executed and not
committed, `after`: committed and nobody was told), a call of the courier, or a request (`arrived`, `half-answered`,
`answered`). At each point a real process on a real database dies by SIGKILL; it is started again, and the life goes on
to its end. Then both sides are compared (`support.lives`): what was answered 2xx is there, what was not was sent again
under the same Idempotency-Key, everything lies once, with the same receipts, events and state.

`make test` runs the rows that are marked, on SQLite; `make faults` runs all of them
on both and prints the count.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest
from support.databases import KINDS
from support.doomed_process import Doom
from support.ledger import record
from support.lives import EMBASSY, HELPLINE, STEPS, Death, Pair, live
from support.node_processes import node_processes
from support.postgres import Databases

from contracts.vocabulary import Priority
from exchange.demo import federation as demo

MOMENTS: Final = ("before", "during", "after")
REQUEST_MOMENTS: Final = ("arrived", "half-answered", "answered")


@dataclass(frozen=True, slots=True)
class Place:
    """A place of the code in a step of a life, with the moments at which a process dies there."""

    step: str
    node: str
    role: str
    place: str
    moments: tuple[str, ...] = MOMENTS
    usual: tuple[str, ...] = ()
    """The moments that `make test` runs on SQLite."""
    ends: str = "erased"
    priority: Priority = Priority.ROUTINE
    alone: bool = False
    """Nobody else of the node does the same meanwhile."""


TABLE: Final = (
    # The helpline hands a referral in.
    Place("hand in", HELPLINE, "api", "POST /v1/referrals", REQUEST_MOMENTS),
    Place("hand in", HELPLINE, "api", "hand_ins.store_hand_ins", usual=("during", "after")),
    # Its courier takes the offer to the embassy.
    Place("hand in", HELPLINE, "courier", "leasing.claim.<lambda>"),
    Place("hand in", HELPLINE, "courier", "HTTPTransport.post_envelopes", ("before", "after")),
    Place("hand in", EMBASSY, "api", "POST /federation/v1/envelopes", REQUEST_MOMENTS, ("half-answered",)),
    Place("hand in", EMBASSY, "api", "key_store.KeyStore.put_many.store", usual=("after",)),
    Place("hand in", EMBASSY, "api", "receive_envelopes._commit.commit", usual=("after",)),
    Place("hand in", HELPLINE, "courier", "settle.settle.commit", usual=("during",)),
    # The embassy opens the offer and takes it over.
    Place("look", EMBASSY, "api", "open_items._put_on_record.commit", ("during", "after")),
    Place("look", EMBASSY, "api", "poll_inbox.acknowledge_item.commit", ("during", "after")),
    # It accepts, and the answer goes back.
    Place("decide", EMBASSY, "api", "POST /v1/inbox/{id}/decision", REQUEST_MOMENTS),
    Place("decide", EMBASSY, "api", "answering.say.commit", usual=("after",)),
    Place("decide", EMBASSY, "courier", "HTTPTransport.post_envelopes", ("before", "after")),
    Place("decide", EMBASSY, "courier", "leasing.claim.<lambda>", ("after",)),
    Place("decide", HELPLINE, "api", "key_store.KeyStore.put_many.store", ("after",)),
    Place("decide", HELPLINE, "api", "receive_envelopes._commit.commit"),
    Place("decide", EMBASSY, "courier", "settle.settle.commit"),
    # Her name is released, by a worker or in an emergency by the courier, and goes.
    Place("release", HELPLINE, "api", "POST /v1/referrals/{id}/release", REQUEST_MOMENTS),
    Place("release", HELPLINE, "api", "release_disclosure._let_go.commit", usual=("after",)),
    Place("decide", HELPLINE, "courier", "release_disclosure._let_go.commit", usual=("after",),
          priority=Priority.EMERGENCY),
    Place("release", HELPLINE, "courier", "deliver._on_their_way.mark"),
    Place("release", HELPLINE, "courier", "HTTPTransport.post_envelopes", ("before", "after")),
    Place("release", EMBASSY, "api", "receive_envelopes._commit.commit"),
    Place("release", HELPLINE, "courier", "settle.settle.commit"),
    # She says no: stored, destroyed here, delivered, destroyed there, attested by both.
    Place("say no", HELPLINE, "api", "POST /v1/withdrawals", REQUEST_MOMENTS),
    Place("say no", HELPLINE, "api", "withdraw._withdraw.commit", usual=("after",)),
    Place("say no", HELPLINE, "api", "key_store.KeyStore._destroy.<lambda>", alone=True),
    Place("say no", HELPLINE, "api", "Database.scrub", ("before", "after"), alone=True),
    Place("say no", HELPLINE, "api", "destroy.destroy_referrals.commit", alone=True),
    Place("say no", HELPLINE, "courier", "HTTPTransport.post_envelopes", ("before", "after")),
    Place("say no", EMBASSY, "api", "receive_envelopes._commit.commit"),
    Place("say no", HELPLINE, "courier", "settle.settle.commit"),
    Place("say no", EMBASSY, "courier", "key_store.KeyStore._destroy.<lambda>", usual=("after",)),
    Place("say no", EMBASSY, "courier", "Database.scrub", ("before", "after")),
    Place("say no", EMBASSY, "courier", "destroy.destroy_referrals.commit"),
    Place("say no", EMBASSY, "courier", "HTTPTransport.post_envelopes", ("before", "after")),
    Place("say no", HELPLINE, "api", "receive_envelopes._commit.commit", ("during", "after")),
    Place("say no", EMBASSY, "courier", "settle.settle.commit"),
    # She says it at the embassy: nothing is shown there or here any more, and it is destroyed after a day.
    Place("say no there", EMBASSY, "api", "POST /v1/withdrawals", REQUEST_MOMENTS, ends="blocked"),
    Place("say no there", EMBASSY, "api", "withdraw._withdraw.commit", ends="blocked"),
    Place("say no there", HELPLINE, "api", "receive_envelopes._commit.commit", ("during", "after"), ends="blocked"),
    # She is served, wants that nothing more is shared, and then no more of it.
    Place("serve", EMBASSY, "api", "answering.say.commit", ("during", "after"), ends="stopped"),
    Place("serve", EMBASSY, "courier", "deliver._on_their_way.mark", ("during", "after"), ends="stopped"),
    Place("serve", HELPLINE, "api", "receive_envelopes._commit.commit", ("during", "after"), ends="stopped"),
    Place("stop sharing", HELPLINE, "api", "withdraw._withdraw.commit", ("during", "after"), ends="stopped"),
    Place("stop sharing", EMBASSY, "api", "receive_envelopes._commit.commit", ("during", "after"), ends="stopped"),
    Place("stop service", HELPLINE, "api", "withdraw._withdraw.commit", ("during", "after"), ends="stopped"),
    Place("stop service", EMBASSY, "api", "receive_envelopes._commit.commit", ("during", "after"), ends="stopped"),
    # The embassy declines.
    Place("decline", EMBASSY, "api", "answering.say.commit", ("during", "after"), ends="declined"),
    Place("decline", HELPLINE, "api", "receive_envelopes._commit.commit", ("during", "after"), ends="declined"),
    # The helpline takes a referral back before there is an answer.
    Place("recall", HELPLINE, "api", "POST /v1/referrals/{id}/recall", REQUEST_MOMENTS, ends="recalled"),
    Place("recall", HELPLINE, "api", "recall_referral.recall_referral.step.commit", ends="recalled"),
    Place("recall", EMBASSY, "api", "receive_envelopes._commit.commit", ends="recalled"),
    Place("recall", HELPLINE, "courier", "settle.settle.commit", ends="recalled"),
)  # fmt: skip


def rows() -> Iterator[object]:
    """Every point, on either database, as a parameter of the test."""
    for kind, place in itertools.product(KINDS, TABLE):
        for moment in place.moments:
            usual = moment in place.usual and kind == "sqlite"
            name = f"{kind}-{place.step}: {place.node} {place.role} {moment} {place.place}"
            yield pytest.param(kind, place, moment, id=name, marks=[] if usual else [pytest.mark.faults])


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both nodes, running."""
    new_database = None
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("postgres")
        new_database = lambda _name: databases.create()  # noqa: E731
    folder = tmp_path_factory.mktemp(request.param)
    with node_processes(folder / "nodes", (demo.HELPLINE, demo.EMBASSY), new_database) as (helpline, embassy):
        for node in (helpline, embassy):
            node.start()
        yield Pair(helpline, embassy)


@pytest.mark.parametrize(("pair", "place", "moment"), list(rows()), indirect=["pair"])
async def test_killed(pair: Pair, place: Place, moment: str) -> None:
    death = Death(place.node, Doom(place.role, moment, place.place), place.step, place.alone)
    found = await live(pair, place.ends, death, priority=place.priority)
    record("crash points", lost=len(found.lost), doubled=len(found.doubled))
    assert (found.lost, found.doubled, found.differs) == ([], [], [])


@pytest.mark.faults
@pytest.mark.parametrize("pair", KINDS, indirect=True)
async def test_no_transaction_of_these_lives_is_missing_in_the_table(pair: Pair) -> None:
    """Whatever a node's process commits in one of the lives stands in the table, or below with the reason why not."""
    for ends in STEPS:
        await live(pair, ends)
    reached = {
        (name, role, place)
        for name, node in ((HELPLINE, pair.helpline), (EMBASSY, pair.embassy))
        for role, place in node.transactions()
        if place not in ELSEWHERE
    }
    missing = reached - {(place.node, place.role, place.place) for place in TABLE} - BY_EITHER
    assert sorted(missing) == []


ELSEWHERE: Final = {
    "leasing.give_back.<lambda>",  # without anything delivered; the lease ends by itself
    "maintain._forget.drop",  # deletes what has ended; repeated every five seconds
    "own_epochs.publish_own_epochs.commit",  # tests/federation/test_epoch_keys.py
    "clock_jumps.ClockWatch.look.commit",  # tests/federation/test_a_clock_that_jumped.py; repeated every minute
    "clock_jumps.confirm_clock.<lambda>",  # the same; a peer confirms again
    "maintain.remember_used_roster.commit",  # tests/federation/test_an_older_roster.py; repeated every five seconds
    "key_store.KeyStore.put_epochs.<lambda>",  # the same
    "visibility.settle_restored",  # tests/federation/test_a_lost_disk.py; at each start
    "engine.check_writable",  # `/health/ready` asks whether it could write, and changes nothing
    "leasing.renew.<lambda>",  # the lease of a batch that takes long; one that is not kept ends by itself
    "peers._ask_for_card.commit",  # asked for again
    "peer_cards.note_asked.<lambda>",  # the same
    "receive_envelopes._commit.<lambda>",  # a sign of life
    "peers.greet_peers.greet.<lambda>",  # the same
    "authenticate.remember_jti.commit",  # a token that nobody got; another one is asked for
    "record_consent.record_consent.work.commit",  # before the life; the same Idempotency-Key
}
BY_EITHER: Final = {
    (HELPLINE, "courier", "key_store.KeyStore._destroy.<lambda>"),
    (HELPLINE, "courier", "destroy.destroy_referrals.commit"),
}
"""What the API does at once and the courier, woken by the same commit, may do too. A courier dies so at the embassy."""
