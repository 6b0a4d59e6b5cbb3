"""How referrals and decisions look to the agency's own systems."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, cast

from consent.record import LIVE_STATES
from contracts.vocabulary import Sector
from exchange.hand_in import field_decisions, told_first
from exchange.referral.lifecycle import State
from exchange.schemas.referrals import Attestation, ReferralFlags, ReferralView, StopSent
from exchange.schemas.shapes import from_millis
from exchange.stops import TAKES_BACK
from exchange.storage.consents import load_consent
from exchange.storage.database import Connection
from exchange.storage.outbox import sent_of
from exchange.storage.referrals import AttestationRecord, ReferralRecord, attestations_of
from exchange.storage.unserved import WAITING

__all__ = ["field_decisions", "referral_view", "told_first", "whole_view"]


def whole_view(conn: Connection, record: ReferralRecord) -> ReferralView:
    """A referral without content, with everything that is owed and everything that was sent to stop it."""
    stops = tuple(
        StopSent(
            kind=cast("Literal['withdrawal', 'recall', 'entered-in-error']", sent.kind),
            made_at=from_millis(sent.created_at),
            delivered_at=from_millis(sent.settled_at) if sent.status == "delivered" and sent.settled_at else None,
        )
        for sent in sent_of(conn, record.id, (kind.value for kind in TAKES_BACK))
    )
    known = {"stops": stops, "consent_until": _consent_until(conn, record)}
    return referral_view(record, attestations_of(conn, record.id)).model_copy(update=known)


def _consent_until(conn: Connection, record: ReferralRecord) -> datetime | None:
    """The end of the consent that it was made under; nothing where nothing more can be told under it."""
    if record.consent_id is None or record.closed_at is not None or record.sharing_stopped_at is not None:
        return None
    consent = load_consent(conn, record.consent_id)
    return from_millis(consent.expires_at) if consent is not None and consent.state in LIVE_STATES else None


def referral_view(record: ReferralRecord, attestations: Iterable[AttestationRecord] = ()) -> ReferralView:
    """A referral without content."""
    return ReferralView(
        id=record.id,
        side=cast("Literal['referring', 'receiving']", record.side),
        peer=record.peer,
        sector=Sector(record.sector),
        state=State(record.state),
        flags=_flags(record),
        created_at=from_millis(record.created_at),
        updated_at=from_millis(record.updated_at),
        respond_by=from_millis(record.respond_by),
        contract=record.contract,
        number=record.number,
        exercise=True if record.exercise else None,
        seen=record.seen,
        attestations=tuple(
            Attestation(
                party=cast("Literal['own-node', 'own-agency', 'peer-node', 'peer-agency']", item.party),
                owed_since=from_millis(item.owed_since),
                done_at=from_millis(item.done_at) if item.done_at is not None else None,
            )
            for item in attestations
        ),
    )


def _flags(record: ReferralRecord) -> ReferralFlags:
    return ReferralFlags(
        queued=record.delivered_at is None and record.closed_at is None,
        delivered=record.delivered_at is not None,
        overdue=record.overdue_at is not None,
        undeliverable=record.undeliverable,
        disclosed=record.disclosed_at is not None,
        sharing_stopped=record.sharing_stopped_at is not None,
        # What has ended asks for nothing, nor what she shares no more: a fresh one would be refused, and nobody should
        # call her for it.
        awaiting_disclosure=record.hold == "awaiting-disclosure"
        and record.closed_at is None
        and record.sharing_stopped_at is None,
        awaiting_confirmation=record.hold in {"confirm", WAITING},
        receiver_unserved=record.hold == WAITING,
        destroyed=record.destroyed_at is not None,
        resend=record.resend,
    )
