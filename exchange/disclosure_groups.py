"""The gate where only field groups are known: for envelopes that the agency's own software has sealed. Pure.

Rules:

* It is the disclosure gate (`exchange.disclosure`), asked for every field that the contract lists at this stage in one
  of the groups. A group may go if one of its fields may; every group inside has to.
* Each field is asked for alone: another one of its group may rest on a provision that does not reach so far.
* It is weaker than the gate on fields, and has to be: which fields of a group are inside, and whether they fit the
  person and the service, only the agency's software knows, which ran the whole gate, and the receiver, which refuses
  what is over-shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from consent.record import ConsentRecord
from contracts.model import Contract
from contracts.vocabulary import FIELD_SPECS, Field, Group, ServiceType, Stage, groups_of
from exchange.disclosure import TRAVEL_TOGETHER, Allowed, Refused, still_allowed
from exchange.roster import Member


def groups_allowed(
    sender: Member,
    receiver: Member,
    service: ServiceType,
    stage: Stage,
    groups: Iterable[Group],
    contract: Contract,
    consent: ConsentRecord | None,
    at: datetime,
) -> Allowed | Refused:
    """Of every one of these groups some field may go at this stage, or nothing goes."""
    wanted = frozenset(groups) - {Group.ROUTING}

    def ask(fields: Iterable[Field]) -> Allowed | Refused:
        return still_allowed(sender, receiver, service, fields, contract, consent, at)

    def may_go_alone(field: Field) -> bool:
        allowed = ask((field,))
        return isinstance(allowed, Allowed) and allowed.reasons[0].stage in TRAVEL_TOGETHER[stage]

    clearance = contract.clearance(sender.kind, receiver.kind, service)
    listed = frozenset[Field]()
    if clearance is not None:
        listed = clearance.offer if stage is Stage.OFFER else clearance.disclosure | clearance.named
    fields = [field for field in listed if _in(field, wanted)]
    going = [field for field in fields if may_go_alone(field)]
    allowed = ask(going or fields)
    if isinstance(allowed, Allowed) and not wanted <= groups_of(frozenset(going)):
        return Refused("group-not-allowed", "Of one of the groups inside, nothing may be told now.", allowed.reasons)
    return allowed


def _in(field: Field, groups: frozenset[Group]) -> bool:
    spec = FIELD_SPECS[field]
    return spec.group in groups and spec.stage is not Stage.NEVER
