"""What both the preview and the real thing do before a referral exists: find everybody, run the gate."""

from __future__ import annotations

from dataclasses import dataclass

from consent.record import ConsentRecord
from contracts.model import Contract
from contracts.vocabulary import PRIORITY_RESPOND_WITHIN_S, Priority
from exchange.disclosure import Cleared, DisclosureRequest, Refused, clear
from exchange.referral import clocks
from exchange.referral.content import ReferralContent, Routing, effective_priority
from exchange.referral.errors import ContentInvalidError
from exchange.roster import Member, RosterSnapshot, UnknownMemberError
from exchange.schemas.problems import ProblemField
from exchange.schemas.referrals import ReferralRequest
from exchange.use_cases.errors import ForbiddenError, InvalidError
from exchange.use_cases.node import Node, World, as_datetime


@dataclass(frozen=True, slots=True)
class Parties:
    """Who refers to whom, under what."""

    roster: RosterSnapshot
    sender: Member
    receiver: Member
    contract: Contract


@dataclass(frozen=True, slots=True)
class Judged:
    """The gate's word on a request, with the clocks it was asked under."""

    outcome: Cleared | Refused
    priority: Priority
    respond_by: int


def parties(node: Node, receiver: str) -> Parties:
    """This agency, the receiver, and the contract in force between them.

    Raises:
        InvalidError: `unknown-agency`.
        ForbiddenError: `no-contract`.
    """
    world: World = node.world()
    sender = world.roster.member(node.agency)
    try:
        member = world.roster.member(receiver)
    except UnknownMemberError as error:
        field = ProblemField(path="to", code="unknown-agency", sentence="No agency of this id is in the roster.")
        raise InvalidError("unknown-agency", "Check the id of the receiving agency.", fields=(field,)) from error
    contract = world.contract_between(node.agency, receiver, node.now())
    if contract is None:
        raise ForbiddenError(
            "no-contract", "No contract is in force between your agency and this one, so nothing may be sent."
        )
    return Parties(world.roster, sender, member, contract)


def judge(
    node: Node, between: Parties, request: ReferralRequest, consent: ConsentRecord | None, *, client_code: str, at: int
) -> Judged:
    """Run the gate on a request, with the routing fields of this node.

    Raises:
        InvalidError: the content sets what only the node sets.
    """
    priority = effective_priority(request.priority, request.content)
    rule = between.contract.rule_for(between.sender.kind, between.receiver.kind, request.service_type)
    within = dict(rule.respond_within) if rule is not None else PRIORITY_RESPOND_WITHIN_S
    respond_by = clocks.respond_by(at, priority, within)
    routing = Routing(
        client_code=client_code,
        priority=priority,
        service_type=request.service_type,
        referred_at=as_datetime(at),
        respond_by=as_datetime(respond_by),
        referring_agency=node.agency,
        duty_contact=between.sender.duty_contact,
        exercise=request.exercise or node.exercise,
    )
    content = with_routing(request.content, routing)
    outcome = clear(
        DisclosureRequest(
            between.sender, between.receiver, request.service_type, content, between.contract, consent, as_datetime(at)
        )
    )
    return Judged(outcome, priority, respond_by)


def with_routing(content: ReferralContent, routing: Routing) -> ReferralContent:
    """The content with the node's routing fields.

    Raises:
        InvalidError: `set-by-node`, naming the fields.
    """
    try:
        return content.with_routing(routing)
    except ContentInvalidError as error:
        fields = tuple(
            ProblemField(path=f"content{problem.path.removeprefix('$')}", code=problem.code, sentence=_SET_BY_NODE)
            for problem in error.problems
        )
        raise InvalidError("content-invalid", "Some fields of the content are not valid.", fields=fields) from error


_SET_BY_NODE = "The node sets this field itself, or it does not fit the others. Leave it out or correct it."
