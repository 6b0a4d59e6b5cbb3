"""The header: strict parse and one spelling.

Rules:

* A header is canonical JSON and is signed exactly as sent. Parsing accepts only bytes that writing would produce.
* The members of a header are exactly those of its kind (`kinds.SHAPES`); each value belongs to its closed list or form.
* Whatever has not the one spelling of its kind (`header_spelling`) is refused, and only then it is asked why: by suite
  and vocabulary version first, since another version may have other members and terms.
* Nothing here looks at a clock, a roster or a key.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from contracts.canonical_json import canonical
from contracts.vocabulary.term import by_word
from exchange.envelope.errors import (
    EnvelopeError,
    MalformedError,
    TooLargeError,
    UnknownSuiteError,
    UnknownVocabularyError,
)
from exchange.envelope.header_spelling import NUMBERS, RECEIPT, RECEIPT_FORMS, SPELLINGS, SUITE, VOCABULARIES
from exchange.envelope.kinds import ERASED_BY_NODE, SHAPES, Kind, KindClass, SignedBy, class_of
from exchange.envelope.wire import (
    SIGNATURE_BYTES,
    from_base64url,
    is_positive,
    parse_canonical,
    refuse_unless,
    to_base64url,
)
from exchange.limits import LIMITS

__all__ = ["SUITE", "VOCABULARIES", "Header", "HeaderReceipt", "encode_header", "parse_header"]

_KINDS, _SIGNERS = by_word(Kind), by_word(SignedBy)


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
        """The canonical JSON that the issuer's agency key signs: everything but the signature.

        Each member has its form, since the header was parsed: no character in it needs an escape.
        """
        return (_receipt_body(self) + "}").encode("ascii")

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
_STOP, _ERASURE_RECEIPT = KindClass.STOP, Kind.ERASURE_RECEIPT
_KIND: Final = re.compile(r'"kind":"([a-z-]+)"')
_UNQUOTED: Final = NUMBERS | {"groups", "receipt"}
_WRITTEN: Final = [
    (_MEMBERS.index(member), f'"{member}":%s' if member in _UNQUOTED else f'"{member}":"%s"')
    for member in sorted(_MEMBERS)
]
_GROUPS_AT, _RECEIPT_AT, _COMMITMENT_AT = map(Header._fields.index, ("groups", "receipt", "dek_commitment"))


def _written(header: Header, receipt: str | None, dek_commitment: str | None) -> list[str]:
    """Each member as canonical JSON, if its value has its form: no character that may stand in one needs an escape."""
    values: list[Any] = list(header)
    values[_GROUPS_AT], values[_RECEIPT_AT] = _groups_text(header.groups) if header.groups else None, receipt
    values[_COMMITMENT_AT] = dek_commitment
    return [form % (values[place],) for place, form in _WRITTEN if values[place] is not None]


def _receipt_text(receipt: HeaderReceipt) -> str:
    return f'{_receipt_body(receipt)},"signature":"{to_base64url(receipt.signature)}"}}'


def _receipt_body(receipt: HeaderReceipt) -> str:
    """Everything but the signature, which is the last member, and the brace behind it."""
    receipt_id, issuer, recipient, purpose, groups, basis, issued, expires, _ = receipt
    return (
        f'{{"basis":"{basis}","expires":{expires},"groups":{_groups_text(groups)},"issued":{issued},'
        f'"issuer":"{issuer}","purpose":"{purpose}","receipt_id":"{receipt_id}","recipient":"{recipient}"'
    )


def _groups_text(groups: tuple[str, ...]) -> str:
    return '["' + '","'.join(groups) + '"]'


def encode_header(header: Header, *, dek_commitment: str | None = None) -> bytes:
    """The bytes that are signed. A header that its receiver would refuse is refused here first.

    Args:
        header: what they say.
        dek_commitment: the commitment to the data key, where the header does not have it yet.
    """
    commitment = header.dek_commitment if dek_commitment is None else dek_commitment
    receipt = None if header.receipt is None else _receipt_text(header.receipt)
    written = _written(header, receipt, commitment)
    text = "{" + ",".join(written) + "}"
    found = SPELLINGS[header.kind].match(text)
    # More members than were written: one of the values would be read as several.
    whole = found is not None and len(found.groups()) - found.groups().count(None) == len(written)
    if not whole or not (receipt is None or RECEIPT.match(receipt)):
        raise _refusal(canonical(header._replace(dek_commitment=commitment).members()))
    _check_between(header)
    return text.encode("ascii")


def parse_header(data: bytes) -> Header:
    """The header in these bytes, if it has exactly the shape of its kind.

    Raises:
        TooLargeError: step 1.
        MalformedError: step 2, naming the member.
        UnknownSuiteError: step 5, before the members of an unknown suite are judged by the rules of this one.
        UnknownVocabularyError: step 5, before terms are judged by a vocabulary that is not theirs.
    """
    if len(data) > LIMITS.header_bytes:
        raise TooLargeError
    # Every form is ASCII: another byte becomes a character that stands in none.
    text = data.decode("latin-1")
    named = _KIND.search(text)
    kind = _KINDS.get(named[1]) if named else None
    members = SPELLINGS[kind].read(text) if kind is not None else None
    if kind is None or members is None:
        raise _refusal(data)
    if "receipt" in members:
        receipt = RECEIPT.read(members["receipt"])
        if receipt is None:
            raise _refusal(data)
        signature = from_base64url(receipt["signature"], member="receipt.signature", longest=SIGNATURE_BYTES)
        members["receipt"] = HeaderReceipt(**receipt | {"signature": signature})
    written = {"groups": ()} | members | {"kind": kind, "signed_by": _SIGNERS[members["signed_by"]]}
    header = Header._make(map(written.get, _MEMBERS))
    _check_between(header)
    return header


def _refusal(data: bytes) -> EnvelopeError:
    """What is wrong with bytes that are the spelling of no header."""
    members = parse_canonical(data, longest=LIMITS.header_bytes)
    suite, vocabulary, written_kind = members.get("suite"), members.get("vocabulary"), members.get("kind")
    refuse_unless(type(suite) is str, "suite")
    if suite != SUITE:
        return UnknownSuiteError()
    refuse_unless(is_positive(vocabulary), "vocabulary")
    if vocabulary not in VOCABULARIES:
        return UnknownVocabularyError()
    kind = _KINDS.get(written_kind) if type(written_kind) is str else None
    if kind is None:
        return MalformedError("kind")
    shape = SHAPES[kind]
    if missing := shape.required - members.keys():
        return MalformedError(min(missing))
    if not members.keys() <= shape.required | shape.optional:
        # The name of an unknown member is a submitted value, and is not repeated.
        return MalformedError("a member that this kind does not have")
    if wrong := SPELLINGS[kind].wrong_in(members):
        return MalformedError(wrong)
    # Every other member has its form, so this is an object.
    receipt = members.get("receipt", {})
    known = receipt.keys() == RECEIPT_FORMS.keys()
    return MalformedError((RECEIPT.wrong_in(receipt) if known else None) or "receipt")


def _check_between(header: Header) -> None:
    """The rules between members."""
    kind, receipt = header.kind, header.receipt
    refuse_unless(header.sender != header.recipient, "to")
    if kind is _ERASURE_RECEIPT:
        # Each half is attested by whoever did it: the node for itself, the agency for its own copies.
        refuse_unless((header.event == ERASED_BY_NODE) == (header.signed_by is SignedBy.NODE), "signed_by")
    if receipt is not None:
        refuse_unless(receipt.issued < receipt.expires, "receipt.expires")
    life = header.expires - header.created
    if header.kind_class is _STOP:
        # Her no must outlive every retention: a stop that ends early is as wrong as one that never ends.
        refuse_unless(life == LIMITS.stop_expires_ms, "expires")
        return
    refuse_unless(0 < life <= LIMITS.sealed_expires_ms, "expires")
    due = header.respond_by
    if due is not None:
        refuse_unless(due > header.created, "respond_by")
        refuse_unless(header.expires == due + LIMITS.offer_after_respond_by_ms, "expires")
