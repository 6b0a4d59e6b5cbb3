"""The parts of a contract that decide: rules, prohibitions, and the limits a rule sets.

Compatibility: the keys below are language version 1. A key is never given another meaning; a contract that needs a
new key needs a new `language_version`, and a node that does not know it refuses the whole file.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import pydantic

from contracts.vocabulary import AgencyKind, Basis, Feedback, Field, Priority, ReleaseMode, ServiceType, Stage
from contracts.vocabulary.term import Term

_DURATION: Final = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_UNIT_S: Final = {"m": 60, "h": 3600, "d": 86400}
LONGEST_DURATION_S: Final = 365 * 86400
"""No retention or duty is longer: a stop, which must outlive what it stops, lives 400 days."""


class CrossBorder(Term):
    """Whether a referral may leave the sender's country."""

    FORBIDDEN = "forbidden"
    NAMED_COUNTRY_CONSENT = "named-country-consent"
    ALLOWED = "allowed"


class Onward(Term):
    """Whether the receiver may pass her data on. It may not; it asks the sender for a new referral."""

    NONE = "none"


def parse_duration(value: Any) -> int:
    """Seconds of `15m`, `24h` or `90d`; the only spelling of a duration in a contract.

    Raises:
        ValueError: for anything else, also for a bare number.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0
    if not 0 < seconds <= LONGEST_DURATION_S:
        raise ValueError("a duration is written like 15m, 24h or 90d, and is at most 365d")
    return seconds


def _all_kinds(value: Any) -> Any:
    return list(AgencyKind) if value == "any" else value


Duration = Annotated[
    int,
    pydantic.BeforeValidator(parse_duration),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["24h"]}),
]
Terms = pydantic.Field(min_length=1, json_schema_extra={"uniqueItems": True})
AnyKinds = Annotated[
    frozenset[AgencyKind],
    pydantic.BeforeValidator(_all_kinds),
    Terms,
    pydantic.WithJsonSchema(
        {
            "anyOf": [
                {"const": "any"},
                {
                    "type": "array",
                    "items": {"enum": [kind.value for kind in AgencyKind]},
                    "minItems": 1,
                    "uniqueItems": True,
                },
            ]
        }
    ),
]
Fields = Annotated[frozenset[Field], pydantic.Field(json_schema_extra={"uniqueItems": True})]
RuleId = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,62}$")]


class Frozen(pydantic.BaseModel):
    """Immutable, and an unknown key is an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Retention(Frozen):
    """How long sealed content is kept after each end, in seconds."""

    declined_s: Duration = pydantic.Field(alias="declined")
    expired_s: Duration = pydantic.Field(alias="expired")
    closed_s: Duration = pydantic.Field(alias="closed")


class Rule(Frozen):
    """What one set of receivers may see of a referral for one set of services, and on what terms."""

    id: RuleId
    from_: Annotated[frozenset[AgencyKind], Terms] = pydantic.Field(alias="from")
    to: Annotated[frozenset[AgencyKind], Terms]
    service_types: Annotated[frozenset[ServiceType], Terms]
    offer: Fields
    disclosure: Fields
    named: Fields
    bases: Annotated[frozenset[Basis], Terms]
    release: ReleaseMode
    max_unserved_accepts: Annotated[int, pydantic.Field(strict=True, ge=1, le=1000)]
    feedback: Feedback
    onward: Onward
    cross_border: CrossBorder
    respond_within: dict[Priority, Duration] = pydantic.Field(
        json_schema_extra={"required": [priority.value for priority in Priority]}
    )
    """Seconds to answer. All three priorities are stated; a contract may tighten the defaults, never loosen them."""
    retention: Retention

    def stage_of(self, field: Field) -> Stage | None:
        """The stage for which this rule lists the field; nothing if it does not list it."""
        if field in self.offer:
            return Stage.OFFER
        if field in self.disclosure:
            return Stage.DISCLOSURE
        return Stage.NAMED if field in self.named else None


class Never(Frozen):
    """Fields that never go to these kinds, whatever a rule or a consent says."""

    fields: Annotated[frozenset[Field], Terms]
    to: AnyKinds
