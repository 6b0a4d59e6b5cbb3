"""Who asks for a token: a client of this agency, or a peer from the roster.

A client and a member of one id are two, told apart by what they ask for and then by their keys: who asks for the scope
of peers has to prove itself with the node key in the roster, who asks for anything else with a key of the client.
`exchange client add` refuses the id of a member; what is left is a member that joins later. It is let in, and the
client goes on. Where both hold one key nobody can tell, and neither gets a token until the client is revoked.

An active client whose row this node has not written (`exchange.use_cases.registered_here`) is none: what somebody else
has put into the database neither gets in nor keeps a member out. The node's log says that there is one.
"""

from __future__ import annotations

import json

from exchange.oauth.access_token import Caller
from exchange.oauth.client_proof import UsedJti
from exchange.oauth.clients import ClientKeyError, PeerClient, RegisteredClient
from exchange.oauth.scopes import UnknownScopeError, parse_scopes
from exchange.roster import Member, UnknownMemberError
from exchange.storage import access
from exchange.storage.database import Connection
from exchange.storage.peer_leases import sign_of_life
from exchange.telemetry.logs import get_logger
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.node import Node
from exchange.use_cases.registered_here import is_foreign


async def load_client(node: Node, client_id: str, *, as_peer: bool = False) -> RegisteredClient | PeerClient | None:
    """Who has to prove itself under this id, or nothing. An unknown peer makes the node read its roster once more.

    Args:
        node: which was asked for a token.
        client_id: who it says it is; nothing is proven yet.
        as_peer: whether it asks for what only peers get.
    """
    stored = await _stored(node, client_id)
    client = registered(stored) if stored is not None else None
    active = stored is not None and stored.status == "active"
    member = _member(node, client_id)
    if member is None and (stored is None or as_peer):
        await node.refresh_world()
        member = _member(node, client_id)
    if member is None or (active and not as_peer) or member.agency == node.agency:
        return None if one_key(client, member) else client
    return None if one_key(client, member) else PeerClient(member.agency, member.node_key, active=True)


def registered(stored: access.StoredClient) -> RegisteredClient | None:
    """A client as it stands in the database, or nothing where its row no longer satisfies the rules."""
    try:
        return RegisteredClient.from_jwks(
            stored.client_id,
            json.loads(stored.jwks),
            parse_scopes(stored.scopes),
            unit=stored.unit,
            active=stored.status == "active",
        )
    except (ClientKeyError, UnknownScopeError, ValueError):
        return None  # and opens nothing


def one_key(client: RegisteredClient | None, member: Member | None) -> bool:
    """Whether an active client has the key with which the member of its id proves itself."""
    return client is not None and client.active and member is not None and client.has_key(member.node_key)


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


async def client_standing(node: Node, caller: Caller) -> bool:
    """Whether a client of this agency may still call: it is not revoked, and still has what its token says."""
    stored = await _stored(node, caller.client_id)
    if stored is None or stored.status != "active":
        return False
    return stored.unit == caller.unit and caller.scopes <= set(stored.scopes.split())


def peer_standing(node: Node, agency: str) -> bool:
    """Whether a peer may deliver. Standing per class of envelope is judged for each one."""
    # Stops always pass, so even a member that left may still speak; what it may say is judged per envelope.
    return _member(node, agency) is not None


async def _stored(node: Node, client_id: str) -> access.StoredClient | None:
    """The row of a client; nothing where it says that somebody may call, and this node has not said so."""
    stored = await node.database.read(lambda conn: access.load_client(conn, client_id))
    if stored is None or node.proven_clients.get(client_id) == stored:
        return stored  # a mark is not worked out again for every call
    if is_foreign(node.storage_key, stored):
        get_logger().warning("client.unmarked")
        return None
    if stored.status == "active":
        node.proven_clients[client_id] = stored
    return stored


def _member(node: Node, agency: str) -> Member | None:
    try:
        return node.world().roster.member(agency)
    except UnknownMemberError:
        return None
