"""May she be contacted, asked on the agency's own machine: the newest plan for a referral, and no when in doubt.

The same rules as a node that holds keys (`exchange.use_cases.open_items`): after her no, a recall or an error nobody is
advised to contact her; the plan with the highest number counts, whichever arrived last. A plan that the node withholds
because of her consent is no plan.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from contracts.vocabulary import Channel
from exchange.client.agency_client import AgencyClient
from exchange.client.errors import ProblemError
from exchange.client.vault.agency_keys import Identity
from exchange.client.vault.errors import VaultError
from exchange.client.vault.opening import open_sealed
from exchange.envelope.kinds import Kind
from exchange.envelope.statements import ReleaseStatement, parse_statement
from exchange.envelope.wire import from_base64url, read_again
from exchange.limits import LIMITS
from exchange.referral.contact_plan import SafeContact
from exchange.referral.lifecycle import State
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import ContactAdvice

PLANS: Final = frozenset({Kind.DISCLOSURE.value, Kind.UPDATE.value, Kind.INFORMATION.value})
_WITHHELD: Final = frozenset({"consent-ended", "consent-not-fresh"})
_NO_CONTACT: Final = frozenset({State.WITHDRAWN, State.RECALLED, State.ENTERED_IN_ERROR})


async def contact_advice(
    identity: Identity, client: AgencyClient, referral: str, channel: Channel | None, at: datetime | None
) -> ContactAdvice:
    """The advice for this moment.

    Raises:
        VaultError: `no-plan`: then she is not contacted. Or an item does not verify.
        ProblemError: `consent-ended`, `consent-not-fresh`: every plan is withheld; then she is not contacted either.
    """
    if (await client.referrals.read(referral)).state in _NO_CONTACT:
        raise VaultError("no-plan", "She said no, or the referral was taken back. Do not contact her.")
    newest: tuple[int, SafeContact] | None = None
    withheld: ProblemError | None = None
    async for item in client.inbox.pages():
        if item.referral != referral or item.kind not in PLANS or item.status == "destroyed":
            continue
        try:
            number = _number(await client.inbox.sealed(item.id))
            content = (await open_sealed(identity, client, item)).content
        except ProblemError as refused:
            if refused.problem.code not in _WITHHELD:
                raise
            withheld = refused
            continue
        plan = content.safe_contact if content is not None else None
        if plan is not None and (newest is None or number > newest[0]):
            newest = number, plan
    if newest is None:
        if withheld is not None:
            raise withheld
        raise VaultError("no-plan", "No contact plan has arrived. Do not contact her; ask the referring agency.")
    return ContactAdvice.of(newest[1], channel, at or identity.now())


def _number(wire: WireEnvelope) -> int:
    """The sender's number; a disclosure's stands in its release statement. Both were verified when it was opened."""
    if wire.release is not None:
        raw = from_base64url(wire.release, member="release", longest=LIMITS.statement_bytes)
        return parse_statement(ReleaseStatement, raw).unverified.number
    header = from_base64url(wire.header, member="header", longest=LIMITS.header_bytes)
    return int(read_again(header).get("number", 0))
