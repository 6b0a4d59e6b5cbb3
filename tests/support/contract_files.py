"""A small valid contract file to break, and the shipped contract, read once."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, Final

from contracts.loader import load_contract, shipped_contract
from contracts.model import Contract

TODAY: Final = date(2026, 11, 23)
NOW: Final = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
SECTIONS: Final = (
    "purpose scope principles reading_the_rules consent controllers_and_legal_basis cross_border_transfer "
    "focal_points mandatory_reporting requests_by_authorities complaints_about_staff security_and_breach "
    "retention_and_erasure leaving review"
).split()

SMALL: Final = (
    """\
contract: small
version: 0.1.0
language_version: 1
vocabulary: 1
status: draft-needs-local-legal-review
title: A small contract
review_on: 2027-06-30
valid_until: 2027-12-31
prose:
"""
    + "".join(f"  {section}: words\n" for section in SECTIONS)
    + """\
countries: {}
rules:
  - id: shelter
    from: [helpline, police]
    to: [shelter]
    service_types: [safe-accommodation]
    offer: [needs, language, safety_flags]
    disclosure: [preferred_name, safe_contact]
    named: [medication_or_mental_health_support]
    bases: [consent, caregiver]
    release: automatic
    max_unserved_accepts: 10
    feedback: status
    onward: none
    cross_border: forbidden
    respond_within: {emergency: 1h, urgent: 24h, routine: 72h}
    retention: {declined: 24h, expired: 7d, closed: 90d}
  - id: lawyer
    from: [helpline, shelter]
    to: [legal-aid]
    service_types: [legal-aid]
    offer: [needs]
    disclosure: [preferred_name]
    named: [immigration_status]
    bases: [consent]
    release: confirm
    max_unserved_accepts: 5
    feedback: decision
    onward: none
    cross_border: named-country-consent
    respond_within: {emergency: 30m, urgent: 12h, routine: 72h}
    retention: {declined: 24h, expired: 24h, closed: 30d}
never:
  - {fields: [immigration_status], to: [police, labour-office]}
  - {fields: [narrative], to: any}
obligations:
  breach_notice: 72h
  erasure_receipt: 24h
  authority_request_notice: 24h
  staff_complaint_notice: 24h
  leaving_notice: 60d
"""
)


def small(old: str = "", new: str = "") -> bytes:
    """The small contract with one passage replaced; the passage has to be there."""
    assert old in SMALL
    return SMALL.replace(old, new, 1).encode()


def load(data: bytes) -> Contract:
    return load_contract(data, on=TODAY)


@cache
def shipped() -> Contract:
    return load(shipped_contract())


def unchecked(**changes: Any) -> Contract:
    """The small contract with members replaced, past the checks of the loader: what analysis finds by itself."""
    contract = load(small())
    values = {name: getattr(contract, name) for name in type(contract).model_fields} | changes
    built = Contract.model_construct(**values)
    built.model_post_init(None)
    return built


def question_json(**changes: Any) -> bytes:
    """A question as JSON, with members replaced."""
    base = {
        "from": "helpline",
        "to": "shelter",
        "service": "safe-accommodation",
        "basis": "consent",
        "fields": ["needs"],
    }
    return json.dumps(base | changes).encode()
