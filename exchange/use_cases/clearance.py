"""What both the preview and the real thing do before a referral exists: find everybody, run the gate."""

from __future__ import annotations

from consent.record import ConsentRecord
from exchange import hand_in
from exchange.hand_in import Judged, Parties
from exchange.referral.content import ReferralContent, Routing
from exchange.referral.errors import ContentInvalidError
from exchange.roster import UnknownMemberError
from exchange.schemas.problems import ProblemField
from exchange.schemas.referrals import ReferralRequest
from exchange.use_cases.errors import ForbiddenError, InvalidError
from exchange.use_cases.node import Node, World

__all__ = ["Judged", "Parties", "check_confirmed", "check_no_routing", "judge", "parties", "with_routing"]


def parties(node: Node, receiver: str) -> Parties:
    """This agency, the receiver, and the contract in force between them.

    Raises:
        InvalidError: `unknown-agency`.
        ForbiddenError: `no-contract`, or `sender-not-active` where the roster does not list this agency any more.
    """
    world: World = node.world()
    sender = world.roster.members.get(node.agency)
    if sender is None:
        raise ForbiddenError("sender-not-active", "The roster does not list your agency, so it cannot send referrals.")
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
    return hand_in.judge(
        between, request, consent, client_code=client_code, at=at, exercise=node.exercise, with_routing=with_routing
    )


def with_routing(content: ReferralContent, routing: Routing) -> ReferralContent:
    """The content with the node's routing fields.

    Raises:
        InvalidError: `content-invalid`, naming the fields.
    """
    try:
        return content.with_routing(routing)
    except ContentInvalidError as error:
        raise _refused(error, "content.") from error


def check_confirmed(node: Node, content: ReferralContent, *, member: str = "content.") -> None:
    """Refuse a contact plan that was confirmed later than now; `member` is where in the body the content stands.

    Raises:
        InvalidError: `content-invalid`, naming the field.
    """
    try:
        content.check_confirmed(node.now())
    except ContentInvalidError as error:
        raise _refused(error, member) from error


def check_no_routing(content: ReferralContent) -> None:
    """Refuse what the node sets itself, in what follows an offer.

    Raises:
        InvalidError: `content-invalid`, naming the fields.
    """
    try:
        content.check_no_routing()
    except ContentInvalidError as error:
        raise _refused(error, "content.") from error


def _refused(error: ContentInvalidError, member: str) -> InvalidError:
    fields = tuple(
        ProblemField(
            path=f"{member}{problem.path.removeprefix('$.')}",
            code=problem.code,
            sentence=problem.sentence,
        )
        for problem in error.problems
    )
    return InvalidError("content-invalid", "Some fields of the content are not valid.", fields=fields)
