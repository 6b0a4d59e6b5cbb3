"""The node behind an application, put there once it is open.

Rules:

* The application can be built, and its OpenAPI documents written, before there is a node.
* Nothing is global: two applications in one process serve two nodes.
* Until a node is attached every call that needs one is 503 `starting`.
"""

from fastapi import FastAPI, Request

from exchange.api.rate import Buckets, ByteBuckets, Refusals
from exchange.api.room import Room
from exchange.oauth.bearer import BearerVerifier
from exchange.schemas.problems import Who
from exchange.use_cases.errors import UnavailableError
from exchange.use_cases.node import Node


class Serving:
    """A node, and what this process remembers about its callers."""

    def __init__(self, node: Node) -> None:
        """Take the open node."""
        self.node = node
        self.verifier = BearerVerifier(node.issuer, node.token_server.token_key, lifetime_s=node.limits.token_s)
        limits = node.limits
        self.clients = Buckets(limits.client_requests_per_minute)
        self.peers = Buckets(limits.peer_requests_per_minute)
        self.peer_bytes = ByteBuckets(
            limits.peer_bytes_per_minute,
            reserve=limits.peer_bytes_per_minute // limits.peer_reserve_share,
            small=limits.small_request_bytes,
        )
        self.refusals = Refusals()
        self.client_room = Room(limits.arriving_bytes)
        self.peer_room = Room(limits.arriving_bytes)


def attach(app: FastAPI, node: Node) -> None:
    """From now on `app` serves this node."""
    app.state.serving = Serving(node)


def detach(app: FastAPI) -> None:
    """From now on `app` answers 503: its node is being closed."""
    app.state.serving = None


def serving(request: Request) -> Serving:
    """What serves this request.

    Raises:
        UnavailableError: no node is attached yet, or not any more.
    """
    found = getattr(request.app.state, "serving", None)
    if not isinstance(found, Serving):
        raise UnavailableError(
            "starting", "This node is starting or stopping. Send the request again.", who=Who.NODE, retry_after=2
        )
    return found
