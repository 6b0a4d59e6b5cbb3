"""The gate on a forward that the agency's own software has sealed: contract, consent and receipt, by its header.

Rules:

* The consent lies here and is live; the version that the software looked at is the present one, and is repeated in the
  transaction that stores the envelope. The software ran the gate on the fields, which the node cannot: under another
  version it may have come out otherwise.
* The contract is in force, and lets at least one field of every group go at this stage; and so does she.
* The cut-down receipt is signed by the agency, covers the header, names the class of the consent's own basis, and ends
  no later than a receipt cut now would. What follows an offer does not outlive the consent either.
"""

from __future__ import annotations

from consent.receipt import receipt_ends
from consent.record import ConsentRecord
from contracts.model import Contract
from contracts.vocabulary import BasisClass, Field, Group, Purpose, ServiceType, Stage, basis_class, service_of
from exchange.disclosure import Allowed, Refused
from exchange.disclosure_groups import GroupsQuestion, groups_allowed, may_be_inside
from exchange.envelope.header import Header
from exchange.envelope.kinds import Kind
from exchange.envelope.receipts import check_receipt
from exchange.roster import Member
from exchange.use_cases.errors import ForbiddenError, InvalidError
from exchange.use_cases.node import Node, as_datetime
from exchange.use_cases.refusals import changed_meanwhile
from exchange.use_cases.sealed_checks import AgencySealed, expires_too_late


def service_named(header: Header) -> ServiceType:
    """The service that the header's purpose is for.

    Raises:
        ForbiddenError: `not-referable`.
    """
    service = service_of(Purpose(header.purpose or ""))
    if service is None:
        raise ForbiddenError("not-referable", "Nobody is referred for this purpose.")
    return service


def judge_sealed(
    node: Node, sealed: AgencySealed, contract: Contract, consent: ConsentRecord | None, version: int | None
) -> Allowed:
    """What contract and consent say together.

    Args:
        node: which holds the consent.
        sealed: the envelope.
        contract: under which it goes.
        consent: as it stands now.
        version: of the consent that the software has looked at.

    Raises:
        InvalidError: `consent-missing`, the version was not named.
        ConflictError: `changed-meanwhile`, the consent has another version now.
        ForbiddenError: they say no, or the receipt says something else than her consent.
        ReceiptError: the receipt does not cover the envelope.
    """
    if version is None:
        raise InvalidError("consent-missing", "Name the version of the consent that the fields were held against.")
    if consent is not None and consent.version != version:
        raise changed_meanwhile()
    header, at = sealed.header, node.clock()
    outcome = groups_allowed(_question(node, sealed, contract, consent))
    if isinstance(outcome, Refused) or consent is None:
        # Fields are not named: the software sent groups, and has the fields itself.
        refusal = outcome if isinstance(outcome, Refused) else Refused("no-consent", "There is no consent record.", ())
        node.measurements.decided(engine="gate", outcome="refused", code=refusal.code)
        raise ForbiddenError(refusal.code, refusal.sentence)
    node.measurements.decided(engine="gate", outcome="cleared", code="sealed")
    check_receipt(header, node.member.agency_key, at=at)
    receipt = header.receipt
    ends = receipt_ends(consent.expires_at, as_datetime(header.created))
    if receipt is None or BasisClass(receipt.basis) is not basis_class(consent.basis) or receipt.expires > ends:
        raise ForbiddenError("receipt-differs", "The receipt says something else than her consent does.")
    if header.kind is not Kind.OFFER and header.expires > ends:
        raise expires_too_late()
    return outcome


def fields_at_most(node: Node, sealed: AgencySealed, contract: Contract, consent: ConsentRecord) -> tuple[Field, ...]:
    """What may be inside, as far as this node can tell: a release looks whether all of it may still go."""
    return tuple(sorted(may_be_inside(_question(node, sealed, contract, consent))))


def _question(node: Node, sealed: AgencySealed, contract: Contract, consent: ConsentRecord | None) -> GroupsQuestion:
    return question_about(node, sealed.header, sealed.receiver, service_named(sealed.header), contract, consent)


def question_about(
    node: Node,
    header: Header,
    receiver: Member,
    service: ServiceType,
    contract: Contract,
    consent: ConsentRecord | None,
) -> GroupsQuestion:
    """May what this header names go now?"""
    return GroupsQuestion(
        sender=node.member,
        receiver=receiver,
        service=service,
        stage=Stage(header.stage or ""),
        groups=frozenset(Group(group) for group in header.groups),
        contract=contract,
        consent=consent,
        at=node.now(),
        kind=header.kind,
    )
