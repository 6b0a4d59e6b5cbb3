"""What `exchange doctor` asks over the network: this node, and every other member.

Rules:

* Nothing is sent but a GET of public documents; no token and nothing about anybody.
* The certificate at this agency's own address is looked at, too: whoever refuses it cannot tell this agency.
* What answers at either address of this node is this node only if its card has the agency and the keys of the roster.
* An answer is read for a few seconds in all, up to a cap, and never unpacked: a member that lies costs no more.
* What a peer says about itself is compared with the roster, never believed. So is by which roster it goes.
* The clock is compared with the peers' own: signatures and leases break when it is wrong by more than two minutes.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2
from pydantic import ValidationError

from exchange.cli.examination import Federation, Finding, bad, ok, warn
from exchange.envelope.errors import EnvelopeError
from exchange.envelope.wire import to_base64url
from exchange.federation.peers import verified_statements
from exchange.federation.transport import MOST_ANSWER_BYTES
from exchange.limits import DAY_MS, LIMITS, SECOND_MS
from exchange.roster import Member, RosterSnapshot, Status
from exchange.schemas.node import Health, NodeCard
from exchange.storage.used_roster import UsedRoster

CARD_PATH: Final = "/.well-known/referral-node"
READY_PATH: Final = "/health/ready"
WEEKS_ENOUGH_MS: Final = 4 * LIMITS.epoch_ms
"""Five are published ahead. With fewer an agency that sleeps soon cannot be written to."""
_LOOK: Final = "Look at the lines about databases above, and at the node's log."
_OTHER_KEY: Final = (
    "Peers refuse this node. Start it again with the key file whose keys the roster lists; or hand in the card "
    "(`exchange roster card`), so that the roster lists these."
)
_LACKS: Final[Mapping[str, str]] = {
    "full": "Make room on its disk. The node goes on by itself; what others send waits with them.",
    "read-only": "Let the node write there: it may be a standby, or a file of another user.",
    "empty": "If somebody has migrated it, start the node anew with the new version. Otherwise restore it "
    "(docs/running-a-node.md, After a lost disk); then the node goes on by itself.",
    "damaged": "Stop the node and go by docs/running-a-node.md, When a database file is damaged.",
    "forbidden": "As the database server's administrator: make the node's role the owner of that database.",
    "busy": "Look for what holds it. The node goes on by itself.",
    "not-a-member": "Ask the office that keeps the roster: it does not list this agency.",
    "other-node-key": _OTHER_KEY,
    "other-agency-key": _OTHER_KEY,
    "missing": "Look at the clock and at the node's log; then start the node again.",
}
"""Words of `/health/ready`, and what to do."""
PATIENCE_S: Final = 5.0
"""For a whole answer: of one that comes byte by byte nobody knows when it ends."""
_AWAY: Final = (httpx2.TransportError, TimeoutError)
_OK: Final = 200
_SERVER_FAILS: Final = 500
_UNAVAILABLE: Final = 503
_NOT_THIS_NODE: Final = "Stop what listens there, or set EXCHANGE_PORT and tell the TLS proxy; then start this node."
_DAY_S: Final = DAY_MS // SECOND_MS
_DAYS_ENOUGH: Final = 14
"""Those of public authorities are renewed a month before they end; with fewer days something did not work."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One peer's answer: its findings, and by how much its clock differs, if it said."""

    findings: tuple[Finding, ...]
    skew_s: float | None = None


async def look_at_network(
    federation: Federation,
    own_address: str,
    *,
    transport: httpx2.AsyncBaseTransport | None = None,
    now_s: Callable[[], float] = time.time,
) -> list[Finding]:
    """This node, every active peer, and the clock.

    Args:
        federation: whom to ask.
        own_address: where this node listens.
        transport: another way to the nodes, in tests.
        now_s: the clock, Unix seconds.
    """
    peers = [
        member
        for member in federation.roster.members.values()
        if member.agency != federation.own.agency and member.status is Status.ACTIVE
    ]
    async with _client(transport) as http:
        own = await _look_at_own_node(http, own_address, federation.own, now_s)
        own += await _look_at_public_address(http, federation.own, now_s)
        asked = await asyncio.gather(*(_look_at_peer(http, peer, federation.roster, now_s) for peer in peers))
    findings = [*own, *(finding for answer in asked for finding in answer.findings)]
    return [*findings, *_look_at_clock([answer.skew_s for answer in asked if answer.skew_s is not None])]


async def rosters_in_use(peers: Sequence[Member]) -> dict[str, UsedRoster]:
    """By which roster each of these goes, by its own word; who gives no card of its own is left out."""
    async with _client() as http:
        asked = await asyncio.gather(*(_roster_in_use(http, peer) for peer in peers))
    return {peer.agency: used for peer, used in zip(peers, asked, strict=True) if used is not None}


async def _roster_in_use(http: httpx2.AsyncClient, peer: Member) -> UsedRoster | None:
    try:
        card = NodeCard.model_validate_json((await _get(http, peer.node_url + CARD_PATH)).body)
    except (*_AWAY, ValidationError):
        return None
    return UsedRoster(card.roster_version, card.roster_digest) if card.agency == peer.agency else None


def _client(transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
    # Nothing is asked for packed, nor unpacked: a small answer could become large before its size is seen.
    identity = {"accept-encoding": "identity"}
    return httpx2.AsyncClient(headers=identity, timeout=PATIENCE_S, trust_env=False, transport=transport)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    date: str | None
    body: bytes
    """Empty where it was packed, or larger than any answer between nodes."""
    certificate_ends: float | None


async def _get(http: httpx2.AsyncClient, url: str) -> _Answer:
    """A whole answer.

    Raises:
        httpx2.TransportError, TimeoutError: there was none (`_AWAY`).
    """
    async with asyncio.timeout(PATIENCE_S), http.stream("GET", url) as answer:
        # Before the body: with its end the connection may end.
        ends, body = _certificate_ends(answer), await _body(answer)
    return _Answer(answer.status_code, answer.headers.get("date"), body, ends)


async def _body(answer: httpx2.Response) -> bytes:
    if answer.headers.get("content-encoding", "identity") != "identity":
        return b""
    body = bytearray()
    async with aclosing(answer.aiter_bytes()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > MOST_ANSWER_BYTES:
                return b""
    return bytes(body)


async def _look_at_own_node(
    http: httpx2.AsyncClient, address: str, own: Member, now_s: Callable[[], float]
) -> list[Finding]:
    try:
        answer = await _get(http, address + READY_PATH)
        shown = await _get(http, address + CARD_PATH)
    except _AWAY:
        return [warn("node", "This node is not running.", "Start it: `exchange serve`.")]
    card = _card(shown)
    # Which keys it lacks, and whose roster it is, a node that is not ready says itself.
    if answer.status != _OK and (card is None or card.agency == own.agency):
        return list(_not_ready(answer, address))
    if card is None or not _is_of(card, own):
        return [bad("node", f"{address} {_shows_instead(shown, card, own)}.", _NOT_THIS_NODE)]
    return [ok("node", "running and ready"), *_look_at_own_clock(answer), *_look_at_own_weeks(card, now_s())]


def _card(answer: _Answer) -> NodeCard | None:
    try:
        return NodeCard.model_validate_json(answer.body) if answer.status == _OK else None
    except ValidationError:
        return None


def _is_of(card: NodeCard, member: Member) -> bool:
    listed = member.agency, to_base64url(member.agency_key), to_base64url(member.node_key)
    return (card.agency, card.agency_key, card.node_key) == listed


def _shows_instead(answer: _Answer, card: NodeCard | None, own: Member) -> str:
    """What stands there that is not this node's card."""
    if answer.status != _OK:
        return f"does not show this node's card ({answer.status})"
    if card is None:
        return "answers with something that is no node card"
    if card.agency != own.agency:
        return "answers for another agency"
    return "answers with other keys than the roster lists"


def _look_at_own_clock(answer: _Answer) -> Iterator[Finding]:
    """Whether the node holds destruction back: its clock is further ahead than it has seen."""
    try:
        jumped = Health.model_validate_json(answer.body).checks.get("clock") == "jumped"
    except ValidationError:
        return
    if jumped:
        yield warn(
            "clock",
            "It was ahead by more than an hour of what this node had seen. Nothing is released or destroyed meanwhile.",
            "If it is wrong, set it. If it is right, let this node reach a peer, or run `exchange confirm-clock`.",
        )


def _not_ready(answer: _Answer, address: str) -> Iterator[Finding]:
    """What a node that is not ready lacks, by its own word."""
    try:
        checks = Health.model_validate_json(answer.body).checks
    except ValidationError:
        checks = {}
    lacking = {name: word for name, word in checks.items() if word != "ok"}
    for name, word in lacking.items():
        yield bad("node", f"This node runs and is not ready: {name} is {word}.", _LACKS.get(word, _LOOK))
    if not lacking and answer.status != _UNAVAILABLE:
        yield bad("node", f"Something else answers at {address}.", _NOT_THIS_NODE)
    elif not lacking:
        yield bad("node", "This node runs and is not ready.", _LOOK)


def _look_at_own_weeks(card: NodeCard, now_s: float) -> Iterator[Finding]:
    """Whether others can write to this agency, and for how long. Where the keys are elsewhere no node sees to it."""
    epochs = card.epochs
    what = "With keys elsewhere, on the agency's own machine: `exchange keys publish`. Otherwise look at the log."
    ends = max((epoch.not_after.timestamp() for epoch in epochs), default=0.0)
    if not any(epoch.not_before.timestamp() <= now_s < epoch.not_after.timestamp() for epoch in epochs):
        yield bad("weekly keys", "There is none for this week: nobody can seal anything to this agency.", what)
    elif (ends - now_s) * SECOND_MS < WEEKS_ENOUGH_MS:
        yield warn("weekly keys", "Fewer than four weeks are published ahead.", what)
    else:
        yield ok("weekly keys", "published ahead")


async def _look_at_public_address(http: httpx2.AsyncClient, own: Member, now_s: Callable[[], float]) -> list[Finding]:
    """Whether others get to this node, and accept what the proxy in front shows. Nobody else would tell this agency."""
    if not own.node_url.startswith("https:"):
        return []
    renew = "Renew it at the TLS proxy, and let the proxy read it again. If it is good, look at this machine's clock."
    try:
        answer = await _get(http, own.node_url + CARD_PATH)
    except _AWAY as error:
        if (why := _refused_certificate(error)) is not None:
            refused = f"That of {own.node_url} is refused: {why}. Other nodes do not connect to it."
            return [bad("certificate", refused, renew)]
        look = "Look at the TLS proxy and the DNS. Some networks let nobody inside ask the address from outside."
        return [warn("certificate", f"{own.node_url} cannot be reached from this machine.", look)]
    found = [_look_at_what_answers(answer, own)]
    if answer.certificate_ends is None:
        return found
    days = int((answer.certificate_ends - now_s()) // _DAY_S)
    if days < _DAYS_ENOUGH:
        return [*found, warn("certificate", f"That of {own.node_url} ends in {days} days.", renew)]
    return [*found, ok("certificate", f"good for {days} days")]


def _look_at_what_answers(answer: _Answer, own: Member) -> Finding:
    card = _card(answer)
    if card is not None and _is_of(card, own):
        return ok("address", "leads to this node")
    instead = f"{own.node_url} {_shows_instead(answer, card, own)}: others do not reach this node there."
    if answer.status >= _SERVER_FAILS:  # so says a proxy, too, while this node is off
        return warn("address", instead, "If this node runs, look at its log, and where the TLS proxy leads.")
    return bad("address", instead, "Look at the DNS, and where the TLS proxy leads.")


def _refused_certificate(error: BaseException | None) -> str | None:
    """Why TLS refused the other side's certificate, in OpenSSL's words; nothing where that was not the reason."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def _certificate_ends(answer: httpx2.Response) -> float | None:
    stream = answer.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream is not None else None
    certificate = tls.getpeercert() if tls is not None else None
    return ssl.cert_time_to_seconds(certificate["notAfter"]) if certificate else None


async def _look_at_peer(
    http: httpx2.AsyncClient, peer: Member, roster: RosterSnapshot, now_s: Callable[[], float]
) -> _Asked:
    name = f"peer {peer.agency}"
    try:
        answer = await _get(http, peer.node_url + CARD_PATH)
        card = NodeCard.model_validate_json(answer.body)
    except _AWAY as error:
        why = _refused_certificate(error)
        if why is not None:
            what = f"Look at this machine's clock. If it is right, they have to renew it: {peer.duty_contact}."
            return _Asked((warn(name, f"shows a certificate that is refused: {why}.", what),))
        return _Asked((warn(name, "is not reachable.", _waits(peer)),))
    except ValidationError:
        if answer.status >= _SERVER_FAILS:
            return _Asked((warn(name, f"cannot answer now ({answer.status}).", _waits(peer)),))
        return _Asked((bad(name, "answers with something that is no node card.", "Something else is at its address."),))
    asked = _look_at_keys(name, card, peer, now_s(), _skew(answer, now_s()))
    return replace(asked, findings=(*asked.findings, *_look_at_its_roster(name, card, peer, roster)))


def _look_at_keys(name: str, card: NodeCard, peer: Member, now_s: float, skew: float | None) -> _Asked:
    if not _is_of(card, peer):
        what = f"Do not send to it. Telephone {peer.breach_contact}."
        return _Asked((bad(name, "answers with other keys than the roster lists.", what),))
    try:
        statements = verified_statements(card, peer)
    except EnvelopeError:
        return _Asked((bad(name, "publishes keys it did not sign.", f"Telephone {peer.breach_contact}."),))
    ahead = max((statement.not_after for statement in statements), default=0) - now_s * SECOND_MS
    if ahead <= 0:
        return _Asked(
            (bad(name, "has no current key: nothing can be sealed to it.", f"Call {peer.duty_contact}."),), skew
        )
    if ahead < WEEKS_ENOUGH_MS:
        return _Asked(
            (warn(name, "publishes few keys ahead.", "If it sleeps long, nothing can be sealed to it."),), skew
        )
    return _Asked((ok(name, "reachable, keys as in the roster"),), skew)


def _look_at_its_roster(name: str, card: NodeCard, peer: Member, roster: RosterSnapshot) -> Iterator[Finding]:
    """Whether both go by the same: what a member sends by a newer one waits at whoever does not have it yet."""
    office = "Ask the office that keeps the roster"
    if card.roster_version > roster.version:
        found = f"goes by a newer roster, version {card.roster_version}: what it sends by that waits."
        what = f"{office} for the newest, and put it in its place here. If you are that office: write no other before "
        yield warn(name, found, f"{what}they have handed you theirs ({peer.duty_contact}).")
    elif card.roster_version < roster.version:
        found = f"goes by an older roster, version {card.roster_version}: what you send by yours may wait there."
        yield warn(name, found, f"If it lasts, tell them: {peer.duty_contact}.")
    elif card.roster_digest != roster.digest:
        yield bad(
            name, "goes by another roster of the same version.", f"{office} which of the two is the federation's."
        )


def _waits(peer: Member) -> str:
    return f"Offers wait and are tried again. Telephone them if it lasts: {peer.duty_contact}."


def _skew(answer: _Answer, now_s: float) -> float | None:
    try:
        return now_s - parsedate_to_datetime(answer.date).timestamp() if answer.date is not None else None
    except (ValueError, OverflowError):
        return None


def _look_at_clock(skews: Sequence[float]) -> Iterator[Finding]:
    if not skews:
        yield warn("clock", "could not be compared with any peer.", "Look that time synchronisation (NTP) is on.")
        return
    # The one in the middle: a single peer whose clock is wrong says nothing about ours.
    middle = sorted(skews)[len(skews) // 2]
    if abs(middle) * SECOND_MS > LIMITS.skew_ms:
        yield bad("clock", f"differs from the peers' by {middle:+.0f} s.", "Turn time synchronisation (NTP) on.")
    else:
        yield ok("clock", f"within {abs(middle) + 1:.0f} s of the peers'")
