"""What a use case refuses, and who has to act. Domain errors know no HTTP; `exchange.api.problems` maps them.

    UseCaseError
    ├── NotFoundError        it does not exist, or this caller may not see it: the two look alike
    ├── ConflictError        it exists and says otherwise (another decision, another body, a state that forbids it)
    ├── ForbiddenError       a rule, a consent or a standing says no
    ├── InvalidError         the request cannot be understood
    ├── TooLargeError        more than an envelope holds
    ├── GoneError            it was destroyed
    └── UnavailableError     not now: try again later

Every error carries a stable `code`, `who` has to act, a sentence that says what to do, and, where it helps, the places
in the request; never a submitted value.
"""

from __future__ import annotations

from exchange.schemas.problems import ProblemField, Who


class UseCaseError(Exception):
    """Never raised directly."""

    def __init__(
        self,
        code: str,
        sentence: str,
        *,
        who: Who | None = None,
        fields: tuple[ProblemField, ...] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.sentence = sentence
        self.who = who
        """Nobody where it is who docs/problems.md says of this code."""
        self.fields = fields
        self.retry_after = retry_after


class NotFoundError(UseCaseError):
    """It does not exist, or this caller may not see it."""


class ConflictError(UseCaseError):
    """It exists and says otherwise."""


class ForbiddenError(UseCaseError):
    """A rule, a consent or a standing says no."""


class InvalidError(UseCaseError):
    """The request cannot be understood."""


class TooLargeError(UseCaseError):
    """More than an envelope holds."""


class GoneError(UseCaseError):
    """It was destroyed."""


class UnavailableError(UseCaseError):
    """Not now: try again later."""
