"""The one spelling of a header: for each kind a pattern of its canonical JSON, made from its shape.

Rules:

* A text has the pattern of its kind exactly if it is canonical JSON, its members are those of the kind, and each value
  belongs to its closed list or form. No character that may stand in a value needs an escape.
* The same forms say which member is wrong where a text has another spelling.
* Rules between members are not here, but in `header`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from contracts.canonical_json import canonical
from contracts.vocabulary import VOCABULARY_VERSION, BasisClass, Group, Priority, Purpose
from exchange.envelope.kinds import HIDDEN_REFUSALS, SHAPES, Kind, KindClass, Shape, SignedBy
from exchange.envelope.wire import (
    AGENCY_PATTERN,
    CODE_PATTERN,
    DIGEST_PATTERN,
    ID_PATTERN,
    MAX_INTEGER,
    SIGNATURE_SPELLING,
)

SUITE: Final = "rx1"
"""SealedBox (X25519, XSalsa20-Poly1305), XChaCha20-Poly1305, Ed25519, SHA-256."""
VOCABULARIES: Final = frozenset({VOCABULARY_VERSION})
"""The vocabulary versions that this implementation speaks."""


# How the value of each member is spelled. Each form has one group around what it says.
def _text(form: str) -> str:
    return f'"({form})"'


def _one_of(terms: Iterable[str]) -> str:
    return _text("|".join(sorted(terms)))


def _some_of(terms: Iterable[str]) -> str:
    """At least one of them, in order and none twice."""
    each = "".join([rf'(?:"{term}"(?:,|(?=\])))?+' for term in sorted(terms)])
    return rf"\[({each})(?<![\[,])\]"


def _up_to(largest: int) -> str:
    """A number from 1 to this one."""
    digits = str(largest)
    fewer_digits = rf"[1-9][0-9]{{0,{len(digits) - 2}}}"
    below = [
        rf"{digits[:place]}[{least}-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}"
        for place, digit in enumerate(digits)
        if int(digit) > (least := 0 if place else 1)
    ]
    return "|".join([fewer_digits, *below, digits])


_POSITIVE: Final = f"({_up_to(MAX_INTEGER)})"
_ID: Final = _text(ID_PATTERN.pattern)
_DIGEST: Final = _text(DIGEST_PATTERN.pattern)
_AGENCY: Final = _text(AGENCY_PATTERN.pattern)
_PURPOSE: Final = _one_of(Purpose)
_GROUPS: Final = _some_of(Group)
_FORMS: Final[Mapping[str, str]] = {
    "suite": _text(SUITE),
    "vocabulary": f"({'|'.join(map(str, VOCABULARIES))})",
    "id": _ID,
    "referral": _ID,
    "from": _AGENCY,
    "to": _AGENCY,
    "signed_by": _one_of(SignedBy),
    "signing_key": _ID,
    "epoch_key": _ID,
    "contract": _DIGEST,
    "roster_version": _POSITIVE,
    "roster_digest": _DIGEST,
    "purpose": _PURPOSE,
    "groups": _GROUPS,
    "number": _POSITIVE,
    "seen": f"(0|{_up_to(MAX_INTEGER)})",
    "priority": _one_of(Priority),
    "respond_by": _POSITIVE,
    "dek_commitment": _DIGEST,
    "created": _POSITIVE,
    "expires": _POSITIVE,
    "in_reply_to": _ID,
    # What stands inside is looked at by itself.
    "receipt": r"(\{[^{}]*\})",
}
RECEIPT_FORMS: Final[Mapping[str, str]] = {
    "receipt_id": _ID,
    "issuer": _AGENCY,
    "recipient": _AGENCY,
    "purpose": _PURPOSE,
    "groups": _GROUPS,
    "basis": _one_of(BasisClass),
    "issued": _POSITIVE,
    "expires": _POSITIVE,
    "signature": _text(SIGNATURE_SPELLING),
}


def _forms_of(kind: Kind, shape: Shape) -> dict[str, str]:
    """The members that a header of this kind has or may have."""
    signers = SignedBy if shape.kind_class is KindClass.STOP else (SignedBy.AGENCY,)
    # A problem code of its own, but none that would tell whether somebody is known.
    code = _text(rf'(?!(?:{"|".join(sorted(HIDDEN_REFUSALS))})"){CODE_PATTERN.pattern}')
    forms = {
        **_FORMS,
        "kind": _text(kind.value),
        "signed_by": _one_of(signers),
        "stage": _one_of(shape.stages),
        "event": code if shape.events is None else _one_of(shape.events),
    }
    return {member: form for member, form in forms.items() if member in shape.required | shape.optional}


class Spelling:
    """The one spelling of an object with these members, as a pattern; and which member has another form."""

    def __init__(self, forms: Mapping[str, str], optional: frozenset[str], path: str = "") -> None:
        self._forms, self._path = forms, path
        self._members = sorted(forms)
        self._numbers = [member for member in self._members if member in NUMBERS]
        pieces = [f'"{member}":{forms[member]},' for member in self._members]
        for place, member in enumerate(self._members):
            if member in optional:
                pieces[place] = f"(?:{pieces[place]})?"
        # Nothing stands behind the last one, which no kind may leave out.
        self.match = re.compile(rf"\{{{''.join(pieces).removesuffix(',')}\}}").fullmatch

    def read(self, text: str) -> dict[str, Any] | None:
        """What the members say; nothing if this is not the spelling."""
        found = self.match(text)
        if found is None:
            return None
        members: dict[str, Any] = dict(zip(self._members, found.groups(), strict=True))
        for member in self._numbers:
            members[member] = int(members[member])
        if "groups" in members:
            members["groups"] = tuple(members["groups"][1:-1].split('","'))
        return members

    def wrong_in(self, members: dict[str, Any]) -> str | None:
        """Which member has another form."""
        for member, form in self._forms.items():
            if member in members and not re.fullmatch(form, canonical(members[member]).decode()):
                return self._path + member
        return None


NUMBERS: Final = frozenset(
    {"vocabulary", "roster_version", "number", "seen", "respond_by", "created", "expires", "issued"}
)
SPELLINGS: Final = {kind: Spelling(_forms_of(kind, shape), shape.optional) for kind, shape in SHAPES.items()}
RECEIPT: Final = Spelling(RECEIPT_FORMS, frozenset(), "receipt.")
