"""From what a gate made to an envelope: the one place that calls seal.

Rules:

* `seal_forward` takes a Forward, `seal_answer` an Answer, `seal_stop_message` a Stop, and nothing else is sealed. A
  Forward is made only by the disclosure gate, an Answer only by the feedback rule, a Stop has no person field. What has
  no type here cannot be sent.
* The header says nothing that the protocol does not list; everything else about consent and everything about her is
  inside.
* Forwards and answers are signed by the agency key; a stop by the node key, so that a node can recall, expire and
  erase while the agency's software sleeps. The attestation for the agency's own copies is signed by the agency key.
* Numbers, times, keys and randomness are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple

from consent.decision import ConsentPermit
from consent.receipt import cut_receipt
from contracts.vocabulary import VOCABULARY_VERSION, Basis, Feedback, Priority, Purpose
from exchange.disclosure import Forward
from exchange.envelope.epochs import EpochStatement
from exchange.envelope.errors import MalformedError, TooLargeError
from exchange.envelope.format import Envelope
from exchange.envelope.header import Header, HeaderReceipt
from exchange.envelope.ids import TAIL_BYTES, timed_id
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES, AgencyKey, NodeKey
from exchange.envelope.kinds import ERASED_BY_AGENCY, Kind, SignedBy
from exchange.envelope.receipts import sign_receipt
from exchange.envelope.seal import STOP_FILLER_BYTES, seal, seal_stop
from exchange.feedback import Answer
from exchange.limits import LIMITS
from exchange.referral.content import ReferralContent
from exchange.referral.values import AS_WRITTEN
from exchange.roster import RosterSnapshot
from exchange.stops import Stop

_BODY: Final = re.compile(
    rb'\{"basis":"(?P<basis>[a-z-]+)","content":(?P<content>\{.*\}),"feedback":"(?P<feedback>[a-z-]+)"\}', re.DOTALL
)


class ForwardBody(NamedTuple):
    """What is inside a forward: her data, the exact basis, and how much may be reported back."""

    basis: Basis
    feedback: Feedback
    content: ReferralContent

    def to_bytes(self) -> bytes:
        """Canonical JSON. The content is canonical already, and the members are in order."""
        head = b'{"basis":"%b","content":' % self.basis.value.encode()
        return head + self.content.to_bytes() + b',"feedback":"%b"}' % self.feedback.value.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ForwardBody:
        """Read what `to_bytes` wrote, and nothing else.

        Raises:
            MalformedError: unknown or missing members, another spelling, an unknown term.
            ContentInvalidError: the content is not.
        """
        return cls._read(data, ReferralContent.from_bytes)

    @classmethod
    def read_again(cls, data: bytes) -> ForwardBody:
        """What stands in bytes that `from_bytes` accepted before; their spelling is not judged again."""
        return cls._read(data, partial(ReferralContent.model_validate_json, context=AS_WRITTEN))

    @classmethod
    def _read(cls, data: bytes, content: Callable[[bytes], ReferralContent]) -> ForwardBody:
        if len(data) > max(LIMITS.padding_bytes):
            raise TooLargeError
        # Around a content in its one spelling there is one way to write the rest.
        found = _BODY.fullmatch(data)
        if found is None:
            raise MalformedError("body")
        try:
            basis, feedback = Basis(found["basis"].decode()), Feedback(found["feedback"].decode())
        except ValueError as error:
            raise MalformedError("body") from error
        return cls(basis, feedback, content(found["content"]))


@dataclass(frozen=True, slots=True)
class Signers:
    """What signs here, and for whom. Without the agency key only stops can be made; without the node key all others."""

    agency: str
    agency_key: AgencyKey | None
    node_key: NodeKey | None


class Posting(NamedTuple):
    """What a header says beyond the message itself. A disclosure's number stands in its release statement."""

    envelope_id: str
    referral: str
    recipient: str
    roster: RosterSnapshot
    seen: int
    created: int
    expires: int
    number: int | None
    in_reply_to: str | None = None
    priority: Priority | None = None
    respond_by: int | None = None


@dataclass(frozen=True, slots=True)
class AnswerTerms:
    """Under what an answer comes back: the referral's own contract and purpose."""

    contract: str
    purpose: Purpose


class SealedMessage(NamedTuple):
    """An envelope with its header, ready to be stored."""

    envelope: Envelope
    header: Header
    digest: str


Entropy = Callable[[int], bytes]


def seal_forward(
    forward: Forward,
    permit: ConsentPermit,
    posting: Posting,
    signers: Signers,
    *,
    feedback: Feedback,
    epoch: EpochStatement,
    entropy: Entropy,
) -> SealedMessage:
    """Seal what the gate let through, with the receipt cut to this receiver.

    Args:
        forward: made by the gate, for this receiver.
        permit: what her consent allows this receiver; the receipt is cut from it.
        posting: the rest of the header.
        signers: must hold the agency key.
        feedback: how much may be reported back; travels inside.
        epoch: the receiver's key of this week.
        entropy: fresh randomness.

    Raises:
        ContentTooLargeError: it fits into no envelope.
    """
    agency_key = _agency_key(signers)
    receipt = cut_receipt(
        permit,
        forward.groups,
        receipt_id=timed_id(posting.created, entropy(TAIL_BYTES)),
        issuer=signers.agency,
        recipient=posting.recipient,
        purpose=forward.purpose,
        at=datetime.fromtimestamp(posting.created / 1000, UTC),
    )
    header_receipt = HeaderReceipt(
        receipt_id=receipt.receipt_id,
        issuer=receipt.issuer,
        recipient=receipt.recipient,
        purpose=receipt.purpose.value,
        groups=tuple([group.value for group in receipt.groups]),
        basis=receipt.basis.value,
        issued=receipt.issued,
        expires=receipt.expires,
        signature=sign_receipt(receipt.signing_body(), agency_key.sign),
    )
    header = _header(
        posting,
        signers,
        forward.kind,
        SignedBy.AGENCY,
        epoch_key=epoch.key_id,
        contract=forward.contract_digest,
        purpose=forward.purpose.value,
        stage=forward.stage.value,
        groups=header_receipt.groups,
        receipt=header_receipt,
    )
    body = ForwardBody(forward.basis, feedback, forward.content).to_bytes()
    return _sealed(header, body, epoch, agency_key, entropy)


def seal_answer(
    answer: Answer, terms: AnswerTerms, posting: Posting, signers: Signers, *, epoch: EpochStatement, entropy: Entropy
) -> SealedMessage:
    """Seal what the feedback rule let through. The header names the new state and nothing else."""
    header = _header(
        posting,
        signers,
        answer.kind,
        SignedBy.AGENCY,
        epoch_key=epoch.key_id,
        contract=terms.contract,
        purpose=terms.purpose.value,
        event=answer.event.value,
    )
    return _sealed(header, answer.content.to_bytes(), epoch, _agency_key(signers), entropy)


def seal_stop_message(stop: Stop, posting: Posting, signers: Signers, *, entropy: Entropy) -> SealedMessage:
    """Make a stop: complete in its header, around random filler."""
    by_agency = stop.term == ERASED_BY_AGENCY
    header = _header(
        posting,
        signers,
        stop.kind,
        SignedBy.AGENCY if by_agency else SignedBy.NODE,
        event=stop.term.value if stop.term is not None else None,
    )
    sign = (_agency_key(signers) if by_agency else _node_key(signers)).sign
    envelope, digest = seal_stop(header, sign=sign, filler=entropy(STOP_FILLER_BYTES))
    return SealedMessage(envelope, header, digest)


def stop_signed_anew(header: Header, key: AgencyKey | NodeKey, *, envelope_id: str, entropy: Entropy) -> SealedMessage:
    """The same stop, signed by another key of the same kind: under another id, since it has another digest."""
    header = header._replace(id=envelope_id, signing_key=key.key_id)
    envelope, digest = seal_stop(header, sign=key.sign, filler=entropy(STOP_FILLER_BYTES))
    return SealedMessage(envelope, header, digest)


def _sealed(
    header: Header, body: bytes, epoch: EpochStatement, agency_key: AgencyKey, entropy: Entropy
) -> SealedMessage:
    envelope, digest = seal(
        header,
        body,
        epoch_public=epoch.public,
        sign=agency_key.sign,
        dek=entropy(KEY_BYTES),
        nonce=entropy(NONCE_BYTES),
    )
    return SealedMessage(envelope, header, digest)


def _header(posting: Posting, signers: Signers, kind: Kind, signed_by: SignedBy, **of_kind: Any) -> Header:
    key = _agency_key(signers) if signed_by is SignedBy.AGENCY else _node_key(signers)
    return Header(
        id=posting.envelope_id,
        kind=kind,
        referral=posting.referral,
        sender=signers.agency,
        recipient=posting.recipient,
        signed_by=signed_by,
        signing_key=key.key_id,
        vocabulary=VOCABULARY_VERSION,
        roster_version=posting.roster.version,
        roster_digest=posting.roster.digest,
        seen=posting.seen,
        created=posting.created,
        expires=posting.expires,
        number=posting.number,
        in_reply_to=posting.in_reply_to,
        priority=posting.priority.value if posting.priority is not None else None,
        respond_by=posting.respond_by,
        **of_kind,
    )


def _agency_key(signers: Signers) -> AgencyKey:
    if signers.agency_key is None:
        raise AgencyKeyElsewhereError
    return signers.agency_key


def _node_key(signers: Signers) -> NodeKey:
    if signers.node_key is None:
        raise NodeKeyElsewhereError
    return signers.node_key


class AgencyKeyElsewhereError(Exception):
    """Only the agency's own software can make this message: the node does not hold the agency key."""


class NodeKeyElsewhereError(Exception):
    """Only the node can make this message: the agency's own software does not hold the node key."""
