"""A server that answers with exactly these bytes, over TCP or TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

CLOSE = b"\x00close"
"""Instead of an answer, or behind one: the connection ends."""


@dataclass(slots=True)
class BareServer:
    """What it answers, request by request, and what it was asked."""

    answers: list[bytes]
    url: str = ""
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0
    resumed: list[bool] = field(default_factory=list)
    """Of each connection over TLS, whether it went on from an earlier one."""
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends or there are no more answers."""
        self.connections += 1
        self.open.add(writer)
        if (tls := writer.get_extra_info("ssl_object")) is not None:
            self.resumed.append(tls.session_reused)
        try:
            while self.answers and (request := await _request(reader)):
                self.asked.append(request)
                answer = self.answers.pop(0)
                writer.write(answer.removesuffix(CLOSE))
                await writer.drain()
                if answer.endswith(CLOSE):
                    break
            else:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    return head + await reader.readexactly(int(length or b"0"))


@asynccontextmanager
async def bare_server(
    answers: Sequence[bytes], *, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[BareServer]:
    """A server on loopback."""
    bare = BareServer(list(answers))
    server = await asyncio.start_server(bare.serve, "127.0.0.1", port, ssl=tls)
    bare.url = f"{'https' if tls else 'http'}://localhost:{server.sockets[0].getsockname()[1]}"
    try:
        yield bare
    finally:
        server.close()
        for writer in list(bare.open):
            writer.close()
        await server.wait_closed()


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for this host, and the certificate that signs it: its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    written, secret = folder / f"{host}.pem", folder / f"{host}.key"
    written.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(written, secret)
    return context, written
