"""One member begins bodies and does not finish them, against a real process of a node.

Rules:

* What it may have on its way at once is bounded, and so is the memory that it takes; what does not fit is 429.
* A body is counted as large as it says, whether it comes or not.
* Others are served meanwhile. Whoever comes again while its broken connection still hangs is let in.
* A body has the time that a courier gives a request; then it is 408, and its connection is closed.
* An answer that came before the body does not leave a connection behind that holds what nobody reads.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from support.federation import Federation
from support.ledger import note
from support.lying_peer import ENVELOPES, LyingPeer
from support.node_processes import NodeProcesses, node_processes
from support.real_line import real_line

from exchange.api.room import LEAST
from exchange.demo.federation import EMBASSY, FOUR, HELPLINE, LABOUR_OFFICE, SHELTER, AgencyPlan
from exchange.envelope.key_file import open_keys, read_key_file
from exchange.federation.http_connections import HTTPAnswer, HTTPConnections
from exchange.limits import KIB, LIMITS
from exchange.oauth.assertion import make_assertion, token_request
from exchange.settings import KEYS_NAME, load_settings
from exchange.startup import clock
from exchange.use_cases import line as courier_line

FULL = LIMITS.batch_bytes
JUNK = json.dumps({"envelopes": [{"header": "e30", "wrapped_key": "", "ciphertext": "", "signature": ""}]}).encode()
CONNECTIONS = 60
GROWS_MIB = 40
"""Two full batches, twice while they are put together, and what the server reads ahead. It was 245."""


@dataclass(frozen=True)
class Peer:
    """A member that asks a node over real HTTP, and does not end every request."""

    to: str
    port: int
    token: str

    @classmethod
    async def of(cls, member: NodeProcesses, to: NodeProcesses) -> Peer:
        """With a token that its own node key got."""
        settings = load_settings(home=member.home)
        assert settings.passphrase is not None
        keys = open_keys(read_key_file(member.home / KEYS_NAME), settings.passphrase.get_secret_value().encode())
        assert keys.node is not None
        url = to.member.node_url
        form = urlencode(token_request(make_assertion(member.agency, url, keys.node.sign, now=clock()), "federation"))
        form_type = {"content-type": "application/x-www-form-urlencoded"}
        answer = await _ask(f"{url}/oauth/token", form_type, form.encode())
        return cls(url, int(url.rpartition(":")[2]), json.loads(answer.body)["access_token"])

    def head(self, size: int, path: str = ENVELOPES) -> bytes:
        """Of a request whose body has this size."""
        lines = [f"POST {path} HTTP/1.1", "host: node", f"authorization: Bearer {self.token}"]
        return "\r\n".join([*lines, "content-type: application/json", f"content-length: {size}", "", ""]).encode()

    async def post(self, size: int) -> HTTPAnswer:
        """The answer to a whole request, sent as a courier does."""
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        return await _ask(self.to + ENVELOPES, headers, JUNK.ljust(size))

    @asynccontextmanager
    async def unfinished(self, size: int, count: int = 1) -> AsyncIterator[list[asyncio.StreamReader]]:
        """So many requests that lack the last byte of their body; broken off in the end."""
        request = self.head(size) + JUNK.ljust(size)[:-1]
        async with begun(self.port, request, count) as opened:
            await asyncio.sleep(0.5)
            yield [reader for reader, _ in opened]
        await asyncio.sleep(0.2)


async def _ask(url: str, headers: dict[str, str], body: bytes) -> HTTPAnswer:
    connections = HTTPConnections()
    try:
        return await connections.ask("POST", url, headers=headers, body=body, most_bytes=KIB * KIB)
    finally:
        await connections.close()


@asynccontextmanager
async def begun(
    port: int, request: bytes, count: int = 1
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Connections over which this much was sent; broken off in the end."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        for _, writer in opened:
            writer.write(request)
        await asyncio.gather(*(writer.drain() for _, writer in opened))
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def status_of(reader: asyncio.StreamReader) -> int | None:
    """Of the answer that is there; nothing where there is none yet."""
    try:
        async with asyncio.timeout(0.05):
            return int((await reader.readuntil(b"\r\n")).split()[1])
    except TimeoutError:
        return None


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[AgencyPlan, NodeProcesses]]:
    """A shelter that runs, and others of which only the keys are needed: each test has its own, with all its bytes."""
    with node_processes(tmp_path_factory.mktemp("bodies") / "nodes", FOUR) as made:
        found = {node.plan: node for node in made}
        found[SHELTER].start("api")
        yield found


def _mib(node: NodeProcesses) -> int:
    pages = int(Path(f"/proc/{node.running['api']}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


@pytest.mark.faults
async def test_many_take_little_memory_and_are_counted(nodes: Mapping[AgencyPlan, NodeProcesses]) -> None:
    shelter = nodes[SHELTER]
    flooder, other = await Peer.of(nodes[HELPLINE], shelter), await Peer.of(nodes[EMBASSY], shelter)
    assert (await other.post(len(JUNK))).status == 200
    before = _mib(shelter)
    async with flooder.unfinished(FULL, CONNECTIONS) as readers:
        statuses = await asyncio.gather(*map(status_of, readers))
        assert statuses.count(None) == 2
        assert statuses.count(429) == CONNECTIONS - 2
        grown = _mib(shelter) - before
        note(f"{CONNECTIONS} unfinished bodies of 4 MiB from one member: {grown} MiB more memory")
        assert grown < GROWS_MIB
        # Others are served: another member, and the agency's own software.
        assert (await other.post(FULL)).status == 200
        async with shelter.client() as client:
            assert (await client.inbox.list()).items == ()
        assert (await flooder.post(len(JUNK))).status == 429
    # Its room is free again, and its bytes of a minute are used up: what is small goes on from the reserve.
    assert (await flooder.post(len(JUNK))).status == 200
    told = await flooder.post(FULL)
    assert told.status == 429
    assert int(told.headers["retry-after"]) > 1


async def test_small_ones_are_bounded_too(nodes: Mapping[AgencyPlan, NodeProcesses]) -> None:
    """A body that says ten bytes costs the node a connection all the same."""
    flooder = await Peer.of(nodes[HELPLINE], nodes[SHELTER])
    asked = flooder.head(10, "/federation/v1/resync") + b"{"
    async with begun(flooder.port, asked, 140) as opened:
        await asyncio.sleep(0.5)
        statuses = await asyncio.gather(*(status_of(reader) for reader, _ in opened))
    assert statuses.count(None) == LIMITS.arriving_bytes // LEAST
    assert statuses.count(429) == 140 - LIMITS.arriving_bytes // LEAST


async def test_an_honest_retry_is_let_in_while_the_broken_one_hangs(nodes: Mapping[AgencyPlan, NodeProcesses]) -> None:
    courier = await Peer.of(nodes[LABOUR_OFFICE], nodes[SHELTER])
    async with courier.unfinished(FULL) as (first,), courier.unfinished(FULL // 4) as (second,):
        # A quarter of what got no answer, each time.
        assert (await courier.post(FULL // 16)).status == 200
        assert (await courier.post(len(JUNK))).status == 200
        assert [await status_of(first), await status_of(second)] == [None, None]


async def test_a_slow_body_is_taken(nodes: Mapping[AgencyPlan, NodeProcesses]) -> None:
    peer = await Peer.of(nodes[LABOUR_OFFICE], nodes[SHELTER])
    size = 32 * KIB
    body = JUNK.ljust(size)
    async with begun(peer.port, peer.head(size)) as ((reader, writer),):
        for start in range(0, size, KIB):
            writer.write(body[start : start + KIB])
            await asyncio.sleep(0.1)
        assert int((await reader.readuntil(b"\r\n")).split()[1]) == 200


@asynccontextmanager
async def _quick(two: Federation, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Any, Peer]]:
    """A shelter in this process, at which bodies have a second, and a helpline."""
    monkeypatch.setattr(courier_line, "EXCHANGE_S", 1.0)
    monkeypatch.setattr(courier_line, "_SLOWEST_BYTES_A_S", FULL)
    liar = await LyingPeer.of(two[HELPLINE], two[SHELTER])
    async with real_line(two, two[SHELTER]) as line:
        yield line, Peer(f"http://127.0.0.1:{line.port}", line.port, await liar.token())


async def test_a_body_that_does_not_come_in_time_is_408(two: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _quick(two, monkeypatch) as (line, peer):
        for path in (ENVELOPES, "/federation/v1/resync", "/oauth/token"):
            head = peer.head(100, path)
            if path == "/oauth/token":
                head = head.replace(b"application/json", b"application/x-www-form-urlencoded")
            async with begun(line.port, head + b"{") as ((reader, writer),):
                # A byte now and then is no way to stay.
                for _ in range(4):
                    await asyncio.sleep(0.1)
                    writer.write(b" ")
                answer = await asyncio.wait_for(reader.read(-1), 5)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in head.lower()
            assert json.loads(body)["code"] == "body-too-slow"
        assert line.working == 0
        assert line.raised == []
        assert (await peer.post(len(JUNK))).status == 200


async def test_what_is_refused_before_its_body_does_not_hold_a_connection(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody in particular; the answer comes at once, what follows is thrown away, and then the line is closed."""
    async with _quick(two, monkeypatch) as (line, peer):
        nobody = Peer(peer.to, peer.port, "none")
        request = nobody.head(FULL) + b" " * KIB
        async with begun(line.port, request, 2) as ((whole, sends), (silent, _)):
            assert await status_of(whole) == 401
            sends.write(b" " * (FULL - KIB))
            for reader in (whole, silent):
                answer = await asyncio.wait_for(reader.read(-1), 5)
                assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "token-invalid"
        assert line.working == 0
