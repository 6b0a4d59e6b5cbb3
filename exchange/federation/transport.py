"""How one node speaks to another: tokens, batches, the node card. Over HTTP.

Rules:

* The peer's address comes from the roster, never from anything a peer says; redirects are not followed.
* An answer is read up to a cap and parsed strictly. HTML, another content type, a cut or oversized body is a peer that
  did not answer, and the batch goes again.
* A batch that was looked at for too long ago, when token and connection are there, is not sent (`use_cases.deliver`).
* No traceparent and no cookie goes to another agency; the user agent names the software only.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated, Final, Protocol, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, Field, ValidationError

from exchange.envelope.keys import NodeKey
from exchange.federation.http_connections import HTTPAnswer, HTTPConnections, Network, NoAnswerError
from exchange.limits import SECOND_MS, Limits
from exchange.oauth.assertion import make_assertion, token_request
from exchange.roster import Member
from exchange.schemas.federation import BatchAnswer, ConsentStatusAnswer, ConsentStatusRequest, ResyncAnswer
from exchange.schemas.node import NodeCard
from exchange.use_cases.line import exchange_s

_JSON: Final = "application/json"
_CARD: Final = "/.well-known/referral-node?revocations=true"
_FORM: Final = "application/x-www-form-urlencoded"
# Nothing is asked for packed, nor unpacked: a small answer could become large before its size is seen.
_HEADERS: Final = {"user-agent": "referral-exchange", "accept": _JSON, "accept-encoding": "identity"}
_REFRESH_BEFORE_MS: Final = 30_000
MOST_ANSWER_BYTES: Final = 2 * 1024 * 1024
"""Of what another node answers."""
CONSENT_STATUS_S: Final = 2.5
"""Somebody waits in front of a screen for it."""
_LONGEST_PAUSE_S: Final = 3600
"""The longest pause that a peer can ask for."""
_UNAUTHORIZED: Final = 401
_OK: Final = 200
_NOT_MODIFIED: Final = 304
_BUSY: Final = frozenset({429, 503})
_PROXY_ALONE: Final = frozenset({502, 504})
_FAILS: Final = 500
_ABOUT_WHAT_WAS_SENT: Final = frozenset({"peer-failed", "refused-us", "bad-answer"})
# A network to which one has to sign in answers for everybody, with a certificate of its own.
_SILENCE: Final = frozenset({"no-connection", "timeout", "certificate-refused"})


class PeerUnreachableError(Exception):
    """The peer gave no usable answer. Whatever was sent may or may not have arrived, and is sent again.

    Attributes:
        code: `no-connection`, `certificate-refused`, `timeout`, `bad-answer`, `busy`, `no-node-behind-proxy`,
            `peer-failed`, `refused-us`, `clocks-differ` (it refused us, and says another time than ours) or `too-late`
            (nothing was sent); never a text of the peer's.
        retry_after_s: what the peer asked for, if it did.
        about_token: whether it gave us no token, so that nothing else was sent.
    """

    def __init__(self, code: str, retry_after_s: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after_s = retry_after_s
        self.about_token = False

    @property
    def may_be_about_what_was_sent(self) -> bool:
        """Whether it is an answer, if none of use, to what was sent: another envelope may be answered otherwise."""
        return self.code in _ABOUT_WHAT_WAS_SENT and not self.about_token

    @property
    def is_silence(self) -> bool:
        """Whether nothing of the peer's has answered, not even a proxy: the line may not be there."""
        return self.code in _SILENCE


class PeerTransport(Protocol):
    """Port: the way to other nodes. Over HTTP, or in memory for simulations."""

    async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:
        """Deliver one batch before this time of `elapsed_s`, or not at all: `too-late`."""

    async def node_card(self, peer: Member) -> NodeCard:
        """The peer's card, unverified."""

    async def greet(self, peer: Member) -> None:
        """Prove to the peer that this node is there."""

    async def close(self) -> None:
        """Give connections back."""


@dataclass(slots=True)
class _Token:
    value: str
    expires_at: int


class _TokenAnswer(BaseModel):
    access_token: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,8192}$")]
    token_type: str
    expires_in: int
    scope: str | None = None


class HTTPTransport:
    """`PeerTransport` over HTTP with keep-alive."""

    def __init__(
        self,
        agency: str,
        node_key: NodeKey,
        limits: Limits,
        clock: Callable[[], int],
        *,
        network: Network | None = None,
    ) -> None:
        """Speak as this agency; `network` replaces the sockets in tests."""
        self._agency = agency
        self._node_key = node_key
        self._limits = limits
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._cards: dict[str, tuple[str, NodeCard]] = {}
        self._network = network if network is not None else HTTPConnections()

    async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:
        """Deliver one batch.

        Args:
            peer: whom.
            body: the batch.
            until: from this time of `elapsed_s` on nothing of it is sent.

        Raises:
            PeerUnreachableError: there was no usable answer.
        """
        path = "/federation/v1/envelopes"
        status, answer = await self._authorized(peer, path, body, until=until)
        if status == _UNAUTHORIZED:
            # The peer restarted with another token key, or our node key changed: one fresh token, then give up.
            self._tokens.pop(peer.agency, None)
            status, answer = await self._authorized(peer, path, body, until=until)
        if status != _OK:
            raise PeerUnreachableError("refused-us")
        return _parsed(BatchAnswer, answer)

    async def resync(self, peer: Member, body: bytes) -> ResyncAnswer:
        """Tell a peer since when this node's data is lost.

        Raises:
            PeerUnreachableError: there was no usable answer.
        """
        status, answer = await self._authorized(peer, "/federation/v1/resync", body)
        if status != _OK:
            raise PeerUnreachableError("refused-us")
        return _parsed(ResyncAnswer, answer)

    async def consent_status(self, peer: Member, receipts: Sequence[str]) -> ConsentStatusAnswer:
        """What the peer says about these receipts, unverified; within a few seconds.

        Raises:
            PeerUnreachableError: there was no usable answer.
        """
        body = ConsentStatusRequest(receipts=tuple(receipts)).model_dump_json().encode()
        try:
            async with asyncio.timeout(CONSENT_STATUS_S):
                status, answer = await self._authorized(peer, "/federation/v1/consent-status", body)
                if status == _UNAUTHORIZED:
                    self._tokens.pop(peer.agency, None)
                    status, answer = await self._authorized(peer, "/federation/v1/consent-status", body)
        except TimeoutError:
            raise PeerUnreachableError("timeout") from None
        if status != _OK:
            raise PeerUnreachableError("refused-us")
        return _parsed(ConsentStatusAnswer, answer)

    async def node_card(self, peer: Member) -> NodeCard:
        """The peer's card, unverified.

        Raises:
            PeerUnreachableError: there was no usable answer.
        """
        tag, known = self._cards.get(peer.agency, (None, None))
        asked = {"if-none-match": tag} if tag is not None else None
        # What follows the first question of a process is seldom for a card, and goes over the same connection.
        status, answer = await self._send("GET", peer.node_url + _CARD, headers=asked, public=tag is not None)
        if status == _NOT_MODIFIED and known is not None:
            return known
        if status != _OK:
            raise PeerUnreachableError("refused-us")
        card = _parsed(NodeCard, answer)
        # The tag is of these bytes (`api.rendering.revalidated`); a peer that tags otherwise sends its card again.
        self._cards[peer.agency] = (f'"{hashlib.sha256(answer).hexdigest()[:32]}"', card)
        return card

    async def greet(self, peer: Member) -> None:
        """Prove to the peer that this node is there: a fresh token, which is no use but to have asked for it.

        Raises:
            PeerUnreachableError: there was no usable answer.
        """
        self._tokens.pop(peer.agency, None)
        await self._token(peer)

    async def close(self) -> None:
        """Give connections back."""
        await self._network.close()

    async def _authorized(
        self, peer: Member, path: str, body: bytes, *, until: float | None = None
    ) -> tuple[int, bytes]:
        try:
            token = await self._token(peer)
        except PeerUnreachableError as error:
            error.about_token = True
            raise
        headers = {"authorization": f"Bearer {token}", "content-type": _JSON}
        return await self._send("POST", peer.node_url + path, body=body, headers=headers, until=until)

    async def _token(self, peer: Member) -> str:
        now = self._clock()
        known = self._tokens.get(peer.agency)
        if known is not None and known.expires_at - _REFRESH_BEFORE_MS > now:
            return known.value
        assertion = make_assertion(self._agency, peer.node_url, self._node_key.sign, now=now)
        form = token_request(assertion, "federation")
        status, answer = await self._send(
            "POST", peer.node_url + "/oauth/token", body=urlencode(form).encode(), headers={"content-type": _FORM}
        )
        if status != _OK:
            raise PeerUnreachableError("refused-us")
        token = _parsed(_TokenAnswer, answer)
        self._tokens[peer.agency] = _Token(token.access_token, now + token.expires_in * 1000)
        return token.access_token

    async def _send(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        public: bool = False,
        until: float | None = None,
    ) -> tuple[int, bytes]:
        try:
            # This bounds the whole exchange; in between a line may be silent for long.
            async with asyncio.timeout(exchange_s(len(body))):
                answer = await self._network.ask(
                    method,
                    url,
                    headers={**_HEADERS, **(headers or {})},
                    body=body,
                    most_bytes=MOST_ANSWER_BYTES,
                    public=public,
                    until=until,
                )
        except TimeoutError:
            raise PeerUnreachableError("timeout") from None
        except NoAnswerError as error:
            raise PeerUnreachableError(error.code) from None
        if answer.status in _BUSY:
            raise PeerUnreachableError("busy", _seconds(answer.headers.get("retry-after")))
        if answer.status in _PROXY_ALONE:
            raise PeerUnreachableError("no-node-behind-proxy")
        if answer.status >= _FAILS:
            raise PeerUnreachableError("peer-failed")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise PeerUnreachableError("bad-answer")
        if answer.status == _OK and _media_type(answer) != _JSON:
            raise PeerUnreachableError("bad-answer")
        if answer.status != _OK and self._clocks_differ(answer):
            raise PeerUnreachableError("clocks-differ")
        return answer.status, answer.body

    def _clocks_differ(self, answer: HTTPAnswer) -> bool:
        """Whether the time in an answer is another than here by more than the protocol allows."""
        try:
            theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError, OverflowError):
            return False
        # The header has whole seconds.
        return abs(self._clock() - theirs * SECOND_MS) > self._limits.skew_ms + SECOND_MS


T = TypeVar("T", bound=BaseModel)


def _parsed(model: type[T], answer: bytes) -> T:
    try:
        return model.model_validate_json(answer)
    except ValidationError:
        raise PeerUnreachableError("bad-answer") from None


def _media_type(answer: HTTPAnswer) -> str:
    return str(answer.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _seconds(value: str | None) -> int | None:
    if value is None or not (value.isascii() and value.isdigit()):
        return None
    # A number of so many digits is not converted at all: Python refuses, and nobody may wait that long anyway.
    return min(int(value), _LONGEST_PAUSE_S) if len(value) <= len(str(_LONGEST_PAUSE_S)) else _LONGEST_PAUSE_S
