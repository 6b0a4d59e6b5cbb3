"""What the node says about itself and the federation: card, peers' keys, contracts, roster, readiness."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Sequence

from contracts.model import Contract
from contracts.rendering import markdown
from contracts.vocabulary import VOCABULARY_VERSION
from exchange.envelope.epochs import EpochRevocation, EpochStatement
from exchange.envelope.header import SUITE
from exchange.envelope.statements import parse_statement
from exchange.envelope.wire import to_base64url
from exchange.roster import Member, Status, UnknownMemberError
from exchange.schemas.federation import RosterMirror
from exchange.schemas.node import (
    MOST_REVOCATIONS,
    ContractList,
    ContractSummary,
    ContractView,
    EpochKeyView,
    Health,
    NodeCard,
    PeerKeys,
)
from exchange.schemas.shapes import from_millis
from exchange.storage.epochs import StoredEpoch, epoch_revocations, own_epochs
from exchange.use_cases.clock_jumps import clock_jumped
from exchange.use_cases.errors import UnavailableError
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import current_peer_epoch
from exchange.use_cases.peer_epochs import read_peer_epochs, signed
from exchange.use_cases.refusals import not_found
from exchange.use_cases.storage_lost import as_outage


async def node_card(node: Node, *, revocations: bool = False) -> NodeCard:
    """Agency, keys, epoch statements, versions. Trust comes from the roster, never from this card.

    What another agency key than today's has signed is not on it: peers would refuse the whole card. Of several
    statements for one week the last is on it, which is the one that counts: a key store that was lost again and again
    made more of them than a card has room for. The highest number stays on it though its week is over: where later
    weeks were published first, by a clock that was ahead, peers would refuse a card without it.
    Revocations are on it for who asks for them: a node that does not know them yet refuses a card that has them.

    Raises:
        UnavailableError: `not-a-member`.
    """
    world = node.world()
    me = node.member_in(world)
    epochs, revoked = await node.database.read(lambda conn: (own_epochs(conn), epoch_revocations(conn, node.agency)))
    at = node.clock()
    shown = _shown([row for row, _ in signed(EpochStatement, epochs, me.agency_key)], at)
    last = {row.not_before: row.seq for row in shown}  # in the order of their numbers
    gone = [row for row, _ in signed(EpochRevocation, revoked, me.agency_key) if row.forget_at > at]
    return NodeCard(
        agency=me.agency,
        kind=me.kind,
        software="referral-exchange",
        suites=(SUITE,),
        vocabularies=(VOCABULARY_VERSION,),
        agency_key=to_base64url(me.agency_key),
        node_key=to_base64url(node.node_key.public),
        epochs=tuple(epoch_view(row) for row in shown if row.seq == last[row.not_before]),
        contracts=tuple(sorted(world.contracts)),
        roster_version=world.roster.version,
        roster_digest=world.roster.digest,
        synthetic=node.synthetic,
        revocations=tuple(to_base64url(row.statement) for row in gone[-MOST_REVOCATIONS:]) if revocations else None,
    )


def _shown(rows: Sequence[StoredEpoch], at: int) -> list[StoredEpoch]:
    """Those whose week is not over, and the last, which has the highest number: who has seen it takes nothing lower."""
    return [*(row for row in rows[:-1] if row.not_after > at), *rows[-1:]]


def epoch_view(row: StoredEpoch) -> EpochKeyView:
    """A published statement as others see it."""
    statement = parse_statement(EpochStatement, row.statement).unverified
    return EpochKeyView(
        key_id=row.key_id,
        key=statement.key,
        seq=row.seq,
        not_before=from_millis(row.not_before),
        not_after=from_millis(row.not_after),
        statement=to_base64url(row.statement),
    )


async def peer_keys(node: Node, agency: str) -> PeerKeys:
    """A peer's epoch keys, as this node knows and has verified them under its agency key of today.

    The highest number is among them though its week is over, and revoked or not: nothing is sealed to a week that is.

    Raises:
        NotFoundError: no such member.
    """
    try:
        peer = node.world().roster.member(agency)
    except UnknownMemberError as error:
        raise not_found() from error
    if agency != node.agency:
        with contextlib.suppress(UnavailableError):
            await current_peer_epoch(node, peer)
    stored = await node.database.read(lambda conn: read_peer_epochs(conn, agency))
    revoked = {item.key_id for item in stored.standing(peer).revocations}
    at, world = node.clock(), node.world()
    shown = _shown([row for row, _ in signed(EpochStatement, stored.statements, peer.agency_key)], at)
    contract = world.contract_between(node.agency, agency, node.now())
    return PeerKeys(
        agency=agency,
        agency_key=to_base64url(peer.agency_key),
        node_key=to_base64url(peer.node_key),
        epochs=tuple(epoch_view(row) for row in shown if row.not_after <= at or row.key_id not in revoked),
        roster_version=world.roster.version,
        roster_digest=world.roster.digest,
        contract=contract.digest if contract is not None else None,
    )


async def list_contracts(node: Node) -> ContractList:
    """Every contract that this node has read, and with whom each is in force."""
    return ContractList(items=tuple(_summary(node, contract) for contract in node.world().contracts.values()))


async def read_contract(node: Node, digest: str) -> ContractView:
    """One contract, as data and readable.

    Raises:
        NotFoundError: this node has not read it.
    """
    contract = node.world().contracts.get(digest)
    if contract is None:
        raise not_found()
    data = contract.model_dump(mode="json", by_alias=True)
    return ContractView(summary=_summary(node, contract), contract=data, readable=markdown(contract))


def _summary(node: Node, contract: Contract) -> ContractSummary:
    world, now = node.world(), node.now()
    partners = (
        member.agency
        for member in world.roster.members.values()
        if member.agency != node.agency
        and member.status is Status.ACTIVE
        and world.in_force(contract.digest, node.agency, member.agency, now)
    )
    return ContractSummary(
        name=contract.name,
        version=contract.version,
        digest=contract.digest,
        title=contract.title,
        status=contract.status,
        valid_until=contract.valid_until.isoformat(),
        review_on=contract.review_on.isoformat(),
        in_force_with=tuple(sorted(partners)),
    )


async def roster_mirror(node: Node) -> RosterMirror:
    """The roster, byte for byte."""
    roster = node.world().roster
    return RosterMirror(version=roster.version, digest=roster.digest, roster=to_base64url(roster.source))


async def readiness(node: Node) -> Health:
    """Whether the node can do its work: both databases take writes, it is a member under its keys, it has a weekly one.

    A node whose keys live elsewhere is ready without that key, and says that it is missing.
    """
    checks: dict[str, str] = {}
    for name, database in (("database", node.database), ("key-store", node.key_store.database)):
        checks[name] = await _word(database.ping())
    if checks["database"] == "ok":
        checks["database"] = await _word(node.database.read(own_epochs))
    held: frozenset[str] = frozenset()
    if checks["key-store"] == "ok":
        checks["key-store"], held = await _held(node)
    if checks["database"] == "ok":
        checks["clock"] = "jumped" if await clock_jumped(node) else "ok"
    me = node.world().roster.members.get(node.agency)
    checks["roster"] = _listed(node, me)
    if checks["database"] == "ok":
        at = node.clock()
        stored = await node.database.read(own_epochs)
        rows = [row for row, _ in signed(EpochStatement, stored, me.agency_key)] if me is not None else []
        # What is sealed to a key whose private half is gone nobody can open. Where the keys live elsewhere so do these;
        # of a key store that cannot be read nobody knows.
        unknown = node.keyring is None or checks["key-store"] != "ok"
        usable = [row for row in rows if unknown or row.key_id in held]
        checks["epoch-key"] = "ok" if any(row.not_before <= at < row.not_after for row in usable) else "missing"
    # A node whose clock has jumped goes on, and a peer or an operator confirms the time (`clock_jumps`).
    # Where the keys live elsewhere only the agency's own software can mend that, and it must reach this node to do so.
    mended_here = node.keyring is not None
    passing = {"clock"} if mended_here else {"clock", "epoch-key"}
    ready = all(value == "ok" for name, value in checks.items() if name not in passing)
    return Health(status="ready" if ready else "not-ready", checks=checks)


def _listed(node: Node, me: Member | None) -> str:
    """Whether peers believe this process: they do only under the keys that the roster lists."""
    if me is None:
        return "not-a-member"
    if me.node_key != node.node_key.public:
        return "other-node-key"
    if node.keyring is not None and me.agency_key != node.keyring.agency_key.public:
        return "other-agency-key"
    return "ok"


async def _held(node: Node) -> tuple[str, frozenset[str]]:
    """What a look at the key store found, and which weekly keys are there."""
    held: frozenset[str] = frozenset()

    async def look() -> None:
        nonlocal held
        held = await node.key_store.epoch_key_ids()

    return await _word(look()), held


async def _word(look: Awaitable[object]) -> str:
    """What this look at a database found."""
    try:
        await look
    except Exception as error:
        outage = as_outage(error)
        if outage is None:
            raise
        return outage.code.removeprefix("storage-")
    return "ok"
