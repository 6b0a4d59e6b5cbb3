"""The part of a contract that people read: sections, country annexes, duties with a time limit.

It stands in the same file as the rules, so that directors sign the bytes that nodes evaluate.
"""

from __future__ import annotations

from typing import Annotated, Final

import pydantic

from contracts.rule import Duration, Frozen

NEEDS_LOCAL_REVIEW: Final = "needs-local-legal-review"
"""The whole text of an annex entry that only a lawyer of that country can write."""

Text = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=20_000, strip_whitespace=True)]


class Prose(Frozen):
    """The sections every contract has, in the order in which they are read."""

    purpose: Text
    scope: Text
    principles: Text
    reading_the_rules: Text
    consent: Text
    controllers_and_legal_basis: Text
    cross_border_transfer: Text
    focal_points: Text
    mandatory_reporting: Text
    requests_by_authorities: Text
    complaints_about_staff: Text
    security_and_breach: Text
    retention_and_erasure: Text
    leaving: Text
    review: Text


class CountryAnnex(Frozen):
    """What differs by country. An entry is a reviewed text or exactly `needs-local-legal-review`."""

    name: Text
    controller_roles: Text
    legal_basis: Text
    cross_border_transfer: Text
    focal_point: Text
    mandatory_reporting: Text
    requests_by_authorities: Text
    complaints_about_staff: Text
    breach: Text

    def unreviewed(self) -> tuple[str, ...]:
        """The entries that still wait for local legal review."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) == NEEDS_LOCAL_REVIEW)


class Obligations(Frozen):
    """Duties of every member, in seconds from the moment it knows."""

    breach_notice_s: Duration = pydantic.Field(alias="breach_notice")
    erasure_receipt_s: Duration = pydantic.Field(alias="erasure_receipt")
    authority_request_notice_s: Duration = pydantic.Field(alias="authority_request_notice")
    staff_complaint_notice_s: Duration = pydantic.Field(alias="staff_complaint_notice")
    leaving_notice_s: Duration = pydantic.Field(alias="leaving_notice")
