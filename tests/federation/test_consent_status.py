"""Consent status: an old word is asked for before anything about her is opened, and after a known end nothing opens."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

import pytest
from sqlalchemy import Table, select, update
from support.federation import Federation
from support.lying_peer import LyingPeer
from support.people import consent_request, referral_request
from support.stories import (
    Story,
    begin,
    her_content,
    now_of,
    plan,
    refusal,
    safe_contact,
    to_the_embassy,
    travelled,
)

from contracts.vocabulary import AgencyKind, Group
from exchange.demo.federation import EMBASSY, HELPLINE, SHELTER
from exchange.envelope.keys import NodeKey
from exchange.envelope.statements import ConsentStatus, parse_statement, sign_statement
from exchange.envelope.wire import from_base64url, to_base64url
from exchange.roster import Member
from exchange.schemas.consents import ConsentRequest
from exchange.schemas.federation import ConsentStatusAnswer, ConsentStatusRequest, ReceiptStatus
from exchange.schemas.referrals import ReferralRequest
from exchange.schemas.shapes import to_millis
from exchange.storage.tables import CONSENT, INBOX, OUTBOX, REFERRAL
from exchange.use_cases import consent_status
from exchange.use_cases.acting import Acting
from exchange.use_cases.consent_status import digest_of
from exchange.use_cases.facts import open_facts, seal_facts
from exchange.use_cases.open_items import open_items
from exchange.use_cases.precedence import COSTLY, SLICE

HOUR_MS = 3_600_000
ANY_SHELTER: dict[str, Any] = {
    "provisions": [
        {
            "groups": ["need", "safety", "health", "name", "contact", "place"],
            "kinds": ["shelter"],
            "purposes": ["provide-safe-accommodation"],
            "feedback": "outcome",
        }
    ]
}
"""She did not name this one."""
LAWYERS: dict[str, Any] = {
    "groups": ["need"],
    "kinds": ["legal-aid"],
    "purposes": ["provide-safe-accommodation"],
}
ANOTHER_KEY = NodeKey(b"\x09" * 32)
ACTING = Acting("system", "w-1")


def asked(two: Federation) -> int:
    """How often one node asked another about consents."""
    return sum(path.endswith("/consent-status") for _, path, _ in two.network.posted)


async def disclosed(two: Federation) -> Story:
    """A referral whose offer and disclosure lie at the shelter."""
    story = await begin(two, travel=False)
    await two.travel(1)
    await story.decides("accepted")
    return story


async def receipts(story: Story) -> list[str]:
    return [row["consent_receipt"] for row in await story.rows(OUTBOX)]


async def test_a_first_open_asks_nobody_and_a_later_one_asks_once(pair: Federation) -> None:
    story = await disclosed(pair)
    first = await story.opened("disclosure")
    assert first.consent_checked_at is not None
    assert asked(pair) == 0
    pair.clock.pass_by(hours=2)
    ids = [(await story.item(kind)).id for kind in ("offer", "disclosure")]
    both = await story.helps.inbox.open_many(ids)
    assert asked(pair) == 1
    assert [one.item.id for one in both.items] == ids
    word = both.items[0].consent_checked_at
    assert word is not None
    assert abs(to_millis(word) - pair.clock()) < 60_000
    await story.helps.inbox.open_many(ids)
    assert asked(pair) == 1


async def test_an_unreachable_sender_is_waited_for_72_hours_and_asked_once_a_minute(two: Federation) -> None:
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    two.leave(HELPLINE)
    asks: list[int] = []
    real = story.receiver.node.ask_consent_status

    async def counted(peer: Member, ids: Sequence[str]) -> ConsentStatusAnswer | None:
        asks.append(two.clock())
        return await real(peer, ids)

    story.receiver.node.ask_consent_status = counted
    two.clock.pass_by(hours=71)
    opened = await story.helps.inbox.open(item)
    assert opened.consent_checked_at is not None
    assert two.clock() - to_millis(opened.consent_checked_at) > 70 * HOUR_MS
    await story.helps.inbox.open(item)
    assert len(asks) == 1
    two.clock.pass_by(hours=2)
    problem = await refusal(story.helps.inbox.open(item))
    assert (problem.code, problem.status, problem.who) == ("consent-not-fresh", 409, "peer")
    many = await story.helps.inbox.open_many([item])
    assert [(one.id, one.code) for one in many.withheld] == [(item, "consent-not-fresh")]
    assert (many.items, many.missing) == ((), ())
    assert (await refusal(story.helps.inbox.contact_advice(item))).code == "consent-not-fresh"
    two.come_back(HELPLINE)
    two.clock.pass_by(seconds=61)
    assert (await story.helps.inbox.open(item)).content is not None


@pytest.mark.parametrize(
    ("table", "newer"),
    [(REFERRAL, False), (CONSENT, False), (CONSENT, True)],
    ids=["her referral", "her consent", "her consent, of a later version"],
)
async def test_a_row_that_the_sender_cannot_read_is_no_word_and_keeps_none_from_another(
    pair: Federation, table: Table, newer: bool
) -> None:
    first = await begin(pair)
    second = await begin(pair)
    damaged = {"sealed_facts": b"damaged"} if table is REFERRAL else {"sealed_record": b"damaged"}
    if newer:
        seal = first.sender.node.seal_row
        damaged = {"sealed_record": seal(b'{"of-a-later-version":1}', "consent", "sealed_record", first.consent)}
    row = first.id if table is REFERRAL else first.consent
    await first.writes(table.update().where(table.c.id == row).values(damaged))
    pair.clock.pass_by(hours=71)
    ids = [await story.offer() for story in (first, second)]
    assert [one.item.id for one in (await first.helps.inbox.open_many(ids)).items] == ids
    pair.clock.pass_by(hours=2)
    later = await first.helps.inbox.open_many(ids)
    assert [one.item.id for one in later.items] == ids[1:]
    # It may be live: nobody can say that it is not.
    assert [(one.id, one.code) for one in later.withheld] == [(ids[0], "consent-not-fresh")]


async def _slips(two: Federation, change: dict[str, Any]) -> None:
    """The roster file of her own agency's node says this of the shelter; nobody else's does."""
    await two.new_roster(member=_shelter(change), known_to=(HELPLINE,))


def _shelter(change: dict[str, Any]) -> Callable[[Member], Member]:
    return lambda member: member.model_copy(update=change) if member.agency == SHELTER.agency else member


@pytest.mark.parametrize("change", [{"country": "SG"}, {"kind": AgencyKind.HEALTH}, {"kind": AgencyKind.POLICE}])
async def test_what_only_the_roster_of_now_refuses_is_no_word_and_opens_again_when_that_is_mended(
    pair: Federation, change: dict[str, Any]
) -> None:
    """It was `not-live`, which is final, of every referral to that receiver. Nobody had ended anything."""
    stories = [await begin(pair, consent=ANY_SHELTER), await begin(pair)]
    ids = [await story.offer() for story in stories]
    helps = stories[0].helps.inbox
    await _slips(pair, change)
    pair.clock.pass_by(hours=71)
    # The other names the agency: another country or kind ends nothing there, but that it would be an authority.
    named = change != {"kind": AgencyKind.POLICE}
    first = await helps.open_many(ids)
    assert [one.item.id for one in first.items] == ids
    ages = [pair.clock() - to_millis(one.consent_checked_at) for one in first.items if one.consent_checked_at]
    assert [age > 70 * HOUR_MS for age in ages] == [True, not named]
    pair.clock.pass_by(hours=2)
    later = await helps.open_many(ids)
    assert [one.item.id for one in later.items] == ids[1:] * named
    withheld = ids if not named else ids[:1]
    assert [(one.id, one.code) for one in later.withheld] == [(item, "consent-not-fresh") for item in withheld]
    await pair.new_roster(member=_shelter({"country": "MY", "kind": AgencyKind.SHELTER}))
    pair.clock.pass_by(hours=2)
    mended = await helps.open_many(ids)
    assert ([one.item.id for one in mended.items], mended.withheld) == (ids, ())


async def test_nor_is_it_where_the_roster_has_its_own_agency_elsewhere(pair: Federation) -> None:
    story = await begin(pair, consent=ANY_SHELTER)
    request = ConsentStatusRequest(receipts=tuple(await receipts(story)))
    elsewhere = {"country": "SG"}
    await pair.new_roster(
        member=lambda one: one.model_copy(update=elsewhere) if one.agency == HELPLINE.agency else one,
        known_to=(HELPLINE,),
    )
    said = await consent_status.consent_status(pair[HELPLINE].node, SHELTER.agency, request)
    assert {one.status for one in said.receipts} == {"lost"}


@pytest.mark.parametrize("ends", ["taken out", "what they were is not known"])
async def test_a_roster_with_a_slip_hides_no_end_and_vouches_for_nobody(pair: Federation, ends: str) -> None:
    """What she has taken back ended between the two as they were. A row of an earlier version does not say how."""
    allowed = {"provisions": [*ANY_SHELTER["provisions"], LAWYERS]}
    story, node = await begin(pair, consent=allowed), pair[HELPLINE].node
    request = ConsentStatusRequest(receipts=tuple(await receipts(story)))
    await _slips(pair, {"kind": AgencyKind.HEALTH})
    if ends == "taken out":
        _, lawyers = (await story.asks.consents.read(story.consent)).record.provisions
        await story.asks.consents.narrow(story.consent, (lawyers,))
    else:
        (row,) = await story.rows(REFERRAL)
        facts = open_facts(node, story.id, row["sealed_facts"]).model_copy(update={"between": ()})
        sealed = {"sealed_facts": seal_facts(node, story.id, facts)}
        await story.writes(update(REFERRAL).where(REFERRAL.c.id == story.id).values(sealed))
    said = await consent_status.consent_status(node, SHELTER.agency, request)
    assert {one.status for one in said.receipts} == {"not-live"}


async def test_after_a_known_end_nothing_opens_and_no_later_word_undoes_it(two: Federation) -> None:
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    # Her no does not reach the shelter; its question reaches the helpline.
    await story.says_no("stop-service", travel=False)
    two.clock.pass_by(hours=2)
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"
    assert asked(two) == 1
    two.leave(HELPLINE)
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"
    assert asked(two) == 1


async def test_a_known_end_is_said_to_be_the_end_however_old_the_last_word_is(two: Federation) -> None:
    """Nobody is to wait for a fresh word, which will not come."""
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    await story.says_no("stop-service", travel=False)
    two.clock.pass_by(hours=2)
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"
    two.cut_off(HELPLINE)
    two.clock.pass_by(hours=80)
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"
    assert (await refusal(story.helps.inbox.sealed(item))).code == "consent-ended"


async def test_answers_and_her_no_open_however_late_and_nobody_is_asked_about_them(two: Federation) -> None:
    """What was answered, and that she said no, hangs on no consent."""
    story = await disclosed(two)
    await story.says_no("stop-sharing")
    two.clock.pass_by(hours=80)
    assert (await story.opened("decision", at=story.sender)).answer == {"decision": "accepted"}
    assert (await story.opened("withdrawal")).item.event == "stop-sharing"
    assert asked(two) == 0


async def test_what_was_entered_in_error_opens_no_more(two: Federation) -> None:
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    await story.asks.referrals.enter_in_error(story.id)
    await two.travel()
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"
    assert (await refusal(story.helps.inbox.sealed(item))).code == "consent-ended"
    assert asked(two) == 0


async def test_where_her_newest_plan_must_not_be_opened_nobody_is_advised_by_an_older_one(two: Federation) -> None:
    """She has told her agency that nobody may call any more, and then took back that she can be reached at all."""
    story = await begin(two, content=her_content(two, safe_contact=plan(now_of(two))))
    await story.decides("accepted")
    offer = await story.offer()
    assert (await story.helps.inbox.contact_advice(offer)).may_contact
    two.network.answers_lost = True
    newest = safe_contact(now_of(two), who_initiates="neither", channels=[], safe_times=[])
    await story.asks.referrals.update_safe_contact(story.id, newest)
    await two.travel(rounds=1)
    two.network.answers_lost = False
    assert (await story.helps.inbox.contact_advice(offer)).code == "nobody-initiates"
    await _is_not_to_be_reached(story)
    await story.later(hours=2)
    assert (await story.opened("disclosure")).content is not None
    assert (await refusal(story.helps.inbox.contact_advice(offer))).code == "consent-ended"


async def _is_not_to_be_reached(story: Story) -> None:
    """She takes back her contact plan: the newest is taken back too, and had arrived already."""
    (line,) = (await story.asks.consents.read(story.consent)).record.provisions
    less = line.model_copy(update={"groups": line.groups - {Group.CONTACT}})
    await story.asks.consents.narrow(story.consent, (less,))
    assert (await story.outgoing())["update"] == ["deleted"]


async def test_an_open_that_was_not_answered_shows_nothing_once_another_was_told_of_the_end(two: Federation) -> None:
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    await story.says_no("stop-service", travel=False)
    two.clock.pass_by(hours=2)
    node, told = story.receiver.node, asyncio.Event()
    real, asked_first = node.ask_consent_status, asyncio.Event()

    async def first_is_lost(peer: Member, ids: Sequence[str]) -> ConsentStatusAnswer | None:
        if asked_first.is_set():
            return await real(peer, ids)
        asked_first.set()
        await told.wait()
        return None

    node.ask_consent_status = first_is_lost
    early = asyncio.create_task(open_items(node, ACTING, [item]))
    await asked_first.wait()
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"
    told.set()
    opened = await early
    assert (opened.items, opened.missing) == ((), ())
    assert [(one.id, one.code) for one in opened.withheld] == [(item, "consent-ended")]


@pytest.mark.parametrize("by", ["open", "sealed"])
async def test_her_no_that_arrives_while_the_sender_is_asked_is_said_to_be_the_end(two: Federation, by: str) -> None:
    """And not that a key is lost, about which somebody would telephone."""
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    two.clock.pass_by(hours=2)

    async def says_no(_peer: Member, _ids: Sequence[str]) -> None:
        await story.says_no("stop-service")

    story.receiver.node.ask_consent_status = says_no
    assert (await refusal(getattr(story.helps.inbox, by)(item))).code == "consent-ended"


async def test_a_word_by_a_key_that_was_replaced_while_it_was_on_its_way_counts_for_nothing(two: Federation) -> None:
    """Neither as an end, which would be final, nor as a word that keeps the item open."""
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    two.clock.pass_by(hours=2)
    node = story.receiver.node
    real = node.ask_consent_status

    async def replaced_meanwhile(peer: Member, ids: Sequence[str]) -> ConsentStatusAnswer | None:
        answer = await real(peer, ids)
        await two.new_roster(
            member=lambda one: (
                one.model_copy(update={"node_key": ANOTHER_KEY.public}) if one.agency == peer.agency else one
            ),
            known_to=(SHELTER,),
        )
        return answer

    node.ask_consent_status = replaced_meanwhile
    await story.says_no("stop-service", travel=False)
    opened = await story.helps.inbox.open(item)
    assert opened.consent_checked_at is not None
    assert two.clock() - to_millis(opened.consent_checked_at) > HOUR_MS


async def test_hours_that_a_machine_sleeps_while_it_asks_are_counted(two: Federation) -> None:
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    two.clock.pass_by(hours=2)

    async def sleeps(_peer: Member, _ids: Sequence[str]) -> None:
        two.clock.pass_by(hours=71)

    story.receiver.node.ask_consent_status = sleeps
    opened = await open_items(story.receiver.node, ACTING, [item])
    assert [(one.id, one.code) for one in opened.withheld] == [(item, "consent-not-fresh")]
    assert opened.items == ()


async def test_after_stop_sharing_what_was_released_stays_open(two: Federation) -> None:
    story = await disclosed(two)
    await story.says_no("stop-sharing")
    two.clock.pass_by(hours=2)
    assert (await story.opened("disclosure")).content is not None


async def test_unknown_ended_and_anothers_receipts_are_the_same_answer(four: Federation) -> None:
    story, ended = await disclosed(four), await disclosed(four)
    await ended.says_no("stop-service")
    live, over = (await receipts(story))[0], (await receipts(ended))[0]
    shelter, embassy = four[SHELTER].courier._transport, four[EMBASSY].courier._transport
    helpline = story.sender.member
    said = await shelter.consent_status(helpline, [live, over, "0" * 32])  # type: ignore[attr-defined]
    assert [one.status for one in said.receipts] == ["live", "not-live", "not-live"]
    assert {one.model_dump_json(exclude={"receipt"}) for one in said.receipts[1:]} == {'{"status":"not-live"}'}
    strange = await embassy.consent_status(helpline, [live, over, "0" * 32])  # type: ignore[attr-defined]
    assert {one.model_dump_json(exclude={"receipt"}) for one in strange.receipts} == {'{"status":"not-live"}'}
    statement = parse_statement(ConsentStatus, from_base64url(said.statement, member="statement", longest=4096)).verify(
        helpline.node_key
    )
    assert (statement.agency, statement.recipient) == (HELPLINE.agency, SHELTER.agency)
    assert statement.receipts == digest_of(said.receipts)
    for count, status in ((200, 200), (201, 422), (0, 422)):
        body = json.dumps({"receipts": [f"{number:032x}" for number in range(count)]}).encode()
        found, _ = await shelter._authorized(helpline, "/federation/v1/consent-status", body)  # type: ignore[attr-defined]
        assert found == status


async def test_what_stays_with_its_receiver_is_said_to_nobody_else(four: Federation) -> None:
    """After `stop-sharing` nobody is judged by her provisions any more; only the recipient may hear that it is live."""
    story = await disclosed(four)
    await story.says_no("stop-sharing")
    cut = [receipt for receipt in await receipts(story) if receipt is not None]
    request = ConsentStatusRequest(receipts=tuple(cut))
    for asks, status in ((SHELTER, "live"), (EMBASSY, "not-live")):
        said = await consent_status.consent_status(four[HELPLINE].node, asks.agency, request)
        assert {one.status for one in said.receipts} == {status}


@pytest.mark.parametrize("which", [0, 1])
async def test_a_receipt_of_two_referrals_is_live_as_long_as_both_are(pair: Federation, which: int) -> None:
    """An agency's own software may have cut one for both; which was asked about was a matter of the rows' order."""
    stories = [await disclosed(pair) for _ in range(2)]
    one_receipt = (await receipts(stories[0]))[0]
    also = OUTBOX.c.referral == stories[1].id
    await stories[1].writes(update(OUTBOX).where(also).values(consent_receipt=one_receipt))
    request = ConsentStatusRequest(receipts=(one_receipt,))

    async def said() -> str:
        return (await consent_status.consent_status(pair[HELPLINE].node, SHELTER.agency, request)).receipts[0].status

    assert await said() == "live"
    await stories[which].writes(update(REFERRAL).where(REFERRAL.c.id == stories[which].id).values(sealed_facts=b"no"))
    assert await said() == "lost"
    await stories[1 - which].says_no("stop-service")
    assert await said() == "not-live"


async def test_a_receipt_of_two_referrals_outlives_the_one_whose_time_is_over(pair: Federation) -> None:
    """It was declined, and she was referred anew under the same receipt: its end by the clock is none of hers."""
    over = await begin(pair)
    await over.decides("declined", reason="no-capacity")
    goes_on = await disclosed(pair)
    one_receipt = (await receipts(goes_on))[0]
    await over.writes(update(OUTBOX).where(OUTBOX.c.referral == over.id).values(consent_receipt=one_receipt))
    await over.later(hours=25)
    assert (await over.flags()).destroyed
    request = ConsentStatusRequest(receipts=(one_receipt,))
    for status, word in (("live", None), ("not-live", "stop-service")):
        if word is not None:
            await goes_on.says_no(word)
        answer = await consent_status.consent_status(pair[HELPLINE].node, SHELTER.agency, request)
        assert answer.receipts[0].status == status


async def test_two_receivers_of_one_consent_hear_nothing_that_joins_them(four: Federation) -> None:
    """What each is told of its own receipt, as it stands on the line: nothing is said to both but that it is live."""
    client, allowed = (
        four[HELPLINE].client(),
        consent_request(SHELTER.agency).model_dump(mode="json", exclude_none=True),
    )
    also, wants = to_the_embassy()
    allowed["provisions"] += also["provisions"]
    allowed["told_first"] += also["told_first"]
    consent = await client.consents.record(ConsentRequest.model_validate(allowed))
    asks = referral_request(SHELTER.agency, consent.id)
    travels = referral_request(EMBASSY.agency, consent.id).model_dump(mode="json", exclude_none=True) | wants
    sent = {SHELTER: asks, EMBASSY: ReferralRequest.model_validate(travels)}
    heard = []
    for receiver, request in sent.items():
        referral = (await client.referrals.send(request)).id
        rows = await four[HELPLINE].node.database.read(
            lambda conn, referral=referral: conn.execute(select(OUTBOX).where(OUTBOX.c.referral == referral)).all()
        )
        ids = [row.consent_receipt for row in rows if row.consent_receipt is not None]
        transport: Any = four[receiver].courier._transport
        body = json.dumps({"receipts": ids}).encode()
        status, said = await transport._authorized(four[HELPLINE].member, "/federation/v1/consent-status", body)
        assert status == 200
        heard.append([value for one in json.loads(said)["receipts"] for value in one.values()])
    assert set(heard[0]) & set(heard[1]) == {"live"}


async def test_whom_she_has_taken_out_of_her_consent_is_told_that_it_ended_and_the_other_is_not(
    four: Federation,
) -> None:
    client, allowed = (
        four[HELPLINE].client(),
        consent_request(SHELTER.agency).model_dump(mode="json", exclude_none=True),
    )
    also, wants = to_the_embassy()
    allowed["provisions"] += also["provisions"]
    allowed["told_first"] += also["told_first"]
    consent = await client.consents.record(ConsentRequest.model_validate(allowed))
    to_her = referral_request(EMBASSY.agency, consent.id).model_dump(mode="json", exclude_none=True) | wants
    cut = {}
    for receiver, request in (
        (SHELTER, referral_request(SHELTER.agency, consent.id)),
        (EMBASSY, ReferralRequest.model_validate(to_her)),
    ):
        referral = (await client.referrals.send(request)).id
        cut[receiver] = ConsentStatusRequest(receipts=(await _receipt_of_the_offer(four, referral),))
    await four.travel()

    async def said() -> list[str]:
        node = four[HELPLINE].node
        found = [await consent_status.consent_status(node, receiver.agency, cut[receiver]) for receiver in cut]
        return [one.receipts[0].status for one in found]

    assert await said() == ["live", "live"]
    lines = (await client.consents.read(consent.id)).record.provisions
    await client.consents.narrow(consent.id, tuple(line for line in lines if SHELTER.agency not in line.agencies))
    assert await said() == ["not-live", "live"]


async def _receipt_of_the_offer(four: Federation, referral: str) -> str:
    query = select(OUTBOX.c.consent_receipt).where(OUTBOX.c.referral == referral, OUTBOX.c.kind == "offer")
    return str(await four[HELPLINE].node.database.read(lambda conn: conn.execute(query).scalar_one()))


async def _another_key(story: Story, answer: ConsentStatusAnswer) -> dict[str, Any]:
    return {"statement": _signed(story, answer.receipts, key=story.receiver.node.node_key)}


async def _not_what_was_signed(_: Story, answer: ConsentStatusAnswer) -> dict[str, Any]:
    return {"receipts": tuple(ReceiptStatus(receipt=one.receipt, status="not-live") for one in answer.receipts)}


async def _other_receipts(story: Story, answer: ConsentStatusAnswer) -> dict[str, Any]:
    others = tuple(one.model_copy(update={"receipt": "ab" * 16}) for one in answer.receipts)
    return {"receipts": others, "statement": _signed(story, others)}


async def _for_somebody_else(story: Story, answer: ConsentStatusAnswer) -> dict[str, Any]:
    return {"statement": _signed(story, answer.receipts, recipient="another-house")}


async def _of_yesterday(story: Story, answer: ConsentStatusAnswer) -> dict[str, Any]:
    return {"statement": _signed(story, answer.receipts, stated_at=story.together.clock() - 24 * HOUR_MS)}


async def _of_tomorrow(story: Story, answer: ConsentStatusAnswer) -> dict[str, Any]:
    return {"statement": _signed(story, answer.receipts, stated_at=story.together.clock() + 24 * HOUR_MS)}


async def _no_statement(_: Story, __: ConsentStatusAnswer) -> dict[str, Any]:
    return {"statement": "AAAA"}


LIES = (
    _another_key,
    _not_what_was_signed,
    _other_receipts,
    _for_somebody_else,
    _of_yesterday,
    _of_tomorrow,
    _no_statement,
)


def _signed(story: Story, answers: Sequence[ReceiptStatus], *, key: Any = None, **changes: Any) -> str:
    return _stated(story.together, answers, key or story.sender.node.node_key, **changes)


def _stated(together: Federation, answers: Sequence[ReceiptStatus], key: NodeKey, **changes: Any) -> str:
    said = {
        "agency": HELPLINE.agency,
        "recipient": SHELTER.agency,
        "receipts": digest_of(answers),
        "stated_at": together.clock(),
    }
    return to_base64url(sign_statement(ConsentStatus(**(said | changes)), key.sign).to_bytes())


async def test_a_forged_word_is_no_word(two: Federation) -> None:
    """Neither does it keep anything open, nor does it close anything."""
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    node = story.receiver.node
    real, ages = node.ask_consent_status, []
    two.clock.pass_by(hours=2)
    for lie in LIES:

        async def lying(peer: Member, ids: Sequence[str], lie: Any = lie) -> ConsentStatusAnswer | None:
            answer = await real(peer, ids)
            assert answer is not None
            return answer.model_copy(update=await lie(story, answer))

        node.ask_consent_status = lying
        node.consent_asked_again.clear()
        opened = await story.helps.inbox.open(item)
        assert opened.consent_checked_at is not None
        ages.append(two.clock() - to_millis(opened.consent_checked_at))
    assert min(ages) > HOUR_MS
    assert max(ages) < 3 * HOUR_MS


async def test_a_word_from_a_clock_that_is_ahead_is_no_younger_than_now(two: Federation) -> None:
    """Else it would be believed for longer than an hour, and shown as a word that is yet to come."""
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    two.clock.pass_by(hours=2)
    ahead = story.sender.node
    ahead.clock = lambda: two.clock() + 60_000
    opened = await story.helps.inbox.open(item)
    assert asked(two) == 1
    assert opened.consent_checked_at is not None
    assert to_millis(opened.consent_checked_at) <= two.clock()


async def _ends_at_midnight(two: Federation) -> tuple[Story, str, int]:
    """A story whose consent ends with a day, so that its receipts end at the same moment: half a minute before it."""
    ends = now_of(two).replace(hour=0, minute=0, second=0) + timedelta(days=2)
    story = await begin(two, consent={"expires_at": ends.isoformat()}, travel=False)
    await two.travel(1)
    await story.decides("accepted")
    item = (await story.item("disclosure")).id
    left_ms = to_millis(ends) - two.clock()
    two.clock.pass_by(seconds=left_ms // 1000 - 30)
    return story, item, to_millis(ends)


async def test_a_natural_end_that_a_clock_ahead_has_seen_already_is_no_known_end(two: Federation) -> None:
    story, item, ends = await _ends_at_midnight(two)
    story.sender.node.clock = lambda: two.clock() + 60_000
    assert (await story.helps.inbox.open(item)).content is not None
    assert asked(two) == 1
    assert two.clock() < ends
    assert not any(row["consent_ended_at"] for row in await story.rows(INBOX, at=story.receiver))
    two.clock.pass_by(seconds=120)
    assert (await story.helps.inbox.open(item)).content is not None
    assert asked(two) == 1


@pytest.mark.parametrize(("status", "hours"), [("not-live", 2), ("live", 100)])
async def test_what_is_said_of_a_receipt_is_said_of_all_that_came_under_it(
    pair: Federation, status: Literal["live", "not-live"], hours: int
) -> None:
    """Nothing forbids one receipt for several envelopes, and only the last of them heard what was said."""
    helpline, shelter = pair[HELPLINE].node, pair[SHELTER]
    liar = await LyingPeer.of(pair[HELPLINE], shelter)
    one_receipt = {"receipt_id": secrets.token_hex(16)}
    answers = await liar.deliver(*(liar.forward(receipt=one_receipt) for _ in range(2)))
    assert [answer.result for answer in answers] == ["accepted"] * 2

    async def says(_peer: Member, ids: Sequence[str]) -> ConsentStatusAnswer:
        said = [ReceiptStatus(receipt=receipt, status=status) for receipt in ids]
        return ConsentStatusAnswer(receipts=tuple(said), statement=_stated(pair, said, helpline.node_key))

    shelter.node.ask_consent_status = says
    pair.clock.pass_by(hours=hours)
    ids = [item.id for item in (await shelter.client().inbox.list()).items]
    many = await shelter.client().inbox.open_many(ids)
    opened, withheld = ([], [(item, "consent-ended") for item in ids]) if status == "not-live" else (ids, [])
    assert [one.item.id for one in many.items] == opened
    assert [(one.id, one.code) for one in many.withheld] == withheld


async def test_her_no_shortly_before_the_natural_end_is_a_known_end(two: Federation) -> None:
    story, item, _ = await _ends_at_midnight(two)
    await story.says_no("stop-service", travel=False)
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"
    assert asked(two) == 1


async def test_who_asks_about_much_and_many_times_at_once_holds_up_nobody(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more is judged between two turns of the others than of one large batch; the same receipt is judged once."""
    node, rounds = two[HELPLINE].node, 0
    judged: list[int] = []
    asked_for = [receipt for _ in range(8) for receipt in await receipts(await begin(two, travel=False))]
    real = consent_status._status_of

    def status_of(*args: Any) -> str:
        judged.append(rounds)
        return real(*args)

    async def others() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(consent_status, "_status_of", status_of)
    ticking = asyncio.create_task(others())
    request = ConsentStatusRequest(receipts=tuple(asked_for * 12))
    answers = await asyncio.gather(*(consent_status.consent_status(node, SHELTER.agency, request) for _ in range(5)))
    ticking.cancel()
    assert max(Counter(judged).values()) <= SLICE // COSTLY
    assert len(judged) == 5 * len(set(asked_for))
    for answer in answers:
        assert [one.receipt for one in answer.receipts] == list(request.receipts)
        assert {one.status for one in answer.receipts} == {"live"}


async def test_a_word_is_as_old_as_what_the_sender_signed_however_late_it_arrives(two: Federation) -> None:
    two.leave(SHELTER)
    story = await begin(two)
    two.clock.pass_by(hours=2)
    two.come_back(SHELTER)
    await story.travel()
    issued = [one.header.receipt.issued for one in travelled(two) if one.header.receipt is not None]
    assert [row["consent_live_at"] for row in await story.rows(INBOX, at=story.receiver)] == issued
    assert (await story.opened("offer")).content is not None
    assert asked(two) == 1


@pytest.mark.parametrize("before_ms", [1, 0, -48 * HOUR_MS])
async def test_what_stays_with_its_receiver_is_live_past_the_end_of_her_consent(
    two: Federation, before_ms: int
) -> None:
    story, _, ends = await _ends_at_midnight(two)
    await story.says_no("stop-sharing")
    cut = [receipt for receipt in await receipts(story) if receipt is not None]
    request, node = ConsentStatusRequest(receipts=tuple(cut)), two[HELPLINE].node
    node.clock = lambda: ends - before_ms
    said = await consent_status.consent_status(node, SHELTER.agency, request)
    assert {one.status for one in said.receipts} == {"live"}


async def test_what_has_arrived_stays_where_a_renewal_ends_earlier_and_nothing_more_is_told(two: Federation) -> None:
    """The receipt says the later end: till then the receiver asks, and would take it for her no."""
    story = await disclosed(two)
    item = (await story.item("disclosure")).id
    await story.asks.consents.renew(story.consent, now_of(two) + timedelta(days=2))
    two.clock.pass_by(hours=49)
    assert (await story.helps.inbox.open(item)).content is not None
    assert asked(two) == 1
    assert not any(row["consent_ended_at"] for row in await story.rows(INBOX, at=story.receiver))
    assert (await story.helps.inbox.contact_advice(item)).code == "she-initiates"
    newest = safe_contact(now_of(two), who_initiates="neither", channels=[], safe_times=[])
    told = await refusal(story.asks.referrals.update_safe_contact(story.id, newest))
    asks = await refusal(story.asks.referrals.send(referral_request(SHELTER.agency, story.consent)))
    assert (told.code, asks.code) == ("consent-expired", "consent-expired")
    await story.says_no("stop-service", travel=False)
    two.clock.pass_by(hours=2)
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"


async def test_what_is_said_at_the_very_end_is_no_known_end(two: Federation) -> None:
    story, item, ends = await _ends_at_midnight(two)
    story.sender.node.clock = lambda: ends
    assert (await story.helps.inbox.open(item)).content is not None
    assert asked(two) == 1
    assert not any(row["consent_ended_at"] for row in await story.rows(INBOX, at=story.receiver))


async def test_an_end_that_is_said_at_the_receipts_end_is_no_known_end(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a node says it that counts the end of the consent."""
    story, item, ends = await _ends_at_midnight(two)
    story.sender.node.clock = lambda: ends
    monkeypatch.setattr(consent_status, "_status_of", lambda *_: "not-live")
    assert (await story.helps.inbox.open(item)).content is not None
    assert asked(two) == 1
    assert not any(row["consent_ended_at"] for row in await story.rows(INBOX, at=story.receiver))


@pytest.mark.parametrize("hours", [0, 80], ids=["at the very end", "when the last word is older than 72 hours"])
async def test_after_a_consents_own_end_nobody_is_asked_any_more_and_it_opens(two: Federation, hours: int) -> None:
    story, item, ends = await _ends_at_midnight(two)
    story.receiver.node.clock = lambda: ends + hours * HOUR_MS
    opened = await open_items(story.receiver.node, ACTING, [item])
    assert [one.item.id for one in opened.items] == [item]
    assert asked(two) == 0


@pytest.mark.parametrize("column", ["blocked_at", "destroyed_at"])
async def test_nobody_vouches_for_a_referral_that_is_gone(two: Federation, column: str) -> None:
    """Whatever state it has: nothing of it is shown here any more either."""
    story, node = await disclosed(two), two[HELPLINE].node
    gone = update(REFERRAL).where(REFERRAL.c.id == story.id).values({column: two.clock()})
    await node.database.write(lambda conn: conn.execute(gone).rowcount)
    request = ConsentStatusRequest(receipts=tuple(await receipts(story)))
    said = await consent_status.consent_status(node, SHELTER.agency, request)
    assert {one.status for one in said.receipts} == {"not-live"}
