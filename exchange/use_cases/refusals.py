"""How refusals of the pure rooms become refusals of a use case: one place, so that texts stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from consent.errors import ConsentInvalidError, ConsentTransitionError
from contracts.vocabulary import ROUTING_FIELDS
from exchange.disclosure import Refused
from exchange.schemas.problems import ProblemField, Who
from exchange.use_cases.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)

_PLACES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        "no-consent consent-not-given consent-refused consent-expired consent-withdrawn consent-revoked "
        "consent-invalidated limits-not-explained recipient-not-covered authority-not-named not-told-first "
        "border-not-named purpose-not-covered no-field-allowed basis-not-allowed".split(),
        "consent",
    ),
    **dict.fromkeys("same-agency synthetic-mixed receiver-not-active own-authorities border-forbidden".split(), "to"),
    **dict.fromkeys("not-referable service-not-offered no-rule".split(), "service_type"),
}
"""The member of a new referral that the gate's no is about, where it is about no field of the content."""

_SENTENCES_LATER: Final[Mapping[str, str]] = {
    "receiver-not-active": "This agency is not an active member, so nothing more is sent to it. Telephone it.",
}
"""Of a referral that exists: nobody chooses another receiver for what this one has to know."""

_OF_A_STEP: Final[Mapping[str, str]] = {"renewal-date": "until", "adds-something": "provisions"}
"""The member of a step in the life of a consent that the no is about."""


def not_found() -> NotFoundError:
    """It does not exist, or this caller may not see it."""
    return NotFoundError("not-found", "There is nothing here under this id. Check the id.")


def destroyed() -> GoneError:
    """Its content was destroyed, or is shut until it is: where the other agency said `erase`, for 24 hours."""
    return GoneError(
        "destroyed",
        "The content of this referral was destroyed, or is shut and will be within 24 hours: nothing of it can be "
        "shown or changed any more. Where she asked for erasure, destroy your own copies too, then attest that. "
        "Otherwise nothing has to be done.",
    )


def key_lost() -> ConflictError:
    """It was not destroyed, and nobody here can open it."""
    return ConflictError(
        "key-lost",
        "This node cannot open what arrived: its key is lost, as after a lost disk. Telephone the referring agency: it "
        "sends anew what is still open. You can say no to this one; do not act on it.",
    )


def not_listed() -> ForbiddenError:
    """The roster does not list this agency any more: nothing that needs its entry can be done."""
    return ForbiddenError("sender-not-active", "The roster does not list your agency. Ask whoever runs the federation.")


def changed_meanwhile() -> ConflictError:
    """Somebody else wrote first, again and again."""
    return ConflictError("changed-meanwhile", "The record changed while you were writing. Read it again and repeat.")


def keys_elsewhere() -> ConflictError:
    """The agency's keys live with its own software."""
    return ConflictError(
        "keys-elsewhere",
        "This node does not hold the agency's keys. Open it, or seal and hand it in, with the agency's own software.",
    )


def peer_keys_unknown() -> UnavailableError:
    """There is no key of the receiver to seal to yet."""
    return UnavailableError(
        "peer-keys-unknown",
        "The receiver's current key is not known here yet: its node was not reached, or its card could not be used. "
        "Nothing was stored. In an emergency telephone the receiver; otherwise send this again.",
        who=Who.PEER,
        retry_after=30,
    )


def invalid_consent(error: ConsentInvalidError, *, who: Who = Who.SENDER) -> InvalidError:
    """What is wrong with the consent that was handed in."""
    fields = tuple(ProblemField(path=item.path, code=item.code, sentence=item.sentence) for item in error.problems)
    return InvalidError("consent-invalid", "This is not a valid consent. Nothing was recorded.", who=who, fields=fields)


def impossible_step(error: ConsentTransitionError) -> ConflictError:
    """The consent does not allow this step now."""
    place = _OF_A_STEP.get(error.code)
    fields = () if place is None else (ProblemField(path=place, code=error.code, sentence=error.sentence),)
    return ConflictError(error.code, error.sentence, fields=fields)


def consent_says_no(code: str) -> ConflictError:
    """The content must not be opened any more: `consent-not-fresh` or `consent-ended`."""
    if code == "consent-ended":
        return ConflictError(code, "Her consent has ended, or she said no. What came under it is not opened any more.")
    return ConflictError(
        code, "The referring agency's node has not said for 72 hours that her consent is live. Telephone that agency."
    )


def gate_says_no(outcome: Refused, *, new: bool) -> ForbiddenError:
    """The gate's no, with a reason for every field that does not go; forbidden ones first.

    Args:
        outcome: of the gate.
        new: whether the request is a new referral, which names consent, receiver and service. Then the one that the
            no is about comes before all fields.
    """
    place = _PLACES.get(outcome.code) if new else None
    about = () if place is None else (ProblemField(path=place, code=outcome.code, sentence=outcome.sentence),)
    kept = [one for one in outcome.reasons if one.outcome != "allowed" and one.field not in ROUTING_FIELDS]
    fields = tuple(
        ProblemField(path=f"content.{one.field.value}", code=one.code, sentence=one.sentence)
        for one in sorted(kept, key=lambda one: one.outcome != "forbidden")
    )
    sentence = outcome.sentence if new else _SENTENCES_LATER.get(outcome.code, outcome.sentence)
    return ForbiddenError(outcome.code, sentence, fields=about + fields)
