"""THE gate. Nothing about her leaves this node but what passes here: contract, consent and request, intersected.

Rules, in this order. The first that fails refuses the whole request; then nothing is made and nothing may be stored.

1. Sender and receiver are active members of one world; synthetic and real never mix; nobody refers to itself.
2. The receiver offers the service, and it is one that is referred to (peer-support is not).
3. If she avoids her own authorities, they are not asked. That wish is evaluated here and never sent.
4. The content fits the service. A repatriation needs her wish and the assessment of her safe return, both true.
5. A requested field that is never sent refuses the request, so that the sender learns it instead of losing it.
6. The contract permits: not ended, no `never`, exactly one rule, and a basis that the rule accepts.
7. Her consent permits: live now, covering this agency, this purpose and at least one of the fields about her. An
   embassy, police, labour or immigration office has to be named as an agency. If she was told of the receiver first,
   it reports to nobody else now, and asks for no papers of which she does not know. Of a changed plan alone that is
   not asked: it may protect her.
8. Her age in the content is the age for which the basis was checked; an adult has no caregiver.
9. A border is crossed only as the rule says: never, or where her consent names the agency or the country.

Then every field is decided alone: it goes if the rule lists it, she allowed it, and neither the rule nor the vocabulary
asks for more (a stage not reached; her naming both field and agency). What does not go is withheld and named, with the
reason. Routing fields (`C1`) say nothing about her and always go with the offer, and with nothing later. An offer never
holds an identifying field, whatever a contract says. An offer in which nothing identifies her is valid: she may stay
anonymous. So it is later: a field that contract and consent allow, and that is in none of the envelopes made now, is
named as withheld.

A `Forward` is made here and nowhere else. The gate runs again, on field names, before anything held is released.
What it does not do: it keeps nothing, it sends nothing, and it does not know whether a consent was spoken truly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import InitVar, dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

import consent.decision as consents
import contracts.decision as policy
from consent.decision import ConsentPermit
from consent.record import ConsentRecord
from contracts.model import Contract, Rule
from contracts.verdict import Outcome
from contracts.vocabulary import (
    FIELD_SPECS,
    AgencyKind,
    Basis,
    BasisClass,
    Feedback,
    Field,
    Group,
    Purpose,
    ServiceType,
    Stage,
    ceiling,
    groups_of,
    purpose_for,
)
from exchange.disclosure_conditions import (
    Refusal,
    border_refuses,
    content_refuses,
    members_refuse,
    own_authorities_refuse,
    person_refuses,
    told_refuses,
)
from exchange.envelope.kinds import Kind
from exchange.referral.content import ReferralContent
from exchange.roster import Member

_GATE: Final = object()
_STRICTER: Final = {stage: place for place, stage in enumerate(Stage)}
_TELLS_LESS_FIRST: Final = tuple(Feedback)
TRAVEL_TOGETHER: Final = {
    Stage.OFFER: frozenset({Stage.OFFER}),
    Stage.DISCLOSURE: frozenset({Stage.DISCLOSURE, Stage.NAMED}),
}
"""Fields of which stages travel in an envelope of a stage."""
_NEVER: Final = frozenset(field for field, spec in FIELD_SPECS.items() if spec.stage is Stage.NEVER)
_SENT_LATER: Final = frozenset({Kind.INFORMATION, Kind.UPDATE, Kind.APPOINTMENT, Kind.DISCLOSURE})
_HERE: Final = Field.AVOID_OWN_AUTHORITIES
"""The one field that is evaluated instead of sent."""
_NOT_NOW: Final = {
    False: "It was not sent: it goes after the release only. Until then hand it in with the disclosure that is held.",
    True: "It was not sent: a disclosure holds name and contact, and this goes with the offer, or as information.",
}
"""Why a field is in no envelope that was made now, by whether it belongs to the offer."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Her data, minimised, for one receiver and one purpose. Only the gate makes one."""

    kind: Kind
    stage: Stage
    receiver: Member
    purpose: Purpose
    content: ReferralContent
    fields: frozenset[Field]
    """What the content says something about."""
    groups: frozenset[Group]
    contract_digest: str
    consent_id: str
    consent_version: int
    basis: Basis
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        """Raises TypeError unless the gate made it."""
        if made_by is not _GATE:
            raise TypeError("a Forward is made only by exchange.disclosure")


class FieldReason(NamedTuple):
    """What the gate decided about one field, and why."""

    field: Field
    outcome: Outcome
    stage: Stage | None
    rule: str | None
    consent: int | None
    """The provision of her consent that allows it, counted from 0."""
    code: str
    sentence: str


class DisclosureRequest(NamedTuple):
    """Who would like to tell whom what, for which service."""

    sender: Member
    receiver: Member
    service: ServiceType
    content: ReferralContent
    contract: Contract
    consent: ConsentRecord | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing may go."""

    code: str
    sentence: str
    reasons: tuple[FieldReason, ...]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What rule and consent say together."""

    rule: Rule
    feedback: Feedback
    """The lesser of the rule's and her consent's."""
    consent: ConsentPermit
    reasons: tuple[FieldReason, ...]


@dataclass(frozen=True, slots=True)
class Cleared(Allowed):
    """A referral may be made: the offer goes, the disclosure is held until the receiver accepts."""

    offer: Forward
    disclosure: Forward | None


@dataclass(frozen=True, slots=True)
class ClearedLater(Allowed):
    """Something more may be told about a referral that exists: one Forward for each stage, at least one."""

    forwards: tuple[Forward, ...]


class _Question(NamedTuple):
    sender: Member
    receiver: Member
    service: ServiceType
    fields: frozenset[Field]
    contract: Contract
    consent: ConsentRecord | None
    at: datetime
    only_plan: bool = False


def clear(request: DisclosureRequest) -> Cleared | Refused:
    """The gate for a new referral."""
    allowed = _examine(request, later=False)
    if isinstance(allowed, Refused):
        return allowed
    offer = _forward(request, allowed, Kind.OFFER, Stage.OFFER)
    disclosure = _forward(request, allowed, Kind.DISCLOSURE, Stage.DISCLOSURE)
    return Cleared(
        allowed.rule, allowed.feedback, allowed.consent, allowed.reasons, offer=offer,
        disclosure=disclosure if disclosure.fields else None,
    )  # fmt: skip


def clear_later(request: DisclosureRequest, kind: Kind, *, accepted: bool) -> ClearedLater | Refused:
    """The gate for what follows an offer: information, updates, appointments, a fresh disclosure.

    Until the receiver has accepted only fields of the offer stage go; routing fields went with the offer.

    Raises:
        ContentInvalidError: `set-by-node`, the content has routing fields.
        ValueError: for another kind.
    """
    if kind not in _SENT_LATER:
        raise ValueError("this kind does not follow an offer")
    groups = groups_of(request.content.fields_present() - {_HERE})
    allowed = _examine(request, later=True, only_plan=is_only_plan(kind, groups))
    if isinstance(allowed, Refused):
        return allowed
    request.content.check_no_routing()
    stages = [stage for stage in (Stage.OFFER, Stage.DISCLOSURE) if accepted or stage is Stage.OFFER]
    if kind is Kind.DISCLOSURE:
        stages.remove(Stage.OFFER)
    made = (_forward(request, allowed, kind, stage) for stage in stages)
    forwards = tuple(forward for forward in made if forward.fields)
    if not forwards:
        sentence = "None of these fields may be told to this agency now. Nothing was sent."
        return Refused("nothing-allowed", sentence, _reasons_told(allowed, frozenset()))
    told = frozenset().union(*(forward.fields for forward in forwards))
    return ClearedLater(allowed.rule, allowed.feedback, allowed.consent, _reasons_told(allowed, told), forwards)


def still_allowed(
    sender: Member,
    receiver: Member,
    service: ServiceType,
    fields: Iterable[Field],
    contract: Contract,
    consent: ConsentRecord | None,
    at: datetime,
    *,
    only_plan: bool = False,
) -> Allowed | Refused:
    """The same gate on field names, for what is sealed already: every one of the fields may still go, or none does.

    `only_plan` says that they are in an envelope that holds her changed plan and nothing else (`is_only_plan`).
    """
    question = _Question(sender, receiver, service, frozenset(fields), contract, consent, at, only_plan)
    refusal = members_refuse(sender, receiver, service)
    allowed = _refused(question, refusal) if refusal else _intersect(question)
    if isinstance(allowed, Refused):
        return allowed
    for reason in allowed.reasons:
        if reason.outcome != "allowed":
            return Refused(reason.code, reason.sentence, allowed.reasons)
    return allowed


def is_only_plan(kind: Kind, groups: Iterable[Group]) -> bool:
    """Whether this follows a disclosure and holds her contact plan alone, which the receiver may have as it was."""
    return kind not in {Kind.OFFER, Kind.DISCLOSURE} and set(groups) - {Group.ROUTING} == {Group.CONTACT}


def lesser(one: Feedback, other: Feedback) -> Feedback:
    """The level that tells less."""
    return min(one, other, key=_TELLS_LESS_FIRST.index)


def _examine(request: DisclosureRequest, *, later: bool, only_plan: bool = False) -> Allowed | Refused:
    """Rules 1 to 9 on a content; `_HERE` is answered for and taken out."""
    content, fields = request.content, request.content.fields_present()
    question = _Question(
        request.sender, request.receiver, request.service, fields - {_HERE},
        request.contract, request.consent, request.at, only_plan,
    )  # fmt: skip
    refusal = (
        members_refuse(request.sender, request.receiver, request.service)
        or own_authorities_refuse(request.receiver, content.avoid_own_authorities)
        or content_refuses(content, request.service, later=later)
    )
    allowed = _refused(question, refusal) if refusal else _intersect(question)
    if isinstance(allowed, Refused):
        return allowed
    refusal = person_refuses(content, request.consent) if request.consent else None
    if refusal:
        return _refused(question, refusal)
    return replace(allowed, reasons=(*allowed.reasons, _evaluated_here())) if _HERE in fields else allowed


def _intersect(question: _Question) -> Allowed | Refused:
    """Rules 5 to 7 and 9, and the decision on every field."""
    never = question.fields & _NEVER
    if never:
        return _refused_never(question, never)
    permit = _ask_contract(question)
    if isinstance(permit, Refused):
        return permit
    allowed = _ask_consent(question, permit.offer | permit.disclosure | permit.named)
    if isinstance(allowed, consents.ConsentDeny):
        return Refused(allowed.code, allowed.sentence, _reasons(question, permit, allowed))
    untold = question.consent and not question.only_plan and told_refuses(question.receiver, question.consent)
    refusal = untold or border_refuses(question.sender, question.receiver, permit.rule, allowed)
    if refusal:
        return _refused(question, refusal)
    feedback = lesser(permit.rule.feedback, allowed.feedback)
    return Allowed(permit.rule, feedback, allowed, _reasons(question, permit, allowed))


def _ask_contract(question: _Question) -> policy.Permit | Refused:
    # Without a consent the contract is still asked, so that `never` and `no-rule` are reported before `no-consent`.
    basis = question.consent.basis if question.consent else BasisClass.CONSENT
    asked = policy.Question(question.sender.kind, question.receiver.kind, question.service, basis, question.fields)
    answer = policy.decide(question.contract, asked, question.at)
    if isinstance(answer, policy.Permit):
        return answer
    reasons = tuple(FieldReason(v.field, v.outcome, v.stage, v.rule, None, v.code, v.sentence) for v in answer.verdicts)
    if question.consent is None and answer.code == "basis-not-allowed":
        sentence = "There is no consent record: record her consent, or check its id."
        return _refused(question, Refusal("no-consent", sentence))
    return Refused(answer.code, answer.sentence, reasons)


def _ask_consent(question: _Question, fields: frozenset[Field]) -> ConsentPermit | consents.ConsentDeny:
    receiver = question.receiver
    asked = consents.ConsentQuestion(
        agency=receiver.agency,
        kind=receiver.kind,
        country=receiver.country,
        sender_country=question.sender.country,
        represents=receiver.represents,
        purpose=purpose_for(question.service),
        fields=fields,
    )
    return consents.decide(question.consent, asked, question.at)


def _reasons(
    question: _Question, permit: policy.Permit, consent: ConsentPermit | consents.ConsentDeny
) -> tuple[FieldReason, ...]:
    by_field = {verdict.field: verdict for verdict in consent.verdicts}
    kind, service = question.receiver.kind, question.service
    return tuple([_reason(kind, service, verdict, by_field.get(verdict.field)) for verdict in permit.verdicts])


@lru_cache(maxsize=4096)
def _reason(
    kind: AgencyKind, service: ServiceType, rule: policy.FieldVerdict, consent: consents.ConsentVerdict | None
) -> FieldReason:
    """Made once for each: terms, the name of a rule and the place of a provision, and nothing about a person."""
    field = rule.field
    if rule.outcome != "allowed" or rule.stage is None:
        return FieldReason(field, rule.outcome, rule.stage, rule.rule, None, rule.code, rule.sentence)
    if consent is None or not consent.allowed:
        code, sentence = (consent.code, consent.sentence) if consent else ("not-covered", "She was not asked for this.")
        return FieldReason(field, "withheld", rule.stage, rule.rule, None, code, sentence)
    if _STRICTER[rule.stage] < _STRICTER[ceiling(field, kind, service)]:
        sentence = "The contract asks for this field earlier than the vocabulary ever allows."
        return FieldReason(field, "withheld", None, rule.rule, None, "above-ceiling", sentence)
    if rule.stage is Stage.NAMED and not consent.named:
        sentence = "The contract asks for a consent that names this field and this agency together."
        return FieldReason(field, "withheld", rule.stage, rule.rule, None, "not-named", sentence)
    return FieldReason(field, "allowed", rule.stage, rule.rule, consent.provision, rule.code, rule.sentence)


def _reasons_told(allowed: Allowed, told: frozenset[Field]) -> tuple[FieldReason, ...]:
    """The reasons, with every field that may go and does not go now named as withheld."""

    def as_told(reason: FieldReason) -> FieldReason:
        if reason.outcome != "allowed" or reason.field in told:
            return reason
        return reason._replace(outcome="withheld", code="not-now", sentence=_NOT_NOW[reason.stage is Stage.OFFER])

    return tuple([as_told(reason) for reason in allowed.reasons])


def _forward(request: DisclosureRequest, allowed: Allowed, kind: Kind, stage: Stage) -> Forward:
    stages = TRAVEL_TOGETHER[stage]
    # The gate was asked about the fields that are there, so each of these is in the content.
    going = frozenset(
        [reason.field for reason in allowed.reasons if reason.outcome == "allowed" and reason.stage in stages]
    )
    return Forward(
        kind=kind,
        stage=stage,
        receiver=request.receiver,
        purpose=allowed.consent.purpose,
        content=request.content.only(going),
        fields=going,
        groups=groups_of(going),
        contract_digest=request.contract.digest,
        consent_id=allowed.consent.consent_id,
        consent_version=allowed.consent.version,
        basis=allowed.consent.basis,
        made_by=_GATE,
    )


def _refused(question: _Question, refusal: Refusal) -> Refused:
    reasons = tuple(
        FieldReason(field, "withheld", None, None, None, refusal.code, refusal.sentence)
        for field in sorted(question.fields)
    )
    return Refused(refusal.code, refusal.sentence, reasons)


def _refused_never(question: _Question, never: frozenset[Field]) -> Refused:
    named = ", ".join(f"`{field.value}`" for field in sorted(never))
    sentence = f"{named} is never sent to anyone. Remove it; no consent changes this."
    refused = _refused(question, Refusal("never", sentence))
    reasons = tuple(
        reason._replace(outcome="forbidden") if reason.field in never else reason._replace(code="refused-with-request")
        for reason in refused.reasons
    )
    return Refused("never", sentence, reasons)


def _evaluated_here() -> FieldReason:
    sentence = "This wish was evaluated here and is never sent: none of her own authorities is asked."
    return FieldReason(_HERE, "withheld", None, None, None, "evaluated-here", sentence)
