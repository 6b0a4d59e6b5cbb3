"""What a referral says: one optional member for every field of the vocabulary, and none beside them.

Rules:

* A member has the machine name of its field. Which of them may go, to whom and when, is not decided here: that is
  `exchange.disclosure`.
* There is no member for the date of an incident, for sexual orientation or for gender history, and no member in which
  they could be put in code.
* Fields that must never be sent are members all the same, so that they are refused by name.
* A content agrees with itself: `is_minor` with `age_band`, a caregiver with a child, needs with the service.
* It cannot print itself: a printed content shows the names of its members, never what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from consent.terms import MINOR_BANDS
from contracts.vocabulary import (
    FIELD_SPECS,
    ROUTING_FIELDS,
    VOCABULARY_VERSION,
    CareWindow,
    Field,
    Priority,
    ServiceType,
    needs_for,
)
from exchange.limits import LIMITS
from exchange.referral.canonical import problems_of
from exchange.referral.errors import ContentInvalidError, ContentProblem
from exchange.referral.need_fields import NeedFields
from exchange.referral.protected_fields import ProtectedFields
from exchange.referral.routing_fields import RoutingFields

__all__ = ["ContentInvalidError", "ContentProblem", "ReferralContent", "Routing", "effective_priority"]

CONTENT_EXAMPLE: Final[dict[str, Any]] = {
    "needs": ["tonight", "with-children", "women-only"],
    "age_band": "25-49",
    "party": {"adults": 1, "dependants": [{"age_band": "6-11", "sex": "female"}], "infant_or_pregnant": False},
    "language": "id",
    "interpreter": {"needed": True, "gender": "woman"},
    "area": "MY-14",
    "safety_flags": ["documents-withheld", "perpetrator-nearby"],
    "preferred_name": "Bunga",
    "arrival_words": "paper lantern",
    "safe_contact": {"who_initiates": "survivor"},
    "meeting_point": "Example Station, north entrance",
}


_NAMED: Final = tuple((field.value, field) for field in Field)
_ROUTING: Final = tuple((name, field) for name, field in _NAMED if field in ROUTING_FIELDS)


class Routing(NamedTuple):
    """What the sending node writes into every offer."""

    client_code: str
    priority: Priority
    service_type: ServiceType
    referred_at: datetime
    respond_by: datetime
    referring_agency: str
    duty_contact: str
    exercise: bool = False


def _documented(schema: dict[str, Any]) -> None:
    """Add the example and, to each description of a field, where a consent has to allow it."""
    schema["examples"] = [CONTENT_EXAMPLE]
    for name, field in _NAMED:
        if field not in ROUTING_FIELDS:
            spec = FIELD_SPECS[field]
            schema["properties"][name]["description"] += f" Consent group `{spec.group}`, stage `{spec.stage}`."


_CLOCKS_DIFFER: Final = timedelta(milliseconds=LIMITS.skew_ms)


class ReferralContent(ProtectedFields, NeedFields, RoutingFields):
    """Everything a sender would like to say, or the part of it that an envelope carries."""

    model_config = ConfigDict(json_schema_extra=_documented)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        minor = self.minor()
        if self.is_minor is not None and self.is_minor != minor:
            raise PydanticCustomError("age_contradiction", "`is_minor` must agree with `age_band`")
        if self.caregiver is not None and minor is False:
            raise PydanticCustomError("caregiver_of_adult", "an adult has no caregiver; nobody decides for her")
        if self.service_type is not None and not self.needs_fit(self.service_type):
            raise PydanticCustomError("need_of_another_service", "every need must belong to the requested service")
        return self

    def minor(self) -> bool | None:
        """Whether she is under 18, as far as this content says."""
        return self.is_minor if self.age_band is None else self.age_band in MINOR_BANDS

    def needs_fit(self, service: ServiceType) -> bool:
        """Whether every stated need is one of this service."""
        return needs_for(service).issuperset(self.needs or ())

    def fields_present(self) -> frozenset[Field]:
        """The fields that this content says something about."""
        held = self.__dict__
        return frozenset([field for name, field in _NAMED if held[name] is not None])

    def only(self, fields: frozenset[Field]) -> Self:
        """This content without every field that is not listed."""
        # Not validated again: of members that agree, fewer agree too.
        return self.model_copy(update=_without_others(frozenset(fields)))

    def check_confirmed(self, at: datetime) -> None:
        """Refuse a contact plan that she is said to have confirmed later than now: a local time that was called UTC.

        It would say "do not contact" until then, and nobody would know why.

        Raises:
            ContentInvalidError: `in-the-future`.
        """
        plan = self.safe_contact
        if plan is not None and plan.last_confirmed_at is not None and plan.last_confirmed_at > at + _CLOCKS_DIFFER:
            raise ContentInvalidError([ContentProblem("$.safe_contact.last_confirmed_at", "in-the-future")])

    def check_no_routing(self) -> None:
        """Refuse what the sending node sets, and nobody else: no rule and no consent speaks of it.

        Raises:
            ContentInvalidError: `set-by-node`.
        """
        held = self.__dict__
        own = sorted([field for name, field in _ROUTING if held[name] is not None])
        if own:
            raise ContentInvalidError(ContentProblem(f"$.{field.value}", "set-by-node") for field in own)

    def with_routing(self, routing: Routing) -> Self:
        """This content with the routing fields of the sending node.

        Raises:
            ContentInvalidError: if the request set a routing field itself (`set-by-node`), or if a value does not fit;
                `in-the-future` as in `check_confirmed`.
        """
        self.check_confirmed(routing.referred_at)
        self.check_no_routing()
        members = routing._asdict() | {"exercise": routing.exercise or None, "vocabulary_version": VOCABULARY_VERSION}
        problems: tuple[ContentProblem, ...] = ()
        try:
            written = RoutingFields.model_validate(members)
        except ValidationError as error:
            problems = problems_of(error)
        else:
            # Her own members are validated already; of all rules between both, this is the only one.
            if self.needs_fit(routing.service_type):
                return self.model_copy(update=written.__dict__)
            problems = (ContentProblem("$.needs", "need-of-another-service"),)
        raise ContentInvalidError(problems)


@lru_cache(maxsize=1024)
def _without_others(fields: frozenset[Field]) -> Mapping[str, None]:
    """What makes a content say nothing beyond these fields."""
    return {name: None for name, field in _NAMED if field not in fields}


def effective_priority(stated: Priority, content: ReferralContent) -> Priority:
    """The priority that counts: while a window for time-critical care is open, every referral is an emergency."""
    if content.care_window in {None, CareWindow.NONE}:
        return stated
    return Priority.EMERGENCY
