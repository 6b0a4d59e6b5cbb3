"""What a node says about itself, its peers and the protocol in force."""

from __future__ import annotations

from typing import Final

from exchange.client.session import Call, Session, checked_id
from exchange.schemas.node import ContractList, ContractView, Health, NodeCard, PeerKeys

_NOT_READY: Final = 503


class Federation:
    """Contracts and peers need the scope `contracts:read`; card and health need none."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def card(self) -> NodeCard:
        """Who this node speaks for. Trust comes from the roster, never from this card."""
        return await self._session.ask_publicly(Call("GET", "/.well-known/referral-node"), NodeCard)

    async def ready(self) -> Health:
        """Whether the node can do its work: `status` is `ready`, or `checks` say what it lacks.

        Raises:
            ProblemError: `starting`.
        """
        return await self._session.ask_publicly(Call("GET", "/health/ready"), Health, also=_NOT_READY)

    async def contracts(self) -> ContractList:
        """Every contract that the node has read, and with whom it is in force."""
        return await self._session.ask(Call("GET", "/v1/contracts"), ContractList)

    async def contract(self, digest: str) -> ContractView:
        """One contract, as data and readable."""
        return await self._session.ask(Call("GET", f"/v1/contracts/{checked_id(digest)}"), ContractView)

    async def peer_keys(self, agency: str) -> PeerKeys:
        """A peer's keys as this node knows and has verified them."""
        return await self._session.ask(Call("GET", f"/v1/peers/{checked_id(agency)}/keys"), PeerKeys)
