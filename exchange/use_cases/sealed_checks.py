"""What every envelope that the agency has sealed itself is held against before anything else is asked of it.

Rules, in this order:

1. It parses as strictly as a peer's, and carries no release statement: only the node releases.
2. It is from this agency, signed by the agency key that the roster lists.

What passed these two and is here already is not held against anything else: it is answered as here, however late and
whatever has changed since, as long as the roster lists its receiver: whom to telephone stands in the answer. A refusal
would have the software seal it again, and that is another referral.

3. It is to another member, and was made by the roster that this node has, so that both know the same members and
   contracts.
4. It was made now: not in the future, and not longer ago than `limits.hand_in_within_ms`. It has not expired. So is
   its number, or it follows the referral's last one closely (`check_number`, where the referral is read). An answer is
   asked how long ago where the referral is read, too: sealed anew it is as old as its event (`check_made_now`).
5. It is sealed to the receiver's key of this week, as this node has verified it, and does not outlive that key.

The node cannot look inside. What it lets pass is what header, consent and state allow; that the content is what the
header says, the receiver checks.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import Final

from exchange.envelope.epochs import latest_expiry_of_disclosure
from exchange.envelope.format import check_on_the_wire, parse_envelope
from exchange.envelope.header import Header, parse_header
from exchange.envelope.keys import key_id
from exchange.envelope.kinds import Kind, KindClass, SignedBy
from exchange.envelope.open import check_signature
from exchange.messages import SealedMessage
from exchange.roster import Member, UnknownMemberError
from exchange.schemas.federation import WireEnvelope
from exchange.use_cases.errors import ConflictError, ForbiddenError, InvalidError
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import current_peer_epoch
from exchange.use_cases.refusals import not_listed

_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True)
class OfThisAgency:
    """An envelope that passed 1 and 2. Only `read_sealed` makes one."""

    message: SealedMessage
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        """Raises TypeError unless `read_sealed` made it."""
        if made_by is not _MADE_HERE:
            raise TypeError("an OfThisAgency is made only by read_sealed")


@dataclass(frozen=True, slots=True)
class AgencySealed:
    """An envelope of this agency's own making that passed 1 to 5. Only `check_sealed` makes one."""

    message: SealedMessage
    receiver: Member
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        """Raises TypeError unless `check_sealed` made it."""
        if made_by is not _MADE_HERE:
            raise TypeError("an AgencySealed is made only by check_sealed")

    @property
    def header(self) -> Header:
        """What the node may read of it."""
        return self.message.header


def read_sealed(node: Node, wire: WireEnvelope) -> OfThisAgency:
    """Rules 1 and 2.

    Raises:
        EnvelopeError: `malformed`, `too-large`, `bad-signature` and the like.
        InvalidError, ForbiddenError: the rule that refuses.
    """
    envelope = parse_envelope(wire.model_dump(exclude_none=True))
    header = parse_header(envelope.header)
    if envelope.release is not None:
        raise InvalidError("release-misplaced", "Leave `release` out: this node makes the release statement.")
    if header.kind is not Kind.DISCLOSURE:
        check_on_the_wire(envelope, header)
    if header.sender != node.agency or header.signed_by is not SignedBy.AGENCY:
        raise InvalidError("sender-differs", "Hand in only what your own agency has sealed and signed.")
    me = node.world().roster.members.get(node.agency)
    if me is None:
        raise not_listed()
    if header.signing_key != key_id(me.agency_key):
        raise ForbiddenError("signing-key-differs", "The roster lists another agency key than the one that signed.")
    check_signature(envelope, me.agency_key)
    return OfThisAgency(SealedMessage(envelope, header, envelope.digest()), _MADE_HERE)


async def check_sealed(node: Node, read: OfThisAgency) -> AgencySealed:
    """Rules 3 to 5.

    Raises:
        InvalidError, ForbiddenError, ConflictError: the rule that refuses.
        UnavailableError: `peer-keys-unknown`.
    """
    header = read.message.header
    receiver = addressed(node, header)
    roster = node.world().roster
    if (header.roster_version, header.roster_digest) != (roster.version, roster.digest):
        raise ConflictError("roster-differs", "Your software and this node have different rosters. Install the newer.")
    _check_times(node, header)
    if header.kind_class is not KindClass.STOP:
        epoch = await current_peer_epoch(node, receiver)
        if epoch.key_id != header.epoch_key:
            raise ConflictError("epoch-key-differs", "Seal it to the receiver's key of this week: fetch its keys.")
        follows = header.kind_class is KindClass.FORWARD and header.kind is not Kind.OFFER
        if follows and header.expires > latest_expiry_of_disclosure(epoch.not_after):
            raise expires_too_late()
    return AgencySealed(read.message, receiver, _MADE_HERE)


def expires_too_late() -> InvalidError:
    """It would outlive what it rests on."""
    return InvalidError(
        "expires-too-late", "Let it end with the consent, the offer and the week of its key at the latest."
    )


def addressed(node: Node, header: Header) -> Member:
    """To whom it is: not to this agency, or its header would not have parsed.

    Raises:
        InvalidError: no member.
    """
    try:
        return node.world().roster.member(header.recipient)
    except UnknownMemberError as error:
        raise InvalidError("unknown-agency", "Check the id of the receiving agency.") from error


def _check_times(node: Node, header: Header) -> None:
    at, limits = node.clock(), node.limits
    if header.created > at + limits.skew_ms:
        raise _from_the_future()
    if header.expires <= at:
        raise _too_old()
    if header.kind_class is not KindClass.ANSWER:
        check_made_now(node, header)


def check_made_now(node: Node, header: Header) -> None:
    """Whether an envelope was made just now.

    Raises:
        InvalidError: `too-old`.
    """
    if header.created < node.clock() - node.limits.hand_in_within_ms:
        raise _too_old()


def _too_old() -> InvalidError:
    return InvalidError("too-old", "The envelope was made too long ago. Seal it again.")


def check_number(node: Node, number: int, used: int) -> None:
    """Whether a number may follow the highest that this side has used for the referral; 0 for none.

    What this node has said by a clock that was ahead has a number of that time, and everything after it a higher one.
    Otherwise a number is of now: a very high one would leave none for her no.

    Raises:
        ConflictError: `number-not-higher`.
        InvalidError: `from-the-future`.
    """
    if number <= used:
        raise ConflictError("number-not-higher", "The number must be higher than any before it. Read the referral.")
    if number > max(node.clock(), used) + node.limits.skew_ms:
        raise _from_the_future()


def _from_the_future() -> InvalidError:
    return InvalidError("from-the-future", "The envelope is dated later than now. Set the clock of your machine.")
