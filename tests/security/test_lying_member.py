"""What a member can do with valid keys beyond its envelopes: its card, its words, its asking again, its stops."""

from __future__ import annotations

import asyncio
import gzip
import secrets
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select
from support.federation import Federation, TestNode
from support.lying_peer import LyingPeer
from support.people import consent_request, referral_request

from contracts.vocabulary import WithdrawalForm
from exchange.client.errors import ProblemError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.epochs import state_epoch, week_of
from exchange.envelope.keys import EpochKey
from exchange.envelope.kinds import Kind
from exchange.envelope.wire import read_again, to_base64url
from exchange.federation.peers import MOST_STATEMENTS, fetch_peer_keys
from exchange.federation.transport import HTTPTransport, PeerTransport, PeerUnreachableError
from exchange.roster import Member
from exchange.schemas.federation import BatchAnswer, ResyncRequest
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.node import EpochKeyView, NodeCard
from exchange.schemas.shapes import from_millis
from exchange.storage import node_keyring
from exchange.storage.tables import AUDIT, CHANGE, INBOX, METADATA
from exchange.use_cases.describe_node import node_card
from exchange.use_cases.outgoing import current_peer_epoch
from exchange.use_cases.resync import resync

LARGEST_SEQ = 2**53 - 1


class CardOf:
    """A peer that serves this card."""

    def __init__(self, served: NodeCard) -> None:
        self._served = served

    async def node_card(self, _peer: Member) -> NodeCard:
        return self._served

    async def post_envelopes(self, _peer: Member, _body: bytes) -> BatchAnswer:
        raise PeerUnreachableError("no-connection")

    async def close(self) -> None:
        pass


def stated(one: TestNode, *, seq: int) -> EpochKeyView:
    """A statement for this week, signed by the member's agency key, with any number."""
    assert one.node.keyring is not None
    week, key = week_of(one.node.clock()), EpochKey(secrets.token_bytes(32))
    signed = state_epoch(key, week, agency=one.agency, seq=seq, sign=one.node.keyring.agency_key.sign)
    return EpochKeyView(
        key_id=key.key_id,
        key=to_base64url(key.public),
        seq=seq,
        not_before=from_millis(week.not_before),
        not_after=from_millis(week.not_after),
        statement=to_base64url(signed.to_bytes()),
    )


async def card(one: TestNode, *epochs: EpochKeyView) -> NodeCard:
    found = await node_card(one.node)
    return found.model_copy(update={"epochs": (*found.epochs, *epochs)})


async def test_the_largest_number_of_a_statement_is_remembered_on_each_database(pair_on_each: Federation) -> None:
    one, other = pair_on_each[HELPLINE], pair_on_each[SHELTER]
    transport: PeerTransport = CardOf(await card(other, stated(other, seq=LARGEST_SEQ)))
    assert await fetch_peer_keys(one.node, transport, other.member)


async def test_a_card_with_too_many_statements_is_not_used(pair: Federation) -> None:
    one, other = pair[HELPLINE], pair[SHELTER]
    many = [stated(other, seq=1000 + place) for place in range(MOST_STATEMENTS)]
    assert not await fetch_peer_keys(one.node, CardOf(await card(other, *many)), other.member)


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
    signed = state_epoch(key, week, agency=other.agency, seq=7, sign=one.node.keyring.agency_key.sign)
    fresh = stated(other, seq=7).model_copy(
        update={"key_id": key.key_id, "key": to_base64url(key.public), "statement": to_base64url(signed.to_bytes())}
    )
    only = (await card(other)).model_copy(update={"epochs": (fresh,)})
    assert await fetch_peer_keys(one.node, CardOf(only), renewed)
    assert (await current_peer_epoch(one.node, renewed)).key_id == key.key_id


async def test_a_token_that_is_no_header_value_is_a_peer_that_did_not_answer(pair: Federation) -> None:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"access_token": "é\n", "token_type": "Bearer", "expires_in": 300})

    node = pair[HELPLINE].node
    transport = HTTPTransport(
        node.agency, node.node_key, node.limits, node.clock, transport=httpx2.MockTransport(answer)
    )
    with pytest.raises(PeerUnreachableError, match="bad-answer"):
        await transport.post_envelopes(pair[SHELTER].member, b"{}")
    await transport.close()


async def test_a_packed_answer_is_not_unpacked(pair: Federation) -> None:
    packed = gzip.compress((await card(pair[SHELTER])).model_dump_json().encode())

    def answer(_request: httpx2.Request) -> httpx2.Response:
        stream = httpx2.ByteStream(packed)
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        return httpx2.Response(200, headers=headers, stream=stream)

    node = pair[HELPLINE].node
    transport = HTTPTransport(
        node.agency, node.node_key, node.limits, node.clock, transport=httpx2.MockTransport(answer)
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
