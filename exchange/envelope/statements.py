"""Signed statements: one format for everything an agency or a node says under its name outside envelopes.

Rules:

* On the wire and at rest a statement is the canonical JSON object {body, signature, tag}. The body is canonical JSON,
  the signature Ed25519 over `framed(tag, body)`.
* The tag says which statement it is and therefore which key must have signed it. A statement of one kind is never
  accepted as another.
* What was read but not verified is called `unverified`; only `verify` hands out the statement itself.
* A body has exactly its members. There is no optional one: what can be absent is another statement.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from exchange.envelope.errors import BadSignatureError, StatementError, StatementFault
from exchange.envelope.format import SIGNATURE_BYTES
from exchange.envelope.keys import verify as verify_signature
from exchange.envelope.tags import Tag, framed
from exchange.envelope.wire import (
    SIGNATURE_SPELLING,
    from_base64url,
    is_agency,
    is_digest,
    is_id,
    is_positive,
    to_base64url,
)
from exchange.limits import LIMITS

_LEAF: Final = b"\x00"
"""RFC 6962, section 2.1: what precedes a leaf, so that no inner node looks like one."""
_HEAD: Final = b'{"body":'

Check = Callable[[object], bool]


class Statement:
    """What is said. Subclasses are frozen dataclasses of strings and integers, with one check for each member."""

    __slots__ = ()
    TAG: ClassVar[Tag]
    CHECKS: ClassVar[Mapping[str, Check]]
    NUMBERS: ClassVar[Sequence[str]]
    """Those of the members that are no texts."""
    FORM: ClassVar[str]
    """What its body looks like; canonical JSON, since no text that a check lets pass has a character to escape."""
    SPELLING: ClassVar[re.Pattern[str]]
    """What it looks like when it is signed."""

    def __init_subclass__(cls) -> None:
        cls.NUMBERS = [member for member, is_right in cls.CHECKS.items() if is_right is is_positive]
        quoted = {member: '"%s"' if member not in cls.NUMBERS else "%s" for member in sorted(cls.CHECKS)}
        cls.FORM = "{" + ",".join(f'"{member}":{form % f"%({member})s"}' for member, form in quoted.items()) + "}"
        values = {
            member: f"(?P<{member}>{'[1-9][0-9]{0,15}' if member in cls.NUMBERS else '[A-Za-z0-9_-]*'})"
            for member in cls.CHECKS
        }
        body = cls.FORM.replace("{", r"\{").replace("}", r"\}") % values
        cls.SPELLING = re.compile(
            rf'\{{"body":(?P<body>{body}),"signature":"(?P<signature>{SIGNATURE_SPELLING})",'
            rf'"tag":"{re.escape(cls.TAG.value.decode("ascii"))}"\}}'
        )

    def __post_init__(self) -> None:
        for member, is_right in self.CHECKS.items():
            if not is_right(getattr(self, member)):
                raise StatementError(StatementFault.MALFORMED)

    def body(self) -> bytes:
        """The canonical JSON that is signed."""
        return (self.FORM % self.members()).encode("ascii")

    def members(self) -> dict[str, Any]:
        """The JSON members of the body."""
        return {name: getattr(self, name) for name in self.CHECKS}

    def signed_input(self) -> bytes:
        """What the signature covers."""
        return framed(self.TAG, self.body())


StatementT = TypeVar("StatementT", bound=Statement)


@dataclass(frozen=True, slots=True)
class Signed(Generic[StatementT]):
    """A statement with a signature that nobody has checked yet."""

    unverified: StatementT
    """What it claims: enough to find the key it has to be checked with, and for nothing else."""
    signature: bytes
    body: bytes = b""
    """The canonical JSON of the statement; written here unless it is there already."""

    def __post_init__(self) -> None:
        if not self.body:
            object.__setattr__(self, "body", self.unverified.body())

    def to_bytes(self) -> bytes:
        """The one spelling of this signed statement."""
        return _HEAD + self.body + _tail(to_base64url(self.signature), self.unverified.TAG)

    def verify(self, public_key: bytes) -> StatementT:
        """The statement, if this key signed it.

        Raises:
            StatementError: `statement-signature`.
        """
        try:
            verify_signature(public_key, framed(self.unverified.TAG, self.body), self.signature)
        except BadSignatureError as error:
            raise StatementError(StatementFault.SIGNATURE) from error
        return self.unverified


def sign_statement(statement: StatementT, sign: Callable[[bytes], bytes]) -> Signed[StatementT]:
    """The statement with its signature; `sign` belongs to the key that this kind of statement demands."""
    body = statement.body()
    return Signed(statement, sign(framed(statement.TAG, body)), body)


def _tail(signature: str, tag: Tag) -> bytes:
    """What stands behind the body."""
    return b',"signature":"%b","tag":"%b"}' % (signature.encode("ascii"), tag.value)


def parse_statement(kind: type[StatementT], data: bytes) -> Signed[StatementT]:
    """The signed statement in these bytes, if it is one of this kind in its one spelling.

    Raises:
        StatementError: `statement-malformed`.
    """
    # Every form is ASCII: another byte becomes a character that stands in none.
    found = kind.SPELLING.fullmatch(data.decode("latin-1")) if len(data) <= LIMITS.statement_bytes else None
    if found is None:
        raise StatementError(StatementFault.MALFORMED)
    members: dict[str, Any] = found.groupdict()
    signature = from_base64url(members.pop("signature"), member="signature", longest=SIGNATURE_BYTES)
    body = members.pop("body").encode("ascii")
    for member in kind.NUMBERS:
        members[member] = int(members[member])
    return Signed(kind(**members), signature, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReceipt(Statement):
    """The recipient's node holds this envelope, durably. Signed by the recipient's node key."""

    TAG: ClassVar[Tag] = Tag.DELIVERY_RECEIPT
    CHECKS: ClassVar[Mapping[str, Check]] = {
        "envelope": is_id,
        "digest": is_digest,
        "sender": is_agency,
        "recipient": is_agency,
        "referral": is_id,
        "received_at": is_positive,
    }

    envelope: str
    digest: str
    sender: str
    recipient: str
    referral: str
    received_at: int

    @property
    def leaf(self) -> str:
        """The leaf of the log of this pair: SHA-256 of a zero byte and the body. Both sides compute it themselves."""
        return leaf_of(self.body())


def leaf_of(receipt: bytes) -> str:
    """The leaf of a delivery receipt with this body."""
    return hashlib.sha256(_LEAF + receipt).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStatement(Statement):
    """The gate ran again and let a held disclosure go. Signed by the sender's node key."""

    TAG: ClassVar[Tag] = Tag.RELEASE
    CHECKS: ClassVar[Mapping[str, Check]] = {
        "disclosure": is_digest,
        "referral": is_id,
        "number": is_positive,
        "accepting": is_digest,
        "released_at": is_positive,
        "roster_version": is_positive,
        "consent_live_at": is_positive,
    }

    disclosure: str
    """Digest of the disclosure's envelope."""
    referral: str
    number: int
    """The number of the disclosure among its side's events."""
    accepting: str
    """Digest of the answer that accepted."""
    released_at: int
    roster_version: int
    consent_live_at: int
    """When the consent was last known to be live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adherence(Statement):
    """This agency adopts this contract, byte for byte. Signed by its agency key."""

    TAG: ClassVar[Tag] = Tag.ADHERENCE
    CHECKS: ClassVar[Mapping[str, Check]] = {"agency": is_agency, "contract": is_digest, "adopted_at": is_positive}

    agency: str
    contract: str
    """Digest over the exact bytes of the contract file."""
    adopted_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentStatus(Statement):
    """What stands behind these receipts now. Signed by the node key of the agency that cut them."""

    TAG: ClassVar[Tag] = Tag.CONSENT_STATUS
    CHECKS: ClassVar[Mapping[str, Check]] = {
        "agency": is_agency,
        "recipient": is_agency,
        "receipts": is_digest,
        "stated_at": is_positive,
    }

    agency: str
    recipient: str
    """Who asked, and for whom the receipts were cut."""
    receipts: str
    """SHA-256 over the canonical JSON of the answers, in the order asked."""
    stated_at: int
