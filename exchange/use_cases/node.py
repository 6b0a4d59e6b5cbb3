"""Everything a use case needs of its node, opened once and handed in.

`Node` is made by `exchange.startup` and holds no request's state. A keyring holds the agency's keys where they live
with the node; a node without one is a blind mailbox.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from consent.statements import StatementLibrary
from contracts.model import Contract
from exchange.envelope.epochs import EpochStatement
from exchange.envelope.ids import TAIL_BYTES, timed_id
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES, AgencyKey, EpochKey, NodeKey, ReferralKey, StorageKey
from exchange.envelope.sealed_rows import SealedRows
from exchange.limits import Limits
from exchange.oauth.server import TokenServer
from exchange.roster import Member, RosterSnapshot
from exchange.schemas.federation import ConsentStatusAnswer
from exchange.storage.access import StoredClient
from exchange.storage.database import Database
from exchange.storage.key_store import KeyStore
from exchange.telemetry.measurements import Measurements
from exchange.use_cases.errors import UnavailableError
from exchange.use_cases.precedence import Precedence
from exchange.use_cases.turns import Turns

HAND_IN_TURNS: Final = 16
"""With more the courier waits longer for its first envelope, with less it is woken for too little."""
HAND_IN_STEPS: Final = 5
"""As often as `send_referral` goes on `together`, and once more."""


class Keyring(Protocol):
    """The agency's own keys. Port: held by the node, or (another implementation) not at all."""

    @property
    def agency_key(self) -> AgencyKey:
        """Speaks for the agency."""

    async def epoch_key(self, key_id: str) -> EpochKey | None:
        """The private half of one week, or nothing if it was never ours or has ended.

        Raises:
            SealedRowError: it is there and does not open here.
        """


@dataclass(frozen=True, slots=True)
class World:
    """The federation as this node knows it at this moment: one consistent snapshot."""

    roster: RosterSnapshot
    contracts: Mapping[str, Contract]
    """Contracts this node has read and accepted, by digest."""

    def contract_between(self, one: str, other: str, at: datetime) -> Contract | None:
        """The newest contract in force between two agencies that this node has read; unknown means none."""
        for digest in self.roster.contract_in_force(one, other, at):
            if digest in self.contracts:
                return self.contracts[digest]
        return None

    def in_force(self, digest: str, one: str, other: str, at: datetime) -> bool:
        """Whether both agencies adhere to this contract and its dates hold."""
        return digest in self.roster.contract_in_force(one, other, at)


@dataclass(slots=True)
class Node:
    """One agency's node."""

    agency: str
    issuer: str
    synthetic: bool
    """Sandbox or demo: every person is invented."""
    limits: Limits
    storage_key: StorageKey
    node_key: NodeKey
    keyring: Keyring | None
    sealed_rows: SealedRows
    database: Database
    key_store: KeyStore
    token_server: TokenServer
    statements: StatementLibrary
    measurements: Measurements
    exercise: bool
    """Every referral of this node is a drill."""
    clock: Callable[[], int]
    """Unix milliseconds."""
    entropy: Callable[[int], bytes]
    """So many fresh random bytes."""
    world: Callable[[], World]
    refresh_world: Callable[[], Awaitable[None]]
    """Read roster and contracts again, because somebody used something this node does not know."""
    fetch_peer_keys: Callable[[Member], Awaitable[None]]
    """Ask a peer for its node card, verify it, and remember its epoch keys. Quiet when the peer is away."""
    ask_consent_status: Callable[[Member, Sequence[str]], Awaitable[ConsentStatusAnswer | None]]
    """Ask a peer's node about these receipts. Nothing when it is away or slow; what it says is not verified yet."""

    hand_in_turns: Turns = field(default_factory=lambda: Turns(HAND_IN_TURNS, steps=HAND_IN_STEPS))
    """How many referrals are made before a look at which are stored already."""
    proven_clients: dict[str, StoredClient] = field(default_factory=dict)
    """Rows of clients whose mark was found right; no more than were ever registered."""
    receiving: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """Of each member one batch is worked on at a time: whoever sends many at once waits for itself."""
    answering: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """Of each member one question about consents is judged at a time; her no does not wait behind them."""
    precedence: Precedence = field(default_factory=Precedence)
    """A small delivery goes before the slices of a large one."""
    consent_asked_again: dict[str, int] = field(default_factory=dict)
    """When a peer that did not answer about consents may be asked again."""
    consent_lost: dict[str, int] = field(default_factory=dict)
    """When a peer said of a receipt that it has lost what it knew of it; it is not asked about it for an hour."""
    stops_asked_again: dict[str, int] = field(default_factory=dict)
    """When the audit list was last told that a peer has asked for its stops again (`resync`)."""
    told_unreadable: set[tuple[str, str]] = field(default_factory=set)
    """Rows that this process could not read, by table and id, of which the log has said so."""
    consent_ends_looked_at: int = 0
    """When this process last looked for consents that are about to end."""
    epoch_memory: dict[tuple[str, bytes], tuple[EpochStatement, int]] = field(default_factory=dict)
    """The key of this week of each peer, verified with that agency key, and when it was looked up."""
    card_read_at: dict[str, int] = field(default_factory=dict)
    """When the card of each peer was last read and found good."""
    card_asked_at: dict[str, int] = field(default_factory=dict)
    """When each peer was last asked for it, with whatever success."""
    asking_for_card: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """Of many that want to seal to one peer one asks, and the others wait for what comes of it."""

    @property
    def member(self) -> Member:
        """This agency's own entry in the roster.

        Raises:
            UnavailableError: `not-a-member`.
        """
        return self.member_in(self.world())

    def member_in(self, world: World) -> Member:
        """The same in the roster of this world.

        Raises:
            UnavailableError: `not-a-member`: it has left, or somebody has installed a roster without it.
        """
        found = world.roster.members.get(self.agency)
        if found is None:
            raise UnavailableError(
                "not-a-member",
                "The roster of this node does not list its agency. Whoever runs the node has to see to that. Nothing "
                "was stored; send it again later.",
            )
        return found

    def now(self) -> datetime:
        """The clock as an aware UTC time."""
        return as_datetime(self.clock())

    def fresh_id(self) -> str:
        """A random id, for a survivor, her consent, or a lease: 32 lower-case hexadecimal characters."""
        return self.entropy(16).hex()

    def timed_id(self, at: int) -> str:
        """The id of a referral or an envelope made at this moment."""
        return timed_id(at, self.entropy(TAIL_BYTES))

    def fresh_referral_key(self) -> ReferralKey:
        """A random key for one referral, for the key store only."""
        return ReferralKey(self.entropy(KEY_BYTES))

    def seal_row(self, value: bytes, table: str, column: str, row: str) -> bytes:
        """Seal a database value to its place."""
        return self.sealed_rows.seal(value, table=table, column=column, row=row, nonce=self.entropy(NONCE_BYTES))

    def open_row(self, sealed: bytes, table: str, column: str, row: str) -> bytes:
        """Open a database value.

        Raises:
            SealedRowError: it does not belong there, or was changed.
        """
        return self.sealed_rows.open(sealed, table=table, column=column, row=row)


def as_datetime(at: int) -> datetime:
    """The UTC time of an integer Unix millisecond."""
    return datetime.fromtimestamp(at / 1000, UTC)
