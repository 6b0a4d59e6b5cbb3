"""The gate where only field groups are known: for envelopes that the agency's own software has sealed. Pure.

Rules:

* It is the disclosure gate (`exchange.disclosure`), asked for every field that the contract lists at this stage in one
  of the groups. A group may go if one of its fields may; every group inside has to.
* Each field is asked for alone: another one of its group may rest on a provision that does not reach so far.
* What was sealed earlier and held goes only while every field that could have been inside then may still go: which of
  them is inside nobody here knows, and what she has taken back since must not be told.
* Of which kind the envelope is says only whether it is her changed plan and nothing else: that goes also where she was
  told something else of the receiver.
* It is weaker than the gate on fields, and has to be: which fields of a group are inside, and whether they fit the
  person and the service, only the agency's software knows, which ran the whole gate, and the receiver, which refuses
  what is over-shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from consent.record import ConsentRecord
from contracts.model import Contract
from contracts.vocabulary import FIELD_SPECS, Field, Group, ServiceType, Stage, groups_of
from exchange.disclosure import TRAVEL_TOGETHER, Allowed, Refused, is_only_plan, still_allowed
from exchange.envelope.kinds import Kind
from exchange.roster import Member


@dataclass(frozen=True, slots=True)
class GroupsQuestion:
    """May these groups go from one to the other now?"""

    sender: Member
    receiver: Member
    service: ServiceType
    stage: Stage
    groups: frozenset[Group]
    contract: Contract
    consent: ConsentRecord | None
    at: datetime
    kind: Kind = Kind.DISCLOSURE
    """Of the envelope: of a disclosure most is asked."""

    def ask(self, fields: Iterable[Field]) -> Allowed | Refused:
        """The gate on fields."""
        return still_allowed(
            self.sender, self.receiver, self.service, fields, self.contract, self.consent, self.at,
            only_plan=is_only_plan(self.kind, self.groups),
        )  # fmt: skip

    def listed(self) -> frozenset[Field]:
        """The fields of these groups that the contract lists at this stage."""
        clearance = self.contract.clearance(self.sender.kind, self.receiver.kind, self.service)
        if clearance is None:
            return frozenset()
        listed = clearance.offer if self.stage is Stage.OFFER else clearance.disclosure | clearance.named
        return frozenset(field for field in listed if self._asks_for(field))

    def _asks_for(self, field: Field) -> bool:
        spec = FIELD_SPECS[field]
        return spec.group in self.groups - {Group.ROUTING} and spec.stage is not Stage.NEVER


def may_be_inside(question: GroupsQuestion) -> frozenset[Field]:
    """What an envelope with these groups holds at most, if the gate lets it through now."""

    def may_go_alone(field: Field) -> bool:
        allowed = question.ask((field,))
        return isinstance(allowed, Allowed) and allowed.reasons[0].stage in TRAVEL_TOGETHER[question.stage]

    return frozenset(field for field in question.listed() if may_go_alone(field))


def groups_allowed(question: GroupsQuestion) -> Allowed | Refused:
    """Of every one of these groups some field may go at this stage, or nothing goes."""
    going = may_be_inside(question)
    allowed = question.ask(going or question.listed())
    if isinstance(allowed, Allowed) and not question.groups - {Group.ROUTING} <= groups_of(going):
        return Refused("group-not-allowed", "Of one of the groups inside, nothing may be told now.", allowed.reasons)
    return allowed


def groups_still_allowed(question: GroupsQuestion, could: frozenset[Field]) -> Allowed | Refused:
    """The same for what was sealed when `could` might have been inside. Where that is not known nothing goes."""
    allowed = groups_allowed(question)
    if isinstance(allowed, Allowed) and (not could or not could <= may_be_inside(question)):
        return Refused("group-not-allowed", "What may be inside must not be told any more.", allowed.reasons)
    return allowed
