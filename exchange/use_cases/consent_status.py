"""What this node tells a receiver about consents: of each receipt, whether what it stands for is live.

Rules:

* Answered to the receipt's recipient only. An unknown receipt, another's and one whose consent was ended are the same
  answer: `not-live`. So is one of what was taken back before it was signed for: it may have arrived, and this
  node no longer stands behind it; but for a plan or information that a recall took back, which can be undone. After a
  loss that its operator has told (`resync`) an unknown receipt of that time is `lost` instead, whoever's it was: a
  known end is final, and would be wrong of all that was disclosed then. So is one whose referral or consent cannot be
  read here: it holds up no other.
* A receipt is `lost` too where her consent lets nothing go to this receiver only because of what the roster of now says
  of it or of this agency, and would between the two as they were when the referral was made: a roster may hold a slip,
  which is mended, and she has ended nothing. Where it is not on record what they were, it is `not-live`.
* Live: nobody has ended the consent, it still lets this receiver be told something for this purpose, and the referral
  was not ended by her no, entered in error or destroyed. After `stop-sharing` what was released stays where it is.
* A receipt that the agency's own software has cut for several referrals is live as long as all of them are. That one of
  them was destroyed because its time was over says nothing of the others.
* That the consent's date has passed ends nothing that was told before, and `not-live` would: where a renewal ends
  earlier than the receipt says, its receiver still asks. Nothing more is told: each gate looks at the date itself.
* Of a live one nothing else is said. Until when it lives would be the consent's end, the same for every receiver of it:
  by that two of them could join what they hold of her.
* One statement by the node key covers the whole answer, in the order asked, and says when it was made.
* Judging two hundred receipts takes the processor longer than a full batch of envelopes. So of each member one question
  is judged at a time, a receipt once however often it is named, and others have their turn in between.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Final, Literal

from consent.decision import ConsentDeny, ConsentQuestion, decide
from consent.record import ConsentRecord
from contracts.canonical_json import canonical
from contracts.vocabulary import Field
from exchange.envelope.ids import made_at
from exchange.envelope.statements import ConsentStatus, sign_statement
from exchange.envelope.wire import to_base64url
from exchange.referral.lifecycle import State
from exchange.roster import Member
from exchange.schemas.federation import ConsentStatusAnswer, ConsentStatusRequest, ReceiptStatus
from exchange.storage.consent_words import CutFor, receipts_of
from exchange.storage.consents import StoredConsent, load_consent
from exchange.storage.database import Connection
from exchange.storage.lost_data import Loss, losses
from exchange.use_cases.consent_records import hers
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.gate_again import as_they_were_first
from exchange.use_cases.node import Node
from exchange.use_cases.row_by_row import UNREADABLE, tell_unreadable

_ENDED: Final = frozenset({State.WITHDRAWN.value, State.ENTERED_IN_ERROR.value})
_EVERYTHING: Final = frozenset(Field)
Status = Literal["live", "not-live", "lost"]
_LEAST_FIRST: Final[tuple[Status, ...]] = ("not-live", "lost", "live")


async def consent_status(node: Node, peer: str, request: ConsentStatusRequest) -> ConsentStatusAnswer:
    """Answer for each receipt, with one signed statement.

    Raises:
        UnavailableError: `not-a-member`.
    """
    async with node.answering[peer]:
        return await _answer(node, peer, request)


async def _answer(node: Node, peer: str, request: ConsentStatusRequest) -> ConsentStatusAnswer:
    sender, receiver = node.member, node.world().roster.member(peer)

    def read(conn: Connection) -> tuple[dict[str, list[CutFor]], dict[str, StoredConsent | None], list[Loss]]:
        found = receipts_of(conn, peer, request.receipts)
        ids = {cut.consent_id for each in found.values() for cut in each if cut.consent_id is not None}
        return found, {consent: load_consent(conn, consent) for consent in ids}, losses(conn)

    found, rows, lost = await node.database.read(read)
    said: dict[str, set[Status]] = defaultdict(set)
    asked = [(receipt, cut) for receipt, each in found.items() for cut in _that_count(each)]
    async for receipt, cut in node.precedence.large().of(asked):
        try:
            said[receipt].add(_status_of(node, sender, receiver, cut, rows.get(cut.consent_id or "")))
        except UNREADABLE as error:
            tell_unreadable(node, "referral", cut.referral, error, peer=peer)
            said[receipt].add("lost")
    answers = [
        ReceiptStatus(receipt=receipt, status=_least(said[receipt]) if receipt in found else _unknown(receipt, lost))
        for receipt in request.receipts
    ]
    statement = ConsentStatus(agency=node.agency, recipient=peer, receipts=digest_of(answers), stated_at=node.clock())
    signed = sign_statement(statement, node.node_key.sign).to_bytes()
    return ConsentStatusAnswer(receipts=tuple(answers), statement=to_base64url(signed))


def _that_count(cuts: Sequence[CutFor]) -> Sequence[CutFor]:
    """Without those whose time alone is over, as long as there is another."""
    return [cut for cut in cuts if not cut.by_time or cut.state in _ENDED] or cuts


def _least(said: Collection[Status]) -> Status:
    """Of a receipt that was cut for several referrals: an end of one is an end, and no other is heard above it."""
    return min(said, key=_LEAST_FIRST.index)


def _unknown(receipt: str, lost: Iterable[Loss]) -> Status:
    """What is unknown and was made in a time that this node lost may be live: nobody here can say that it is not."""
    at = made_at(receipt)
    return "lost" if at is not None and any(loss.since <= at <= loss.until for loss in lost) else "not-live"


def digest_of(answers: Iterable[ReceiptStatus]) -> str:
    """What the statement covers: SHA-256 of the answers as canonical JSON."""
    members = [{"receipt": one.receipt, "status": one.status} for one in answers]
    return hashlib.sha256(canonical(members)).hexdigest()


def _status_of(node: Node, sender: Member, receiver: Member, cut: CutFor, row: StoredConsent | None) -> Status:
    if cut.gone or cut.state in _ENDED or cut.sealed_facts is None or row is None:
        return "not-live"
    if cut.sharing_stopped:
        return "live"
    facts = open_facts(node, cut.referral, cut.sealed_facts)
    record = hers(node, row, facts)
    if _permits(node, record, facts, sender, receiver):
        return "live"
    made = as_they_were_first(facts, sender, receiver)
    return "lost" if made is not None and _permits(node, record, facts, *made) else "not-live"


def _permits(node: Node, record: ConsentRecord | None, facts: Facts, sender: Member, receiver: Member) -> bool:
    """Whether she still lets this sender tell this receiver something for the purpose of the referral."""
    question = ConsentQuestion(
        agency=receiver.agency,
        kind=receiver.kind,
        country=receiver.country,
        sender_country=sender.country,
        represents=receiver.represents,
        purpose=facts.purpose,
        fields=_EVERYTHING,
    )
    # Its end is exclusive: past its date it is asked what it allowed until then.
    at = node.now() if record is None else min(node.now(), record.expires_at - timedelta.resolution)
    return not isinstance(decide(record, question, at), ConsentDeny)
