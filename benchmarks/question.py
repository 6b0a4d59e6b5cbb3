"""One hourly question, whether a card has changed, over real TLS: the bytes of a new connection and of a resumed one.

The product's own client asks a real node. In between stand a relay that counts and what a TLS proxy is in front of a
node, with a chain as public authorities give out: two certificates, of keys on P-256. Theirs are longer, by two or
three kilobytes in all; a resumed connection sends none.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.nodes import Node
from exchange.demo.federation import LOOPBACK
from exchange.envelope.keys import KEY_BYTES, NodeKey
from exchange.federation.http_connections import HTTPAnswer, HTTPConnections, Network
from exchange.federation.transport import HTTPTransport
from exchange.limits import LIMITS
from exchange.roster import parse_roster
from exchange.startup import clock

_USES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_HOST: Final = "localhost"
_READ_BYTES: Final = 65536
_ENDS_WITHIN_S: Final = 0.3
"""What is under way when a connection ends has passed by then."""
_UNTIL_RESTED_S: Final = 31
"""After this long no connection is used again, and the next question needs a new one."""


@dataclass(slots=True)
class _Passed:
    """Bytes both ways: as they were encrypted, and what was inside."""

    on_the_line: int = 0
    inside: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """What one question costs that brings nothing new."""

    in_clear: int
    new: int
    resumed: int


async def measure_question(node: Node, folder: Path) -> Question:
    """Ask this node for its card, and then whether it has changed."""
    serving, trusted = _chain(folder)
    passed = _Passed()
    async with _in_front(node.port, serving, passed) as port:
        roster = parse_roster((node.made.home / "roster.json").read_bytes())
        peer = roster.member(node.agency).model_copy(update={"node_url": f"https://{_HOST}:{port}"})

        async def ask(network: Network, rests_s: float) -> _Passed:
            # Whoever asks for a card does not say who it is.
            way = HTTPTransport("anybody", NodeKey(bytes(KEY_BYTES)), LIMITS, clock, network=network)
            # The first question, and the first of those that may have connections of their own.
            for _ in range(2):
                await way.node_card(peer)
            await asyncio.sleep(rests_s)
            before = replace(passed)
            await way.node_card(peer)
            await way.close()
            await asyncio.sleep(_ENDS_WITHIN_S)
            return _Passed(passed.on_the_line - before.on_the_line, passed.inside - before.inside)

        new = await ask(_Anew(trusted), _ENDS_WITHIN_S)
        resumed = await ask(HTTPConnections(trusted), _UNTIL_RESTED_S)
    return Question(in_clear=resumed.inside, new=new.on_the_line, resumed=resumed.on_the_line)


class _Anew:
    """A network that remembers nothing: each question is the first."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._tls = tls

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
        """Ask once, and hang up."""
        connections = HTTPConnections(self._tls)
        try:
            return await connections.ask(
                method, url, headers=headers, body=body, most_bytes=most_bytes, public=public, until=until
            )
        finally:
            await connections.close()

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def _in_front(to_port: int, serving: ssl.SSLContext, passed: _Passed) -> AsyncIterator[int]:
    """A relay that counts, before a proxy that ends TLS, before the node."""

    def way(to: int, name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            to_reader, to_writer = await asyncio.open_connection(LOOPBACK, to)
            await asyncio.gather(
                _carry(reader, to_writer, passed, name),
                _carry(to_reader, writer, passed, name),
                return_exceptions=True,
            )

        return connected

    proxy = await asyncio.start_server(way(to_port, "inside"), LOOPBACK, 0, ssl=serving)
    behind = proxy.sockets[0].getsockname()[1]
    relay = await asyncio.start_server(way(behind, "on_the_line"), LOOPBACK, 0)
    async with proxy, relay:
        yield relay.sockets[0].getsockname()[1]


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passed: _Passed, name: str) -> None:
    try:
        while data := await reader.read(_READ_BYTES):
            setattr(passed, name, getattr(passed, name) + len(data))
            writer.write(data)
    finally:
        writer.close()


def _chain(folder: Path) -> tuple[ssl.SSLContext, Callable[[], ssl.SSLContext]]:
    """The server's side of TLS with two certificates; what makes the client's, which knows who signed the second."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "authority", _HOST)}
    root = _certificate("root", "root", keys)
    chain = [_certificate(_HOST, "authority", keys), _certificate("authority", "root", keys)]
    written, secret = folder / "chain.pem", folder / "chain.key"
    written.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain))
    secret.write_bytes(
        keys[_HOST].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(written, secret)
    signed_by = root.public_bytes(serialization.Encoding.PEM).decode()
    return serving, lambda: ssl.create_default_context(cadata=signed_by)


def _certificate(name: str, by: str, keys: dict[str, ec.EllipticCurvePrivateKey]) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    may = dict.fromkeys(_USES, False) | ({"digital_signature": True} if name == _HOST else {"key_cert_sign": True})
    subject, issuer = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (name, by))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(keys[name].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=name != _HOST, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**may), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[name].public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[by].public_key()), critical=False)
        .sign(keys[by], hashes.SHA256())
    )
