"""Did she allow this, to them, for this, now? Field by field, each answer with its reason.

Rules:

1. No record, a record that is not live at this moment, or a basis that is not valid for her age: nothing is allowed.
2. What is not listed is not allowed; what is not known is not allowed; an empty list allows nothing.
3. An authority (embassy, police, labour office, immigration) is covered only where a provision names the agency, and
   only after she was told what that agency does. Its kind or its country is never enough.
4. Across a border a provision has to name the agency or every foreign country that is reached: the one the receiver
   sits in and, where it acts for another, that one too. A kind alone is never enough.
5. Recipient, purpose and field have to stand in the same provision. Provisions add up; none takes away.
6. A field that has to be named (by the vocabulary, or for this kind of agency) flows only where that exact field and
   that exact agency stand in the same provision. A group never includes such a field.
7. A field that never flows is not allowed, whatever was written down.
8. Routing fields say nothing about her: they are allowed with every permit, and never without one.
9. A permit that would allow none of the fields about her that were asked for is a refusal.

`decide` never raises and always answers for every field asked. It does not look at contracts: `exchange.disclosure`
takes the intersection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Final, NamedTuple

from consent.record import ConsentRecord, Provision
from consent.terms import AUTHORITY_KINDS, ConsentState
from consent.validity import basis_problems
from contracts.vocabulary import (
    COUNTRIES,
    FIELD_SPECS,
    ROUTING_FIELDS,
    AgencyKind,
    Basis,
    Feedback,
    Field,
    Group,
    Purpose,
    Stage,
)

_FEEDBACK_ORDER: Final = tuple(Feedback)
_IN_ORDER: Final = tuple(sorted(Field))
_NEVER: Final = frozenset(field for field, spec in FIELD_SPECS.items() if spec.stage is Stage.NEVER)


class ConsentQuestion(NamedTuple):
    """May these fields go to this agency for this purpose?"""

    agency: str
    kind: AgencyKind
    country: str
    """Where the receiver sits (ISO 3166-1)."""
    sender_country: str
    represents: str | None
    """The country the receiver acts for, if it acts for one (an embassy)."""
    purpose: Purpose
    fields: frozenset[Field]

    @property
    def foreign(self) -> frozenset[str]:
        """The countries other than the sender's that data would reach."""
        return frozenset({self.country, self.represents or self.country}) - {self.sender_country}


class ConsentVerdict(NamedTuple):
    """The answer for one field."""

    field: Field
    allowed: bool
    named: bool
    provision: int | None
    """Which provision of the record allows it, counted from 0."""
    code: str
    sentence: str


class ConsentPermit(NamedTuple):
    """She allowed `fields`, and nothing else, to this agency for this purpose."""

    consent_id: str
    version: int
    agency: str
    purpose: Purpose
    fields: frozenset[Field]
    named: frozenset[Field]
    """Those of `fields` that she named together with this agency."""
    feedback: Feedback
    basis: Basis
    expires_at: datetime
    names_country: bool
    """Whether every field about her rests on a provision that names this agency or the country it sits in."""
    verdicts: tuple[ConsentVerdict, ...]


@dataclass(frozen=True, slots=True)
class ConsentDeny:
    """Nothing may go."""

    code: str
    sentence: str
    verdicts: tuple[ConsentVerdict, ...]


class _Refusal(NamedTuple):
    code: str
    sentence: str


_NOT_LIVE: Final[dict[ConsentState, _Refusal]] = {
    ConsentState.REQUESTED: _Refusal("consent-not-given", "She was asked and has not answered yet."),
    ConsentState.REFUSED: _Refusal("consent-refused", "She was asked and said no."),
    ConsentState.EXPIRED: _Refusal("consent-expired", "Her consent has ended. Ask her again before anything is sent."),
    ConsentState.WITHDRAWN: _Refusal("consent-withdrawn", "She took her consent back. Nothing further may be sent."),
    ConsentState.REVOKED: _Refusal("consent-revoked", "Her consent was ended by somebody else. Ask her again."),
    ConsentState.INVALIDATED: _Refusal("consent-invalidated", "This consent was found not to be valid. Ask her again."),
}
_Line = tuple[int, frozenset[Field], frozenset[Group], bool]
"""A provision as a field is looked up in it: its place in the record, what it lists, whether it names the agency."""
_SENTENCES: Final[dict[str, str]] = {
    "routing": "This field says nothing about her.",
    "allowed-by-name": "She allowed this field to this agency by name.",
    "allowed-by-field": "She allowed this field to this recipient for this purpose.",
    "allowed-by-group": "She allowed this group of fields to this recipient for this purpose.",
    "never": "This field is never sent to anyone, whatever was agreed.",
    "not-named": "This field needs a consent that names the field and the agency together. This one does not.",
    "not-covered": "She did not allow this field to this recipient for this purpose.",
}

_ALLOWING: Final = frozenset({"routing", "allowed-by-name", "allowed-by-field", "allowed-by-group"})


def decide(record: ConsentRecord | None, question: ConsentQuestion, at: datetime) -> ConsentPermit | ConsentDeny:
    """What she allows at this moment, or why nothing may go. Never raises."""
    if record is None:
        sentence = "There is no consent record: record her consent, or check its id."
        return _deny(question, _Refusal("no-consent", sentence))
    refusal = _not_live(record, at)
    if refusal is not None:
        return _deny(question, refusal)
    covering = _covering(record, question)
    if isinstance(covering, _Refusal):
        return _deny(question, covering)
    asked, kind = question.fields, question.kind
    lines: list[_Line] = [
        (index, line.fields, line.groups, question.agency in line.agencies) for index, line in covering.items()
    ]
    verdicts = tuple([_ROUTING.get(field) or _verdict(field, kind, lines) for field in _IN_ORDER if field in asked])
    allowed = frozenset([verdict.field for verdict in verdicts if verdict.allowed])
    if asked - ROUTING_FIELDS and not allowed - ROUTING_FIELDS:
        sentence = "She allowed none of the fields about her that were asked for."
        return ConsentDeny("no-field-allowed", sentence, tuple(_refused(verdict) for verdict in verdicts))
    used = {verdict.provision for verdict in verdicts if verdict.provision is not None}
    return ConsentPermit(
        consent_id=record.id,
        version=record.version,
        agency=question.agency,
        purpose=question.purpose,
        fields=allowed,
        named=frozenset([verdict.field for verdict in verdicts if verdict.named]),
        feedback=max((line.feedback for line in covering.values()), key=_FEEDBACK_ORDER.index),
        basis=record.basis,
        expires_at=record.expires_at,
        names_country=all(_names_place(covering[index], question) for index in used),
        verdicts=verdicts,
    )


@cache
def needs_naming(field: Field, kind: AgencyKind) -> bool:
    """Whether a consent has to name this field together with the agency before it may flow to this kind."""
    spec = FIELD_SPECS[field]
    return spec.stage is Stage.NAMED or kind in spec.named_to


def _not_live(record: ConsentRecord, at: datetime) -> _Refusal | None:
    """Rule 1. The basis is looked at again here, so that a record made elsewhere cannot get past it."""
    state = record.state_at(at)
    if state in _NOT_LIVE:
        return _NOT_LIVE[state]
    if not record.is_live(at):
        return _Refusal("consent-not-given", "Her consent does not hold yet at this moment.")
    for problem in basis_problems(record):
        return _Refusal(problem.code, problem.sentence)
    if record.limits_explained_at is None or record.given_at is None or record.limits_explained_at > record.given_at:
        return _Refusal("limits-not-explained", "The limits of confidentiality were not explained before she agreed.")
    return None


def _covering(record: ConsentRecord, question: ConsentQuestion) -> dict[int, Provision] | _Refusal:
    """The provisions that reach this recipient for this purpose, by their place in the record; or why none does."""
    if not {question.country, question.sender_country, question.represents or question.country} <= COUNTRIES:
        return _Refusal("country-unknown", "The country of the sender or of the receiver is not known.")
    lines = dict(enumerate(record.provisions))
    if question.kind in AUTHORITY_KINDS:
        lines = {index: line for index, line in lines.items() if question.agency in line.agencies}
        if not lines:
            return _Refusal(
                "authority-not-named",
                "An embassy, police, labour or immigration office may be told only if she named that office.",
            )
        if all(told.agency != question.agency for told in record.told_first):
            return _Refusal(
                "not-told-first",
                "She was not told first what this office must report, whether she can leave and what papers it asks.",
            )
    lines = {index: line for index, line in lines.items() if _means(line, question)}
    if not lines:
        return _Refusal(
            "recipient-not-covered",
            "She did not agree that this agency is told anything. Compare the agency's id in her consent with the "
            "receiver's first: one that is misspelt covers nobody.",
        )
    lines = {index: line for index, line in lines.items() if _may_cross(line, question)}
    if not lines:
        return _Refusal(
            "border-not-named", "Across a border she has to have named the agency or the country. She named a kind."
        )
    lines = {index: line for index, line in lines.items() if question.purpose in line.purposes}
    if not lines:
        return _Refusal("purpose-not-covered", "She did not agree that this agency is told anything for this purpose.")
    return lines


def _means(line: Provision, question: ConsentQuestion) -> bool:
    """Whether the provision means this agency at all: by name, or as one of a class."""
    if question.agency in line.agencies:
        return True
    of_class = question.kind in line.kinds if line.kinds else bool(line.countries) and not line.agencies
    return of_class and (not line.countries or question.country in line.countries)


def _may_cross(line: Provision, question: ConsentQuestion) -> bool:
    return question.agency in line.agencies or question.foreign <= line.countries


def _names_place(line: Provision, question: ConsentQuestion) -> bool:
    return question.agency in line.agencies or (question.country in line.countries and _may_cross(line, question))


def _verdict(field: Field, kind: AgencyKind, lines: list[_Line]) -> ConsentVerdict:
    """Rules 5 to 7 for one field; of several provisions that allow it, one that names it is reported."""
    if field in _NEVER:
        return _answer(field, "never", None)
    group = FIELD_SPECS[field].group
    code, provision = "not-covered", None
    for index, fields, groups, names_agency in lines:
        if names_agency and field in fields:
            return _answer(field, "allowed-by-name", index)
        if provision is None and (field in fields or group in groups):
            code, provision = "allowed-by-field" if field in fields else "allowed-by-group", index
    if provision is not None and needs_naming(field, kind):
        return _answer(field, "not-named", None)
    return _answer(field, code, provision)


@lru_cache(maxsize=4096)
def _answer(field: Field, code: str, provision: int | None) -> ConsentVerdict:
    """Made once for each: none of the three says whose consent it is."""
    return ConsentVerdict(
        field,
        allowed=code in _ALLOWING,
        named=code == "allowed-by-name",
        provision=provision,
        code=code,
        sentence=_SENTENCES[code],
    )


_ROUTING: Final[Mapping[Field, ConsentVerdict]] = {field: _answer(field, "routing", None) for field in ROUTING_FIELDS}
"""Rule 8."""


def _deny(question: ConsentQuestion, refusal: _Refusal) -> ConsentDeny:
    verdicts = tuple(
        ConsentVerdict(field, allowed=False, named=False, provision=None, code=refusal.code, sentence=refusal.sentence)
        for field in sorted(question.fields)
    )
    return ConsentDeny(refusal.code, refusal.sentence, verdicts)


def _refused(verdict: ConsentVerdict) -> ConsentVerdict:
    """A verdict as it stands in a refusal: not even a routing field goes alone."""
    if not verdict.allowed:
        return verdict
    return ConsentVerdict(
        verdict.field,
        allowed=False,
        named=False,
        provision=None,
        code="no-field-allowed",
        sentence="Nothing is sent, since she allowed none of the fields about her that were asked for.",
    )
