"""Receipts: one for her, full or in neutral words, and one for a receiver that says only what concerns it.

Rules:

* The receipt for her uses the field names of ISO/IEC TS 27560:2023 and the consent states of the W3C Data Privacy
  Vocabulary. It can be had in neutral words, since her phone may be searched: then it names no agency of the
  federation, no service, no kind of information, no basis, no place and no time of day.
* The receipt that travels with an envelope is cut from one permit, for one receiver and one purpose. It says no more
  than the permit does, and nothing that two receivers could join: not whose consent it is, nor which, nor what else or
  to whom else she allowed anything. The consent's exact end would be such a thing, the same for every receiver: a
  receipt ends with the day before it, but on the consent's own last day.
* A cut receipt is a body without a signature. The sending agency's key signs `signing_body()` elsewhere; the receipt is
  that agency's assertion and no proof against a member that lies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from consent.decision import ConsentPermit
from consent.errors import ReceiptError
from consent.record import ConsentRecord, Provision
from contracts.canonical_json import canonical
from contracts.vocabulary import (
    FIELD_SPECS,
    BasisClass,
    Group,
    Purpose,
    Sensitivity,
    basis_class,
    fields_of,
    groups_of,
)

SCHEMA_VERSION: Final = "ISO/IEC TS 27560:2023"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_MS, _MINUTE_MS, _HOUR_MS, _DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
_UNITS: Final = ((_DAY_MS, _HOUR_MS), (_HOUR_MS, _MINUTE_MS), (_MINUTE_MS, _SECOND_MS))
"""To which a receipt's end is rounded, and how long a receipt must last then."""
_ID: Final = re.compile(r"[0-9a-f]{32}")
_WITHDRAWAL_METHOD: Final = (
    "Tell anyone at this agency, in any words. You do not have to write it or say why. You choose: nothing more is "
    "told; or the other service also stops its work; or it also destroys what it holds."
)


@dataclass(frozen=True, slots=True)
class Controller:
    """The agency that recorded the consent, as it stands on the receipt for her."""

    agency: str
    name: str
    contact: str
    country: str
    neutral_name: str = "The office you spoke with"
    neutral_contact: str = "The number you were given"


class CutReceipt(NamedTuple):
    """What one receiver may know of a consent. Times are Unix milliseconds; `expires` is exclusive."""

    receipt_id: str
    issuer: str
    recipient: str
    purpose: Purpose
    groups: tuple[Group, ...]
    basis: BasisClass
    issued: int
    expires: int

    def signing_body(self) -> bytes:
        """The receipt as canonical JSON: what the sending agency signs."""
        body = {
            "receipt_id": self.receipt_id,
            "issuer": self.issuer,
            "recipient": self.recipient,
            "purpose": self.purpose.value,
            "groups": [group.value for group in self.groups],
            "basis": self.basis.value,
            "issued": self.issued,
            "expires": self.expires,
        }
        return canonical(body)


def cut_receipt(
    permit: ConsentPermit,
    groups: frozenset[Group],
    *,
    receipt_id: str,
    issuer: str,
    recipient: str,
    purpose: Purpose,
    at: datetime,
) -> CutReceipt:
    """The receipt for the one receiver and purpose that the permit was made for.

    Args:
        permit: what `consent.decision.decide` allowed.
        groups: the groups inside the envelope.
        receipt_id: new for every receipt, 32 lower-case hex characters.
        issuer: the sending agency.
        recipient: the receiver; must be the permit's.
        purpose: must be the permit's.
        at: now.

    Raises:
        ReceiptError: the receipt would say something that the permit does not.
    """
    if recipient != permit.agency or issuer == recipient:
        raise ReceiptError("other-recipient", "The permit was not made for this receiver.")
    if purpose is not permit.purpose:
        raise ReceiptError("other-purpose", "The permit was not made for this purpose.")
    if not groups or not groups <= groups_of(permit.fields) | {Group.ROUTING}:
        raise ReceiptError("groups-not-allowed", "The permit allows no field of one of these groups.")
    if _ID.fullmatch(receipt_id) is None or receipt_id == permit.consent_id:
        raise ReceiptError(
            "receipt-id", "A receipt has a random id of its own: two receivers could join the consent's."
        )
    issued, expires = _millis(at), receipt_ends(permit.expires_at, at)
    if issued >= expires:
        raise ReceiptError("consent-ended", "The consent has ended.")
    return CutReceipt(
        receipt_id=receipt_id,
        issuer=issuer,
        recipient=recipient,
        purpose=purpose,
        groups=tuple(sorted(groups)),
        basis=basis_class(permit.basis),
        issued=issued,
        expires=expires,
    )


def receipt_ends(consent_ends: datetime, at: datetime) -> int:
    """When a receipt cut at this moment expires (Unix milliseconds): nothing sealed under it may live longer.

    The last midnight (UTC) before the consent ends, on its last day the last full hour, then the last full minute: the
    exact end would let two receivers join records. None of them if it is so near that nothing would arrive in time.
    """
    issued, end = _millis(at), _millis(consent_ends)
    for unit, least in _UNITS:
        rounded = end - end % unit
        if rounded >= issued + least:
            return rounded
    return end


def receipt_for_her(
    record: ConsentRecord, controller: Controller, at: datetime, *, neutral: bool = False
) -> dict[str, Any]:
    """Her own copy. `neutral` leaves out everything that would tell a stranger what it is about."""
    if neutral:
        return _neutral_receipt(record, controller, at)
    return {
        "schema_version": SCHEMA_VERSION,
        "receipt_id": f"{record.id}-{record.version}",
        "record_id": record.id,
        "pii_principal_id": record.subject,
        "pii_processing": {
            "privacy_notice": _notice(record),
            "language": record.interpreted_into or record.language,
            "purposes": [_purpose(record, line, controller) for line in record.provisions],
        },
        "party_identification": [
            {
                "party_id": controller.agency,
                "party_name": controller.name,
                "party_role": "pii_controller",
                "party_contact": controller.contact,
            }
        ],
        "event": [_event(record, at)],
    }


def _notice(record: ConsentRecord) -> dict[str, Any]:
    """What was said to her, and how."""
    notice: dict[str, Any] = {
        "statement_id": record.statement_id,
        "version": record.statement_version,
        "sha256": record.statement_digest,
        "language": record.language,
    }
    if record.limits_explained_at is not None:
        notice["limits_explained_at"] = _written(record.limits_explained_at)
    if record.interpreter_role is not None:
        notice["interpreter_role"] = record.interpreter_role
    if record.told_first:
        notice["told_first"] = [told.model_dump(mode="json") for told in record.told_first]
    return notice


def _purpose(record: ConsentRecord, line: Provision, controller: Controller) -> dict[str, Any]:
    """One provision, in the standard's words."""
    recipients = [{"party_id": agency, "party_type": "agency"} for agency in sorted(line.agencies)]
    recipients += [{"party_id": kind.value, "party_type": "agency-kind"} for kind in sorted(line.kinds)]
    recipients += [{"party_id": country, "party_type": "country"} for country in sorted(line.countries)]
    return {
        "purpose": [purpose.value for purpose in sorted(line.purposes)],
        "lawful_basis": record.basis.value,
        "pii_information": _information(line),
        "pii_controllers": [controller.agency],
        "collection_method": record.given_how.value,
        "recipient_third_parties": recipients,
        "feedback": line.feedback.value,
        "withdrawal_method": _WITHDRAWAL_METHOD,
        "jurisdiction": controller.country,
    }


def _information(line: Provision) -> list[dict[str, Any]]:
    """What is shared; the standard asks which of it is sensitive or special."""
    named = [("field", field.value, {FIELD_SPECS[field].sensitivity}) for field in sorted(line.fields)]
    named += [
        ("group", group.value, {FIELD_SPECS[field].sensitivity for field in fields_of(group)})
        for group in sorted(line.groups)
    ]
    return [
        {
            "pii_type": term,
            "pii_attribute_id": f"{sort}:{term}",
            "pii_optional": True,
            "sensitive_pii_category": Sensitivity.C4 in classes,
            "special_pii_category": Sensitivity.C5 in classes,
        }
        for sort, term, classes in named
    ]


def _event(record: ConsentRecord, at: datetime) -> dict[str, Any]:
    begun = record.given_at or record.requested_at
    event: dict[str, Any] = {
        "event_time": _written(record.changed_at),
        "event_type": record.basis.value,
        "event_state": record.state_at(at).value,
        "entity_id": record.subject,
        "validity_duration": f"P{(record.expires_at - begun).days}D",
        "valid_until": _written(record.expires_at),
    }
    if record.withdrawal is not None:
        event["withdrawal_form"] = record.withdrawal.value
    return event


def _neutral_receipt(record: ConsentRecord, controller: Controller, at: datetime) -> dict[str, Any]:
    """Fixed words only: the one fact from the record is until which day it holds, and whether it still does."""
    return {
        "schema_version": SCHEMA_VERSION,
        "receipt_id": f"{record.id}-{record.version}",
        "pii_processing": {
            "purposes": [
                {
                    "purpose": ["A request you made"],
                    "pii_information": [{"pii_type": "What you agreed to pass on"}],
                    "recipient_third_parties": [{"party_name": "Those you agreed to"}],
                    "withdrawal_method": "Call or visit the office and say that you changed your mind.",
                }
            ],
        },
        "party_identification": [
            {"party_name": controller.neutral_name, "party_contact": controller.neutral_contact},
        ],
        "event": [
            {
                "event_state": "valid" if record.is_live(at) else "ended",
                # The end is exclusive: at midnight it is the day before on which it holds last.
                "valid_until": (record.expires_at - timedelta(milliseconds=1)).date().isoformat(),
            }
        ],
    }


def _written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _millis(moment: datetime) -> int:
    """Whole milliseconds, rounded down: an end never moves later."""
    since = moment - _EPOCH
    return since.days * _DAY_MS + since.seconds * _SECOND_MS + since.microseconds // 1_000
