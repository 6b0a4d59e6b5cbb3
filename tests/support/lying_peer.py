"""A member that lies: it has valid keys and a place in the roster, and signs whatever it likes.

It seals and signs with the real keys of one node of a test federation, without that node's gate, feedback rule or
state, and posts to the receiver's node over HTTP with a token it got as every member does. What a receiver refuses here
it refuses on its own account.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx2
from sqlalchemy import func, select
from support.federation import TestNode
from support.replacing import replace

from contracts.canonical_json import canonical
from contracts.vocabulary import VOCABULARY_VERSION, Basis, Feedback
from exchange.envelope.epochs import EpochStatement
from exchange.envelope.format import Envelope
from exchange.envelope.header import Header, HeaderReceipt
from exchange.envelope.keys import AgencyKey, EpochKey
from exchange.envelope.kinds import Kind, KindClass, SignedBy, class_of
from exchange.envelope.receipts import sign_receipt
from exchange.envelope.seal import STOP_FILLER_BYTES, seal, seal_stop
from exchange.envelope.statements import ReleaseStatement, sign_statement
from exchange.envelope.wire import read_again
from exchange.limits import DAY_MS, HOUR_MS
from exchange.messages import ForwardBody
from exchange.oauth.assertion import make_assertion, token_request
from exchange.referral.content import ReferralContent
from exchange.schemas.federation import BatchAnswer, ItemAnswer
from exchange.storage.database import Connection, Database
from exchange.storage.tables import METADATA
from exchange.use_cases.outgoing import current_peer_epoch

ENVELOPES = "/federation/v1/envelopes"
PURPOSE = "provide-safe-accommodation"
OFFER_CONTENT = {"needs": ["tonight"], "age_band": "25-49"}
OFFER_GROUPS = ("need",)


def content_of(members: dict[str, Any]) -> ReferralContent:
    """A content of these members."""
    return ReferralContent.model_validate_json(canonical(members))


@dataclass(slots=True)
class LyingPeer:
    """One member that forges envelopes for one receiver."""

    liar: TestNode
    to: TestNode
    epoch: EpochStatement

    @classmethod
    async def of(cls, liar: TestNode, to: TestNode) -> LyingPeer:
        """A liar that knows the receiver's key of this week, as every member does."""
        return cls(liar, to, await current_peer_epoch(liar.node, to.member))

    strange: EpochKey = field(default_factory=lambda: EpochKey(secrets.token_bytes(32)))
    """A key that no node has."""
    _token: tuple[str, int] = ("", 0)
    """A token of the receiver, and until when it is good."""

    def now(self) -> int:
        """The federation's clock."""
        return self.liar.node.clock()

    @property
    def agency_key(self) -> AgencyKey:
        """The liar's real agency key."""
        assert self.liar.node.keyring is not None
        return self.liar.node.keyring.agency_key

    def header(self, kind: Kind, **changes: Any) -> Header:
        """A header of the right shape, with any member changed."""
        at = self.liar.node.clock()
        kind_class = class_of(kind)
        roster = self.liar.node.world().roster
        contract = roster.contracts[0].digest
        signed_by = changes.get("signed_by", SignedBy.NODE if kind_class is KindClass.STOP else SignedBy.AGENCY)
        members: dict[str, Any] = {
            "id": secrets.token_hex(16),
            "kind": kind,
            "referral": secrets.token_hex(16),
            "sender": self.liar.agency,
            "recipient": self.to.agency,
            "signed_by": signed_by,
            "signing_key": (self.agency_key if signed_by is SignedBy.AGENCY else self.liar.node.node_key).key_id,
            "vocabulary": VOCABULARY_VERSION,
            "roster_version": roster.version,
            "roster_digest": roster.digest,
            "seen": 0,
            "created": at,
            "expires": at + 7 * DAY_MS,
            "number": at,
        }
        if kind_class is KindClass.STOP:
            members["expires"] = at + self.liar.node.limits.stop_expires_ms
        else:
            members |= {"epoch_key": self.epoch.key_id, "contract": contract, "purpose": PURPOSE}
        if kind_class is KindClass.FORWARD:
            members |= {"stage": "offer", "groups": OFFER_GROUPS}
        if kind is Kind.OFFER:
            members |= {"priority": "urgent", "respond_by": at + 24 * HOUR_MS, "expires": at + 48 * HOUR_MS}
        if kind is Kind.DISCLOSURE:
            members |= {"stage": "disclosure", "number": None}
        header = Header(**(members | {k: v for k, v in changes.items() if k != "receipt"}))
        if kind_class is KindClass.FORWARD:
            header = replace(header, receipt=self.receipt(header, **changes.get("receipt", {})))
        return header

    def receipt(self, header: Header, **changes: Any) -> HeaderReceipt:
        """A consent receipt: the sender's assertion, and here an invented one."""
        signature = changes.pop("signature", None)
        body = {
            "receipt_id": secrets.token_hex(16),
            "issuer": header.sender,
            "recipient": header.recipient,
            "purpose": header.purpose or PURPOSE,
            "groups": header.groups,
            "basis": "consent",
            "issued": header.created,
            "expires": header.created + 30 * DAY_MS,
        }
        unsigned = HeaderReceipt(**(body | changes), signature=bytes(64))  # type: ignore[arg-type]
        made = sign_receipt(unsigned.signing_body(), self.agency_key.sign)
        return replace(unsigned, signature=signature if signature is not None else made)

    def signed(self, envelope: Envelope) -> Envelope:
        """Signed by the real agency key, whatever is in it."""
        return replace(envelope, signature=self.agency_key.sign(envelope.signed_input()))

    def sealed(self, header: Header, content: bytes) -> Envelope:
        """Sealed and signed like any other; to a key that nobody has, where the header names one."""
        known = header.epoch_key == self.epoch.key_id
        return seal(
            replace(header, epoch_key=header.epoch_key if known else self.strange.key_id),
            content,
            epoch_public=self.epoch.public if known else self.strange.public,
            sign=self.agency_key.sign,
            dek=secrets.token_bytes(32),
            nonce=secrets.token_bytes(24),
        ).envelope

    def forward(
        self,
        kind: Kind = Kind.OFFER,
        content: dict[str, Any] | None = None,
        *,
        basis: Basis = Basis.CONSENT,
        body: bytes | None = None,
        **changes: Any,
    ) -> Envelope:
        """A forward with any header and any content."""
        inside = ForwardBody(basis, Feedback.DECISION, content_of(OFFER_CONTENT if content is None else content))
        return self.sealed(self.header(kind, **changes), inside.to_bytes() if body is None else body)

    def answer(self, kind: Kind, event: str, content: dict[str, Any] | bytes, **changes: Any) -> Envelope:
        """An answer with any event and any content."""
        raw = content if isinstance(content, bytes) else canonical(content)
        return self.sealed(self.header(kind, event=event, **changes), raw)

    def stop(self, kind: Kind, **changes: Any) -> Envelope:
        """A stop."""
        header = self.header(kind, **changes)
        sign = self.agency_key.sign if header.signed_by is SignedBy.AGENCY else self.liar.node.node_key.sign
        return seal_stop(header, sign=sign, filler=secrets.token_bytes(STOP_FILLER_BYTES)).envelope

    def released(self, envelope: Envelope, accepting: str, **changes: Any) -> Envelope:
        """A disclosure with its release statement, by the liar's node key unless another `sign` is given."""
        sign = changes.pop("sign", self.liar.node.node_key.sign)
        at = self.liar.node.clock()
        header = read_again(envelope.header)
        statement = ReleaseStatement(
            **{
                "disclosure": envelope.digest(),
                "referral": header["referral"],
                "number": at,
                "accepting": accepting,
                "released_at": at,
                "roster_version": 1,
                "consent_live_at": at,
            }
            | changes
        )
        return replace(envelope, release=sign_statement(statement, sign).to_bytes())

    async def token(self) -> str:
        """A token for the receiver's node, got with the liar's real node key."""
        value, until = self._token
        now = self.now()
        if until <= now:
            assertion = make_assertion(self.liar.agency, self.to.member.node_url, self.liar.node.node_key.sign, now=now)
            async with self._http() as http:
                answer = await http.post("/oauth/token", data=token_request(assertion, "federation"))
            value, until = str(answer.json()["access_token"]), now + 60_000
            self._token = value, until
        return value

    async def post(self, body: bytes, path: str = ENVELOPES, **headers: str) -> httpx2.Response:
        """Any bytes, as the authenticated member."""
        sent = {"authorization": f"Bearer {await self.token()}", "content-type": "application/json"} | headers
        async with self._http() as http:
            return await http.post(path, content=body, headers=sent)

    async def deliver(self, *envelopes: Envelope | dict[str, Any]) -> list[ItemAnswer]:
        """Hand them in; one answer each."""
        answer = await self.post(batch_of(*envelopes))
        return list(BatchAnswer.model_validate_json(answer.content).answers)

    def _http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=self.to.network.apps[self.to.port], base_url=self.to.member.node_url)


def batch_of(*envelopes: Envelope | dict[str, Any]) -> bytes:
    """The body of a batch."""
    return canonical({"envelopes": [item if isinstance(item, dict) else item.to_json() for item in envelopes]})


async def row_counts(database: Database) -> dict[str, int]:
    """How many rows each table of a main database has; `peer` aside, which any contact touches."""

    def count(conn: Connection) -> dict[str, int]:
        tables = (table for table in METADATA.sorted_tables if table.name != "peer")
        return {table.name: conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}

    return await database.read(count)
