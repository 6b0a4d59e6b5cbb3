"""When keys of referrals end on the agency's own machine: what the node has destroyed is destroyed here, and attested.

Rules:

* The node says so (`flags.destroyed`). That it knows nothing of a referral proves little: it may be on its way to it,
  may belong to another branch than the client acts for, or a backup from before it was restored.
* So what the node does not know is destroyed only where it cannot come any more, or its tombstone must have ended
  (`VaultCase.forgotten_by`). No other answer destroys anything.
* What it keeps because this client is not shown it, though the node has had it or may have, is named: it may be another
  branch's, and end only for a client of that branch or of the whole agency.
* A question that is not answered keeps no key of what is known to have ended: a thin line may break off every day.
* Nor does one referral that the node cannot read, or whose answer cannot be read here, keep the keys of those behind
  it: they are asked about all the same, and the error is raised in the end.
* Her no waits for no roster: key file and key store are enough to destroy. The attestation is sealed, and needs one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from exchange.client.agency_client import AgencyClient
from exchange.client.errors import ClientError, ProblemError, UnexpectedAnswerError
from exchange.client.retries import REPEATABLE
from exchange.client.vault.acts import KEPT_MS
from exchange.client.vault.agency_keys import Identity, Keys
from exchange.client.vault.cases import VaultCase
from exchange.client.vault.errors import VaultError
from exchange.client.vault.overtaken import unless_overtaken
from exchange.client.vault.referring import next_number, posting, record_of, remember_handed_in, signers, wire
from exchange.limits import LIMITS
from exchange.messages import seal_stop_message
from exchange.referral.lifecycle import Side
from exchange.schemas.referrals import ReferralView
from exchange.schemas.sealing import EnvelopesRequest
from exchange.stops import Erased, erasure_receipt

_UNKNOWN = (404, "not-found")
_CANNOT_READ: Final = 500


async def destroy_ended(
    identity: Keys, client: AgencyClient, not_shown: Callable[[str], None] | None = None
) -> tuple[str, ...]:
    """Destroy the keys of what has ended; their ids.

    Args:
        identity: whose keys.
        client: of its node.
        not_shown: hears the id of each that is kept because the node does not show it to this client.

    Raises:
        ProblemError: the node refuses to say. What it has called destroyed by then is destroyed; all that has ended
            where it only fails with one referral (500).
        UnexpectedAnswerError: it says of a referral what cannot be read here. All that has ended is destroyed.
        NodeUnreachableError: the line is down. What it has called destroyed by then is destroyed.
        VaultError: `store-unreadable`: of a referral that the node has not destroyed. All that has ended is destroyed.
    """
    ended, unreadable = list[str](), None
    try:
        for referral in identity.store.living():
            try:
                destroyed = await _destroyed(client, referral)
                case = identity.store.case(referral) if not destroyed else None
                if destroyed or (case is not None and _forgotten(identity, referral, case, destroyed)):
                    ended.append(referral)
                elif destroyed is None and case is not None and case.may_be_at_node() and not_shown is not None:
                    not_shown(referral)
            except ClientError as error:
                if not _is_of_one(error):
                    raise
                unreadable = error
    finally:
        identity.store.drop_sealed(identity.clock() - KEPT_MS)
        identity.store.destroy(ended)
    if unreadable is not None:
        raise unreadable
    return tuple(ended)


async def attest(keys: Keys, client: AgencyClient, referral: str) -> ReferralView:
    """Destroy this referral's keys here, and say, in the agency's own hand, that its copies are gone.

    Raises:
        VaultError: `nothing-owed`: nobody asked for its erasure, and nothing was destroyed. Or the roster cannot be
            used: the keys are destroyed, and nothing was said.
    """
    case = keys.store.case(referral)

    async def attested() -> ReferralView:
        view, at = await client.referrals.read(referral), keys.clock()
        # Where her no has destroyed the case already, with whom it was is known to the node alone.
        record_of(view, referral, view.peer if case is None else case.peer)
        if all(one.party != "own-agency" for one in view.attestations):
            raise VaultError("nothing-owed", "Nobody asked for the erasure of this referral. Nothing was destroyed.")
        keys.store.destroy([referral])
        identity = _who_attests(keys)
        header = posting(identity, view, at, expires=at + LIMITS.stop_expires_ms, number=next_number(view, at))
        receipt = erasure_receipt(Erased.BY_AGENCY)
        sealed = seal_stop_message(receipt, header, signers(identity), entropy=identity.entropy)
        return (await client.sealing.hand_in(EnvelopesRequest(envelopes=(wire(sealed),)))).referral

    return await unless_overtaken(attested)


def _who_attests(keys: Keys) -> Identity:
    try:
        return keys.as_of_now()
    except VaultError as refused:
        raise VaultError(
            refused.code,
            f"The keys of this referral are destroyed here; that is not attested yet. {refused.sentence} Then attest.",
        ) from None


def _forgotten(identity: Keys, referral: str, case: VaultCase, destroyed: bool | None) -> bool:
    """Whether a node that does not know it cannot know it any more; that it does is remembered."""
    if destroyed is None:
        return case.forgotten_by(identity.clock())
    if case.side is Side.REFERRING and not case.handed_in:
        remember_handed_in(identity, referral)
    return False


def _is_of_one(error: ClientError) -> bool:
    """Whether it says nothing of the next referral: neither is the line down, nor is this client refused."""
    if isinstance(error, ProblemError):
        return error.problem.status == _CANNOT_READ
    if isinstance(error, UnexpectedAnswerError):
        return error.status not in REPEATABLE
    return isinstance(error, VaultError)


async def _destroyed(client: AgencyClient, referral: str) -> bool | None:
    """Whether the node has destroyed it; nothing where it does not know it, or does not show it."""
    try:
        return (await client.referrals.read(referral)).flags.destroyed
    except ProblemError as refused:
        if (refused.problem.status, refused.problem.code) != _UNKNOWN:
            raise
        return None
