"""Who asks for a token: a client of this agency, or a peer from the roster.

Clients are looked up first: no roster takes away an agency's own system. `exchange client add` refuses the id of a
member; where a member joins under the id of a client, revoking that client lets the member in.
"""

from __future__ import annotations

import json

from exchange.oauth.client_proof import UsedJti
from exchange.oauth.clients import ClientKeyError, PeerClient, RegisteredClient
from exchange.oauth.scopes import UnknownScopeError, parse_scopes
from exchange.roster import Member, UnknownMemberError
from exchange.storage import access
from exchange.storage.database import Connection
from exchange.storage.peer_leases import sign_of_life
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.node import Node


async def load_client(node: Node, client_id: str) -> RegisteredClient | PeerClient | None:
    """The client or peer of this id, or nothing. An unknown peer makes the node read its roster once more."""
    stored = await node.database.read(lambda conn: access.load_client(conn, client_id))
    if stored is not None and (stored.status == "active" or _member(node, client_id) is None):
        try:
            return RegisteredClient.from_jwks(
                stored.client_id,
                json.loads(stored.jwks),
                parse_scopes(stored.scopes),
                unit=stored.unit,
                active=stored.status == "active",
            )
        except (ClientKeyError, UnknownScopeError, ValueError):
            return None  # a row that no longer satisfies the rules opens nothing
    member = _member(node, client_id)
    if member is None:
        await node.refresh_world()
        member = _member(node, client_id)
    if member is None or member.agency == node.agency:
        return None
    return PeerClient(member.agency, member.node_key, active=True)


async def remember_jti(node: Node, used: UsedJti, *, peer: bool) -> None:
    """Use a client assertion up. A peer that has proven itself is there: what waits for it goes now.

    Raises:
        ConflictError: `replayed`: it was used before.
    """
    at = node.clock()

    def commit(conn: Connection) -> bool:
        fresh = access.use_jti(conn, used.client_id, used.jti, used.keep_until)
        if fresh and peer:
            sign_of_life(conn, used.client_id, at)
        return fresh

    if not await node.database.write(commit):
        raise ConflictError("replayed", "This client assertion was used before. Make a new one.")


async def client_standing(node: Node, client_id: str) -> bool:
    """Whether the holder of a token may still call: a client that is not revoked, a peer that is a member."""
    stored = await node.database.read(lambda conn: access.load_client(conn, client_id))
    return stored is not None and stored.status == "active"


def peer_standing(node: Node, agency: str) -> bool:
    """Whether a peer may deliver. Standing per class of envelope is judged for each one."""
    # Stops always pass, so even a member that left may still speak; what it may say is judged per envelope.
    return _member(node, agency) is not None


def _member(node: Node, agency: str) -> Member | None:
    try:
        return node.world().roster.member(agency)
    except UnknownMemberError:
        return None
