"""From what a gate made to an envelope: the one place that calls seal.

Rules:

* `seal_message` takes `Forward | Answer | Stop` and nothing else. A Forward is made only by the disclosure gate, an
  Answer only by the feedback rule, a Stop has no person field. What has no type here cannot be sent.
* The header says nothing that the protocol does not list; everything else about consent and everything about her is
  inside.
* Forwards and answers are signed by the agency key; a stop by the node key, so that a node can recall, expire and
  erase while the agency's software sleeps. (An erasure attestation for the agency's own copies is the agency's.)
* Numbers, times, keys and randomness are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contracts.vocabulary import VOCABULARY_VERSION, Basis, Feedback, Group, groups_of
from exchange.envelope.errors import MalformedError
from exchange.envelope.keys import AgencyKey, NodeKey
from exchange.envelope.kinds import Kind, SignedBy
from exchange.envelope.wire import canonical, parse_canonical
from exchange.referral.content import ReferralContent
from exchange.roster import RosterSnapshot

_BODY_MEMBERS: Final = {"basis", "content", "feedback"}


@dataclass(frozen=True, slots=True)
class ForwardBody:
    """What is inside a forward: her data, the exact basis, and how much may be reported back."""

    basis: Basis
    feedback: Feedback
    content: ReferralContent

    def groups(self) -> frozenset[Group]:
        """The groups of the fields inside; they stand in the header too."""
        return groups_of(self.content.fields_present())

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
        members = parse_canonical(data, longest=max(LIMITS.padding_bytes))
        if members.keys() != _BODY_MEMBERS:
            raise MalformedError("body")
        try:
            basis, feedback = Basis(members["basis"]), Feedback(members["feedback"])
        except ValueError as error:
            raise MalformedError("body") from error
        return cls(basis, feedback, ReferralContent.from_bytes(canonical(members["content"])))


@dataclass(frozen=True, slots=True)
class Recipient:
    """To whom a message is sealed: an agency and its key of this week."""

    agency: str
    epoch_key: str
    epoch_public: bytes


@dataclass(frozen=True, slots=True)
class Signers:
    """What signs here. Without the agency key only stops can be made."""

    agency: str
    agency_key: AgencyKey
    node_key: NodeKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What a header says beyond the message itself."""

    envelope_id: str
    referral: str
    roster: RosterSnapshot
    seen: int
    created: int
    expires: int
    number: int | None
    in_reply_to: str | None = None


def _header(
    posting: Posting, sender: str, recipient: str, kind: Kind, signed_by: SignedBy, key: str
) -> dict[str, object]:
    return {
        "id": posting.envelope_id,
        "kind": kind,
        "referral": posting.referral,
        "sender": sender,
        "recipient": recipient,
        "signed_by": signed_by,
        "signing_key": key,
        "vocabulary": VOCABULARY_VERSION,
        "roster_version": posting.roster.version,
        "roster_digest": posting.roster.digest,
        "seen": posting.seen,
        "created": posting.created,
        "expires": posting.expires,
        "number": posting.number,
        "in_reply_to": posting.in_reply_to,
    }
