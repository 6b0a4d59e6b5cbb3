"""Before a referral is sent by hand: is the same woman with the same agency already?

Rules:

* A command that is run again, because its window was closed, has another Idempotency-Key: it would be a second
  referral, and the other agency would wait for two women. No key is kept here, and none made of what is sent: whoever
  has the machine could try out whom it fits.
* So the node is asked what is open under the same consent. To the same agency, for the same kind of help, nothing is
  sent again without a word that it is meant (`--again`). What the receiver has lost (`resend`) is to be sent again.
* A repeat under its own key (`--key`) is the same act, and is not looked at.
* A drill that is open is named as one: who takes it for hers would send nobody.
* It is looked at by the consent alone: of a consent that was recorded a second time nobody knows that it is hers.
"""

from __future__ import annotations

from typing import Final

from contracts.vocabulary import SECTOR_BY_SERVICE
from exchange.cli.console import advise, fail
from exchange.cli.sheet import drill
from exchange.client import AgencyClient, ProblemError
from exchange.schemas.referrals import ReferralRequest

_NOT_FOUND: Final = 404


async def refuse_what_is_open(client: AgencyClient, request: ReferralRequest) -> None:
    """End the program where it is open already, and name it. Nothing was sent then."""
    try:
        items = (await client.referrals.open_under(request.consent)).items
    except ProblemError as refused:
        if refused.problem.status != _NOT_FOUND:
            raise
        # No such consent, which the gate refuses; or a node of before, which does not know the question.
        advise("Whether it is open already could not be asked: look at `exchange referrals watch --once`.")
        return
    sector = SECTOR_BY_SERVICE.get(request.service_type)
    same = [one for one in items if (one.peer, one.sector) == (request.to, sector) and not one.flags.resend]
    if same:
        named = ", ".join(
            f"{one.id} ({one.state}{drill(one)}, made {one.created_at:%Y-%m-%d %H:%M} UTC)" for one in same
        )
        fail(
            f"Nothing was sent: under this consent {request.to} has been asked for this help before, and that is open: "
            f"{named}. Look at it with `exchange referrals show`. Send with --again only where another one is meant."
        )
