"""A stop about another member's referral is what one about an unknown referral is, to whoever sent it and for ever.

Same words, same statements in both databases, same rows of the same sizes, same consequences later. And to the other
member's referral it is nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.databases import POSTGRES_IN_FAULTS, MakeDatabase
from support.federation import Federation, federation
from support.federation_fixtures import federation_on
from support.lying_peer import LyingPeer, batch_of
from support.refusals import Rows, Watched, rows_of, statements_of, watched, written

from exchange.client.errors import ProblemError
from exchange.demo.federation import HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.envelope.format import Envelope
from exchange.envelope.kinds import Kind
from exchange.envelope.wire import read_again
from exchange.schemas.federation import BatchAnswer
from exchange.use_cases.arrivals import _alias

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPLY = "ab" * 16
STOPS: dict[str, tuple[Kind, dict[str, Any]]] = {
    "stop-service": (Kind.WITHDRAWAL, {"event": "stop-service"}),
    "stop-sharing": (Kind.WITHDRAWAL, {"event": "stop-sharing"}),
    "erase": (Kind.WITHDRAWAL, {"event": "erase"}),
    "recall": (Kind.RECALL, {}),
    "entered-in-error": (Kind.ENTERED_IN_ERROR, {}),
    "erased": (Kind.ERASURE_RECEIPT, {"event": "erased-by-node"}),
    "refusal": (Kind.REFUSAL, {"event": "cannot-open", "in_reply_to": REPLY}),
}
DECLINE = {"decision": "declined", "reason": "no-capacity"}
every_stop = pytest.mark.parametrize("stop", list(STOPS))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=POSTGRES_IN_FAULTS)
async def three(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_on: Callable[[str], MakeDatabase],
) -> AsyncIterator[Federation]:
    folder: Path = tmp_path_factory.mktemp("stops")
    async with federation_on(folder, (HELPLINE, SHELTER, LABOUR_OFFICE), make_on(request.param)) as together:
        yield together


@pytest.fixture(scope="module")
def receiver(three: Federation) -> Iterator[Watched]:
    with watched(three[SHELTER]) as node:
        yield node


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def party(three: Federation) -> LyingPeer:
    return await LyingPeer.of(three[HELPLINE], three[SHELTER])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(three: Federation) -> LyingPeer:
    return await LyingPeer.of(three[LABOUR_OFFICE], three[SHELTER])


async def offered(party: LyingPeer) -> str:
    """A referral between the party and the receiver."""
    referral = secrets.token_hex(16)
    assert [one.result for one in await party.deliver(party.forward(referral=referral))] == ["accepted"]
    return referral


def rows_about(rows: Rows, referral: str) -> dict[str, list[str]]:
    """Everything that lies here under this id, or belongs to the envelopes that do."""
    return {table: [row for row in found if f"'{referral}'" in row] for table, found in rows.items()}


def without_tombstones(rows: dict[str, list[str]], agency: str) -> dict[str, list[str]]:
    return {table: [row for row in found if f"'{agency}'" not in row] for table, found in rows.items()}


async def told(receiver: Watched, stranger: LyingPeer, envelope: Envelope) -> tuple[Any, ...]:
    """Everything in which the answers to two envelopes could differ; of a receipt, its length."""
    await stranger.token()
    before = await receiver.rows()
    with statements_of(receiver.one) as statements:
        answer = await stranger.post(batch_of(envelope))
    (one,) = BatchAnswer.model_validate_json(answer.content).answers
    words = one.model_dump() | {"receipt": None}
    headers = answer.headers.multi_items()
    return words, len(answer.content), headers, statements, written(before, await receiver.rows())


Make = Callable[[str], Envelope]


def everything_after(stranger: LyingPeer, kind: Kind, more: dict[str, Any]) -> dict[str, Make]:
    """A stop, and all that a member could send afterwards to find out what it met."""

    def stop(referral: str) -> Envelope:
        return stranger.stop(kind, referral=referral, number=stranger.now(), **more)

    return {
        "the stop": stop,
        "another": stop,
        "an offer": lambda referral: stranger.forward(referral=referral),
        "information": lambda referral: stranger.forward(Kind.INFORMATION, referral=referral, in_reply_to=REPLY),
        "an update": lambda referral: stranger.forward(Kind.UPDATE, referral=referral),
        "an answer": lambda referral: stranger.answer(
            Kind.DECISION, "declined", DECLINE, referral=referral, in_reply_to=REPLY
        ),
        "erase": lambda referral: stranger.stop(Kind.WITHDRAWAL, referral=referral, event="erase"),
    }


@every_stop
async def test_it_is_told_from_one_about_nothing_in_no_way(
    receiver: Watched, party: LyingPeer, stranger: LyingPeer, stop: str
) -> None:
    kind, more = STOPS[stop]
    hers, nothing = await offered(party), secrets.token_hex(16)
    for name, make in everything_after(stranger, kind, more).items():
        first, second = make(hers), make(nothing)
        about_hers, about_nothing = await told(receiver, stranger, first), await told(receiver, stranger, second)
        assert about_hers == about_nothing, name
        again = await told(receiver, stranger, first)
        assert again == await told(receiver, stranger, second), name
    # What it is compared with is what a stop about an unknown referral must be.
    (accepted,) = await stranger.deliver(make(nothing))
    assert accepted.result == "accepted"


@every_stop
async def test_before_any_stop_answers_and_updates_are_told_from_none_either(
    receiver: Watched, party: LyingPeer, stranger: LyingPeer, stop: str
) -> None:
    """In one batch with a stop that comes last, the rest is judged before it."""
    kind, more = STOPS[stop]
    hers, nothing = await offered(party), secrets.token_hex(16)
    answers = []
    for referral in (hers, nothing):
        batch = [
            stranger.forward(Kind.UPDATE, referral=referral),
            stranger.answer(Kind.DECISION, "declined", DECLINE, referral=referral, in_reply_to=REPLY),
            stranger.stop(kind, referral=referral, **more),
            stranger.forward(referral=referral),
        ]
        await stranger.token()
        before = await receiver.rows()
        with statements_of(receiver.one) as statements:
            found = await stranger.deliver(*batch)
        shown = [one.model_dump() | {"receipt": None} for one in found]
        answers.append((shown, statements, written(before, await receiver.rows())))
    assert answers[0] == answers[1]
    assert [one["result"] for one in answers[0][0]] == ["later", "refused", "accepted", "refused"]


@every_stop
async def test_a_repeat_gets_the_first_bytes(
    receiver: Watched, party: LyingPeer, stranger: LyingPeer, stop: str
) -> None:
    kind, more = STOPS[stop]
    foreign = stranger.stop(kind, referral=await offered(party), **more)
    (first,) = await stranger.deliver(foreign)
    before = await receiver.rows()
    assert [one.receipt for one in await stranger.deliver(foreign, foreign)] == [first.receipt] * 2
    assert await receiver.rows() == before


@every_stop
async def test_to_the_other_members_referral_it_is_nothing(
    receiver: Watched, party: LyingPeer, stranger: LyingPeer, stop: str
) -> None:
    kind, more = STOPS[stop]
    hers = await offered(party)
    before = rows_about(await receiver.rows(), hers)
    await stranger.deliver(stranger.stop(kind, referral=hers, **more), stranger.stop(kind, referral=hers, **more))
    after = rows_about(await receiver.rows(), hers)
    assert without_tombstones(after, stranger.liar.agency) == before
    # The one row that names it is the sender's own tombstone, and that is another.
    (tombstone,) = [row for table in after for row in after[table] if row not in before[table]]
    assert not tombstone.startswith(f"('{hers}'")

    update = party.forward(Kind.UPDATE, referral=hers)
    no = party.stop(Kind.WITHDRAWAL, referral=hers, event="stop-service", number=party.now() + 1)
    assert [one.result for one in await party.deliver(update, no)] == ["accepted", "accepted"]
    view = await receiver.one.client().referrals.read(hers)
    assert (view.state, view.peer) == ("withdrawn", party.liar.agency)


@every_stop
async def test_the_id_is_shown_to_nobody(receiver: Watched, party: LyingPeer, stranger: LyingPeer, stop: str) -> None:
    """The agency's systems see a stop about a referral that they do not know, as from any member that invents one."""
    kind, more = STOPS[stop]
    hers = await offered(party)
    client = receiver.one.client()
    cursor = None
    while (page := await client.inbox.list(cursor)).items:
        cursor = page.next_cursor
    receiver.forget_log()
    await stranger.deliver(stranger.stop(kind, referral=hers, **more))
    (item,) = (await client.inbox.list(cursor)).items
    assert (item.sender, item.kind) == (stranger.liar.agency, kind.value)
    view = await client.referrals.read(item.referral)
    assert (view.id, view.peer) == (item.referral, stranger.liar.agency)
    shown = item.model_dump_json() + view.model_dump_json() + (await client.inbox.open(item.id)).model_dump_json()
    with pytest.raises(ProblemError) as refused:
        await client.inbox.sealed(item.id)
    assert refused.value.problem.status == 410
    assert hers not in shown + receiver.log.getvalue() + str(refused.value)


async def test_erase_is_attested_under_the_id_that_it_named(
    three: Federation, receiver: Watched, party: LyingPeer, stranger: LyingPeer
) -> None:
    """Whoever says `erase` hears that it is done; by silence, or by another id, it would learn what exists."""
    hers, nothing = await offered(party), secrets.token_hex(16)
    erase = [stranger.stop(Kind.WITHDRAWAL, referral=one, event="erase") for one in (hers, nothing)]
    assert [one.result for one in await stranger.deliver(*erase)] == ["accepted", "accepted"]
    before = await rows_of(three[LABOUR_OFFICE])
    await three.travel(2)
    heard = await rows_of(three[LABOUR_OFFICE])
    new = [row for row in heard["inbox"] if row not in before["inbox"] and "'erasure-receipt'" in row]
    assert [sum(f"'{one}'" in row for row in new) for one in (hers, nothing)] == [1, 1]

    # Said again about a tombstone it asks the agency for its word too, and whoever gives it never sees her id.
    again = stranger.stop(Kind.WITHDRAWAL, referral=hers, event="erase")
    await stranger.deliver(again)
    act = await receiver.one.client().inbox.attest_erasure(read_again(again.header)["id"])
    assert hers not in act.model_dump_json()
    await three.travel(2)
    (word,) = [row for row in (await rows_of(three[LABOUR_OFFICE]))["inbox"] if "'erased-by-agency'" in row]
    assert f"'{hers}'" in word
    assert (await receiver.one.client().referrals.read(hers)).state == "received"


async def test_with_keys_elsewhere_no_word_leaves_under_the_id_of_this_node(tmp_path: Path) -> None:
    """The agency's own software seals by the id that the node shows it; that one must not reach the sender."""
    async with federation(tmp_path, (HELPLINE, SHELTER, LABOUR_OFFICE), blind=(SHELTER,)) as together:
        shelter = together[SHELTER]
        hers = await offered(await LyingPeer.of(together[HELPLINE], shelter))
        stranger = await LyingPeer.of(together[LABOUR_OFFICE], shelter)
        erase = [stranger.stop(Kind.WITHDRAWAL, referral=hers, event="erase") for _ in range(2)]
        assert [one.result for one in await stranger.deliver(*erase)] == ["accepted", "accepted"]
        client = shelter.client()
        (item,) = {one.referral for one in (await client.inbox.list()).items if one.sender == stranger.liar.agency}
        assert item != hers
        before = (await rows_of(shelter))["outbox"]
        with pytest.raises(ProblemError) as refused:
            await shelter.vault(client).attest_erasure(item)
        assert refused.value.problem.status == 404
        assert (await rows_of(shelter))["outbox"] == before


async def test_the_sender_cannot_name_the_id_under_which_it_lies(
    three: Federation, receiver: Watched, party: LyingPeer, stranger: LyingPeer
) -> None:
    """It begins with the same time, so that it lies with its neighbours; the rest is keyed, for each member apart."""
    hers = await offered(party)
    aliases = [
        _alias(node, member, hers)
        for node in (receiver.one.node, three[HELPLINE].node)
        for member in (stranger.liar.agency, party.liar.agency)
    ]
    assert {one[:12] for one in aliases} == {hers[:12]}
    assert len({*aliases, hers}) == 5
    before = await receiver.rows()
    await stranger.deliver(stranger.stop(Kind.RECALL, referral=hers))
    (row,) = set((await receiver.rows())["referral"]) - set(before["referral"])
    assert row.startswith(f"('{aliases[0]}', '{hers}'")
