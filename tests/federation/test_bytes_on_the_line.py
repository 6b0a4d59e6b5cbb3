"""What a node says to others while nothing goes on, and for one referral: bytes of real connections, TLS included."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.federation import Federation, TestNode
from support.stories import begin, now_of
from support.tls_line import TLSLine, TLSLines, tls_lines

from exchange.demo.federation import EMBASSY, HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.federation import http_connections
from exchange.federation.courier import REFRESH_PEERS_EVERY_MS, Courier
from exchange.federation.peers import refresh_peers
from exchange.federation.transport import HTTPTransport
from exchange.limits import DAY_MS, KIB, SECOND_MS

A_DAY = 500_000
SUNDAY = 6
CERTIFICATES = 3 * KIB
"""By so much the chain of a public authority may be longer than the one certificate here."""
HYBRID = ssl.OPENSSL_VERSION_INFO >= (3, 5)
"""Whether TLS agrees on keys with X25519MLKEM768: 2.3 KB a connection, and a second one for what is asked often."""
CHAINS = 2 if HYBRID else 1
"""On so many connections a week one node sees the certificates of another: its first, and the first short one."""


@pytest.fixture
def _nothing_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question needs a connection, since hours lie between them."""
    monkeypatch.setattr(http_connections, "_KEEP_S", 0.0)


@pytest.fixture
async def lines(four: Federation, tmp_path: Path) -> AsyncIterator[TLSLines]:
    """The four nodes behind TLS."""
    async with tls_lines(four, tmp_path) as served:
        yield served


def on(node: TestNode, line: TLSLine) -> HTTPTransport:
    return HTTPTransport(node.agency, node.node.node_key, node.node.limits, node.node.clock, network=line)


@pytest.mark.usefixtures("_nothing_rests")
async def test_a_card_that_has_not_changed_is_not_sent_again(four: Federation, lines: TLSLines) -> None:
    line, peer = lines.line(), four[SHELTER].member
    transport = on(four[HELPLINE], line)
    first = await transport.node_card(peer)
    whole = line.carried
    assert await transport.node_card(peer) == first
    known = line.carried
    assert await transport.node_card(peer) == first
    again = line.carried - known
    await transport.close()
    assert again < 2 * KIB < whole


async def test_only_later_questions_for_a_card_have_connections_of_their_own(four: Federation, lines: TLSLines) -> None:
    """After the first comes a greeting or what waits, over the same connection."""
    line, peer = lines.line(), four[SHELTER].member
    transport = on(four[HELPLINE], line)
    await transport.node_card(peer)
    await transport.greet(peer)
    await transport.node_card(peer)
    await transport.close()
    assert line.public == [False, False, True]


@pytest.mark.usefixtures("_nothing_rests")
async def test_a_day_on_which_nothing_happens_costs_thirty_members_less_than_500_kb(
    four: Federation, lines: TLSLines
) -> None:
    """Four members, of whom one holds something for another; every question is asked and counted. Then reckoned."""
    helpline, line = four[HELPLINE], lines.line()
    if now_of(four).weekday() == SUNDAY:
        four.clock.pass_by(hours=24)  # a new week brings new cards, and is reckoned apart
    await begin(four)
    ways = {name: on(node, lines.line() if node is not helpline else line) for name, node in four.nodes.items()}
    for name, way in ways.items():
        for other in four.nodes.values():
            if other.agency != name:
                # The first question of a process and, on connections of their own, those that follow.
                await way.node_card(other.member)
                await way.node_card(other.member)
    begun, asked_before = line.carried, line.asked.copy()
    for _ in range(DAY_MS // REFRESH_PEERS_EVERY_MS):
        four.clock.pass_by(seconds=REFRESH_PEERS_EVERY_MS / SECOND_MS)
        for name, way in ways.items():
            await refresh_peers(four.nodes[name].node, way)
    asked = line.asked - asked_before
    assert {plan: asked[four[plan].port] for plan in (SHELTER, EMBASSY, LABOUR_OFFICE)} == {
        SHELTER: 24,
        EMBASSY: 2,
        LABOUR_OFFICE: 2,
    }
    questions = 24 + 2 * 11  # of twelve ways the others are quiet
    each = (line.carried - begun) / questions
    for way in ways.values():
        await way.close()
    # Thirty members: a node asks and is asked. It holds something for three; once a week it starts, and everything is
    # sent and verified again.
    quiet, held, weekly = 29 * 2 * 2, 3 * 22, 29 * 2 * (begun / 12 + CHAINS * CERTIFICATES) / 7
    assert (quiet + held) * each + weekly < A_DAY


async def test_a_whole_referral_takes_less_than_64_kib(four: Federation, lines: TLSLines) -> None:
    """In the smallest bucket; and the first ever, of which greetings, cards and tokens are part.

    Minutes lie between its steps, and each has connections of its own.
    """
    line = lines.line()
    for plan, other in ((HELPLINE, SHELTER), (SHELTER, HELPLINE)):
        node = four[plan]
        way = on(node, line)
        await way.node_card(four[other].member)
        await way.greet(four[other].member)
        node.courier = Courier(node.node, way)
    await line.close()
    greeted = line.carried
    story = await begin(four)
    await line.close()
    await story.decides("accepted")
    await line.close()
    assert (await story.opened("disclosure")).content is not None
    assert 20 * KIB < line.carried - greeted < 64 * KIB - 2 * CERTIFICATES
    assert line.carried < 64 * KIB
    assert line.carried + 2 * CERTIFICATES < (72 if HYBRID else 64) * KIB
