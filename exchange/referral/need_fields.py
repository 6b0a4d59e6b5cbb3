"""The fields of a referral that say what is needed (`C2`, and the coded dangers of `C4`), never who she is."""

from __future__ import annotations

from pydantic import Field as Described

from consent.terms import Country, Language
from contracts.vocabulary import (
    Accessibility,
    AgeBand,
    CareWindow,
    Gender,
    Relationship,
    SafetyFlag,
    ServiceType,
)
from exchange.referral.canonical import SealedContent
from exchange.referral.parts import ArrivalWindow, ConflictQuestion, ExpectedStay, Interpreter, Party
from exchange.referral.values import Area, Codes, Need, Yes


class NeedFields(SealedContent):
    """What an offer can say."""

    needs: Codes[Need] | None = Described(
        default=None,
        description="Coded needs; only those of the requested service.",
        examples=[["tonight", "women-only"]],
    )
    services_provided: Codes[ServiceType] | None = Described(
        default=None, description="What the referring agency has provided already.", examples=[["psychosocial-support"]]
    )
    expected_stay: ExpectedStay | None = Described(default=None, description="How long she is expected to need it.")
    arrival_window: ArrivalWindow | None = Described(
        default=None,
        description="When she can come.",
        examples=[{"earliest": "2026-11-23T12:00:00Z", "latest": "2026-11-23T15:00:00Z"}],
    )
    transport_needed: Yes | None = Described(default=None, description="Whether she has to be fetched.")
    age_band: AgeBand | None = Described(default=None, description="Her age as a band.", examples=["25-49"])
    is_minor: Yes | None = Described(default=None, description="Whether she is under 18; agrees with `age_band`.")
    unaccompanied: Yes | None = Described(default=None, description="A child without a caregiver.")
    gender: Gender | None = Described(
        default=None, description="Only where placement or matching an interpreter needs it.", examples=["woman"]
    )
    accessibility: Codes[Accessibility] | None = Described(
        default=None, description="What the place or conversation has to offer.", examples=[["step-free"]]
    )
    party: Party | None = Described(
        default=None,
        description="Who comes with her, by age band and sex.",
        examples=[{"adults": 1, "dependants": [{"age_band": "6-11", "sex": "male"}], "infant_or_pregnant": False}],
    )
    language: Language | None = Described(
        default=None, description="Her language (BCP 47); minority and sign languages included.", examples=["id"]
    )
    interpreter: Interpreter | None = Described(
        default=None,
        description="Whether a human interpreter is needed.",
        examples=[{"needed": True, "gender": "woman"}],
    )
    conflict_check: Codes[ConflictQuestion] | None = Described(
        default=None,
        description="What the receiver has to ask itself before it accepts.",
        examples=[["linked-to-employer"]],
    )
    area: Area | None = Described(
        default=None, description="Country or subdivision (ISO 3166-2); never an address.", examples=["MY-14"]
    )
    country_of_work: Country | None = Described(default=None, description="ISO 3166-1.", examples=["MY"])
    return_voluntary: Yes | None = Described(
        default=None, description="She wants to go home. Must be true for a repatriation."
    )
    safe_return_assessed: Yes | None = Described(
        default=None, description="The safety of her return was assessed. Must be true for a repatriation."
    )
    care_window: CareWindow | None = Described(
        default=None,
        description="Time left for time-critical care, as a band. Any open window makes the referral an emergency.",
        examples=["under-72h"],
    )
    immediate_medical: Yes | None = Described(default=None, description="Whether she needs medical help now.")
    safety_flags: Codes[SafetyFlag] | None = Described(
        default=None, description="Coded dangers.", examples=[["device-monitored", "documents-withheld"]]
    )
    relationship: Relationship | None = Described(
        default=None, description="Who the perpetrator is to her, as a class.", examples=["employer-household"]
    )
