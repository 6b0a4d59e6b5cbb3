"""HTTP/1.1 to other nodes: connections that are kept, one request at a time on each.

The courier speaks to few peers, again and again, and waits for each answer; a general client costs it two fifths of
its time (`docs/performance.md`).

Rules:

* A connection is used again only if both sides want that, nothing was left over on it, and it did not rest for long.
* Certificates are verified against the authorities that httpx trusts; the environment says nothing about that.
* A new connection resumes the TLS session of the one before it, at the same address, if that ended in a whole answer:
  certificates are most of what a short exchange weighs. After a week at most they are sent and verified again.
* Where a hello carries keys of a kilobyte each way, which keep a recorded line closed to the computers of later, what
  is public anyway can be asked for with a short one, on connections of its own. Everything else never passes there.
* No request is repeated here: whether one arrived is for the caller to find out.
* What holds for a moment only is said in that moment, or not at all. The connection rests then, for the next try.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

import httpx2
from aiohappyeyeballs import start_connection

from exchange.elapsed import elapsed_s
from exchange.federation.http_answers import Address, Connection, HTTPAnswer, NoAnswerError, Session

__all__ = ["HTTPAnswer", "HTTPConnections", "Network", "NoAnswerError"]

_CONNECT_S: Final = 20.0
"""Over two seconds each way a connection takes four, and a packet that was lost comes again three seconds later."""
_OTHER_ADDRESS_AFTER_S: Final = 0.25
"""How long one address of a host is waited for before the next is tried beside it (RFC 8305)."""
_KEEP_S: Final = 30.0
"""A connection rests here for less time than at the peer, so that no request meets one that was closed meanwhile."""
_RESUME_S: Final = 7 * 86_400.0
"""As long as TLS 1.3 lets a session live (RFC 8446, 4.6.1). Counted from when the certificates were verified."""
_LONG_HELLOS: Final = ssl.OPENSSL_VERSION_INFO >= (3, 5)
"""Whether they carry X25519MLKEM768 here. Where they do not, a second connection would cost more than it saves."""
_SHORT_GROUP: Final = "prime256v1"
"""The one key agreement of a short hello: secp256r1, which every server must have (RFC 8446, 9.1)."""


class Network(Protocol):
    """Port: how a request reaches another node. Over sockets, or in memory for tests."""

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        most_bytes: int,
        public: bool = False,
        until: float | None = None,
    ) -> HTTPAnswer:
        """Ask once; `public` where question and answer are everybody's to read, and nothing else follows soon.

        Raises:
            NoAnswerError: there was no answer, or one that is larger than `most_bytes`; or nothing was asked, because
                the way was not there before `until` (of `elapsed_s`).
        """

    async def close(self) -> None:
        """Give connections back."""


class _Resuming:
    """Stands for a context, of which an event loop only asks this; it has no way of its own to hand a session in."""

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession | None) -> None:
        self._context = context
        self._session = session

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server_side: bool, server_hostname: str | None
    ) -> ssl.SSLObject:
        """One connection's TLS, which begins with the session."""
        return self._context.wrap_bio(incoming, outgoing, server_side, server_hostname, self._session)


class HTTPConnections:
    """`Network` over sockets. Belongs to one event loop."""

    def __init__(self, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        """Connect to nobody yet; `tls` makes what verifies, instead of what httpx trusts."""
        self._resting: dict[Address, list[Connection]] = {}
        self._sessions: dict[Address, Session] = {}
        self._make_tls = tls if tls is not None else _trusting
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        most_bytes: int,
        public: bool = False,
        until: float | None = None,
    ) -> HTTPAnswer:
        """Ask once, on a connection that rests or a new one; who gives up waiting ends the connection.

        Args:
            method: GET or POST.
            url: `http:` or `https:`, a host, a path, and a query where there is one.
            headers: beside `host` and `content-length`.
            body: empty for none.
            most_bytes: how much of a body is read.
            public: whether question and answer are everybody's to read, today and later.
            until: from this time of `elapsed_s` on nothing of it is said.

        Raises:
            NoAnswerError: see there.
            TimeoutError: nobody took the connection in time.
            ValueError: a header or the address would be something else on the wire.
        """
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        address = Address(secure, parts.hostname or "", port, short=secure and public and _LONG_HELLOS)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        request = _request(method, target, parts.netloc, headers, body)
        connection = self._rested(address) or await self._connect(address)
        if until is not None and elapsed_s() >= until:
            self._rest(connection)
            raise NoAnswerError("too-late")
        try:
            answer = await connection.ask(request, most_bytes)
        except BaseException:
            connection.close()
            raise
        if (session := connection.session()) is not None:
            self._sessions[connection.address] = session
        self._rest(connection)
        return answer

    async def close(self) -> None:
        """Hang up."""
        for connections in self._resting.values():
            for connection in connections:
                connection.close()
        self._resting.clear()

    def _rested(self, address: Address) -> Connection | None:
        """The one that was used last; those that rested for too long are closed."""
        resting = self._resting.get(address, [])
        while resting:
            connection = resting.pop()
            if connection.reusable and elapsed_s() - connection.since < _KEEP_S:
                return connection
            connection.close()
        return None

    def _rest(self, connection: Connection) -> None:
        if connection.reusable:
            connection.since = elapsed_s()
            self._resting.setdefault(connection.address, []).append(connection)
        else:
            connection.close()

    def _context(self, short: bool, session: Session | None) -> ssl.SSLContext:
        context = self._contexts.get(short)
        if context is None:
            context = self._make_tls()
            if short:
                context.set_ecdh_curve(_SHORT_GROUP)
            self._contexts[short] = context
        return cast("ssl.SSLContext", _Resuming(context, session.tls if session is not None else None))

    async def _connect(self, address: Address) -> Connection:
        try:
            return await self._connected(address)
        except ssl.SSLCertVerificationError:
            raise NoAnswerError("certificate-refused") from None
        except (ssl.SSLError, ConnectionResetError):
            if not address.short:
                raise NoAnswerError("no-connection") from None
        except TimeoutError:
            raise
        except (OSError, UnicodeError):
            raise NoAnswerError("no-connection") from None
        # A server that has other groups only.
        return await self._connect(address._replace(short=False))

    async def _connected(self, address: Address) -> Connection:
        # Taken out: what does not lead to an answer is not tried twice.
        session = self._sessions.pop(address, None)
        if session is not None and elapsed_s() - session.verified_at >= _RESUME_S:
            session = None
        tls = self._context(address.short, session) if address.secure else None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_S):
            places = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            taken = await start_connection(places, happy_eyeballs_delay=_OTHER_ADDRESS_AFTER_S)
        _, connection = await loop.create_connection(
            lambda: Connection(address),
            sock=taken,
            ssl=tls,
            server_hostname=address.host if address.secure else None,
            ssl_handshake_timeout=_CONNECT_S if address.secure else None,
        )
        resumed = session if connection.resumes else None
        connection.verified_at = resumed.verified_at if resumed is not None else elapsed_s()
        return connection


def _trusting() -> ssl.SSLContext:
    context = httpx2.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _request(method: str, target: str, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method == "POST":
        lines.append(f"content-length: {len(body)}")
    if not all(line.isascii() and line.isprintable() for line in lines):
        # A line break in one would be a header of its own. The value is not repeated.
        raise ValueError("not a header")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
