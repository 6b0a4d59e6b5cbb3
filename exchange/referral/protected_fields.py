"""The fields of a referral that identify her, say where she is, or could be used against her (`C3` to `C5`).

None of them ever stands in an offer. Some are never sent at all: they exist so that they are refused by name,
instead of being typed into another field.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Described
from pydantic import StringConstraints

from consent.terms import Country
from exchange.referral.canonical import SealedContent
from exchange.referral.contact_model import SafeContact
from exchange.referral.parts import AvoidOwnAuthorities, Caregiver, ImmigrationStatus, WageDetails
from exchange.referral.values import Day, LongName, LongText, Name, Note, ShortText, TwoWords, Yes

Passport = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{5,20}$")]
Permit = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9/-]{2,29}$")]


class ProtectedFields(SealedContent):
    """What flows only after the receiver accepted, only by name, or never."""

    medication_or_mental_health_support: Yes | None = Described(
        default=None, description="Whether support is needed around the clock. Only by name."
    )
    health_facts: Note | None = Described(
        default=None, description="What a health worker has to know. Only by name, only to health."
    )
    preferred_name: Name | None = Described(
        default=None, description="What she wants to be called. May be absent.", examples=["Bunga"]
    )
    arrival_words: TwoWords | None = Described(
        default=None, description="Two short words she says at the door.", examples=["paper lantern"]
    )
    legal_name: LongName | None = Described(
        default=None, description="As in her papers. Only by name.", examples=["Example Person"]
    )
    date_of_birth: Day | None = Described(default=None, description="Only by name.", examples=["1990-01-31"])
    safe_contact: SafeContact | None = Described(
        default=None, description="How she may be contacted, if at all.", examples=[{"who_initiates": "survivor"}]
    )
    current_location: ShortText | None = Described(
        default=None, description="Where she is now.", examples=["Example Hospital, waiting room"]
    )
    meeting_point: ShortText | None = Described(
        default=None, description="Where she can be met.", examples=["Example Station, north entrance"]
    )
    caregiver: Caregiver | None = Described(
        default=None,
        description="A child's caregiver; refused for an adult.",
        examples=[{"relationship": "grandparent", "informed": True}],
    )
    nationality: Country | None = Described(
        default=None, description="ISO 3166-1. Only by name, only to an embassy.", examples=["ID"]
    )
    passport_number: Passport | None = Described(
        default=None, description="Only by name, only to an embassy.", examples=["X0000000"]
    )
    permit_number: Permit | None = Described(
        default=None, description="Only by name, only to an embassy.", examples=["PLKS-000000"]
    )
    employer_name: LongName | None = Described(
        default=None, description="Only by name, only to a labour office.", examples=["Example Household"]
    )
    wage_details: WageDetails | None = Described(
        default=None,
        description="Only by name, only to a labour office.",
        examples=[{"currency": "MYR", "monthly_wage": 1500, "unpaid_months": 4}],
    )
    police_statement: LongText | None = Described(
        default=None, description="What she wants to tell the police. Only by name, only to police."
    )
    immigration_status: ImmigrationStatus | None = Described(
        default=None, description="Only by name, only to legal aid; refused for anyone else.", examples=["expired"]
    )
    perpetrator_identity: ShortText | None = Described(
        default=None, description="Only by name, only to police and legal aid; refused for anyone else."
    )
    narrative: LongText | None = Described(
        default=None, description="Never sent. It is a field so that it can be refused by name."
    )
    avoid_own_authorities: AvoidOwnAuthorities | None = Described(
        default=None,
        description="Her own authorities must not know. Never sent: this node blocks that country's embassy.",
        examples=[{"country": "ID"}],
    )
