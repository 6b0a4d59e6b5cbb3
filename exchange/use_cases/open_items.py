"""Open what arrived. Every open names an actor and is on record before the content is shown.

Her consent comes first (`exchange.use_cases.consent_freshness`): an old word about it is asked for anew, and what must
not be opened any more is withheld with the reason.

Content is opened with the referral's own key from the key store. A referral that was destroyed, or blocked because she
said `erase`, opens no more; nor does what came before the key store was lost (`exchange.use_cases.readable`). A header
or a key whose row is damaged holds up no other item. A node without keys hands out the sealed envelope only, and that
under the same conditions: its agency's software fetches it for every open.

Whether she may be contacted says her newest plan alone. Where that one must not be opened, or is gone, there is no
advice: an older plan is what she has replaced.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from contracts.vocabulary import Channel, Group
from exchange.envelope.format import Envelope
from exchange.envelope.keys import ReferralKey
from exchange.envelope.kinds import Kind, KindClass
from exchange.envelope.open import decrypt_committed
from exchange.envelope.statements import ReleaseStatement, parse_statement
from exchange.envelope.wire import to_base64url
from exchange.messages import ForwardBody
from exchange.referral.contact_plan import SafeContact
from exchange.referral.lifecycle import State
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import ContactAdvice, OpenedItem, OpenedItems, WithheldCode, WithheldItem
from exchange.schemas.referrals import Drill
from exchange.schemas.shapes import from_millis
from exchange.storage.consent_words import ended_among
from exchange.storage.database import Connection
from exchange.storage.inbox import ArrivedHead, ArrivedRecord, Standing, heads_of, load_arrived, mark_opened, standings
from exchange.storage.referrals import ReferralRecord, load_referral, load_referrals
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import audit, find_item, referral_of_item
from exchange.use_cases.clock_jumps import ending_time
from exchange.use_cases.consent_freshness import fresh_words, has_ended
from exchange.use_cases.errors import ConflictError, UseCaseError
from exchange.use_cases.headers import class_here, header_bytes, header_members, members_of, readable_headers
from exchange.use_cases.node import Node
from exchange.use_cases.poll_inbox import item_with
from exchange.use_cases.readable import data_key, unreadable_keys
from exchange.use_cases.refusals import consent_says_no, destroyed, key_lost, keys_elsewhere, not_found

_PLANS = frozenset({Kind.DISCLOSURE.value, Kind.UPDATE.value, Kind.INFORMATION.value})
_NO_CONTACT = frozenset({State.WITHDRAWN.value, State.RECALLED.value, State.ENTERED_IN_ERROR.value})
_HEADERS_AT_A_TIME: Final = 100
"""Reading one takes a thirtieth of a millisecond."""
Found = dict[str, tuple[int, ArrivedRecord]]


async def open_item(node: Node, acting: Acting, item: str) -> OpenedItem:
    """Open one item.

    Raises:
        NotFoundError, GoneError: there is none, or its content is destroyed or blocked.
        ConflictError: `keys-elsewhere`, `consent-not-fresh`, `consent-ended`, `key-lost`.
        SealedRowError: its header, or the key of its referral, cannot be read here.
    """
    opened = await open_items(node, acting, (item,))
    if opened.items:
        return opened.items[0]
    if opened.withheld:
        raise consent_says_no(opened.withheld[0].code)
    raise await _why_missing(node, item, acting.unit)


async def _why_missing(node: Node, item: str, unit: str | None) -> UseCaseError:
    """Why an item that no consent withholds is not shown.

    Raises:
        SealedRowError: its header, or the key of its referral, cannot be read here.
    """
    _, row, referral = await node.database.read(lambda conn: find_item(conn, item, unit))
    header_bytes(node, row)
    # Its keys go first, and may take a while to go from the files: it is being destroyed, and nobody sends it anew.
    over = referral.destroy_at is not None and referral.destroy_at <= await ending_time(node)
    if over or not may_be_shown(row, referral):
        return destroyed()
    await node.key_store.get(row.referral)  # raises where it lies here and does not open
    return key_lost()


async def open_items(node: Node, acting: Acting, ids: Sequence[str]) -> OpenedItems:
    """Open many items; one audit event each. What cannot be opened is listed as missing or as withheld.

    Raises:
        ConflictError: `keys-elsewhere`.
    """
    if node.keyring is None:
        raise keys_elsewhere()
    wanted = list(dict.fromkeys(ids))[: node.limits.open_items]

    def read(conn: Connection) -> tuple[Found, dict[str, Standing]]:
        # What another branch holds is not read, and no key is fetched for it: the time of a 404 must not tell an item
        # that one may not see from one that does not exist.
        found = load_arrived(conn, wanted, acting.unit)
        referrals = standings(conn, {row.referral for _, row in found.values()}, acting.unit)
        return {item: one for item, one in found.items() if one[1].referral in referrals}, referrals

    found, referrals = await node.database.read(read)
    there = {
        item: (*found[item], referrals[found[item][1].referral])
        for item in wanted
        if item in found and may_be_shown(found[item][1], referrals[found[item][1].referral])
    }
    # One that cannot be read holds up no other.
    headers = readable_headers(node, (row for _, row, _ in there.values()))
    visible = {item: one for item, one in there.items() if item in headers}
    words = await fresh_words(node, ((row, referral) for _, row, referral in visible.values()))
    keys = await node.key_store.get_many(referrals)
    unreadable_keys(node, keys)
    opened = []
    for item, (seq, row, referral) in visible.items():
        if item not in words.withheld:
            key, word = keys.get(row.referral), words.live_at.get(item)
            one = _opened(node, seq, row, referral, headers[item], key, word)
            opened += [one] if one is not None else []
    left, ended = await _put_on_record(node, acting, opened, found) if opened else ([], frozenset())
    shown = {one.item.id for one in left}
    withheld: dict[str, WithheldCode] = {**words.withheld, **dict.fromkeys(ended, "consent-ended")}
    return OpenedItems(
        items=tuple(left),
        missing=tuple(item for item in wanted if item not in shown and item not in withheld),
        withheld=tuple(WithheldItem(id=item, code=code) for item, code in withheld.items()),
    )


async def _put_on_record(
    node: Node, acting: Acting, opened: Sequence[OpenedItem], found: Found
) -> tuple[list[OpenedItem], frozenset[str]]:
    """Those of them that are shown, and those whose consent has ended meanwhile.

    Her no may have come while the seals were opened or the sender was asked, and another open may have been told of an
    end that this one was not: that is heard before anything is shown.
    """
    at = node.clock()

    def commit(conn: Connection) -> tuple[list[OpenedItem], frozenset[str]]:
        now = standings(conn, {one.item.referral for one in opened})
        still = [one for one in opened if may_be_shown(found[one.item.id][1], now[one.item.referral])]
        over = {one.item.id for one in still if has_ended(found[one.item.id][1], now[one.item.referral])}
        ended = ended_among(conn, [one.item.id for one in opened]) | over
        left = [one for one in still if one.item.id not in ended]
        shown = [one.item.id for one in left]
        mark_opened(conn, shown, at)
        audit(conn, node, acting, "opened", shown)
        return left, ended

    return await node.database.write(commit)


def may_be_shown(row: ArrivedRecord, referral: ReferralRecord | Standing) -> bool:
    """Whether its content exists, and she has not said `erase`; a stop has no content and is always shown."""
    if class_here(row) is KindClass.STOP:
        return True
    return referral.blocked_at is None and referral.destroyed_at is None and row.status != "destroyed"


def _opened(
    node: Node,
    seq: int,
    row: ArrivedRecord,
    referral: Standing,
    header: bytes | None,
    key: ReferralKey | None,
    word: int | None,
) -> OpenedItem | None:
    members = members_of(header)
    item = item_with(node, seq, row, referral, members)
    kind_class = class_here(row)
    if kind_class is KindClass.STOP:
        return OpenedItem(item=item, digest=row.digest)
    if header is None or (content := _content(row, header, members.get("dek_commitment"), key)) is None:
        return None
    if kind_class is KindClass.ANSWER:
        answer: dict[str, Any] = json.loads(content)
        return OpenedItem(item=item, answer=answer, digest=row.digest)
    body = ForwardBody.read_again(content)
    return OpenedItem(
        item=item,
        client_code=body.content.client_code,
        content=body.content,
        digest=row.digest,
        consent_checked_at=from_millis(word) if word is not None else None,
    )


def _content(row: ArrivedRecord, header: bytes, commitment: str | None, key: ReferralKey | None) -> bytes | None:
    """The verified bytes inside; nothing where the key or the body is gone."""
    dek = data_key(row, key)
    if dek is None:
        return None
    return decrypt_committed(Envelope(header, b"", row.ciphertext or b"", row.signature or b""), dek, commitment)


async def sealed_envelope(node: Node, acting: Acting, item: str) -> WireEnvelope:
    """The envelope as it lies here. The wrapped key is empty where its key was taken over, by whoever holds the keys.

    Raises:
        NotFoundError, GoneError: there is none, or its content is destroyed or blocked.
        ConflictError: `consent-not-fresh`, `consent-ended`.
    """

    def read(conn: Connection) -> tuple[Found, dict[str, ReferralRecord]]:
        found = load_arrived(conn, [item], acting.unit)
        return found, load_referrals(conn, {row.referral for _, row in found.values()}, acting.unit)

    found, referrals = await node.database.read(read)
    row = found[item][1] if item in found else None
    referral = referrals.get(row.referral) if row is not None else None
    if row is None or referral is None:
        raise not_found()
    header = header_bytes(node, row)
    # The header names an id that is another member's referral here; `kind` and `event` say all there is.
    if header is None or referral.beside_anothers or not may_be_shown(row, referral):
        raise destroyed()
    withheld = (await fresh_words(node, [(row, referral)])).withheld.get(item)
    if withheld is not None:
        raise consent_says_no(withheld)

    def commit(conn: Connection) -> None:
        # As where the node opens: her no, or what another was told, may have come while the sender was asked.
        now = load_referral(conn, row.referral)
        if now is None or not may_be_shown(row, now):
            raise destroyed()
        if has_ended(row, now) or ended_among(conn, [item]):
            raise consent_says_no("consent-ended")
        audit(conn, node, acting, "fetched-sealed", [item])

    await node.database.write(commit)
    return WireEnvelope(
        header=to_base64url(header),
        wrapped_key=to_base64url(row.wrapped_key or b""),
        ciphertext=to_base64url(row.ciphertext or b""),
        signature=to_base64url(row.signature or b""),
        release=to_base64url(row.release) if row.release is not None else None,
    )


async def contact_advice(
    node: Node, acting: Acting, item: str, channel: Channel | None, at: datetime | None
) -> ContactAdvice:
    """May she be contacted at this time, on this channel; by the newest plan for the item's referral.

    Raises:
        NotFoundError, GoneError: there is no such item, or its content is destroyed or blocked.
        ConflictError: `no-plan`: no plan has arrived; then she is not contacted. Or `keys-elsewhere`.
    """
    if node.keyring is None:
        raise keys_elsewhere()
    plan, drill = await _newest_plan(node, acting, item)
    return ContactAdvice.of(plan, channel, at or node.now(), exercise=drill)


async def _with_numbers(node: Node, heads: Sequence[ArrivedHead]) -> list[tuple[int, str]]:
    """The sender's number and the id of what may hold a plan, the newest last.

    Envelopes overtake each other: the newest plan is the one with the highest number, not the last that arrived.
    """
    found = list[tuple[int, str]]()
    for done, head in enumerate(heads, start=1):
        members = header_members(node, head)
        # As far as its header says; one that is destroyed may have held one.
        if Group.CONTACT in members.get("groups", (Group.CONTACT,)):
            found.append((_number(head, members), head.id))
        if done % _HEADERS_AT_A_TIME == 0:
            # A peer may send many: meanwhile others have their turn.
            await asyncio.sleep(0)
    return sorted(found, key=itemgetter(0))


def _number(head: ArrivedHead, members: dict[str, Any]) -> int:
    """A disclosure's stands in its release statement."""
    if head.release is not None:
        return parse_statement(ReleaseStatement, head.release).unverified.number
    return int(members.get("number", 0))


async def _newest_plan(node: Node, acting: Acting, item: str) -> tuple[SafeContact, Drill]:
    """The plan that counts, and whether it is a drill's."""
    referral = await referral_of_item(node, item, acting.unit)

    def read(conn: Connection) -> tuple[ReferralRecord | None, Sequence[ArrivedHead]]:
        return load_referral(conn, referral), heads_of(conn, referral, _PLANS)

    record, heads = await node.database.read(read)
    if record is not None and record.state in _NO_CONTACT and record.blocked_at is None:
        raise ConflictError(
            "no-plan", "She said no, or the referral was taken back. Do not contact her; ask the referring agency."
        )
    plans = await _with_numbers(node, heads)
    candidates = [envelope for _, envelope in plans][-node.limits.open_items :]
    opened = await open_items(node, acting, candidates) if candidates else OpenedItems(items=())
    shown = {one.item.id: one for one in opened.items}
    withheld = {one.id: one.code for one in opened.withheld}
    for candidate in reversed(candidates):
        if candidate in withheld:
            raise consent_says_no(withheld[candidate])
        if candidate not in shown:
            raise await _why_missing(node, candidate, acting.unit)
        content = shown[candidate].content
        if content is not None and content.safe_contact is not None:
            return content.safe_contact, shown[candidate].item.exercise
    raise ConflictError("no-plan", "No contact plan has arrived. Do not contact her; ask the referring agency.")
