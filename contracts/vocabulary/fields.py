"""What every field is: sensitivity class, group, and the earliest stage at which it may flow at all.

This table is the ceiling. A contract allows less, never more: a contract that lists a field before its stage is
invalid. `never` means that no contract may list the field; such fields exist so that they can be refused by name.
Identifying (`C3`) and special (`C5`) fields never stand in an offer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from contracts.vocabulary.terms import AgencyKind, Field, Group, Sensitivity, ServiceType, Stage

_K = AgencyKind
_S = ServiceType
ALL_KINDS: Final = frozenset(AgencyKind)
ALL_SERVICES: Final = frozenset(ServiceType)
_TRAVEL: Final = frozenset({_S.TRAVEL_DOCUMENTS, _S.REPATRIATION})
_WAGES: Final = frozenset({_S.LABOUR_COMPLAINT, _S.WAGE_CLAIM})
_MEDICAL: Final = frozenset({_K.SHELTER, _K.HEALTH})
_POLICE: Final = frozenset({_K.POLICE})


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One row of the field table."""

    field: Field
    sensitivity: Sensitivity
    group: Group
    stage: Stage
    only_to: frozenset[AgencyKind] = ALL_KINDS
    """The only agency kinds that may ever see it."""
    only_for: frozenset[ServiceType] = ALL_SERVICES
    """The only services for which it may ever be asked."""
    named_to: frozenset[AgencyKind] = frozenset()
    """Kinds that see it only with a consent which names this field and this agency, whatever `stage` says."""


_ROWS: Final = (
    FieldSpec(Field.CLIENT_CODE, Sensitivity.C1, Group.ROUTING, Stage.OFFER),
    FieldSpec(Field.PRIORITY, Sensitivity.C1, Group.ROUTING, Stage.OFFER),
    FieldSpec(Field.SERVICE_TYPE, Sensitivity.C1, Group.ROUTING, Stage.OFFER),
    FieldSpec(Field.REFERRED_AT, Sensitivity.C1, Group.ROUTING, Stage.OFFER),
    FieldSpec(Field.RESPOND_BY, Sensitivity.C1, Group.ROUTING, Stage.OFFER),
    FieldSpec(Field.VOCABULARY_VERSION, Sensitivity.C1, Group.ROUTING, Stage.OFFER),
    FieldSpec(Field.EXERCISE, Sensitivity.C1, Group.ROUTING, Stage.OFFER),
    FieldSpec(Field.REFERRING_AGENCY, Sensitivity.C1, Group.ROUTING, Stage.OFFER),
    FieldSpec(Field.DUTY_CONTACT, Sensitivity.C1, Group.ROUTING, Stage.OFFER),
    FieldSpec(Field.NEEDS, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.SERVICES_PROVIDED, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.EXPECTED_STAY, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.ARRIVAL_WINDOW, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.TRANSPORT_NEEDED, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.AGE_BAND, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.IS_MINOR, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.UNACCOMPANIED, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.GENDER, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.ACCESSIBILITY, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.PARTY, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.LANGUAGE, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.INTERPRETER, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.CONFLICT_CHECK, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.AREA, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.COUNTRY_OF_WORK, Sensitivity.C2, Group.NEED, Stage.OFFER, only_to=ALL_KINDS - _POLICE),
    FieldSpec(Field.RETURN_VOLUNTARY, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.SAFE_RETURN_ASSESSED, Sensitivity.C2, Group.NEED, Stage.OFFER),
    FieldSpec(Field.CARE_WINDOW, Sensitivity.C2, Group.HEALTH, Stage.OFFER, only_to=frozenset({_K.HEALTH})),
    FieldSpec(Field.IMMEDIATE_MEDICAL, Sensitivity.C4, Group.HEALTH, Stage.OFFER, only_to=_MEDICAL),
    FieldSpec(Field.MEDICATION_OR_MENTAL_HEALTH_SUPPORT, Sensitivity.C4, Group.HEALTH, Stage.NAMED, only_to=_MEDICAL),
    FieldSpec(Field.HEALTH_FACTS, Sensitivity.C5, Group.HEALTH, Stage.NAMED, only_to=frozenset({_K.HEALTH})),
    FieldSpec(Field.SAFETY_FLAGS, Sensitivity.C4, Group.SAFETY, Stage.OFFER, named_to=_POLICE),
    FieldSpec(Field.RELATIONSHIP, Sensitivity.C4, Group.SAFETY, Stage.OFFER),
    FieldSpec(Field.PREFERRED_NAME, Sensitivity.C3, Group.NAME, Stage.DISCLOSURE),
    FieldSpec(Field.ARRIVAL_WORDS, Sensitivity.C3, Group.NAME, Stage.DISCLOSURE),
    FieldSpec(Field.SAFE_CONTACT, Sensitivity.C4, Group.CONTACT, Stage.DISCLOSURE, named_to=_POLICE),
    FieldSpec(Field.CURRENT_LOCATION, Sensitivity.C4, Group.PLACE, Stage.DISCLOSURE),
    FieldSpec(Field.MEETING_POINT, Sensitivity.C4, Group.PLACE, Stage.DISCLOSURE),
    FieldSpec(Field.CAREGIVER, Sensitivity.C4, Group.CAREGIVER, Stage.DISCLOSURE),
    FieldSpec(Field.LEGAL_NAME, Sensitivity.C3, Group.IDENTITY, Stage.NAMED),
    FieldSpec(Field.DATE_OF_BIRTH, Sensitivity.C3, Group.IDENTITY, Stage.NAMED),
    FieldSpec(
        Field.NATIONALITY,
        Sensitivity.C5,
        Group.IDENTITY,
        Stage.NAMED,
        only_to=frozenset({_K.EMBASSY}),
        only_for=_TRAVEL,
    ),
    FieldSpec(
        Field.PASSPORT_NUMBER,
        Sensitivity.C5,
        Group.IDENTITY,
        Stage.NAMED,
        only_to=frozenset({_K.EMBASSY}),
        only_for=_TRAVEL,
    ),
    FieldSpec(
        Field.PERMIT_NUMBER,
        Sensitivity.C5,
        Group.IDENTITY,
        Stage.NAMED,
        only_to=frozenset({_K.EMBASSY}),
        only_for=_TRAVEL,
    ),
    FieldSpec(
        Field.EMPLOYER_NAME,
        Sensitivity.C5,
        Group.EMPLOYMENT,
        Stage.NAMED,
        only_to=frozenset({_K.LABOUR_OFFICE}),
        only_for=_WAGES,
    ),
    FieldSpec(
        Field.WAGE_DETAILS,
        Sensitivity.C5,
        Group.EMPLOYMENT,
        Stage.NAMED,
        only_to=frozenset({_K.LABOUR_OFFICE}),
        only_for=_WAGES,
    ),
    FieldSpec(Field.POLICE_STATEMENT, Sensitivity.C5, Group.POLICE, Stage.NAMED, only_to=_POLICE),
    FieldSpec(Field.IMMIGRATION_STATUS, Sensitivity.C5, Group.STATUS, Stage.NAMED, only_to=frozenset({_K.LEGAL_AID})),
    FieldSpec(
        Field.PERPETRATOR_IDENTITY,
        Sensitivity.C5,
        Group.PERPETRATOR,
        Stage.NAMED,
        only_to=frozenset({_K.POLICE, _K.LEGAL_AID}),
    ),
    FieldSpec(Field.NARRATIVE, Sensitivity.C5, Group.PERPETRATOR, Stage.NEVER),
    FieldSpec(Field.AVOID_OWN_AUTHORITIES, Sensitivity.C5, Group.STATUS, Stage.NEVER),
)
FIELD_SPECS: Final[dict[Field, FieldSpec]] = {row.field: row for row in _ROWS}

ROUTING_FIELDS: Final = frozenset(row.field for row in _ROWS if row.group is Group.ROUTING)
"""`C1` fields: they say nothing about a person and always flow."""


@lru_cache(maxsize=1024)
def groups_of(fields: frozenset[Field]) -> frozenset[Group]:
    """The groups that a set of fields belongs to."""
    return frozenset([FIELD_SPECS[field].group for field in fields])


def fields_of(group: Group) -> frozenset[Field]:
    """All fields of a group."""
    return frozenset(row.field for row in _ROWS if row.group is group)


@cache
def ceiling(field: Field, receiver: AgencyKind, service: ServiceType) -> Stage:
    """The earliest stage at which any contract may let this kind of agency see the field for this service."""
    spec = FIELD_SPECS[field]
    if receiver not in spec.only_to or service not in spec.only_for:
        return Stage.NEVER
    if receiver in spec.named_to and spec.stage is not Stage.NEVER:
        return Stage.NAMED
    return spec.stage
