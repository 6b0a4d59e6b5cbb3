"""Her no, and everything else that must always pass: a stop.

Rules:

* A stop has a kind and, at most, one term of a closed list. There is no member in which a person could be described, so
  none can be: by construction, not by care.
* A stop needs no contract and no consent, and no standing forbids it. It must never fail on a rule made for her yes.
* A stop is complete in its header; its body is padding that nobody needs to open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contracts.vocabulary import WithdrawalForm
from contracts.vocabulary.term import Term
from exchange.envelope.kinds import ERASED_BY_AGENCY, ERASED_BY_NODE, Kind


class RefusalCode(Term):
    """Why an envelope that was committed sealed is refused after its seal was opened (steps 13 to 17)."""

    CANNOT_UNWRAP = "cannot-unwrap"
    COMMITMENT_MISMATCH = "commitment-mismatch"
    CANNOT_DECRYPT = "cannot-decrypt"
    CANNOT_OPEN = "cannot-open"
    BAD_PADDING = "bad-padding"
    CONTENT_INVALID = "content-invalid"
    GROUPS_MISMATCH = "groups-mismatch"
    OVER_SHARED = "over-shared"


class Erased(Term):
    """Whose copies are destroyed; both halves are owed."""

    BY_NODE = ERASED_BY_NODE
    BY_AGENCY = ERASED_BY_AGENCY


_TERMS: Final[dict[Kind, type[Term] | None]] = {
    Kind.RECALL: None,
    Kind.WITHDRAWAL: WithdrawalForm,
    Kind.ERASURE_RECEIPT: Erased,
    Kind.REFUSAL: RefusalCode,
    Kind.ENTERED_IN_ERROR: None,
}


TAKES_BACK: Final = (Kind.WITHDRAWAL, Kind.RECALL, Kind.ENTERED_IN_ERROR)
"""The stops of which somebody waits to hear that they have arrived. The others attest, or refuse."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop. `term` is the `event` of its header."""

    kind: Kind
    term: WithdrawalForm | Erased | RefusalCode | None = None

    def __post_init__(self) -> None:
        """Raises TypeError for a kind that is no stop, and for a term of another kind's list."""
        if self.kind not in _TERMS:
            raise TypeError("this kind is not a stop")
        terms = _TERMS[self.kind]
        fits = self.term is None if terms is None else isinstance(self.term, terms)
        if not fits:
            raise TypeError("this stop has another term, or none")


def recall() -> Stop:
    """The sender takes the referral back."""
    return Stop(Kind.RECALL)


def withdrawal(form: WithdrawalForm) -> Stop:
    """Her no, in the form she chose."""
    return Stop(Kind.WITHDRAWAL, form)


def erasure_receipt(erased: Erased) -> Stop:
    """What was held is destroyed: the signed stop is the attestation."""
    return Stop(Kind.ERASURE_RECEIPT, erased)


def refusal(code: RefusalCode) -> Stop:
    """An envelope could not be opened, or should not have been sent."""
    return Stop(Kind.REFUSAL, code)


def entered_in_error() -> Stop:
    """The referral should never have been made."""
    return Stop(Kind.ENTERED_IN_ERROR)
