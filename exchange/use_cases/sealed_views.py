"""How envelopes that were handed in sealed look to the software that handed them in."""

from __future__ import annotations

from collections.abc import Iterable

from exchange.roster import Member
from exchange.schemas.sealing import EnvelopesAnswer, HandedIn
from exchange.storage.referrals import AttestationRecord, ReferralRecord
from exchange.use_cases.sealed_checks import AgencySealed
from exchange.use_cases.views import referral_view, told_first


def handed_in(
    record: ReferralRecord,
    sealed: Iterable[AgencySealed],
    peer: Member,
    *,
    held: bool | None = None,
    emergency: bool = False,
    attestations: Iterable[AttestationRecord] = (),
) -> EnvelopesAnswer:
    """The answer; a disclosure is `held` unless it was released at once."""
    return EnvelopesAnswer(
        referral=referral_view(record, attestations),
        envelopes=tuple(
            HandedIn(
                id=one.header.id,
                digest=one.message.digest,
                status="held" if one.header.kind == "disclosure" and held is not False else "queued",
            )
            for one in sealed
        ),
        call_now=emergency,
        duty_contact=peer.duty_contact,
        told_first=told_first(peer),
    )
