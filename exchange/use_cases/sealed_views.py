"""How envelopes that were handed in sealed look to the software that handed them in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from contracts.vocabulary import Priority
from exchange.envelope.kinds import Kind
from exchange.messages import SealedMessage
from exchange.roster import Member
from exchange.schemas.sealing import EnvelopesAnswer, HandedIn
from exchange.storage.referrals import AttestationRecord, ReferralRecord
from exchange.use_cases.views import referral_view, told_first


def handed_in(
    record: ReferralRecord,
    sealed: Sequence[SealedMessage],
    peer: Member,
    *,
    held: bool | None = None,
    attestations: Iterable[AttestationRecord] = (),
) -> EnvelopesAnswer:
    """The answer; a disclosure is `held` unless it was released at once."""
    return EnvelopesAnswer(
        referral=referral_view(record, attestations),
        envelopes=tuple(
            HandedIn(
                id=one.header.id,
                digest=one.digest,
                status="held" if one.header.kind == "disclosure" and held is not False else "queued",
            )
            for one in sealed
        ),
        call_now=any(one.header.kind is Kind.OFFER and one.header.priority == Priority.EMERGENCY for one in sealed),
        duty_contact=peer.duty_contact,
        told_first=told_first(peer),
    )
