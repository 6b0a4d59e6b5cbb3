"""A typed client of one agency's node.

    async with AgencyClient("https://node.example", "case-system", key, actor="w-0417") as client:
        created = await client.referrals.send(request)

Rules:

* Every write and every open carries the pseudonymous id of the worker it is made for: `actor`, or `acting_as`.
* What it may do is what its scopes say; ask only for the ones the program needs.
* Nothing is logged, and no error repeats what was sent or received.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx2

from exchange.client.client_key import ClientKey
from exchange.client.connection import Connection
from exchange.client.consents import Consents, Withdrawals
from exchange.client.errors import ClientSetupError
from exchange.client.federation import Federation
from exchange.client.inbox import Inbox
from exchange.client.referrals import Referrals
from exchange.client.retries import RetryPolicy
from exchange.client.sealing import Sealing
from exchange.client.session import Session
from exchange.client.tokens import Credentials, TokenKeeper
from exchange.oauth.scopes import CLIENT_SCOPES, Scope

USUAL_RETRIES = RetryPolicy()


class AgencyClient:
    """Everything an agency's own system may ask of its node. One event loop, any number of tasks."""

    def __init__(
        self,
        base_url: str,
        client_id: str,
        key: ClientKey,
        *,
        actor: str | None = None,
        unit: str | None = None,
        scopes: frozenset[Scope] = CLIENT_SCOPES,
        issuer: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        retries: RetryPolicy = USUAL_RETRIES,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Take the node's address and this client's identity; nothing is sent yet.

        Args:
            base_url: the node's address: https, or http on this machine.
            client_id: the id under which the client is registered at the node.
            key: the private key whose public half is registered there.
            actor: the pseudonymous id of the worker; needed for every write and open.
            unit: narrows to one branch of the agency.
            scopes: what tokens are asked for; one that the client may not have refuses them all.
            issuer: the node's public address, where it differs from `base_url`.
            transport: another way to the node, such as an in-process one in tests.
            retries: how patient to be.
            now_s: the clock, Unix seconds.

        Raises:
            ClientSetupError: the address could be overheard, no scope is named, or actor or unit is no pseudonym.
        """
        if not scopes:
            raise ClientSetupError("Name at least one scope.")
        base_url = base_url.rstrip("/")
        self._connection = Connection(base_url, transport=transport, retries=retries)
        credentials = Credentials(client_id, key.sign, issuer or base_url, scopes)
        self._tokens = TokenKeeper(credentials, self._connection, now_s)
        self._use(Session(self._connection, self._tokens, actor, unit))

    def _use(self, session: Session) -> None:
        self._session = session
        self.consents = Consents(session)
        self.withdrawals = Withdrawals(session)
        self.referrals = Referrals(session)
        self.inbox = Inbox(session)
        self.sealing = Sealing(session)
        self.federation = Federation(session)

    def acting_as(self, actor: str, unit: str | None = None) -> AgencyClient:
        """The same client for another worker: connection and token are shared, closing is the first one's."""
        other = object.__new__(AgencyClient)
        other._connection, other._tokens = self._connection, self._tokens
        other._use(self._session.acting_as(actor, unit))
        return other

    async def access_token(self) -> str:
        """A bearer token for a few minutes, for tools such as curl. Whoever holds it is this client."""
        return await self._tokens.token()

    async def close(self) -> None:
        """Give the sockets back."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
