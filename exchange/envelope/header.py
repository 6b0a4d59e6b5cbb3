"""The header: strict parse and one spelling.

Rules:

* A header is canonical JSON and is signed exactly as sent. Parsing accepts only bytes that writing would produce.
* The members of a header are exactly those of its kind (`kinds.SHAPES`); each value belongs to its closed list or form.
* Suite and vocabulary version are looked at before anything else: another version may have other members and terms.
* Nothing here looks at a clock, a roster or a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from contracts.canonical_json import canonical
from contracts.vocabulary import VOCABULARY_VERSION, BasisClass, Group, Priority, Purpose
from exchange.envelope.errors import MalformedError, TooLargeError, UnknownSuiteError, UnknownVocabularyError
from exchange.envelope.kinds import ERASED_BY_NODE, HIDDEN_REFUSALS, SHAPES, Kind, KindClass, Shape, SignedBy, class_of
from exchange.envelope.wire import (
    SIGNATURE_BYTES,
    from_base64url,
    is_agency,
    is_code,
    is_digest,
    is_id,
    is_integer,
    is_positive,
    parse_canonical,
    refuse_unless,
    to_base64url,
)
from exchange.limits import LIMITS

SUITE: Final = "rx1"
"""SealedBox (X25519, XSalsa20-Poly1305), XChaCha20-Poly1305, Ed25519, SHA-256."""
VOCABULARIES: Final = frozenset({VOCABULARY_VERSION})
"""The vocabulary versions that this implementation speaks."""

_KINDS: Final[Mapping[str, Kind]] = {kind.value: kind for kind in Kind}
_PURPOSES: Final = frozenset(purpose.value for purpose in Purpose)
_PRIORITIES: Final = frozenset(priority.value for priority in Priority)
_GROUPS: Final = frozenset(group.value for group in Group)
_BASES: Final = frozenset(basis.value for basis in BasisClass)
_SIGNERS: Final[Mapping[str, SignedBy]] = {signer.value: signer for signer in SignedBy}


class HeaderReceipt(NamedTuple):
    """The consent receipt cut to one receiver: it says nothing of what else, or to whom else, she consented."""

    receipt_id: str
    issuer: str
    recipient: str
    purpose: str
    groups: tuple[str, ...]
    basis: str
    issued: int
    expires: int
    signature: bytes

    def signing_body(self) -> bytes:
        """The canonical JSON that the issuer's agency key signs: everything but the signature."""
        members = self._asdict()
        del members["signature"]
        return canonical(members)

    def members(self) -> dict[str, Any]:
        """The JSON members."""
        return self._asdict() | {"groups": list(self.groups), "signature": to_base64url(self.signature)}


class Header(NamedTuple):
    """What a node may know of an envelope. Times are Unix milliseconds; absent members are `None` or empty."""

    id: str
    kind: Kind
    referral: str
    sender: str
    recipient: str
    signed_by: SignedBy
    signing_key: str
    vocabulary: int
    roster_version: int
    roster_digest: str
    seen: int
    created: int
    expires: int
    suite: str = SUITE
    epoch_key: str | None = None
    contract: str | None = None
    purpose: str | None = None
    stage: str | None = None
    groups: tuple[str, ...] = ()
    event: str | None = None
    number: int | None = None
    priority: str | None = None
    respond_by: int | None = None
    receipt: HeaderReceipt | None = None
    dek_commitment: str | None = None
    in_reply_to: str | None = None

    @property
    def kind_class(self) -> KindClass:
        """Forward, answer or stop."""
        return class_of(self.kind)

    def members(self) -> dict[str, Any]:
        """The JSON members, absent ones omitted."""
        values = zip(_MEMBERS, self, strict=True)
        found: dict[str, Any] = {member: value for member, value in values if value is not None and value != ()}
        found["kind"], found["signed_by"] = self.kind.value, self.signed_by.value
        if self.groups:
            found["groups"] = list(self.groups)
        if self.receipt is not None:
            found["receipt"] = self.receipt.members()
        return found


_MEMBERS: Final = [{"sender": "from", "recipient": "to"}.get(name, name) for name in Header._fields]


def _is_groups(value: object) -> bool:
    """A sorted list of known groups without repetition; never empty."""
    return (
        type(value) is list
        and 0 < len(value) <= LIMITS.groups
        and set(map(type, value)) == {str}
        and _GROUPS.issuperset(value)
        and value == sorted(set(value))
    )


def _one_of(terms: frozenset[str]) -> Callable[[object], bool]:
    return lambda value: type(value) is str and value in terms


_CHECKS: Final[Mapping[str, Callable[[object], bool]]] = {
    "id": is_id,
    "referral": is_id,
    "from": is_agency,
    "to": is_agency,
    "signed_by": _one_of(frozenset(_SIGNERS)),
    "signing_key": is_id,
    "epoch_key": is_id,
    "contract": is_digest,
    "roster_version": is_positive,
    "roster_digest": is_digest,
    "purpose": _one_of(_PURPOSES),
    "groups": _is_groups,
    "number": is_positive,
    "seen": is_integer,
    "priority": _one_of(_PRIORITIES),
    "respond_by": is_positive,
    "dek_commitment": is_digest,
    "created": is_positive,
    "expires": is_positive,
    "in_reply_to": is_id,
}
_RECEIPT_CHECKS: Final[Mapping[str, Callable[[object], bool]]] = {
    "receipt_id": is_id,
    "issuer": is_agency,
    "recipient": is_agency,
    "purpose": _one_of(_PURPOSES),
    "groups": _is_groups,
    "basis": _one_of(_BASES),
    "issued": is_positive,
    "expires": is_positive,
}
_RECEIPT_MEMBERS: Final = _RECEIPT_CHECKS.keys() | {"signature"}


def encode_header(header: Header, *, dek_commitment: str | None = None) -> bytes:
    """The bytes that are signed. A header that its receiver would refuse is refused here first.

    Args:
        header: what they say.
        dek_commitment: the commitment to the data key, where the header does not have it yet.
    """
    members = header.members()
    if dek_commitment is not None:
        members["dek_commitment"] = dek_commitment
    data = canonical(members)
    # Written a moment ago, so spelling and types of JSON need no second look; everything else does.
    if len(data) > LIMITS.header_bytes:
        raise TooLargeError
    _check(members)
    if header.receipt is not None:
        _check_receipt(members["receipt"])
    return data


def parse_header(data: bytes) -> Header:
    """The header in these bytes, if it has exactly the shape of its kind.

    Raises:
        TooLargeError: step 1.
        MalformedError: step 2, naming the member.
        UnknownSuiteError: step 5, before the members of an unknown suite are judged by the rules of this one.
        UnknownVocabularyError: step 5, before terms are judged by a vocabulary that is not theirs.
    """
    members = parse_canonical(data, longest=LIMITS.header_bytes)
    return _header_from(members, _check(members))


def _check(members: dict[str, Any]) -> Kind:
    suite, vocabulary, written_kind = members.get("suite"), members.get("vocabulary"), members.get("kind")
    refuse_unless(type(suite) is str, "suite")
    if suite != SUITE:
        raise UnknownSuiteError
    refuse_unless(is_positive(vocabulary), "vocabulary")
    if vocabulary not in VOCABULARIES:
        raise UnknownVocabularyError
    kind = _KINDS.get(written_kind) if type(written_kind) is str else None
    if kind is None:
        raise MalformedError("kind")
    shape = SHAPES[kind]
    _check_members(members, shape)
    for member, is_right in _CHECKS.items():
        if member in members and not is_right(members[member]):
            raise MalformedError(member)
    _check_by_kind(members, kind, shape)
    return kind


def _check_members(members: dict[str, Any], shape: Shape) -> None:
    present = members.keys()
    if missing := shape.required - present:
        raise MalformedError(min(missing))
    if not present <= shape.required | shape.optional:
        # The name of an unknown member is a submitted value, and is not repeated.
        raise MalformedError("a member that this kind does not have")


def _check_by_kind(members: dict[str, Any], kind: Kind, shape: Shape) -> None:
    """The rules between members, and those that depend on the kind."""
    refuse_unless(members["from"] != members["to"], "to")
    refuse_unless(not shape.stages or _is_in(members["stage"], shape.stages), "stage")
    refuse_unless(shape.kind_class is KindClass.STOP or members["signed_by"] == "agency", "signed_by")
    if shape.events is None:
        refuse_unless(is_code(members["event"]) and members["event"] not in HIDDEN_REFUSALS, "event")
    elif shape.events:
        refuse_unless(_is_in(members["event"], shape.events), "event")
    if kind is Kind.ERASURE_RECEIPT:
        # Each half is attested by whoever did it: the node for itself, the agency for its own copies.
        refuse_unless((members["event"] == ERASED_BY_NODE) == (members["signed_by"] == "node"), "signed_by")
    _check_times(members, kind, shape.kind_class)


def _is_in(value: object, terms: frozenset[str]) -> bool:
    return type(value) is str and value in terms


def _check_times(members: dict[str, Any], kind: Kind, kind_class: KindClass) -> None:
    created: int = members["created"]
    life = members["expires"] - created
    if kind_class is KindClass.STOP:
        # Her no must outlive every retention: a stop that ends early is as wrong as one that never ends.
        refuse_unless(life == LIMITS.stop_expires_ms, "expires")
        return
    refuse_unless(0 < life <= LIMITS.sealed_expires_ms, "expires")
    if kind is Kind.OFFER:
        refuse_unless(members["respond_by"] > created, "respond_by")
        refuse_unless(members["expires"] == members["respond_by"] + LIMITS.offer_after_respond_by_ms, "expires")


def _header_from(members: dict[str, Any], kind: Kind) -> Header:
    written = members | {
        "kind": kind,
        "signed_by": _SIGNERS[members["signed_by"]],
        "groups": tuple(members.get("groups", ())),
        "receipt": _receipt_from(members["receipt"]) if "receipt" in members else None,
    }
    return Header._make(map(written.get, _MEMBERS))


def _check_receipt(members: object) -> bytes:
    if type(members) is not dict or members.keys() != _RECEIPT_MEMBERS:
        raise MalformedError("receipt")
    for member, is_right in _RECEIPT_CHECKS.items():
        if not is_right(members[member]):
            raise MalformedError(f"receipt.{member}")
    refuse_unless(members["issued"] < members["expires"], "receipt.expires")
    signature = from_base64url(members["signature"], member="receipt.signature", longest=SIGNATURE_BYTES)
    refuse_unless(len(signature) == SIGNATURE_BYTES, "receipt.signature")
    return signature


def _receipt_from(members: dict[str, Any]) -> HeaderReceipt:
    signature = _check_receipt(members)
    written = members | {"groups": tuple(members["groups"]), "signature": signature}
    return HeaderReceipt._make(map(written.__getitem__, HeaderReceipt._fields))
