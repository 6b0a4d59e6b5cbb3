"""Descriptions for members whose models live in rooms that do not write for this document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MEMBER_WORDS: Final[Mapping[tuple[str, str], str]] = {
    ("ArrivalWindow", "earliest"): "Not before.",
    ("ArrivalWindow", "latest"): "Not after.",
    ("AvoidOwnAuthorities", "country"): "Whose authorities she wants to avoid.",
    ("Caregiver", "name"): "The caregiver's name.",
    ("ConsentRecord", "id"): "The consent's id.",
    ("ConsentRecord", "subject"): "The random id under which this agency's node knows her.",
    ("ConsentRecord", "version"): "Every change makes a new one.",
    ("ConsentRecord", "statement_version"): "The version of the statement that was read to her.",
    ("ConsentRecord", "requested_at"): "When she was asked.",
    ("Interpreter", "needed"): "Whether a human interpreter is needed.",
    ("Party", "dependants"): "Who comes with her, by age band and sex.",
    ("Party", "infant_or_pregnant"): "Whether there is an infant or a pregnancy.",
    ("SafeContact", "channels"): "The ways to reach her.",
    ("SafeContact", "agency_name_may_be_said"): "Whether the agency's name may be said to whoever answers.",
    ("TrustedContact", "name"): "The trusted person's name.",
    ("TrustedContact", "address"): "Number or account of the trusted person.",
    ("WageDetails", "unpaid_months"): "For how many months she was not paid.",
}
#: No telephone number in the documents could be anybody's.
_FICTIONAL_NUMBERS: Final = (("ContactChannel", "address"),)

#: These read as sets: a repetition means nothing and is not refused.
_SETS: Final = ("Provision", "Provision-Input")


def with_words(schemas: dict[str, Any]) -> dict[str, Any]:
    """The schemas with these descriptions where they have none."""
    for model, member in _FICTIONAL_NUMBERS:
        if model in schemas:
            schemas[model]["properties"][member]["examples"] = ["+00 000 0000"]
    for model in _SETS:
        for described in schemas.get(model, {}).get("properties", {}).values():
            described.pop("uniqueItems", None)
            described.pop("maxItems", None)
    for (model, member), words in MEMBER_WORDS.items():
        described = schemas.get(model, {}).get("properties", {}).get(member)
        if described is not None:
            described.setdefault("description", words)
    return schemas
