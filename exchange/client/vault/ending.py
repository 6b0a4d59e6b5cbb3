"""When keys of referrals end on the agency's own machine: what the node has destroyed is destroyed here.

Rules:

* The node says so (`flags.destroyed`). That it knows nothing of a referral proves little: it may be on its way to it,
  may belong to another branch than the client acts for, or a backup from before it was restored.
* So what the node does not know is destroyed only where it cannot come any more, or its tombstone must have ended
  (`VaultCase.forgotten_by`). No other answer destroys anything.
* A question that is not answered keeps no key of what is known to have ended: a thin line may break off every day.
"""

from __future__ import annotations

from exchange.client.agency_client import AgencyClient
from exchange.client.errors import ProblemError
from exchange.client.vault.acts import KEPT_MS
from exchange.client.vault.agency_keys import Identity
from exchange.client.vault.errors import VaultError
from exchange.client.vault.referring import remember_handed_in
from exchange.referral.lifecycle import Side

_UNKNOWN = (404, "not-found")


async def destroy_ended(identity: Identity, client: AgencyClient) -> tuple[str, ...]:
    """Destroy the keys of what has ended; their ids.

    Raises:
        ProblemError: the node refuses to say. What it has called destroyed by then is destroyed.
        VaultError: `store-unreadable`: of a referral that the node has not destroyed. All that has ended is destroyed.
    """
    ended, unreadable = [], None
    try:
        for referral in identity.store.living():
            destroyed = await _destroyed(client, referral)
            try:
                if destroyed or _forgotten(identity, referral, known_there=destroyed is not None):
                    ended.append(referral)
            except VaultError as error:
                unreadable = error
    finally:
        identity.store.drop_sealed(identity.clock() - KEPT_MS)
        identity.store.destroy(ended)
    if unreadable is not None:
        raise unreadable
    return tuple(ended)


def _forgotten(identity: Identity, referral: str, *, known_there: bool) -> bool:
    """Whether a node that does not know it cannot know it any more; that it does is remembered."""
    case = identity.store.case(referral)
    if case is None:
        return False
    if not known_there:
        return case.forgotten_by(identity.clock())
    if case.side is Side.REFERRING and not case.handed_in:
        remember_handed_in(identity, referral)
    return False


async def _destroyed(client: AgencyClient, referral: str) -> bool | None:
    """Whether the node has destroyed it; nothing where it does not know it, or does not show it."""
    try:
        return (await client.referrals.read(referral)).flags.destroyed
    except ProblemError as refused:
        if (refused.problem.status, refused.problem.code) != _UNKNOWN:
            raise
        return None
