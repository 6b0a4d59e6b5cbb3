"""May she be contacted, asked on the agency's own machine: the newest plan for a referral, and no when in doubt.

The same rules as a node that holds keys (`exchange.use_cases.open_items`): after her no, a recall or an error nobody is
advised to contact her; the plan with the highest number counts, whichever arrived last. What was never opened, because
her consent withholds it or because it was refused and is destroyed, may be a newer plan than the newest before it:
then there is no advice until a plan comes after it.

Which plan has the highest number says the key store, which verified each when it was opened. The node can keep back the
newest, and then there is no advice by an older one; it cannot make another the newest.
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
from exchange.referral.contact_plan import SafeContact, may_be_asked
from exchange.referral.lifecycle import State
from exchange.schemas.inbox import ContactAdvice

PLANS: Final = frozenset({Kind.DISCLOSURE.value, Kind.UPDATE.value, Kind.INFORMATION.value})
_WITHHELD: Final = frozenset({"consent-ended", "consent-not-fresh"})
_NO_CONTACT: Final = frozenset({State.WITHDRAWN, State.RECALLED, State.ENTERED_IN_ERROR})


async def contact_advice(
    identity: Identity, client: AgencyClient, referral: str, channel: Channel | None, at: datetime | None
) -> ContactAdvice:
    """The advice for this moment.

    Raises:
        VaultError: `no-plan`, or `plan-missing`: then she is not contacted. `moment-too-far`: no advice is given about
            such a moment. Or an item does not verify.
        ProblemError: `consent-ended`, `consent-not-fresh`: her newest plan is withheld; then no contact either.
    """
    _check_asked(at)
    if (await client.referrals.read(referral)).state in _NO_CONTACT:
        raise VaultError("no-plan", "She said no, or the referral was taken back. Do not contact her.")
    plans: dict[str, SafeContact] = {}
    came: dict[str, int] = {}
    withheld: dict[str, ProblemError] = {}
    async for item in client.inbox.pages(referral=referral):
        if item.referral != referral or item.kind not in PLANS:
            continue
        came[item.id] = len(came)
        if item.status == "destroyed":
            continue
        try:
            content = (await open_sealed(identity, client, item)).content
        except ProblemError as refused:
            if refused.problem.code not in _WITHHELD:
                raise
            withheld[item.id] = refused
            continue
        if content is not None and content.safe_contact is not None:
            plans[item.id] = content.safe_contact
    case = identity.store.case(referral)
    numbers, opened = (case.plans, case.opened) if case is not None else ({}, ())
    newest = max(numbers, key=numbers.__getitem__, default="")
    plan = plans.get(newest)
    # Of what was never opened nobody here knows the number: what came later may be a newer plan.
    doubtful = [one for one in came if plan is None or (one not in opened and came[one] > came[newest])]
    for one in doubtful:
        if one in withheld:
            raise withheld[one]
    if plan is not None and not doubtful:
        drill = case.exercise if case is not None else None
        return ContactAdvice.of(plan, channel, at or identity.now(), exercise=drill)
    if newest:
        raise VaultError(
            "plan-missing",
            "Her newest plan is kept back by the node, or could not be opened. Do not contact her; ask the sender.",
        )
    raise VaultError("no-plan", "No contact plan has arrived. Do not contact her; ask the referring agency.")


def _check_asked(at: datetime | None) -> None:
    if at is not None and not may_be_asked(at):
        raise VaultError("moment-too-far", "Advice is given about the years 1970 to 9998. Correct the moment.")
