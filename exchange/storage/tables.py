"""Every table of a node. Rows are not domain objects and never request bodies: SQLModel tables do not validate.

What may stand here in clear: ids, also of workers and branches, agency ids, client codes, the coarse sector, states,
times, digests, codes of this program. Everything else is either sealed to its receiver, or sealed under the node's
storage key (columns of type bytes named `sealed…`), bound to its table, column and row.

Times are integer Unix milliseconds. On PostgreSQL `xid` is the id of the inserting transaction, so that a cursor never
skips a row whose transaction commits late (`exchange.storage.visibility`); on SQLite writers are serialised, sequence
order is commit order, and `xid` is 0; numbers are never used again (`sqlite_autoincrement`).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text
from sqlmodel import Field, SQLModel

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING
METADATA: Final = SQLModel.metadata
KEY_METADATA: Final = MetaData(naming_convention=NAMING)
"""The key store: another database, which is not backed up."""

# SQLite gives rowids only to INTEGER; PostgreSQL needs 64 bits.
_SEQUENCE: Final = BigInteger().with_variant(Integer(), "sqlite")


class OAuthClientRow(SQLModel, table=True):
    """A system of this agency that may call the API."""

    __tablename__ = "oauth_client"
    client_id: str = Field(primary_key=True)
    jwks: str = Field(sa_type=Text)
    scopes: str
    unit: str | None = None
    status: str
    created_at: int = Field(sa_type=BigInteger)
    mark: str | None = None
    """Keyed digest over all of this row: nobody without the storage key has written it. Nothing once it is revoked."""


class UsedJtiRow(SQLModel, table=True):
    """A client assertion that was used; it is never accepted again."""

    __tablename__ = "used_jti"
    subject: str = Field(primary_key=True)
    jti: str = Field(primary_key=True)
    expires_at: int = Field(sa_type=BigInteger, index=True)


class IdempotencyRow(SQLModel, table=True):
    """The answer to one write, so that a repeat gets the same; request and key are kept as keyed digests only."""

    __tablename__ = "idempotency"
    client_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    """A keyed digest of the caller's own, which may be the number of a case."""
    request_digest: str
    status_code: int
    referral: str | None = None
    """What the answer is destroyed with; nothing for one that is about none, or says no more than its tombstone."""
    sealed_answer: bytes | None = Field(default=None, sa_type=LargeBinary)
    """Nothing once its referral is destroyed. The rest stays, so that a repeat makes nothing a second time."""
    expires_at: int = Field(sa_type=BigInteger, index=True)

    __table_args__ = (
        Index(
            "ix_idempotency_referral",
            "referral",
            sqlite_where=text("referral IS NOT NULL"),
            postgresql_where=text("referral IS NOT NULL"),
        ),
    )


class ConsentRow(SQLModel, table=True):
    """What she allowed; the record itself is sealed."""

    __tablename__ = "consent"
    id: str = Field(primary_key=True)
    subject: str = Field(index=True)
    version: int
    state: str
    expires_at: int = Field(sa_type=BigInteger)
    updated_at: int = Field(sa_type=BigInteger)
    unit: str | None = None
    """The branch that recorded it; nothing for one that a system of the whole agency recorded."""
    sealed_record: bytes | None = Field(default=None, sa_type=LargeBinary)


class ClientCodeRow(SQLModel, table=True):
    """The random code under which one receiver knows one survivor; two receivers cannot join records."""

    __tablename__ = "client_code"
    subject: str = Field(primary_key=True)
    receiver: str = Field(primary_key=True)
    code: str


class ReferralRow(SQLModel, table=True):
    """One referral as this node knows it; after destruction the row that remains is the tombstone."""

    __tablename__ = "referral"
    id: str = Field(primary_key=True)
    known_as: str | None = None
    """Of a tombstone that a stop made: the id that its sender used, which may be another member's referral here."""
    exercise: bool | None = None
    """It is a drill. Never false: nothing where it is none, or only the agency's own software knows."""
    side: str
    peer: str
    sector: str
    contract: str
    state: str
    version: int = 0
    """Raised by every change; the guard of optimistic writes."""
    unit: str | None = None
    """The branch that made it or has taken it over."""
    consent_id: str | None = Field(default=None, index=True)
    created_at: int = Field(sa_type=BigInteger)
    updated_at: int = Field(sa_type=BigInteger)
    respond_by: int = Field(sa_type=BigInteger)
    undelivered_at: int | None = Field(default=None, sa_type=BigInteger)
    """When an offer that is still queued is told to its sender as undeliverable."""
    delivered_at: int | None = Field(default=None, sa_type=BigInteger)
    disclosed_at: int | None = Field(default=None, sa_type=BigInteger)
    overdue_at: int | None = Field(default=None, sa_type=BigInteger)
    sharing_stopped_at: int | None = Field(default=None, sa_type=BigInteger)
    closed_at: int | None = Field(default=None, sa_type=BigInteger)
    blocked_at: int | None = Field(default=None, sa_type=BigInteger)
    """No content is shown any more, although it is not destroyed yet."""
    destroy_at: int | None = Field(default=None, sa_type=BigInteger)
    destroyed_at: int | None = Field(default=None, sa_type=BigInteger)
    forget_at: int | None = Field(default=None, sa_type=BigInteger)
    hold: str = "none"
    """`none`, `held`, `release-due`, `confirm`, `unserved`, `released`, `awaiting-disclosure`, `deleted`."""
    unserved_until: int | None = Field(default=None, sa_type=BigInteger)
    """Released, and until then, at most, counted as not yet served; nothing for one that is served or has ended."""
    undeliverable: bool = False
    resend: bool = False
    """The peer lost its disk: this agency's system is asked to send again."""
    number: int = Field(default=0, sa_type=BigInteger)
    """The highest number this node has used for the referral."""
    seen: int = Field(default=0, sa_type=BigInteger)
    """The highest number of the other side that was processed."""
    sealed_facts: bytes | None = Field(default=None, sa_type=LargeBinary)
    """What the node must remember to run the gate again: service, priority, held field names, feedback, basis."""

    __table_args__ = (
        Index(
            "ix_referral_destroy",
            "destroy_at",
            sqlite_where=text("destroyed_at IS NULL"),
            postgresql_where=text("destroyed_at IS NULL"),
        ),
        Index(
            "ix_referral_open",
            "respond_by",
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index(
            "ix_referral_open_with",
            "peer",
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index(
            "ix_referral_hold",
            "hold",
            sqlite_where=text("hold = 'release-due'"),
            postgresql_where=text("hold = 'release-due'"),
        ),
        Index("ix_referral_forget", "forget_at"),
        Index(
            "ix_referral_unserved",
            "peer",
            "unserved_until",
            sqlite_where=text("unserved_until IS NOT NULL"),
            postgresql_where=text("unserved_until IS NOT NULL"),
        ),
        Index(
            "ix_referral_waiting",
            "peer",
            "updated_at",
            sqlite_where=text("hold = 'unserved'"),
            postgresql_where=text("hold = 'unserved'"),
        ),
    )


class EventRow(SQLModel, table=True):
    """One event of one side; the state is a pure function of all of them."""

    __tablename__ = "event"
    referral: str = Field(primary_key=True)
    side: str = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=BigInteger)
    name: str
    seen: int = Field(sa_type=BigInteger)
    at: int = Field(sa_type=BigInteger)
    shared: bool = True
    """Whether it travelled; progress that the feedback level keeps at home is not part of the shared state."""
    digest: str | None = None
    """Digest of the envelope that carried it; nothing for an event that stayed at home."""


class OutboxRow(SQLModel, table=True):
    """An envelope for a peer. Bodies go when the peer has signed for them; stops keep theirs, they carry nothing."""

    __tablename__ = "outbox"
    seq: int | None = Field(default=None, sa_column=Column(_SEQUENCE, primary_key=True, autoincrement=True))
    id: str = Field(unique=True)
    referral: str = Field(index=True)
    peer: str
    kind: str
    status: str
    """`held`, `queued`, `delivered`, `refused`, `expired`, `deleted`."""
    digest: str
    created_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    attempted_at: int | None = Field(default=None, sa_type=BigInteger)
    """When a disclosure was first put on the way: from then on it may have arrived, whatever the peer answered."""
    settled_at: int | None = Field(default=None, sa_type=BigInteger)
    """When its status became what it is; of a stop that goes again, since when it does."""
    problem: str | None = None
    """The code of a refusal, of those that this version knows; never a text of the peer's."""
    consent_receipt: str | None = None
    """Of a forward: the random id of the receipt that was cut for its recipient."""
    sealed_header: bytes | None = Field(default=None, sa_type=LargeBinary)
    wrapped_key: bytes | None = Field(default=None, sa_type=LargeBinary)
    ciphertext: bytes | None = Field(default=None, sa_type=LargeBinary)
    signature: bytes | None = Field(default=None, sa_type=LargeBinary)
    release: bytes | None = Field(default=None, sa_type=LargeBinary)
    release_mark: str | None = None
    """Keyed digest over the release and this envelope's id: nobody without the storage key has written it. Nothing in
    rows of before."""
    receipt: bytes | None = Field(default=None, sa_type=LargeBinary)

    __table_args__ = (
        Index(
            "ix_outbox_queued",
            "peer",
            "seq",
            sqlite_where=text("status = 'queued'"),
            postgresql_where=text("status = 'queued'"),
        ),
        Index(
            "ix_outbox_consent_receipt",
            "consent_receipt",
            sqlite_where=text("consent_receipt IS NOT NULL"),
            postgresql_where=text("consent_receipt IS NOT NULL"),
        ),
        Index(
            "ix_outbox_expires",
            "expires_at",
            sqlite_where=text("status IN ('queued', 'held')"),
            postgresql_where=text("status IN ('queued', 'held')"),
        ),
        # Of what was delivered only stops keep their signature.
        Index(
            "ix_outbox_stops",
            "peer",
            "settled_at",
            sqlite_where=text("status = 'delivered' AND signature IS NOT NULL"),
            postgresql_where=text("status = 'delivered' AND signature IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )


class InboxRow(SQLModel, table=True):
    """An envelope that was verified and signed for."""

    __tablename__ = "inbox"
    seq: int | None = Field(default=None, sa_column=Column(_SEQUENCE, primary_key=True, autoincrement=True))
    xid: int = Field(default=0, sa_type=BigInteger)
    id: str
    referral: str = Field(index=True)
    sender: str
    kind: str
    event: str | None = None
    digest: str
    status: str
    """`new`, `acknowledged`, `destroyed`."""
    received_at: int = Field(sa_type=BigInteger)
    respond_by: int | None = Field(default=None, sa_type=BigInteger)
    lease_token: str | None = None
    lease_until: int = Field(default=0, sa_type=BigInteger)
    opened_at: int | None = Field(default=None, sa_type=BigInteger)
    acknowledged_at: int | None = Field(default=None, sa_type=BigInteger)
    consent_live_at: int | None = Field(default=None, sa_type=BigInteger)
    """Of a forward: when its sender's node last said that her consent is live."""
    consent_ended_at: int | None = Field(default=None, sa_type=BigInteger)
    """When it said that it is not; final."""
    sealed_header: bytes | None = Field(default=None, sa_type=LargeBinary)
    rewrapped_key: bytes | None = Field(default=None, sa_type=LargeBinary)
    """The content key under the referral's own key (key store); the sender's wrapped key is dropped on arrival."""
    wrapped_key: bytes | None = Field(default=None, sa_type=LargeBinary)
    """The content key as the sender sealed it: only where the agency's keys live elsewhere, until they took it over."""
    ciphertext: bytes | None = Field(default=None, sa_type=LargeBinary)
    signature: bytes | None = Field(default=None, sa_type=LargeBinary)
    part_digests: bytes | None = Field(default=None, sa_type=LargeBinary)
    """SHA-256 of the sender's wrapped key, and of the ciphertext: what the signature covers beside the header."""
    release: bytes | None = Field(default=None, sa_type=LargeBinary)

    __table_args__ = (
        Index("ix_inbox_id", "id", unique=True),
        # Empty on SQLite, where the primary key has the same order.
        Index("ix_inbox_in_order", "xid", "seq", sqlite_where=text("xid > 0")),
        Index(
            "ix_inbox_new",
            "xid",
            "seq",
            sqlite_where=text("status = 'new'"),
            postgresql_where=text("status = 'new'"),
        ),
        Index(
            "ix_inbox_acknowledged",
            "xid",
            "seq",
            sqlite_where=text("status = 'acknowledged'"),
            postgresql_where=text("status = 'acknowledged'"),
        ),
        Index(
            "ix_inbox_urgent",
            "respond_by",
            "seq",
            sqlite_where=text("status = 'new'"),
            postgresql_where=text("status = 'new'"),
        ),
        {"sqlite_autoincrement": True},
    )


class SeenEnvelopeRow(SQLModel, table=True):
    """The memory of deliveries: a repeat is answered with these bytes."""

    __tablename__ = "seen_envelope"
    sender: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    digest: str
    answer: bytes | None = Field(default=None, sa_type=LargeBinary)
    expires_at: int = Field(sa_type=BigInteger, index=True)


class ChangeRow(SQLModel, table=True):
    """One change of one referral, for the referring agency's cursor."""

    __tablename__ = "change"
    __table_args__ = (
        # Empty on SQLite, where the primary key has the same order.
        Index("ix_change_in_order", "xid", "seq", sqlite_where=text("xid > 0")),
        {"sqlite_autoincrement": True},
    )
    seq: int | None = Field(default=None, sa_column=Column(_SEQUENCE, primary_key=True, autoincrement=True))
    xid: int = Field(default=0, sa_type=BigInteger)
    referral: str = Field(index=True)
    what: str
    at: int = Field(sa_type=BigInteger)


class AttestationRow(SQLModel, table=True):
    """Who has said, signed, that a referral was destroyed, and who still owes it."""

    __tablename__ = "attestation"
    referral: str = Field(primary_key=True)
    party: str = Field(primary_key=True)
    """`own-node`, `own-agency`, `peer-node`, `peer-agency`."""
    owed_since: int = Field(sa_type=BigInteger)
    done_at: int | None = Field(default=None, sa_type=BigInteger)
    digest: str | None = None


class PeerRow(SQLModel, table=True):
    """Order, batching and retry state of the way to one peer: the courier leases peers, not envelopes."""

    __tablename__ = "peer"
    agency: str = Field(primary_key=True)
    lease_token: str | None = None
    lease_until: int = Field(default=0, sa_type=BigInteger)
    due_at: int = Field(default=0, sa_type=BigInteger)
    failing_since: int | None = Field(default=None, sa_type=BigInteger)
    attempts: int = 0
    last_contact: int | None = Field(default=None, sa_type=BigInteger)
    """Nothing where it has not been heard of since it was claimed."""
    carries: int | None = None
    """Bytes of a batch that the line is trusted with; nothing where it was never used."""
    only_stops_until: int | None = Field(default=None, sa_type=BigInteger)
    """The peer said that it is enough for now: until then nothing but stops goes to it."""


class PeerEpochRow(SQLModel, table=True):
    """A peer's pre-published epoch key, verified against its agency key when it was fetched."""

    __tablename__ = "peer_epoch"
    agency: str = Field(primary_key=True)
    key_id: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    not_before: int = Field(sa_type=BigInteger)
    not_after: int = Field(sa_type=BigInteger)
    statement: bytes = Field(sa_type=LargeBinary)


class PeerCardRow(SQLModel, table=True):
    """When a peer was asked for its card: whichever process of this node has, the others need not."""

    __tablename__ = "peer_card"
    agency: str = Field(primary_key=True)
    read_at: int = Field(default=0, sa_type=BigInteger)
    """When a card of it was last read and found good."""
    read_mark: str | None = None
    """Keyed digest over agency and time: nobody without the storage key has written it. Nothing in rows of before."""
    asked_at: int = Field(default=0, sa_type=BigInteger)
    """When it was last asked, with whatever success."""
    asked_mark: str | None = None
    """As `read_mark`."""


class OwnEpochRow(SQLModel, table=True):
    """An epoch statement of this agency, as published."""

    __tablename__ = "own_epoch"
    key_id: str = Field(primary_key=True)
    seq: int = Field(unique=True, sa_type=BigInteger)
    not_before: int = Field(sa_type=BigInteger)
    not_after: int = Field(sa_type=BigInteger)
    statement: bytes = Field(sa_type=LargeBinary)


class EpochRevocationRow(SQLModel, table=True):
    """A revoked epoch key of this agency, or of a peer, then verified against its agency key when it was fetched."""

    __tablename__ = "epoch_revocation"
    agency: str = Field(primary_key=True)
    key_id: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    forget_at: int = Field(sa_type=BigInteger)
    statement: bytes = Field(sa_type=LargeBinary)


class UsedRosterRow(SQLModel, table=True):
    """The newest roster that a process of this node has used: one row."""

    __tablename__ = "used_roster"
    one: int = Field(default=1, primary_key=True)
    version: int = Field(sa_type=BigInteger)
    digest: str


class ClockLookRow(SQLModel, table=True):
    """What this node last saw of the time (`exchange.storage.clock_look`): one row."""

    __tablename__ = "clock_look"
    one: int = Field(default=1, primary_key=True)
    settled_at: int = Field(sa_type=BigInteger)
    looked_at: int = Field(sa_type=BigInteger)
    doubted_ms: int = Field(sa_type=BigInteger)


class LostDataRow(SQLModel, table=True):
    """This database was restored: what was made in this time may be missing."""

    __tablename__ = "lost_data"
    since: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    until: int = Field(sa_type=BigInteger)


class AuditRow(SQLModel, table=True):
    """What was done, by which actor, on what; append only, ids and codes only."""

    __tablename__ = "audit"
    __table_args__ = ({"sqlite_autoincrement": True},)
    seq: int | None = Field(default=None, sa_column=Column(_SEQUENCE, primary_key=True, autoincrement=True))
    at: int = Field(sa_type=BigInteger)
    client_id: str | None = None
    actor: str | None = None
    action: str
    subject_id: str
    """The id of the consent, referral or item that was acted on."""
    detail: str | None = None
    """A stable code, a digest, or a receipt leaf."""


REFERRAL_KEY: Final = Table(
    "referral_key",
    KEY_METADATA,
    Column("referral", Text, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
EPOCH_PRIVATE: Final = Table(
    "epoch_private",
    KEY_METADATA,
    Column("key_id", Text, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("destroy_at", BigInteger, nullable=False),
)

OAUTH_CLIENT: Final = METADATA.tables["oauth_client"]
USED_JTI: Final = METADATA.tables["used_jti"]
IDEMPOTENCY: Final = METADATA.tables["idempotency"]
CONSENT: Final = METADATA.tables["consent"]
CLIENT_CODE: Final = METADATA.tables["client_code"]
REFERRAL: Final = METADATA.tables["referral"]
EVENT: Final = METADATA.tables["event"]
OUTBOX: Final = METADATA.tables["outbox"]
INBOX: Final = METADATA.tables["inbox"]
SEEN_ENVELOPE: Final = METADATA.tables["seen_envelope"]
CHANGE: Final = METADATA.tables["change"]
ATTESTATION: Final = METADATA.tables["attestation"]
PEER: Final = METADATA.tables["peer"]
PEER_EPOCH: Final = METADATA.tables["peer_epoch"]
PEER_CARD: Final = METADATA.tables["peer_card"]
OWN_EPOCH: Final = METADATA.tables["own_epoch"]
EPOCH_REVOCATION: Final = METADATA.tables["epoch_revocation"]
USED_ROSTER: Final = METADATA.tables["used_roster"]
CLOCK_LOOK: Final = METADATA.tables["clock_look"]
LOST_DATA: Final = METADATA.tables["lost_data"]
AUDIT: Final = METADATA.tables["audit"]
