"""What a member can do with valid keys beyond its envelopes: its card, its words, its asking again, its stops."""

from __future__ import annotations

import asyncio
import gzip
import math
import secrets
from typing import Any

import httpx2
import pytest
from sqlalchemy import Connection, func, select
from structlog.testing import CapturingLogger
from support.federation import Federation, TestNode
from support.lying_peer import LyingPeer
from support.networks import OverTransport
from support.people import consent_request, referral_request
from support.stories import begin, now_of, safe_contact

from contracts.vocabulary import WithdrawalForm
from exchange.client.errors import ProblemError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.epochs import EpochRevocation, EpochStatement, Week, state_epoch, state_revocation, week_of
from exchange.envelope.format import Envelope
from exchange.envelope.keys import AgencyKey, EpochKey
from exchange.envelope.keys import key_id as key_id_of
from exchange.envelope.kinds import Kind
from exchange.envelope.statements import sign_statement
from exchange.envelope.wire import from_base64url, read_again, to_base64url
from exchange.federation import peers
from exchange.federation.peers import fetch_peer_keys
from exchange.federation.transport import HTTPTransport, PeerTransport, PeerUnreachableError
from exchange.limits import LIMITS, WEEK_MS
from exchange.roster import Member
from exchange.schemas.federation import BatchAnswer, ResyncRequest
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.node import MOST_REVOCATIONS, MOST_STATEMENTS, EpochKeyView, NodeCard
from exchange.schemas.shapes import from_millis
from exchange.storage import node_keyring
from exchange.storage.epochs import KEPT, StoredEpoch, epoch_revocations, peer_epochs, remember_peer_epochs
from exchange.storage.tables import AUDIT, CHANGE, INBOX, METADATA
from exchange.storage.used_roster import UsedRoster, remember_roster
from exchange.use_cases import open_items
from exchange.use_cases.describe_node import node_card, peer_keys
from exchange.use_cases.errors import UnavailableError
from exchange.use_cases.outgoing import current_peer_epoch
from exchange.use_cases.own_epochs import revoke_own_epochs
from exchange.use_cases.peer_epochs import read_peer_epochs
from exchange.use_cases.resync import resync

LARGEST_SEQ = 2**53 - 1
AHEAD = 2**40
"""Higher than any number that a node gives out itself."""


class CardOf:
    """A peer that serves this card."""

    def __init__(self, served: NodeCard) -> None:
        self._served = served

    async def node_card(self, _peer: Member) -> NodeCard:
        return self._served

    async def post_envelopes(self, _peer: Member, _body: bytes, *, until: float) -> BatchAnswer:  # noqa: ARG002
        raise PeerUnreachableError("no-connection")

    async def close(self) -> None:
        pass


def stated(
    one: TestNode,
    *,
    seq: int,
    signed_by: TestNode | None = None,
    agency: str | None = None,
    public: bytes | None = None,
    key_id: str | None = None,
    week: Week | None = None,
) -> EpochKeyView:
    """A statement for this week, signed by the member's agency key, with any number; or with anything else wrong."""
    keyring = (signed_by or one).node.keyring
    assert keyring is not None
    week, key = week or week_of(one.node.clock()), public or EpochKey(secrets.token_bytes(32)).public
    statement = EpochStatement(
        agency=agency or one.agency,
        key_id=key_id or key_id_of(key),
        key=to_base64url(key),
        not_before=week.not_before,
        not_after=week.not_after,
        seq=seq,
    )
    return EpochKeyView(
        key_id=statement.key_id,
        key=statement.key,
        seq=seq,
        not_before=from_millis(week.not_before),
        not_after=from_millis(week.not_after),
        statement=to_base64url(sign_statement(statement, keyring.agency_key.sign).to_bytes()),
    )


def signed_for(one: TestNode, *, seq: int, week: Week) -> EpochKeyView:
    """A statement for a week of any year, as a card shows it whose other members say what can be said."""
    assert one.node.keyring is not None
    signed = state_epoch(
        key := EpochKey(secrets.token_bytes(32)),
        week,
        agency=one.agency,
        seq=seq,
        sign=one.node.keyring.agency_key.sign,
    )
    said = {"key_id": key.key_id, "key": to_base64url(key.public), "statement": to_base64url(signed.to_bytes())}
    return stated(one, seq=seq).model_copy(update=said)


def revoked(
    one: TestNode,
    key_id: str,
    *,
    seq: int,
    signed_by: TestNode | None = None,
    agency: str | None = None,
    revoked_at: int | None = None,
) -> str:
    """A revocation signed by the member's agency key; or with anything wrong."""
    keyring, at = (signed_by or one).node.keyring, revoked_at or one.node.clock()
    assert keyring is not None
    revocation = EpochRevocation(
        agency=agency or one.agency, key_id=key_id, compromised_since=at, revoked_at=at, seq=seq
    )
    return to_base64url(sign_statement(revocation, keyring.agency_key.sign).to_bytes())


async def card(one: TestNode, *epochs: EpochKeyView) -> NodeCard:
    found = await node_card(one.node)
    return found.model_copy(update={"epochs": (*found.epochs, *epochs)})


async def test_the_largest_number_of_a_statement_is_remembered_on_each_database(on_both: Federation) -> None:
    one, other = on_both[HELPLINE], on_both[SHELTER]
    transport: PeerTransport = CardOf(await card(other, stated(other, seq=LARGEST_SEQ)))
    assert await fetch_peer_keys(one.node, transport, other.member)


async def test_a_card_with_too_many_statements_is_not_used(pair: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(peers, "get_logger", lambda: log)
    one, other = pair[HELPLINE], pair[SHELTER]
    many = [stated(other, seq=AHEAD + 1000 + place) for place in range(MOST_STATEMENTS)]
    assert not await fetch_peer_keys(one.node, CardOf(await card(other, *many)), other.member)
    assert log.calls == [("warning", ("peer-card-refused",), {"peer": other.agency, "code": "too-large"})]


async def test_a_card_on_which_a_number_stands_twice_is_not_used(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two statements with one number none is the newer, and none is too many."""
    log = CapturingLogger()
    monkeypatch.setattr(peers, "get_logger", lambda: log)
    one, other = pair[HELPLINE], pair[SHELTER]
    before = await one.node.database.read(lambda conn: read_peer_epochs(conn, other.agency))
    twice = await card(other, stated(other, seq=AHEAD), stated(other, seq=AHEAD))
    also = {"revocations": (revoked(other, secrets.token_hex(16), seq=AHEAD),)}
    for served in (twice, (await card(other, stated(other, seq=AHEAD))).model_copy(update=also)):
        assert not await fetch_peer_keys(one.node, CardOf(served), other.member)
    refused = ("warning", ("peer-card-refused",), {"peer": other.agency, "code": "epoch-repeated"})
    assert log.calls == [refused, refused]
    assert await one.node.database.read(lambda conn: read_peer_epochs(conn, other.agency)) == before


async def test_a_number_that_is_known_is_given_to_no_other_key(pair: Federation) -> None:
    one, other = pair[HELPLINE], pair[SHELTER]
    said = stated(other, seq=AHEAD)
    revocation = revoked(other, secrets.token_hex(16), seq=AHEAD + 1)
    first = (await card(other, said)).model_copy(update={"revocations": (revocation,)})
    # A card that is read again says the same.
    for _ in range(2):
        assert await fetch_peer_keys(one.node, CardOf(first), other.member)
    highest = stated(other, seq=AHEAD + 2)
    for changed in (
        await card(other, stated(other, seq=AHEAD), highest),
        await card(other, stated(other, seq=AHEAD + 1), highest),
        (await card(other, said, highest)).model_copy(
            update={"revocations": (revoked(other, secrets.token_hex(16), seq=AHEAD + 1),)}
        ),
    ):
        assert not await fetch_peer_keys(one.node, CardOf(changed), other.member)
    stored = await one.node.database.read(lambda conn: read_peer_epochs(conn, other.agency))
    assert max(row.seq for row in stored.statements) == AHEAD
    assert [row.seq for row in stored.revocations] == [AHEAD + 1]


async def test_a_stolen_agency_key_uses_up_no_numbers_of_the_next_and_seals_nothing(pair: Federation) -> None:
    """The thief published the highest number there is; then the roster gave the agency another key."""
    one, other = pair[HELPLINE], pair[SHELTER]
    stolen = stated(other, seq=LARGEST_SEQ)
    assert await fetch_peer_keys(one.node, CardOf(await card(other, stolen)), other.member)
    assert (await current_peer_epoch(one.node, other.member)).key_id == stolen.key_id
    # The helpline's agency key stands in for the shelter's new one.
    renewed = other.member.model_copy(update={"agency_key": one.member.agency_key})
    assert one.node.keyring is not None
    week, key = week_of(one.node.clock()), EpochKey(secrets.token_bytes(32))
    signed = state_epoch(key, week, agency=other.agency, seq=AHEAD + 7, sign=one.node.keyring.agency_key.sign)
    fresh = stated(other, seq=AHEAD + 7).model_copy(
        update={"key_id": key.key_id, "key": to_base64url(key.public), "statement": to_base64url(signed.to_bytes())}
    )
    only = (await card(other)).model_copy(update={"epochs": (fresh,)})
    assert await fetch_peer_keys(one.node, CardOf(only), renewed)
    assert (await current_peer_epoch(one.node, renewed)).key_id == key.key_id


@pytest.mark.parametrize("kind", ["statements", "revocations"])
async def test_what_a_stolen_agency_key_has_signed_leaves_no_place_taken(pair: Federation, kind: str) -> None:
    """Two cards full of the highest numbers there are, all within the time that a card may speak of."""
    one, other = pair[HELPLINE], pair[SHELTER]
    numbers = range(LARGEST_SEQ - KEPT, LARGEST_SEQ)
    if kind == "statements":
        for some in (numbers[:MOST_STATEMENTS], numbers[MOST_STATEMENTS:]):
            full = (await card(other)).model_copy(update={"epochs": tuple(stated(other, seq=seq) for seq in some)})
            assert await fetch_peer_keys(one.node, CardOf(full), other.member)
    else:
        many = tuple(revoked(other, secrets.token_hex(16), seq=seq) for seq in numbers)
        assert await fetch_peer_keys(
            one.node, CardOf((await card(other)).model_copy(update={"revocations": many})), other.member
        )
    new, at = AgencyKey(secrets.token_bytes(32)), one.node.clock()
    await listed(pair, new)
    key, old = EpochKey(secrets.token_bytes(32)), secrets.token_hex(16)
    said = state_revocation(old, agency=other.agency, compromised_since=at, at=at, seq=6, sign=new.sign)
    signed = state_epoch(key, week_of(at), agency=other.agency, seq=7, sign=new.sign)
    view = stated(other, seq=7).model_copy(update={"statement": to_base64url(signed.to_bytes())})
    honest = (await card(other)).model_copy(update={"epochs": (view,), "revocations": (to_base64url(said.to_bytes()),)})
    peer = one.node.world().roster.member(other.agency)
    assert await fetch_peer_keys(one.node, CardOf(honest), peer)
    assert (await current_peer_epoch(one.node, peer)).key_id == key.key_id
    stored = await one.node.database.read(lambda conn: read_peer_epochs(conn, other.agency))
    assert [row.key_id for row in stored.statements] == [key.key_id]
    assert [row.key_id for row in stored.revocations] == [old]


async def test_a_process_that_is_behind_deletes_nothing_of_a_newer_agency_key(pair: Federation) -> None:
    """Another process has a roster already that lists another key; this one reads a card under the old one."""
    one, other = pair[HELPLINE], pair[SHELTER]
    new, week = AgencyKey(secrets.token_bytes(32)), week_of(one.node.clock())
    key = EpochKey(secrets.token_bytes(32))
    raw = state_epoch(key, week, agency=other.agency, seq=AHEAD, sign=new.sign).to_bytes()
    row = StoredEpoch(key.key_id, AHEAD, week.not_before, week.not_after, raw)
    version = one.node.world().roster.version + 1

    def elsewhere(conn: Connection) -> None:
        remember_roster(conn, UsedRoster(version, "0" * 64))
        remember_peer_epochs(conn, other.agency, [row])

    await one.node.database.write(elsewhere)
    assert await fetch_peer_keys(one.node, CardOf(await card(other)), other.member)
    assert row in await one.node.database.read(lambda conn: peer_epochs(conn, other.agency))


async def listed(pair: Federation, key: AgencyKey) -> None:
    """The roster gives the shelter another agency key."""
    await pair.new_roster(
        member=lambda one: one.model_copy(update={"agency_key": key.public}) if one.agency == SHELTER.agency else one
    )


async def test_a_week_far_ahead_is_passed_over_and_the_rest_of_the_card_counts(pair: Federation) -> None:
    """A year that no calendar has would fail whoever lists the keys, and what is far away is never forgotten."""
    one, other = pair[HELPLINE], pair[SHELTER]
    limit = one.node.clock() + LIMITS.epochs_ahead_read * WEEK_MS
    last = stated(other, seq=AHEAD + 1, week=week_of(limit))
    too_far = stated(other, seq=AHEAD + 2, week=week_of(limit + WEEK_MS))
    no_year = signed_for(other, seq=AHEAD + 3, week=week_of(2**52))
    served = CardOf(await card(other, last, too_far, no_year))
    assert await fetch_peer_keys(one.node, served, other.member)
    found = {row.key_id for row in await one.node.database.read(lambda conn: peer_epochs(conn, other.agency))}
    assert last.key_id in found
    assert not found & {too_far.key_id, no_year.key_id}
    assert last.key_id in {view.key_id for view in (await peer_keys(one.node, other.agency)).epochs}


async def test_a_peers_keys_are_listed_without_what_another_agency_key_has_signed(pair: Federation) -> None:
    """What is stored already, of a year that no calendar has, fails nobody once the key was replaced."""
    one, other = pair[HELPLINE], pair[SHELTER]
    week = week_of(2**52)
    view = signed_for(other, seq=AHEAD, week=week)
    raw = from_base64url(view.statement, member="statement", longest=LIMITS.statement_bytes)
    row = StoredEpoch(view.key_id, AHEAD, week.not_before, week.not_after, raw)
    await one.node.database.write(lambda conn: remember_peer_epochs(conn, other.agency, [row]))
    await listed(pair, AgencyKey(secrets.token_bytes(32)))
    one.node.fetch_peer_keys = nobody
    assert (await peer_keys(one.node, other.agency)).epochs == ()


async def test_a_token_that_is_no_header_value_is_a_peer_that_did_not_answer(pair: Federation) -> None:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"access_token": "é\n", "token_type": "Bearer", "expires_in": 300})

    node = pair[HELPLINE].node
    transport = HTTPTransport(
        node.agency, node.node_key, node.limits, node.clock, network=OverTransport(httpx2.MockTransport(answer))
    )
    with pytest.raises(PeerUnreachableError, match="bad-answer"):
        await transport.post_envelopes(pair[SHELTER].member, b"{}", until=math.inf)
    await transport.close()


async def test_a_packed_answer_is_not_unpacked(pair: Federation) -> None:
    packed = gzip.compress((await card(pair[SHELTER])).model_dump_json().encode())

    def answer(_request: httpx2.Request) -> httpx2.Response:
        stream = httpx2.ByteStream(packed)
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        return httpx2.Response(200, headers=headers, stream=stream)

    node = pair[HELPLINE].node
    transport = HTTPTransport(
        node.agency, node.node_key, node.limits, node.clock, network=OverTransport(httpx2.MockTransport(answer))
    )
    with pytest.raises(PeerUnreachableError, match="bad-answer"):
        await transport.node_card(pair[SHELTER].member)
    await transport.close()


async def test_asking_again_and_again_for_what_was_lost_marks_each_referral_once(pair: Federation) -> None:
    helpline = pair[HELPLINE]
    consent = await helpline.client().consents.record(consent_request(SHELTER.agency))
    await helpline.client().referrals.send(referral_request(SHELTER.agency, consent.id))
    await pair.travel()
    since = ResyncRequest(since=from_millis(0))
    answers = [await resync(helpline.node, SHELTER.agency, since) for _ in range(3)]
    assert [answer.referrals_marked for answer in answers] == [1, 0, 0]
    query = select(func.count()).select_from(CHANGE).where(CHANGE.c.what == "resend")
    assert await helpline.node.database.read(lambda conn: conn.execute(query).scalar_one()) == 1


async def test_a_refusals_own_words_are_not_kept_in_the_clear(pair: Federation) -> None:
    liar = await LyingPeer.of(pair[SHELTER], pair[HELPLINE])
    word = "canary-bunga-sundari"
    (answer,) = await liar.deliver(liar.stop(Kind.REFUSAL, event=word, in_reply_to="ab" * 16))
    assert answer.result == "accepted"
    node = pair[HELPLINE].node

    def texts(conn: Any) -> list[Any]:
        return [value for table in METADATA.sorted_tables for row in conn.execute(select(table)) for value in row]

    assert not [value for value in await node.database.read(texts) if isinstance(value, str) and word in value]
    (event,) = await node.database.read(lambda conn: list(conn.execute(select(INBOX.c.event)).scalars()))
    assert event == "other"


async def test_why_an_agency_declined_is_not_written_down_in_the_clear(pair: Federation) -> None:
    helpline, shelter = pair[HELPLINE], pair[SHELTER]
    consent = await helpline.client().consents.record(consent_request(SHELTER.agency))
    await helpline.client().referrals.send(referral_request(SHELTER.agency, consent.id))
    await pair.travel()
    (offer,) = (await shelter.client().inbox.list()).items
    decline = DecisionRequest(decision="declined", reason="conflict-of-interest")
    await shelter.client().inbox.decide(offer.id, decline)
    details = await shelter.node.database.read(lambda conn: list(conn.execute(select(AUDIT.c.detail)).scalars()))
    assert "conflict-of-interest" not in details


async def test_a_private_half_does_not_stay_in_memory(pair: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_keyring, "KEPT_S", 0.5)
    helpline, shelter = pair[HELPLINE], pair[SHELTER]
    liar = await LyingPeer.of(helpline, shelter)
    (answer,) = await liar.deliver(liar.forward())
    assert answer.result == "accepted"
    keyring = shelter.node.keyring
    assert isinstance(keyring, node_keyring.NodeKeyring)
    assert keyring._known
    await asyncio.sleep(0.7)
    assert not keyring._known


@pytest.mark.parametrize("stop", ["her-no", "recall", "error"])
async def test_nobody_is_advised_to_contact_her_after_a_stop(pair: Federation, stop: str) -> None:
    helpline, shelter = pair[HELPLINE].client(), pair[SHELTER].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    created = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))
    await pair.travel()
    (offer,) = (await shelter.inbox.list()).items
    await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await pair.travel()
    assert (await shelter.inbox.contact_advice(offer.id)).code == "she-initiates"
    if stop == "her-no":
        await helpline.withdrawals.of_referral(created.id, WithdrawalForm.STOP_SERVICE)
    elif stop == "recall":
        await helpline.referrals.recall(created.id)
    else:
        await helpline.referrals.enter_in_error(created.id)
    await pair.travel()
    with pytest.raises(ProblemError, match="no-plan"):
        await shelter.inbox.contact_advice(offer.id)


async def test_a_plan_that_was_overtaken_is_not_the_plan(pair: Federation) -> None:
    """Two updates arrive in the wrong order: the one with the higher number counts."""
    helpline, shelter = pair[HELPLINE], pair[SHELTER]
    liar = await LyingPeer.of(helpline, shelter)
    offer = liar.forward()
    referral = read_again(offer.header)["referral"]
    assert [one.result for one in await liar.deliver(offer)] == ["accepted"]
    item = read_again(offer.header)["id"]
    await shelter.client().inbox.decide(item, DecisionRequest(decision="accepted"))
    at = liar.now()
    more = {"referral": referral, "stage": "disclosure", "groups": ("contact",)}
    newer = liar.forward(Kind.UPDATE, {"safe_contact": {"who_initiates": "neither"}}, number=at + 20, **more)
    older = liar.forward(Kind.UPDATE, {"safe_contact": {"who_initiates": "survivor"}}, number=at + 10, **more)
    assert [one.result for one in await liar.deliver(newer, older)] == ["accepted"] * 2
    newest = await shelter.client().inbox.contact_advice(item)
    assert newest.code == "nobody-initiates"


async def test_an_old_number_is_on_record_and_changes_nothing(pair: Federation) -> None:
    helpline, shelter = pair[HELPLINE], pair[SHELTER]
    consent = await helpline.client().consents.record(consent_request(SHELTER.agency))
    created = await helpline.client().referrals.send(referral_request(SHELTER.agency, consent.id))
    await pair.travel()
    (offer,) = (await shelter.client().inbox.list()).items
    await shelter.client().inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await pair.travel()
    liar = await LyingPeer.of(shelter, helpline)
    at = liar.now()

    def told(state: str, number: int) -> Envelope:
        more = {"referral": created.id, "in_reply_to": offer.id, "number": number}
        return liar.answer(Kind.PROGRESS, state, {"state": state}, **more)

    answers = await liar.deliver(told("in-service", at + 20), told("not-arrived", at + 10))
    assert [one.result for one in answers] == ["accepted"] * 2
    assert (await helpline.client().referrals.read(created.id)).state == "in-service"


async def test_keys_of_an_older_card_are_never_used(pair: Federation) -> None:
    """Whatever a card or a mirror of it serves, what was known stays in use."""
    one, other = pair[HELPLINE], pair[SHELTER]
    first = await card(other)
    renewed = stated(other, seq=AHEAD + 50)
    fresh = first.model_copy(update={"epochs": (*first.epochs, renewed)})
    assert await fetch_peer_keys(one.node, CardOf(fresh), other.member)
    assert (await current_peer_epoch(one.node, other.member)).key_id == renewed.key_id
    known = await mirrored(one, other)
    week = week_of(one.node.clock())
    for name, view in {
        "older": first.epochs[0],
        "of another agency": stated(one, seq=AHEAD + 60),
        "another agency's key about this one": stated(other, seq=AHEAD + 61, signed_by=one),
        "about another agency, signed by this one": stated(other, seq=AHEAD + 62, agency=one.agency),
        "of low order": stated(other, seq=AHEAD + 63, public=bytes(32)),
        "another key than it says": stated(other, seq=AHEAD + 64, key_id="ab" * 16),
        "not a week": stated(other, seq=AHEAD + 65, week=Week(week.not_before, week.not_after + 1)),
        "two weeks": stated(other, seq=AHEAD + 66, week=Week(week.not_before, week.not_after + WEEK_MS)),
        "in the middle of a week": stated(other, seq=AHEAD + 67, week=Week(week.not_before + 1, week.not_after + 1)),
    }.items():
        lie = first.model_copy(update={"epochs": (view,)})
        assert not await fetch_peer_keys(one.node, CardOf(lie), other.member), name
        both = first.model_copy(update={"epochs": (renewed, view)})
        if name != "older":
            assert not await fetch_peer_keys(one.node, CardOf(both), other.member), name
        assert await mirrored(one, other) == known, name
        one.node.epoch_memory.clear()
        assert (await current_peer_epoch(one.node, other.member)).key_id == renewed.key_id


async def mirrored(one: TestNode, other: TestNode) -> Any:
    """What one node has remembered of another's keys."""
    return await one.node.database.read(lambda conn: peer_epochs(conn, other.agency))


async def test_no_mirror_revives_a_revoked_key(pair: Federation) -> None:
    """Not with the card of yesterday, and not with yesterday's statement between those of today."""
    one, other = pair[HELPLINE], pair[SHELTER]
    yesterday = await card(other)
    old = (await current_peer_epoch(one.node, other.member)).key_id
    assert old == yesterday.epochs[0].key_id
    await revoke_own_epochs(other.node, compromised_since=other.node.clock())
    today = await node_card(other.node, revocations=True)
    assert await fetch_peer_keys(one.node, CardOf(today), other.member)
    for name, served, used in [
        ("yesterday's card", yesterday, False),
        ("yesterday's, with an empty list", yesterday.model_copy(update={"revocations": ()}), False),
        (
            "yesterday's statements beside today's",
            today.model_copy(update={"epochs": (*yesterday.epochs, *today.epochs), "revocations": None}),
            True,
        ),
        (
            "of this week only yesterday's",
            today.model_copy(update={"epochs": (yesterday.epochs[0], *today.epochs[1:]), "revocations": ()}),
            True,
        ),
    ]:
        assert await fetch_peer_keys(one.node, CardOf(served), other.member) is used, name
        one.node.epoch_memory.clear()
        assert (await current_peer_epoch(one.node, other.member)).key_id == today.epochs[0].key_id, name
        assert old not in {epoch.key_id for epoch in (await peer_keys(one.node, other.agency)).epochs}, name


async def test_a_revoked_key_that_was_never_seen_is_not_used_when_it_turns_up(pair: Federation) -> None:
    one, other = pair[HELPLINE], pair[SHELTER]
    hidden = stated(other, seq=AHEAD + 70)
    told = (await card(other)).model_copy(update={"revocations": (revoked(other, hidden.key_id, seq=AHEAD + 71),)})
    assert await fetch_peer_keys(one.node, CardOf(told), other.member)
    usual = (await current_peer_epoch(one.node, other.member)).key_id
    later = await card(other, hidden, stated(other, seq=AHEAD + 72, week=week_of(one.node.clock() + WEEK_MS)))
    assert await fetch_peer_keys(one.node, CardOf(later), other.member)
    one.node.epoch_memory.clear()
    assert (await current_peer_epoch(one.node, other.member)).key_id == usual


async def test_a_key_that_was_revoked_and_not_replaced_is_not_sealed_to(pair: Federation) -> None:
    one, other = pair[HELPLINE], pair[SHELTER]
    found = await card(other)
    told = found.model_copy(update={"revocations": (revoked(other, found.epochs[0].key_id, seq=AHEAD + 90),)})
    assert await fetch_peer_keys(one.node, CardOf(told), other.member)
    assert not await fetch_peer_keys(one.node, CardOf(found), other.member)
    # Asked again, the peer says the same: there is no key of this week.
    one.node.fetch_peer_keys = nobody
    with pytest.raises(UnavailableError) as refused:
        await current_peer_epoch(one.node, other.member)
    assert refused.value.code == "peer-keys-unknown"


async def nobody(_peer: Member) -> None:
    pass


async def test_a_revocation_that_is_not_the_agencys_own_is_refused_with_the_whole_card(pair: Federation) -> None:
    one, other = pair[HELPLINE], pair[SHELTER]
    first = await card(other)
    key = first.epochs[0].key_id
    good = revoked(other, first.epochs[1].key_id, seq=AHEAD + 80)
    for name, lie in {
        "signed by another agency": revoked(other, key, seq=AHEAD + 81, signed_by=one),
        "another agency's own": revoked(one, key, seq=AHEAD + 82),
        "about another agency, signed by this one": revoked(other, key, seq=AHEAD + 83, agency=one.agency),
        "a statement of a key": stated(other, seq=AHEAD + 84).statement,
        "nothing": "",
        "no base64url": "=",
        "cut": revoked(other, key, seq=AHEAD + 85)[:-4],
    }.items():
        for told in ((lie,), (good, lie)):
            served = first.model_copy(
                update={"revocations": told, "epochs": (*first.epochs, stated(other, seq=AHEAD + 99))}
            )
            assert not await fetch_peer_keys(one.node, CardOf(served), other.member), name
        assert not await remembered(one, other), name
    assert (await current_peer_epoch(one.node, other.member)).key_id == key


async def test_a_member_revokes_nobodys_keys_but_its_own(pair: Federation) -> None:
    """Its own signed word about a key of another agency counts for itself only."""
    one, other = pair[HELPLINE], pair[SHELTER]
    key = (await current_peer_epoch(one.node, other.member)).key_id
    liar = pair[HELPLINE]
    told = (await card(liar)).model_copy(update={"revocations": (revoked(liar, key, seq=AHEAD + 50),)})
    assert await fetch_peer_keys(other.node, CardOf(told), liar.member)
    assert await fetch_peer_keys(one.node, CardOf(told), liar.member)
    one.node.epoch_memory.clear()
    assert (await current_peer_epoch(one.node, other.member)).key_id == key
    card_now = await node_card(other.node, revocations=True)
    assert card_now.revocations == ()
    assert key in {epoch.key_id for epoch in card_now.epochs}


async def test_a_card_with_too_many_revocations_is_not_used(pair: Federation) -> None:
    one, other = pair[HELPLINE], pair[SHELTER]
    first = await card(other)
    many = tuple(revoked(other, f"{place:032x}", seq=AHEAD + 100 + place) for place in range(MOST_REVOCATIONS + 1))
    served = first.model_copy(update={"revocations": many})
    assert not await fetch_peer_keys(one.node, CardOf(served), other.member)
    served = first.model_copy(update={"revocations": many[1:]})
    assert await fetch_peer_keys(one.node, CardOf(served), other.member)


async def test_one_key_revoked_twice_on_a_card_is_kept_once(on_both: Federation) -> None:
    one, other = on_both[HELPLINE], on_both[SHELTER]
    first = await card(other)
    key = first.epochs[0].key_id
    twice = (revoked(other, key, seq=LARGEST_SEQ - 1), revoked(other, key, seq=LARGEST_SEQ))
    for _ in range(2):
        served = first.model_copy(update={"revocations": twice})
        assert await fetch_peer_keys(one.node, CardOf(served), other.member)
        assert [row.seq for row in await remembered(one, other)] == [LARGEST_SEQ]


async def test_a_revocation_from_the_future_is_kept_no_longer_than_one_of_today(pair: Federation) -> None:
    one, other = pair[HELPLINE], pair[SHELTER]
    first = await card(other)
    far = revoked(other, first.epochs[0].key_id, seq=AHEAD + 50, revoked_at=LARGEST_SEQ)
    assert await fetch_peer_keys(one.node, CardOf(first.model_copy(update={"revocations": (far,)})), other.member)
    (row,) = await remembered(one, other)
    assert row.forget_at <= one.node.clock() + 9 * WEEK_MS


async def test_a_stolen_agency_key_revokes_nothing_of_the_next(pair: Federation) -> None:
    """The thief revoked the agency's keys; then the roster gave it another agency key, and it revokes one itself."""
    one, other = pair[HELPLINE], pair[SHELTER]
    assert one.node.keyring is not None
    # The helpline's agency key stands in for the shelter's new one.
    renewed = other.member.model_copy(update={"agency_key": one.member.agency_key})
    week, fresh = week_of(one.node.clock()), EpochKey(secrets.token_bytes(32))
    signed = state_epoch(fresh, week, agency=other.agency, seq=AHEAD + 7, sign=one.node.keyring.agency_key.sign)
    view = stated(other, seq=AHEAD + 7).model_copy(
        update={"key_id": fresh.key_id, "key": to_base64url(fresh.public), "statement": to_base64url(signed.to_bytes())}
    )
    theft = (await card(other)).model_copy(update={"revocations": (revoked(other, fresh.key_id, seq=LARGEST_SEQ),)})
    assert await fetch_peer_keys(one.node, CardOf(theft), other.member)
    only = theft.model_copy(update={"epochs": (view,), "revocations": ()})
    assert await fetch_peer_keys(one.node, CardOf(only), renewed)
    assert (await current_peer_epoch(one.node, renewed)).key_id == fresh.key_id
    own_word = revoked(other, fresh.key_id, seq=AHEAD + 8, signed_by=one)
    assert await fetch_peer_keys(one.node, CardOf(only.model_copy(update={"revocations": (own_word,)})), renewed)
    (row,) = await remembered(one, other)
    assert row.statement == from_base64url(own_word, member="s", longest=4096)
    one.node.fetch_peer_keys = nobody
    with pytest.raises(UnavailableError):
        await current_peer_epoch(one.node, renewed)


async def remembered(one: TestNode, other: TestNode) -> Any:
    """What one node has remembered of another's revocations."""
    return await one.node.database.read(lambda conn: epoch_revocations(conn, other.agency))


async def test_however_much_is_sent_of_one_referral_the_newest_plan_is_found_and_no_body_is_read(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer may send as much of one referral as of all together: advice about her reads what stands beside bodies."""
    story = await begin(two)
    await story.decides("accepted")
    liar = await LyingPeer.of(two[HELPLINE], two[SHELTER])
    base = two.clock() + 1000
    for number in range(base, base + 120, 40):
        sent = [
            liar.forward(
                Kind.UPDATE,
                {"needs": ["tonight"]},
                referral=story.id,
                stage="offer",
                groups=("need",),
                number=number + place,
            )
            for place in range(40)
        ]
        assert {answer.result for answer in await liar.deliver(*sent)} == {"accepted"}
    before = (await story.helps.inbox.contact_advice(await story.offer())).code
    await story.asks.referrals.update_safe_contact(
        story.id, safe_contact(now_of(two), who_initiates="neither", channels=[], safe_times=[])
    )
    await two.travel()
    loaded = list[int]()
    monkeypatch.setattr(open_items, "load_arrived", counted(open_items.load_arrived, loaded))
    advice = await story.helps.inbox.contact_advice(await story.offer())
    assert (before == advice.code, advice.may_contact, advice.code) == (False, False, "nobody-initiates")
    assert loaded
    assert max(loaded) <= 2, "what cannot hold a plan is not read"


def counted(load: Any, loaded: list[int]) -> Any:
    """It notes how many rows it was asked for."""

    def load_and_note(conn: Connection, ids: Any, *more: Any) -> Any:
        loaded.append(len(ids))
        return load(conn, ids, *more)

    return load_and_note
