"""The terms themselves. Each enumeration is closed; its members never change their meaning."""

from __future__ import annotations

from functools import cache
from typing import Final

from contracts.vocabulary.term import Term

VOCABULARY_VERSION: Final = 1


class AgencyKind(Term):
    """What kind of office an agency is. `immigration` is listed so that rules can forbid it."""

    HELPLINE = "helpline"
    SHELTER = "shelter"
    EMBASSY = "embassy"
    LABOUR_OFFICE = "labour-office"
    HEALTH = "health"
    POLICE = "police"
    LEGAL_AID = "legal-aid"
    SOCIAL_WELFARE = "social-welfare"
    INTERPRETER_SERVICE = "interpreter-service"
    MIGRANT_RESOURCE_CENTRE = "migrant-resource-centre"
    REINTEGRATION_SERVICE = "reintegration-service"
    IMMIGRATION = "immigration"


class ServiceType(Term):
    """The one service that a referral asks for. `peer-support` exists in directories only."""

    SAFE_ACCOMMODATION = "safe-accommodation"
    TRANSIT_ACCOMMODATION = "transit-accommodation"
    ARRIVAL_RECEPTION = "arrival-reception"
    HEALTH_CARE = "health-care"
    POST_RAPE_CARE = "post-rape-care"
    MENTAL_HEALTH_CRISIS = "mental-health-crisis"
    PSYCHOSOCIAL_SUPPORT = "psychosocial-support"
    LEGAL_AID = "legal-aid"
    POLICE_PROTECTION = "police-protection"
    LABOUR_COMPLAINT = "labour-complaint"
    WAGE_CLAIM = "wage-claim"
    TRAVEL_DOCUMENTS = "travel-documents"
    REPATRIATION = "repatriation"
    REINTEGRATION = "reintegration"
    FAMILY_ASSESSMENT = "family-assessment"
    INTERPRETATION = "interpretation"
    CHILD_PROTECTION = "child-protection"
    TRAFFICKING_IDENTIFICATION = "trafficking-identification"
    TRAFFICKING_ASSISTANCE = "trafficking-assistance"
    LIVELIHOOD = "livelihood"
    CASH_OR_GOODS = "cash-or-goods"
    PEER_SUPPORT = "peer-support"
    OTHER_SUPPORT = "other-support"


class Purpose(Term):
    """Why data moves: to provide one service, or for statistics."""

    PROVIDE_SAFE_ACCOMMODATION = "provide-safe-accommodation"
    PROVIDE_TRANSIT_ACCOMMODATION = "provide-transit-accommodation"
    PROVIDE_ARRIVAL_RECEPTION = "provide-arrival-reception"
    PROVIDE_HEALTH_CARE = "provide-health-care"
    PROVIDE_POST_RAPE_CARE = "provide-post-rape-care"
    PROVIDE_MENTAL_HEALTH_CRISIS = "provide-mental-health-crisis"
    PROVIDE_PSYCHOSOCIAL_SUPPORT = "provide-psychosocial-support"
    PROVIDE_LEGAL_AID = "provide-legal-aid"
    PROVIDE_POLICE_PROTECTION = "provide-police-protection"
    PROVIDE_LABOUR_COMPLAINT = "provide-labour-complaint"
    PROVIDE_WAGE_CLAIM = "provide-wage-claim"
    PROVIDE_TRAVEL_DOCUMENTS = "provide-travel-documents"
    PROVIDE_REPATRIATION = "provide-repatriation"
    PROVIDE_REINTEGRATION = "provide-reintegration"
    PROVIDE_FAMILY_ASSESSMENT = "provide-family-assessment"
    PROVIDE_INTERPRETATION = "provide-interpretation"
    PROVIDE_CHILD_PROTECTION = "provide-child-protection"
    PROVIDE_TRAFFICKING_IDENTIFICATION = "provide-trafficking-identification"
    PROVIDE_TRAFFICKING_ASSISTANCE = "provide-trafficking-assistance"
    PROVIDE_LIVELIHOOD = "provide-livelihood"
    PROVIDE_CASH_OR_GOODS = "provide-cash-or-goods"
    PROVIDE_OTHER_SUPPORT = "provide-other-support"
    STATISTICS = "statistics"


class Sector(Term):
    """All that may be known of a purpose at rest outside seals: in tombstones, metrics and logs."""

    ACCOMMODATION = "accommodation"
    HEALTH = "health"
    PSYCHOSOCIAL = "psychosocial"
    LEGAL = "legal"
    PROTECTION = "protection"
    LABOUR = "labour"
    TRAVEL = "travel"
    INTERPRETATION = "interpretation"
    OTHER = "other"


class Priority(Term):
    """How soon the receiver has to answer."""

    EMERGENCY = "emergency"
    URGENT = "urgent"
    ROUTINE = "routine"


class Channel(Term):
    """A way to reach her."""

    PHONE_CALL = "phone-call"
    VIDEO_CALL = "video-call"
    SMS = "sms"
    WHATSAPP = "whatsapp"
    MESSENGER = "messenger"
    SIGNAL = "signal"
    LINE = "line"
    WECHAT = "wechat"
    VIBER = "viber"
    ZALO = "zalo"
    TELEGRAM = "telegram"
    EMAIL = "email"
    WEB_CHAT = "web-chat"
    IN_PERSON = "in-person"
    VIA_TRUSTED_PERSON = "via-trusted-person"


class AgeBand(Term):
    """Age as a band, so that a birthday cannot be computed."""

    FROM_0_5 = "0-5"
    FROM_6_11 = "6-11"
    FROM_12_14 = "12-14"
    FROM_15_17 = "15-17"
    FROM_18_24 = "18-24"
    FROM_25_49 = "25-49"
    FROM_50_64 = "50-64"
    FROM_65_PLUS = "65-plus"


class Sex(Term):
    """Sex of a dependant: many shelters limit boys by age."""

    FEMALE = "female"
    MALE = "male"
    NOT_STATED = "not-stated"


class Gender(Term):
    """Sent only where placement or matching an interpreter needs it."""

    WOMAN = "woman"
    MAN = "man"
    ANOTHER = "another"
    NOT_STATED = "not-stated"


class Accessibility(Term):
    """What the place or the conversation has to offer."""

    STEP_FREE = "step-free"
    HEARING = "hearing"
    SIGHT = "sight"
    LEARNING = "learning"
    MOBILITY_AID = "mobility-aid"
    PERSONAL_ASSISTANCE = "personal-assistance"
    NONE_STATED = "none-stated"


class SafetyFlag(Term):
    """Coded dangers; never prose."""

    PERPETRATOR_NEARBY = "perpetrator-nearby"
    PERPETRATOR_KNOWS_THIS_SERVICE = "perpetrator-knows-this-service"
    PERPETRATOR_IN_AUTHORITY = "perpetrator-in-authority"
    FAMILY_IS_PERPETRATOR = "family-is-perpetrator"
    EMPLOYER_IS_PERPETRATOR = "employer-is-perpetrator"
    DEVICE_MONITORED = "device-monitored"
    LOCATION_TRACKED = "location-tracked"
    DOCUMENTS_WITHHELD = "documents-withheld"
    CONFINED = "confined"
    DEBT_BONDAGE = "debt-bondage"
    THREATS_TO_FAMILY = "threats-to-family"
    WEAPON = "weapon"
    SELF_HARM_RISK = "self-harm-risk"
    MEDICAL_EMERGENCY = "medical-emergency"
    CHILDREN_AT_RISK = "children-at-risk"


class CareWindow(Term):
    """Time left for time-critical care, as a band: the incident date is never a field."""

    UNDER_12H = "under-12h"
    UNDER_24H = "under-24h"
    UNDER_72H = "under-72h"
    UNDER_120H = "under-120h"
    NONE = "none"


class Relationship(Term):
    """Who the perpetrator is to her, as a class; never an identity."""

    PARTNER = "partner"
    FORMER_PARTNER = "former-partner"
    FAMILY = "family"
    EMPLOYER = "employer"
    EMPLOYER_HOUSEHOLD = "employer-household"
    RECRUITER = "recruiter"
    COLLEAGUE = "colleague"
    OFFICIAL = "official"
    STRANGER = "stranger"
    NOT_STATED = "not-stated"


class Outcome(Term):
    """How a completed service ended."""

    SERVICE_PROVIDED = "service-provided"
    PARTLY_PROVIDED = "partly-provided"
    ENDED_BY_SURVIVOR = "ended-by-survivor"
    MOVED_ON = "moved-on"
    NOT_ARRIVED = "not-arrived"
    OTHER = "other"


class FailReason(Term):
    """Why an accepted service did not come about."""

    NOT_REACHED = "not-reached"
    NOT_ARRIVED = "not-arrived"
    ELIGIBILITY_CHANGED = "eligibility-changed"
    SERVICE_CLOSED = "service-closed"
    OTHER = "other"


class DeclineReason(Term):
    """Why an agency says no. No free text."""

    NO_CAPACITY = "no-capacity"
    WAITLIST_ONLY = "waitlist-only"
    NOT_ELIGIBLE = "not-eligible"
    OUT_OF_AREA = "out-of-area"
    LANGUAGE_UNAVAILABLE = "language-unavailable"
    CONFLICT_OF_INTEREST = "conflict-of-interest"
    SERVICE_SUSPENDED = "service-suspended"
    MISSING_CONSENT = "missing-consent"
    POLICY_VIOLATION = "policy-violation"
    ALREADY_PLACED = "already-placed"
    DUPLICATE = "duplicate"
    OTHER = "other"


class NotReferred(Term):
    """Why no referral was made (statistics; GBVIMS)."""

    PROVIDED_BY_OWN_AGENCY = "provided-by-own-agency"
    ALREADY_RECEIVED = "already-received"
    NOT_APPLICABLE = "not-applicable"
    DECLINED_BY_SURVIVOR = "declined-by-survivor"
    SERVICE_UNAVAILABLE = "service-unavailable"


class Sensitivity(Term):
    """`C0` public · `C1` operational · `C2` pseudonymous need · `C3` identifying · `C4` safety-critical · `C5` special."""

    C0 = "C0"
    C1 = "C1"
    C2 = "C2"
    C3 = "C3"
    C4 = "C4"
    C5 = "C5"


class Stage(Term):
    """The earliest moment at which a field may flow; later in the list is stricter."""

    OFFER = "offer"
    DISCLOSURE = "disclosure"
    NAMED = "named"
    NEVER = "never"


class Group(Term):
    """What headers, receipts and consents speak in instead of fields."""

    ROUTING = "routing"
    NEED = "need"
    HEALTH = "health"
    SAFETY = "safety"
    NAME = "name"
    CONTACT = "contact"
    PLACE = "place"
    CAREGIVER = "caregiver"
    IDENTITY = "identity"
    EMPLOYMENT = "employment"
    POLICE = "police"
    STATUS = "status"
    PERPETRATOR = "perpetrator"


class Basis(Term):
    """On what ground her data moves."""

    CONSENT = "consent"
    SUPPORTED_DECISION = "supported-decision"
    OWN_CONSENT_MINOR = "own-consent-minor"
    CAREGIVER = "caregiver"
    CAREGIVER_AND_ASSENT = "caregiver-and-assent"
    TRUSTED_ADULT_BEST_INTEREST = "trusted-adult-best-interest"
    CASEWORKER_BEST_INTEREST = "caseworker-best-interest"
    IMMINENT_THREAT_TO_SELF = "imminent-threat-to-self"
    IMMINENT_THREAT_TO_OTHERS = "imminent-threat-to-others"
    CHILD_ABUSE_MANDATORY = "child-abuse-mandatory"
    COURT_ORDER = "court-order"
    STATUTE = "statute"


class BasisClass(Term):
    """All that a header or a cut-down receipt says of the basis."""

    CONSENT = "consent"
    GUARDIAN = "guardian"
    EXCEPTION = "exception"


class Feedback(Term):
    """How much comes back to the referring agency; feedback is disclosure too."""

    DECISION = "decision"
    STATUS = "status"
    OUTCOME = "outcome"


class ReleaseMode(Term):
    """Whether an acceptance releases the disclosure by itself, or a worker confirms first."""

    AUTOMATIC = "automatic"
    CONFIRM = "confirm"


class WithdrawalForm(Term):
    """The three forms of her no; she chooses."""

    STOP_SHARING = "stop-sharing"
    STOP_SERVICE = "stop-service"
    ERASE = "erase"


class Field(Term):
    """The machine name of every referral field. There is no other."""

    CLIENT_CODE = "client_code"
    PRIORITY = "priority"
    SERVICE_TYPE = "service_type"
    REFERRED_AT = "referred_at"
    RESPOND_BY = "respond_by"
    VOCABULARY_VERSION = "vocabulary_version"
    EXERCISE = "exercise"
    REFERRING_AGENCY = "referring_agency"
    DUTY_CONTACT = "duty_contact"
    NEEDS = "needs"
    SERVICES_PROVIDED = "services_provided"
    EXPECTED_STAY = "expected_stay"
    ARRIVAL_WINDOW = "arrival_window"
    TRANSPORT_NEEDED = "transport_needed"
    AGE_BAND = "age_band"
    IS_MINOR = "is_minor"
    UNACCOMPANIED = "unaccompanied"
    GENDER = "gender"
    ACCESSIBILITY = "accessibility"
    PARTY = "party"
    LANGUAGE = "language"
    INTERPRETER = "interpreter"
    CONFLICT_CHECK = "conflict_check"
    AREA = "area"
    COUNTRY_OF_WORK = "country_of_work"
    CARE_WINDOW = "care_window"
    IMMEDIATE_MEDICAL = "immediate_medical"
    MEDICATION_OR_MENTAL_HEALTH_SUPPORT = "medication_or_mental_health_support"
    SAFETY_FLAGS = "safety_flags"
    RELATIONSHIP = "relationship"
    PREFERRED_NAME = "preferred_name"
    ARRIVAL_WORDS = "arrival_words"
    LEGAL_NAME = "legal_name"
    DATE_OF_BIRTH = "date_of_birth"
    SAFE_CONTACT = "safe_contact"
    CURRENT_LOCATION = "current_location"
    MEETING_POINT = "meeting_point"
    CAREGIVER = "caregiver"
    NATIONALITY = "nationality"
    PASSPORT_NUMBER = "passport_number"
    PERMIT_NUMBER = "permit_number"
    EMPLOYER_NAME = "employer_name"
    WAGE_DETAILS = "wage_details"
    HEALTH_FACTS = "health_facts"
    POLICE_STATEMENT = "police_statement"
    RETURN_VOLUNTARY = "return_voluntary"
    SAFE_RETURN_ASSESSED = "safe_return_assessed"
    IMMIGRATION_STATUS = "immigration_status"
    PERPETRATOR_IDENTITY = "perpetrator_identity"
    NARRATIVE = "narrative"
    AVOID_OWN_AUTHORITIES = "avoid_own_authorities"


_SECTORS: Final = {
    Sector.ACCOMMODATION: "safe-accommodation transit-accommodation arrival-reception",
    Sector.HEALTH: "health-care post-rape-care mental-health-crisis",
    Sector.PSYCHOSOCIAL: "psychosocial-support family-assessment peer-support",
    Sector.LEGAL: "legal-aid",
    Sector.PROTECTION: "police-protection child-protection trafficking-identification trafficking-assistance",
    Sector.LABOUR: "labour-complaint wage-claim",
    Sector.TRAVEL: "travel-documents repatriation",
    Sector.INTERPRETATION: "interpretation",
    Sector.OTHER: "reintegration livelihood cash-or-goods other-support",
}
SECTOR_BY_SERVICE: Final[dict[ServiceType, Sector]] = {
    ServiceType(term): sector for sector, terms in _SECTORS.items() for term in terms.split()
}

HOUR_S: Final = 3600
PRIORITY_RESPOND_WITHIN_S: Final[dict[Priority, int]] = {
    Priority.EMERGENCY: HOUR_S,
    Priority.URGENT: 24 * HOUR_S,
    Priority.ROUTINE: 72 * HOUR_S,
}
"""Default seconds for the receiver to answer; a contract may tighten, never loosen."""
PRIORITY_UNDELIVERED_AFTER_S: Final[dict[Priority, int]] = {
    Priority.EMERGENCY: 900,
    Priority.URGENT: 2 * HOUR_S,
    Priority.ROUTINE: 12 * HOUR_S,
}
"""Seconds after which the sender is told that an offer was not delivered."""

EXCEPTION_BASES: Final = frozenset(
    {
        Basis.IMMINENT_THREAT_TO_SELF,
        Basis.IMMINENT_THREAT_TO_OTHERS,
        Basis.CHILD_ABUSE_MANDATORY,
        Basis.COURT_ORDER,
        Basis.STATUTE,
    }
)
_GUARDIAN_BASES: Final = frozenset(
    {
        Basis.CAREGIVER,
        Basis.CAREGIVER_AND_ASSENT,
        Basis.TRUSTED_ADULT_BEST_INTEREST,
        Basis.CASEWORKER_BEST_INTEREST,
    }
)
_SERVICES: Final[dict[Purpose, ServiceType]] = {
    purpose: ServiceType(purpose.removeprefix("provide-")) for purpose in Purpose if purpose is not Purpose.STATISTICS
}
LOCAL_DECLINE_REASONS: Final = frozenset({DeclineReason.DUPLICATE, DeclineReason.CONFLICT_OF_INTEREST})
"""Reasons that would tell a peer whether a person is known: they stay at home and travel as `other`."""


def basis_class(basis: Basis) -> BasisClass:
    """The class under which a basis travels outside seals."""
    if basis in EXCEPTION_BASES:
        return BasisClass.EXCEPTION
    return BasisClass.GUARDIAN if basis in _GUARDIAN_BASES else BasisClass.CONSENT


def sector_of(purpose: Purpose) -> Sector:
    """The coarse sector of a purpose; `statistics` is `other`."""
    service = service_of(purpose)
    return SECTOR_BY_SERVICE[service] if service else Sector.OTHER


@cache
def purpose_for(service: ServiceType) -> Purpose:
    """The purpose of asking for one service.

    Raises:
        ValueError: for `peer-support`, which is listed in directories and never referred to.
    """
    return Purpose(f"provide-{service}")


def service_of(purpose: Purpose) -> ServiceType | None:
    """The service a purpose provides; nothing for `statistics`."""
    return _SERVICES.get(purpose)
