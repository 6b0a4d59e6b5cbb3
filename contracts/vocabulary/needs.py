"""Coded needs per service type. Coded, because free text is where names and places leak."""

from __future__ import annotations

from typing import Final

from contracts.vocabulary.terms import ServiceType

_ACCOMMODATION: Final = (
    "tonight days weeks longer with-children pet-none pet-with-her private-room women-only confidential-address"
)
_BY_SERVICE: Final[dict[ServiceType, str]] = {
    ServiceType.SAFE_ACCOMMODATION: _ACCOMMODATION,
    ServiceType.TRANSIT_ACCOMMODATION: _ACCOMMODATION,
    ServiceType.ARRIVAL_RECEPTION: "airport seaport land-border onward-travel one-night medical-escort",
    ServiceType.HEALTH_CARE: "injury pregnancy chronic-illness reproductive-health child-health examination",
    ServiceType.POST_RAPE_CARE: "medical-care forensic-examination-choice prophylaxis emergency-contraception follow-up",
    ServiceType.MENTAL_HEALTH_CRISIS: "crisis-now assessment follow-up",
    ServiceType.PSYCHOSOCIAL_SUPPORT: "individual group remote in-person child",
    ServiceType.LEGAL_AID: "advice protection-order representation family-law labour-law immigration-law criminal-case",
    ServiceType.POLICE_PROTECTION: "escort collect-belongings protection-order immediate-response",
    ServiceType.LABOUR_COMPLAINT: "working-conditions contract-substitution documents-returned transfer-employer violence-at-work",
    ServiceType.WAGE_CLAIM: "unpaid-wages deductions recruitment-fees end-of-service",
    ServiceType.TRAVEL_DOCUMENTS: "lost withheld expired emergency-document",
    ServiceType.REPATRIATION: "ticket escort exit-clearance medical-travel with-children",
    ServiceType.REINTEGRATION: "housing skills family-mediation-choice savings schooling",
    ServiceType.FAMILY_ASSESSMENT: "safe-return child-care family-tracing-choice",
    ServiceType.INTERPRETATION: "on-site telephone video sign-language repeated",
    ServiceType.CHILD_PROTECTION: "emergency-care assessment unaccompanied schooling",
    ServiceType.TRAFFICKING_IDENTIFICATION: "screening formal-identification",
    ServiceType.TRAFFICKING_ASSISTANCE: "accommodation legal medical reflection-period",
    ServiceType.LIVELIHOOD: "training job-placement small-grant",
    ServiceType.CASH_OR_GOODS: "food clothing phone-or-sim transport hygiene cash",
    ServiceType.PEER_SUPPORT: "group remote",
    ServiceType.OTHER_SUPPORT: "information accompaniment other",
}
NEEDS_BY_SERVICE: Final[dict[ServiceType, frozenset[str]]] = {
    service: frozenset(terms.split()) for service, terms in _BY_SERVICE.items()
}


def needs_for(service: ServiceType) -> frozenset[str]:
    """The needs that may be stated with a request for this service; any other is an error."""
    return NEEDS_BY_SERVICE[service]
