"""What has to hold before a single field is looked at: the first steps of the disclosure gate (`exchange.disclosure`).

Every function returns nothing where its condition holds, and otherwise why it does not. The sentences are for a
caseworker; they never repeat what was written about her.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from consent.decision import ConsentPermit
from consent.record import ConsentRecord
from consent.terms import AUTHORITY_KINDS, MINOR_BANDS
from contracts.model import CrossBorder, Rule
from contracts.vocabulary import AgencyKind, ServiceType
from exchange.envelope.kinds import KindClass
from exchange.referral.content import ReferralContent
from exchange.referral.parts import AvoidOwnAuthorities
from exchange.roster import Member, Status, standing_allows


class Refusal(NamedTuple):
    """Why nothing may go: a stable code and what to do."""

    code: str
    sentence: str


_DIRECTORY_ONLY: Final = ServiceType.PEER_SUPPORT


def members_refuse(sender: Member, receiver: Member, service: ServiceType) -> Refusal | None:
    """Steps 1 and 2: two active members of one world, and a service that this receiver offers."""
    if sender.synthetic is not receiver.synthetic:
        return Refusal("synthetic-mixed", "One of the two agencies is synthetic. Real and invented people never mix.")
    if sender.agency == receiver.agency:
        return Refusal("same-agency", "An agency does not refer to itself.")
    if sender.status is not Status.ACTIVE:
        return Refusal("sender-not-active", "Your agency is not an active member, so it cannot send referrals.")
    if not standing_allows(sender, receiver, KindClass.FORWARD):
        return Refusal("receiver-not-active", "This agency is not an active member. Choose another one.")
    if service is _DIRECTORY_ONLY:
        return Refusal("not-referable", "This service is listed in the directory only; nobody is referred to it.")
    if service not in receiver.service_types:
        return Refusal("service-not-offered", "This agency does not offer this service. Choose another one.")
    return None


def own_authorities_refuse(receiver: Member, avoid: AvoidOwnAuthorities | None) -> Refusal | None:
    """Step 3: an authority acts for the country it represents, or else for the one it sits in."""
    if avoid is None or authority_of(receiver) != avoid.country:
        return None
    return Refusal("own-authorities", "She does not want her own authorities to know, and this is one of them.")


def content_refuses(content: ReferralContent, service: ServiceType, *, later: bool) -> Refusal | None:
    """Step 4: what is asked for fits the service; nobody is sent home who does not want to go, or into danger."""
    if content.service_type not in {None, service}:
        return Refusal("service-mismatch", "The content names another service than the request.")
    if not content.needs_fit(service):
        return Refusal("need-of-another-service", "One of the needs does not belong to the requested service.")
    if service is not ServiceType.REPATRIATION:
        return None
    if content.return_voluntary is False or (content.return_voluntary is None and not later):
        return Refusal("return-not-voluntary", "A repatriation needs her own wish to return, stated as true.")
    if content.safe_return_assessed is False or (content.safe_return_assessed is None and not later):
        return Refusal("return-not-assessed", "A repatriation needs an assessment of her safe return, stated as true.")
    return None


def person_refuses(content: ReferralContent, consent: ConsentRecord) -> Refusal | None:
    """Step 8: the age that the basis was checked against is the age that is sent; nobody decides for an adult."""
    minor = consent.age_band in MINOR_BANDS
    if content.age_band not in {None, consent.age_band} or content.is_minor not in {None, minor}:
        return Refusal("age-mismatch", "The age in the referral is not the age in the consent. Correct one of them.")
    if content.caregiver is not None and not minor:
        return Refusal("caregiver-of-adult", "She is an adult: no caregiver is told, and nobody decides for her.")
    return None


def told_refuses(receiver: Member, consent: ConsentRecord) -> Refusal | None:
    """Step 7: where she was told of the receiver, to whom it reports and of papers the roster says nothing else now."""
    told = next((entry for entry in consent.told_first if entry.agency == receiver.agency), None)
    if told is None:
        return None  # whether she had to be told is asked with her consent
    now = receiver.told_first
    if set(now.reports_to) <= set(told.reports_to) and told.requires_documents >= now.requires_documents:
        return None
    return Refusal(
        "not-told-first",
        "The receiver reports to somebody, or asks for papers, of which she was not told. Tell her, and ask her again.",
    )


def border_refuses(sender: Member, receiver: Member, rule: Rule, permit: ConsentPermit) -> Refusal | None:
    """Step 9: what the rule says about leaving the sender's country."""
    if not crosses_border(sender, receiver) or rule.cross_border is CrossBorder.ALLOWED:
        return None
    if rule.cross_border is CrossBorder.FORBIDDEN:
        return Refusal("border-forbidden", f"Rule `{rule.id}` does not let a referral leave the country.")
    if not permit.names_country:
        return Refusal("border-not-named", "Across a border her consent has to name this agency or its country.")
    return None


def acts_for(member: Member) -> str:
    """The country whose authority a member is, or in which it sits."""
    return member.represents if member.kind is AgencyKind.EMBASSY and member.represents else member.country


def authority_of(member: Member) -> str | None:
    """The country whose authority a member is; no country where it is no authority."""
    return acts_for(member) if member.kind in AUTHORITY_KINDS else None


def crosses_border(sender: Member, receiver: Member) -> bool:
    """Whether her data would reach another country: where the receiver sits, or the one it represents."""
    return bool({receiver.country, acts_for(receiver)} - {sender.country})
