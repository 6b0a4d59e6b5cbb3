"""How refusals of the pure rooms become refusals of a use case: one place, so that texts stay the same."""

from __future__ import annotations

from consent.errors import ConsentInvalidError, ConsentTransitionError
from exchange.schemas.problems import ProblemField, Who
from exchange.use_cases.errors import ConflictError, GoneError, InvalidError, NotFoundError, UnavailableError


def not_found() -> NotFoundError:
    """It does not exist, or this caller may not see it."""
    return NotFoundError("not-found", "There is nothing here under this id. Check the id.")


def destroyed() -> GoneError:
    """Its content was destroyed."""
    return GoneError("destroyed", "The content of this referral was destroyed. Nothing of it can be shown.")


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
        "The receiver's current key is not known here yet, because its node has not been reached. Nothing was stored. "
        "In an emergency telephone the receiver; otherwise send this again.",
        who=Who.PEER,
        retry_after=30,
    )


def invalid_consent(error: ConsentInvalidError, *, who: Who = Who.SENDER) -> InvalidError:
    """What is wrong with the consent that was handed in."""
    fields = tuple(ProblemField(path=item.path, code=item.code, sentence=item.sentence) for item in error.problems)
    return InvalidError("consent-invalid", "This is not a valid consent. Nothing was recorded.", who=who, fields=fields)


def impossible_step(error: ConsentTransitionError) -> ConflictError:
    """The consent does not allow this step now."""
    return ConflictError(error.code, error.sentence)


def consent_says_no(code: str) -> ConflictError:
    """The content must not be opened any more: `consent-not-fresh` or `consent-ended`."""
    if code == "consent-ended":
        return ConflictError(code, "Her consent has ended, or she said no. What came under it is not opened any more.")
    return ConflictError(
        code, "The referring agency's node has not said for 72 hours that her consent is live. Telephone that agency."
    )
