"""Who may call: one parameter type for each right.

Rules:

* A route says who may call it by the type of one parameter. A route without one stands on the list of public routes
  (`exchange.api.public`), and a test holds every route against both.
* The token is checked before anything else of a request is looked at, the body above all.
* 401: no token, or no good one. 403: a good one, for something else. An object that the caller may not see is 404.
* A call that waits for news asks again whether its caller is still one, before it tells any; and one whose body was
  long in coming, before anything is done.
* Every write and every open names a worker: `Actor`, a pseudonymous id, for the record only. `Unit` narrows to a
  branch; a client that is bound to a branch cannot choose another.
* A client of the agency and the node of a peer are never taken for each other.
* Whoever was let in leaves a `Sender` behind. A body is read against the room that this caller has, or not at all.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Request

from exchange.api.rate import Buckets
from exchange.api.refused import RefusedRequestError, about_header
from exchange.api.room import Room
from exchange.api.serving import Serving, serving
from exchange.limits import LIMITS
from exchange.oauth.bearer import Caller, CallerKind, InsufficientScopeError, InvalidTokenError
from exchange.oauth.scopes import Scope
from exchange.schemas.problems import ProblemField
from exchange.use_cases.acting import Acting
from exchange.use_cases.authenticate import client_standing, peer_standing
from exchange.use_cases.node import Node

PSEUDONYM = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LENGTH = re.compile(r"[0-9]{1,9}")


class ClientCall(NamedTuple):
    """A call of one of this agency's systems that changes nothing and opens nothing."""

    node: Node
    client_id: str
    unit: str | None
    stands: Callable[[], Awaitable[None]]
    """For a call that has waited: raises what its caller would hear if it called now, and was revoked meanwhile."""


class ActingCall(NamedTuple):
    """A call of one of this agency's systems on behalf of a worker."""

    node: Node
    acting: Acting


class PeerCall(NamedTuple):
    """A call of another agency's node."""

    node: Node
    agency: str
    refused: Callable[[], Awaitable[None]]
    """Returns when it is time to tell this caller that the whole request is refused."""


_REPEATED_PARAMETER: Final = ProblemField(
    path="query", code="repeated", sentence="A parameter stands here more than once. Send each once."
)


class Sender(NamedTuple):
    """The proven caller of a request, and the room that its bodies have while they arrive."""

    caller: str
    room: Room
    stands: Callable[[], Awaitable[None]]
    """For a body that was long in coming: raises what its caller would hear if it called now."""


class Right:
    """A right that a caller needs. Its instances are the dependencies below."""

    names_actor = False

    def __init__(self, scope: Scope) -> None:
        """Take the scope that stands for this right in a token."""
        self.scope = scope

    async def client(self, request: Request, served: Serving) -> Caller:
        """The client of this agency that calls."""
        seen: list[Caller] = []

        def note(caller: Caller) -> bool:
            seen.append(caller)  # standing is asked below: it reads the database, and the verifier does not wait
            return True

        now = served.node.clock()
        lacking: InsufficientScopeError | None = None
        try:
            served.verifier.verify(one_header(request, "authorization"), self.scope, now=now, standing=note)
        except InsufficientScopeError as error:
            lacking = error
        caller = seen[0]
        if caller.kind is not CallerKind.CLIENT:
            raise InsufficientScopeError("kind", scope=self.scope)
        # A client that was revoked hears so, whatever its token was good for.
        await _check_standing(served.node, caller)
        if lacking is not None:
            raise lacking
        await within_rate(served, served.clients, caller.client_id, now)
        _once_each(request)
        request.state.sender = Sender(
            caller.client_id, served.client_room, partial(_check_standing, served.node, caller)
        )
        return caller


class ClientRight(Right):
    """A right of this agency's systems to look at something."""

    async def __call__(self, request: Request) -> ClientCall:
        """The call, if it may be made."""
        served = serving(request)
        caller = await self.client(request, served)
        stands = partial(_check_standing, served.node, caller)
        return ClientCall(served.node, caller.client_id, _unit(request, caller), stands)


class ActingRight(Right):
    """A right of this agency's systems that a worker uses."""

    names_actor = True

    async def __call__(self, request: Request) -> ActingCall:
        """The call, if it may be made and names its worker."""
        served = serving(request)
        caller = await self.client(request, served)
        actor = _pseudonym(request, "Actor")
        if actor is None:
            raise about_header("header-missing", "Actor")
        return ActingCall(served.node, Acting(caller.client_id, actor, _unit(request, caller)))


class PeerRight(Right):
    """The right of every member's node."""

    async def __call__(self, request: Request) -> PeerCall:
        """The call, if it comes from a member's node."""
        served = serving(request)
        now = served.node.clock()

        def standing(caller: Caller) -> bool:
            return caller.kind is CallerKind.CLIENT or peer_standing(served.node, caller.client_id)

        caller = served.verifier.verify(one_header(request, "authorization"), self.scope, now=now, standing=standing)
        if caller.agency is None:
            raise InsufficientScopeError("kind", scope=self.scope)

        async def stands() -> None:
            if not standing(caller):
                raise InvalidTokenError("standing")

        await within_rate(served, served.peers, caller.client_id, now)
        request.state.sender = Sender(caller.client_id, served.peer_room, stands)
        return PeerCall(served.node, caller.agency, partial(served.refusals.turn, caller.client_id))


class DeliveringRight(PeerRight):
    """The right of every member's node to deliver, while its bytes are not used up: told before a body is read.

    A body is counted before it is read, by the size it declares, and as the largest where it declares none. What did
    not come is not given back: a body that is never finished costs as much as one that is. What says that it is small
    may go on from the reserve.
    """

    async def __call__(self, request: Request) -> PeerCall:
        """The call, if it comes from a member's node that may send more."""
        call = await super().__call__(request)
        served, size = serving(request), declared_size(request)
        count = LIMITS.batch_bytes if size is None else min(size, LIMITS.batch_bytes)
        caller = sender(request).caller
        wait = served.peer_bytes.take(caller, now=served.node.clock(), count=count, size=size)
        await _in_time(served, caller, wait)
        return call


async def _check_standing(node: Node, caller: Caller) -> None:
    if not await client_standing(node, caller):
        raise InvalidTokenError("standing")


def sender(request: Request) -> Sender:
    """Who was let in with this request.

    Raises:
        AttributeError: nobody yet. No route reads a body of somebody that it does not know.
    """
    found: Sender = request.state.sender
    return found


def declared_size(request: Request) -> int | None:
    """The size that the server holds the body to; nothing where it comes in pieces until it ends."""
    declared = one_header(request, "content-length")
    if one_header(request, "transfer-encoding") is not None or declared is None:
        return None
    return int(declared) if _LENGTH.fullmatch(declared) is not None else None


async def within_rate(served: Serving, buckets: Buckets, caller: str, now: int) -> None:
    """Refuse a proven caller that has used up its rate.

    Raises:
        RefusedRequestError: with the seconds to wait.
    """
    await _in_time(served, caller, buckets.take(caller, now=now))


async def _in_time(served: Serving, caller: str, wait: int | None) -> None:
    if wait is not None:
        await served.refusals.turn(caller)
        raise RefusedRequestError("too-many-requests", headers={"Retry-After": str(wait)})


def one_header(request: Request, name: str) -> str | None:
    """The value of a header that may stand in a request once.

    Raises:
        RefusedRequestError: it stands there twice.
    """
    wanted = name.lower().encode("ascii")
    found: bytes | None = None
    for key, value in request.scope["headers"]:
        if key == wanted:
            if found is not None:
                raise about_header("header-repeated", name)
            found = value
    return found.decode("latin-1") if found is not None else None


def _once_each(request: Request) -> None:
    """Of two values for one parameter only the last would count, and the sender may have meant the first."""
    if request.scope["query_string"] and len(request.query_params) != len(request.query_params.multi_items()):
        raise RefusedRequestError("invalid-request", fields=(_REPEATED_PARAMETER,))


def _pseudonym(request: Request, name: str) -> str | None:
    value = one_header(request, name)
    if value is not None and PSEUDONYM.fullmatch(value) is None:
        raise about_header("header-invalid", name)
    return value


def _unit(request: Request, caller: Caller) -> str | None:
    asked = _pseudonym(request, "Unit")
    if caller.unit is not None and asked not in (None, caller.unit):
        raise about_header("unit-not-yours", "Unit")
    return caller.unit or asked


ConsentsReader = Annotated[ClientCall, Depends(ClientRight(Scope.CONSENTS_WRITE))]
ConsentsWriter = Annotated[ActingCall, Depends(ActingRight(Scope.CONSENTS_WRITE))]
ReferralsPreviewer = Annotated[ClientCall, Depends(ClientRight(Scope.REFERRALS_WRITE))]
ReferralsWriter = Annotated[ActingCall, Depends(ActingRight(Scope.REFERRALS_WRITE))]
ReferralsReader = Annotated[ClientCall, Depends(ClientRight(Scope.REFERRALS_READ))]
InboxReader = Annotated[ClientCall, Depends(ClientRight(Scope.INBOX_READ))]
InboxTaker = Annotated[ActingCall, Depends(ActingRight(Scope.INBOX_READ))]
InboxOpener = Annotated[ActingCall, Depends(ActingRight(Scope.INBOX_OPEN))]
InboxDecider = Annotated[ActingCall, Depends(ActingRight(Scope.INBOX_DECIDE))]
ContractsReader = Annotated[ClientCall, Depends(ClientRight(Scope.CONTRACTS_READ))]
Peer = Annotated[PeerCall, Depends(PeerRight(Scope.FEDERATION))]
DeliveringPeer = Annotated[PeerCall, Depends(DeliveringRight(Scope.FEDERATION))]
