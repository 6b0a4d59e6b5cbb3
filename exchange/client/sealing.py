"""What an agency that holds its keys itself hands to its node: sealed envelopes, and statements of its weekly keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from exchange.client.session import Call, Session, keyed
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest, EpochsRequest, OwnEpochs

ENVELOPES: Final = "/v1/envelopes"
EPOCHS: Final = "/v1/epochs"


class Sealing:
    """Handing in needs `referrals:write`, publishing `inbox:open`. `exchange.client.vault` makes what is handed in."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def hand_in(
        self,
        request: EnvelopesRequest,
        *,
        idempotency_key: str | None = None,
        check: Callable[[], None] | None = None,
    ) -> EnvelopesAnswer:
        """Hand in what was sealed. What is answered is stored; the same bytes may be handed in again.

        Args:
            request: what was sealed.
            idempotency_key: of the act.
            check: called before every try; what it raises ends the call.
        """
        call = Call("POST", ENVELOPES, request, check=check)
        return await self._session.ask(keyed(call, idempotency_key), EnvelopesAnswer)

    async def publish(self, request: EpochsRequest) -> OwnEpochs:
        """Publish weekly keys, and revoke those before them. The same again changes nothing."""
        return await self._session.ask(Call("PUT", EPOCHS, request), OwnEpochs)

    async def published(self) -> OwnEpochs:
        """The weekly keys that are published now."""
        return await self._session.ask(Call("GET", EPOCHS), OwnEpochs)
