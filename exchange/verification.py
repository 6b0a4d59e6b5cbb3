"""Steps 1 to 17 of receiving an envelope, in the order and with the numbers of docs/protocol.md. Pure.

Rules:

1.  Size caps, 2. strict parse (`parse_item`): one spelling, no unknown or doubled key.
3.  It is addressed to this agency, and the peer that authenticated is the one the header names as sender.
4.  Seen before with this digest: the first answer again. That needs the memory and is the use case's.
5.  Known suite, version and vocabulary (part of the parse).
6.  Neither from the future nor expired, within the skew; a disclosure was released in time.
7.  The sender is in the roster, the signing key is its current one, its standing allows this class.
8.  Signature. The same id with another digest is a conflict (the use case's, from the memory).
9.  The referral: the sender is its other party; what it replies to belongs to it; the kind is legal in its state. A
    disclosure carries a release statement by the sender's node key that names this digest and this node's acceptance.
10. Forward: a contract in force between the two, within the skew. Answer: the referral's own contract and purpose.
    Stop: none.
11. Forward: a consent receipt, signed by the sender's agency key, unexpired, that covers receiver, purpose, groups.
12. Forward: the contract allows the basis class, and every group has a field permitted at this stage. An offer asks
    for an answer within the time of the rule for its priority.
13. Unwrap, 14. commitment and decrypt, 15. unpad, 16. the content parses strictly and says what the header says: the
    groups of its fields, its sender and service, the event of an answer; and its basis is one for her age. 17. Forward:
    the contract, whose last day lasts as long as in 10, allows every field, and the exact basis. Answer: it tells no
    more than the feedback level of the referral (`open_item`).

Each check raises `VerificationError` with its step. `final` is False where a newer roster, key or contract, or the
offer that has not arrived yet, may change the answer: then the answer is `later`. A stop is never refused by a rule
that was made for her yes: it passes 3 and 6 to 9 only. Nothing here keeps state or reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from consent.terms import MINOR_BANDS
from consent.validity import BANDS_BY_BASIS
from contracts.decision import Deny, Question, clearance_for, permitted_groups
from contracts.model import Contract
from contracts.vocabulary import (
    ROUTING_FIELDS,
    BasisClass,
    Feedback,
    Group,
    Priority,
    ServiceType,
    Stage,
    basis_class,
    groups_of,
    service_of,
)
from contracts.vocabulary.term import by_word
from contracts.vocabulary.terms import Purpose
from exchange.envelope.errors import EnvelopeError
from exchange.envelope.format import Envelope, check_on_the_wire, digest_of, parse_envelope
from exchange.envelope.header import Header, parse_header
from exchange.envelope.keys import Dek, EpochKey, key_id, verify
from exchange.envelope.kinds import Kind, KindClass, SignedBy
from exchange.envelope.open import decrypt_committed
from exchange.envelope.receipts import check_receipt
from exchange.envelope.statements import ReleaseStatement, parse_statement
from exchange.feedback import may_travel, read_answer, says_event
from exchange.limits import Limits
from exchange.messages import ForwardBody
from exchange.referral.answers import AnswerContent
from exchange.referral.clocks import respond_by
from exchange.referral.content import ContentInvalidError, ReferralContent
from exchange.referral.lifecycle import Side, State
from exchange.roster import Member, RosterSnapshot, UnknownMemberError, standing_allows
from exchange.schemas.problems import Who

_PURPOSES, _BASES, _STAGES = by_word(Purpose), by_word(BasisClass), by_word(Stage)
_PRIORITIES = by_word(Priority)


class VerificationError(Exception):
    """One step refused the envelope.

    Attributes:
        code: stable; documented in docs/problems.md.
        step: the number of the step.
        final: False if the same envelope may be accepted later, when this node knows more.
    """

    def __init__(self, step: int, code: str, *, who: Who = Who.SENDER, final: bool = True) -> None:
        super().__init__(f"step {step}: {code}")
        self.step = step
        self.code = code
        self.who = who
        self.final = final


def later(step: int, code: str) -> VerificationError:
    """A refusal that is not final."""
    return VerificationError(step, code, who=Who.NODE, final=False)


def by_roster(step: int, code: str, header: Header, around: Circumstances) -> VerificationError:
    """A refusal for what the roster here says: not final where the sender acted on a newer one, that may say more."""
    return VerificationError(step, code) if header.roster_version <= around.roster.version else later(step, code)


class ReferralMemory(NamedTuple):
    """What this node knows of a referral with the sender before it looks at an envelope about it."""

    side: Side
    contract: str
    state: State
    closed: bool
    destroyed: bool
    """Nothing of it is kept or shown any more."""
    purpose: Purpose | None
    sent: frozenset[str] | None
    """Ids of the envelopes that were made here for the referral; nothing where the agency's node alone knows them."""
    received: frozenset[str]
    """Ids of the envelopes that arrived for it before."""
    acceptances: frozenset[str]
    """Digests of this node's own accepting decisions."""
    sharing_stopped: bool
    feedback: Feedback | None
    """How much may be told back; nothing where only the tombstone is left."""
    heard: frozenset[int]
    """Numbers of what the other side has said of it."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything a verification may look at besides the envelope."""

    me: Member
    peer: str
    roster: RosterSnapshot
    contract_of: Callable[[str], Contract | None]
    in_force: Callable[[str, str], bool]
    """(contract digest, other agency) -> both adhere and the dates hold, within the skew."""
    limits: Limits
    at: int


class ParsedItem(NamedTuple):
    """Steps 1, 2 and 5 hold."""

    envelope: Envelope
    header: Header
    signed: bytes
    """What the signature covers."""
    digest: str


class CheckedItem(NamedTuple):
    """Steps 1 to 12 hold. Only `check_item` makes one."""

    item: ParsedItem
    sender: Member
    receiver: Member
    release: ReleaseStatement | None
    contract: Contract | None
    feedback: Feedback | None
    """Of the referral, for an answer."""


class VerifiedMessage(NamedTuple):
    """Steps 1 to 17 hold. Only `open_item` makes one."""

    checked: CheckedItem
    dek: Dek
    content: bytes
    body: ForwardBody | None


def parse_item(value: object) -> ParsedItem:
    """Steps 1, 2 and 5.

    Raises:
        VerificationError: with the step that refuses.
    """
    try:
        envelope = parse_envelope(value)
        header = parse_header(envelope.header)
        check_on_the_wire(envelope, header)
    except EnvelopeError as error:
        raise VerificationError(error.step or 2, error.code) from error
    signed = envelope.signed_input()
    return ParsedItem(envelope, header, signed, digest_of(signed))


def check_addresses(item: ParsedItem, around: Circumstances) -> None:
    """Step 3, which comes before the memory is asked."""
    if item.header.recipient != around.me.agency or item.header.sender != around.peer:
        raise VerificationError(3, "wrong-recipient")


def check_item(item: ParsedItem, memory: ReferralMemory | None, around: Circumstances) -> CheckedItem:
    """Steps 6 to 12.

    Args:
        item: parsed, addressed to this agency, not seen before.
        memory: what is known of the referral; nothing for an unknown one, and for one that has another other party.
        around: roster, contracts, clock.

    Raises:
        VerificationError: with the step that refuses.
    """
    header = item.header
    _check_times(header, around)
    sender = _check_sender(header, around)
    key = sender.agency_key if header.signed_by is SignedBy.AGENCY else sender.node_key
    try:
        verify(key, item.signed, item.envelope.signature)
    except EnvelopeError as error:
        raise VerificationError(8, error.code) from error
    release = _check_referral(item, memory, sender, around)
    contract = _check_contract(header, memory, around)
    if header.kind_class is KindClass.FORWARD and contract is not None:
        _check_consent(header, sender, around)
        _check_groups(header, sender, contract, around)
    return CheckedItem(item, sender, around.me, release, contract, memory.feedback if memory is not None else None)


def _check_times(header: Header, around: Circumstances) -> None:
    skew = around.limits.skew_ms
    if header.created > around.at + skew and header.kind_class is not KindClass.STOP:
        # One of the two clocks is wrong, and what was written meanwhile is not lost by it. Her no does not wait until
        # the clock is right by which it was written.
        raise later(6, "from-the-future")
    # How late a disclosure may come is said by its release statement: it may have been held for days.
    if header.kind is not Kind.DISCLOSURE and around.at > header.expires + skew:
        raise VerificationError(6, "expired")


def _check_sender(header: Header, around: Circumstances) -> Member:
    try:
        sender = around.roster.member(header.sender)
    except UnknownMemberError as error:
        raise later(7, "unknown-sender") from error
    current = sender.agency_key if header.signed_by is SignedBy.AGENCY else sender.node_key
    if key_id(current) != header.signing_key:
        raise later(7, "unknown-key")
    if header.kind_class is not KindClass.STOP and sender.synthetic != around.me.synthetic:
        raise VerificationError(7, "synthetic-mixed")
    if not standing_allows(sender, around.me, header.kind_class):
        raise by_roster(7, "not-in-good-standing", header, around)
    return sender


def _check_referral(
    item: ParsedItem, memory: ReferralMemory | None, sender: Member, around: Circumstances
) -> ReleaseStatement | None:
    header = item.header
    if memory is None:
        if header.kind is Kind.OFFER or header.kind_class is KindClass.STOP:
            return None
        raise _unknown_referral(header)
    if header.kind in _LATER_KINDS:
        raise VerificationError(9, "kind-not-supported")
    if header.kind_class is KindClass.STOP:
        return None
    expected = Side.RECEIVING if header.kind_class is KindClass.FORWARD else Side.REFERRING
    if memory.side is not expected:
        raise VerificationError(9, "not-legal")
    # Of a destroyed referral this node does not know any more what was said in it; below it is refused as ended.
    known = memory.destroyed or memory.sent is None or header.in_reply_to in memory.sent | memory.received
    if header.in_reply_to is not None and not known:
        raise VerificationError(9, "reply-unknown")
    if header.kind_class is KindClass.FORWARD:
        return _check_forward(item, memory, sender, around)
    said_again = memory.state in _ENDED_BY_AN_ANSWER and header.number in memory.heard
    if memory.destroyed or (memory.closed and memory.state not in _ANSWERABLE_WHEN_CLOSED and not said_again):
        raise VerificationError(9, "not-legal")
    return None


def _unknown_referral(header: Header) -> VerificationError:
    """A forward may have overtaken its offer; an answer has nothing to wait for."""
    follows = header.kind_class is KindClass.FORWARD and header.kind is not Kind.OFFER
    return later(9, "unknown-referral") if follows else VerificationError(9, "unknown-referral")


_LATER_KINDS: Final = frozenset(
    {Kind.APPOINTMENT, Kind.ONWARD_REQUEST, Kind.ONWARD_ANSWER, Kind.PROBE, Kind.PROBE_ANSWER, Kind.HOLD}
)
"""Kinds that this version can parse and does not serve."""
_ANSWERABLE_WHEN_CLOSED: Final = frozenset(
    {State.EXPIRED, State.RECALLED, State.RECALL_REQUESTED, State.COMPLETED, State.FAILED}
)
"""An answer that crossed a recall or an expiry on its way is recorded; the merge decides what it means."""
_ENDED_BY_AN_ANSWER: Final = frozenset({State.DECLINED, State.REDIRECTED})
"""That answer may come once more, sealed anew: its receipt was lost. Another event under its number is refused."""


def _check_forward(
    item: ParsedItem, memory: ReferralMemory, sender: Member, around: Circumstances
) -> ReleaseStatement | None:
    header = item.header
    if header.kind is Kind.OFFER:
        # A referral has one offer. A stop that came first left a closed referral here, which refuses it.
        raise VerificationError(9, "withdrawn" if memory.state is State.WITHDRAWN else "not-legal")
    if memory.destroyed or memory.closed or memory.sharing_stopped:
        raise VerificationError(9, "not-legal")
    if memory.purpose is not None and header.purpose != memory.purpose:
        raise VerificationError(9, "not-legal")
    if header.stage == Stage.DISCLOSURE and not memory.acceptances:
        raise VerificationError(9, "not-accepted")
    if header.kind is not Kind.DISCLOSURE:
        return None
    return _check_release(item, memory, sender, around)


def _check_release(item: ParsedItem, memory: ReferralMemory, sender: Member, around: Circumstances) -> ReleaseStatement:
    if item.envelope.release is None:
        raise VerificationError(9, "not-released")
    try:
        statement = parse_statement(ReleaseStatement, item.envelope.release).verify(sender.node_key)
    except EnvelopeError as error:
        raise VerificationError(9, "release-invalid") from error
    if statement.disclosure != item.digest or statement.referral != item.header.referral:
        raise VerificationError(9, "release-invalid")
    if statement.accepting not in memory.acceptances:
        raise VerificationError(9, "not-accepted")
    skew = around.limits.skew_ms
    if statement.released_at > item.header.expires:
        raise VerificationError(6, "release-too-late")
    if statement.released_at > around.at + skew:
        raise later(6, "from-the-future")
    if around.at > statement.released_at + around.limits.released_within_ms:
        raise VerificationError(6, "expired")
    return statement


def _check_contract(header: Header, memory: ReferralMemory | None, around: Circumstances) -> Contract | None:
    if header.kind_class is KindClass.STOP or header.contract is None:
        return None
    if header.kind_class is KindClass.ANSWER:
        if memory is None or header.contract != memory.contract:
            raise VerificationError(10, "contract-differs")
        # Of a tombstone the purpose is not known any more; there an answer changes nothing.
        if memory.purpose is not None and header.purpose != memory.purpose:
            raise VerificationError(10, "contract-differs")
        return around.contract_of(header.contract)
    contract = around.contract_of(header.contract)
    if contract is None:
        raise later(10, "unknown-contract")
    if not around.in_force(header.contract, header.sender):
        raise by_roster(10, "contract-not-in-force", header, around)
    return contract


def _check_consent(header: Header, sender: Member, around: Circumstances) -> None:
    try:
        check_receipt(header, sender.agency_key, at=around.at)
    except EnvelopeError as error:
        raise VerificationError(11, error.code) from error


def _check_groups(header: Header, sender: Member, contract: Contract, around: Circumstances) -> None:
    allowed = groups_permitted(header, sender, around.me, contract)
    if not allowed:
        raise by_roster(12, "no-rule", header, around)
    if not allowed.issuperset(header.groups):
        raise by_roster(12, "over-shared", header, around)
    if header.kind is Kind.OFFER and not _asks_in_time(header, sender, around.me, contract):
        raise by_roster(12, "respond-by-too-late", header, around)


def _asks_in_time(header: Header, sender: Member, receiver: Member, contract: Contract) -> bool:
    """Whether the answer is asked for no later than the rule says: she waits for it."""
    service = _service(header)
    rule = contract.rule_for(sender.kind, receiver.kind, service) if service is not None else None
    if rule is None or header.respond_by is None or header.priority is None:
        return False
    return header.respond_by <= respond_by(header.created, _PRIORITIES[header.priority], dict(rule.respond_within))


def _service(header: Header) -> ServiceType | None:
    return service_of(_PURPOSES[header.purpose]) if header.purpose else None


def groups_permitted(header: Header, sender: Member, receiver: Member, contract: Contract) -> frozenset[Group]:
    """Step 12: the groups of which something may be inside what this header describes; none where there is no rule."""
    service = _service(header)
    if service is None or header.receipt is None:
        return frozenset()
    basis, stage = _BASES[header.receipt.basis], _STAGES[header.stage or ""]
    return permitted_groups(contract, sender.kind, receiver.kind, service, basis, stage)


def open_item(checked: CheckedItem, epoch_key: EpochKey, around: Circumstances) -> VerifiedMessage:
    """Steps 13 to 17. A stop has nothing to open and never comes here.

    Raises:
        VerificationError: with the step that refuses.
    """
    try:
        dek = epoch_key.unwrap(checked.item.envelope.wrapped_key)
        content = decrypt_committed(checked.item.envelope, dek, checked.item.header.dek_commitment)
    except EnvelopeError as error:
        raise VerificationError(error.step or 14, error.code) from error
    if checked.item.header.kind_class is KindClass.ANSWER:
        _check_answer(checked, content)
        return VerifiedMessage(checked, dek, content, None)
    return VerifiedMessage(checked, dek, content, _check_content(checked, content, around))


def _check_answer(checked: CheckedItem, content: bytes) -> None:
    told = read_told(checked.item.header, content)
    # What the receiver must not tell, this node must not take: her word bounds both.
    if checked.feedback is not None and not may_travel(told, checked.feedback):
        raise VerificationError(17, "over-shared")


def read_told(header: Header, content: bytes) -> AnswerContent:
    """Step 16 of an answer."""
    try:
        told = read_answer(header.kind, content)
    except ContentInvalidError as error:
        raise VerificationError(16, "content-invalid") from error
    if not says_event(told, header.event or ""):
        raise VerificationError(16, "content-invalid")
    return told


def _contradicts(content: ReferralContent, header: Header) -> bool:
    """Whether the routing fields inside name another sender, vocabulary, service or time than the signed header."""
    service, due = content.service_type, content.respond_by
    return (
        content.referring_agency not in (None, header.sender)
        or content.vocabulary_version not in (None, header.vocabulary)
        or (service is not None and service is not _service(header))
        or (header.kind is Kind.OFFER and content.priority not in (None, header.priority))
        or (header.kind is Kind.OFFER and due is not None and round(due.timestamp() * 1000) != header.respond_by)
    )


def _of_another_age(body: ForwardBody) -> bool:
    """Whether the basis is none for somebody of the age inside: above all, nobody decides for an adult."""
    content, bands = body.content, BANDS_BY_BASIS.get(body.basis)
    if bands is None:  # an exception is about what threatens her, and not about who decides
        return False
    if content.age_band is not None:
        return content.age_band not in bands
    minor = content.is_minor if content.caregiver is None else True
    return minor is not None and minor is bands.isdisjoint(MINOR_BANDS)


def _on_nobodys_clock(content: ReferralContent) -> bool:
    """Whether a time of the contact plan is another at each server. One that lies here already is read, and is none."""
    return content.safe_contact is not None and not content.safe_contact.has_known_clocks()


def read_forward(header: Header, content: bytes) -> ForwardBody:
    """Step 16 of a forward."""
    try:
        body = ForwardBody.from_bytes(content)
    except (ContentInvalidError, EnvelopeError) as error:
        raise VerificationError(16, "content-invalid") from error
    if _contradicts(body.content, header) or _of_another_age(body) or _on_nobodys_clock(body.content):
        raise VerificationError(16, "content-invalid")
    if groups_of(body.content.fields_present()) != set(header.groups):
        raise VerificationError(16, "groups-differ")
    return body


def _check_content(checked: CheckedItem, content: bytes, around: Circumstances) -> ForwardBody:
    header, contract = checked.item.header, checked.contract
    body = read_forward(header, content)
    fields = body.content.fields_present()
    service = _service(header)
    if contract is None or service is None or header.receipt is None:
        raise VerificationError(17, "no-rule")
    if basis_class(body.basis).value != header.receipt.basis:
        raise VerificationError(17, "basis-differs")
    at = datetime.fromtimestamp((around.at - around.limits.skew_ms) / 1000, UTC)
    cleared = clearance_for(contract, Question(checked.sender.kind, around.me.kind, service, body.basis, fields), at)
    if isinstance(cleared, Deny):
        raise by_roster(17, cleared.code, header, around)
    stage = _STAGES[header.stage or ""]
    allowed = cleared.offer if stage is Stage.OFFER else cleared.disclosure | cleared.named
    if not fields <= allowed | ROUTING_FIELDS:
        raise by_roster(17, "over-shared", header, around)
    return body
