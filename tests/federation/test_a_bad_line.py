"""Over 32 kbit/s with two seconds each way, with every tenth packet lost too, and after a week away: batches are what
the line carries.

The line is a model in front of the real applications: time is counted, not waited for. Of a lost packet it has what TCP
makes of it: it comes a round trip later, and counts again.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field

import httpx2
import pytest
from support.federation import Federation, TestNode
from support.networks import OverTransport
from support.people import consent_request, referral_request
from support.stories import begin, rows

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.federation.courier import Courier
from exchange.federation.peers import fetch_peer_keys
from exchange.federation.transport import HTTPTransport
from exchange.limits import KIB, LIMITS
from exchange.schemas.referrals import ReferralCreated
from exchange.storage.tables import INBOX, PEER
from exchange.use_cases.line import AIM_S, exchange_s

PACKET_BYTES = 1400
FROM_HEAD_BYTES = 400
"""About what request line, headers, and those of the answer come to."""


@dataclass
class Line(httpx2.AsyncBaseTransport):
    """So many bytes a second, so many seconds each way; what takes too long is lost, and its time has passed."""

    behind: httpx2.AsyncBaseTransport
    bytes_a_s: float
    one_way_s: float
    loss: float = 0
    """Of so many packets."""
    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - a line that is bad in the same way each time
    now_s: float = 0
    batches: list[tuple[int, float]] = field(default_factory=list)
    """(envelopes, seconds) of every batch that was answered."""
    lost: int = 0
    carried: int = 0

    def seconds(self) -> float:
        return self.now_s

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        answer = await self.behind.handle_async_request(request)
        content = await answer.aread()
        size = FROM_HEAD_BYTES + len(body) + len(content)
        again = self._comes_again(size)
        size += again * PACKET_BYTES
        took = 2 * self.one_way_s * (1 + again) + size / self.bytes_a_s
        longest = exchange_s(len(body))
        self.now_s += min(took, longest)
        self.carried += size
        if took > longest:
            self.lost += 1
            raise httpx2.ReadTimeout("too slow")
        if request.url.path.endswith("/envelopes"):
            self.batches.append((len(json.loads(body)["envelopes"]), took))
        return httpx2.Response(answer.status_code, headers=answer.headers, content=content)

    def _comes_again(self, size: int) -> int:
        """How often a packet of so many bytes is lost; one that comes again can be lost again."""
        again = 0
        left = math.ceil(size / PACKET_BYTES)
        while left := sum(self.chance.random() < self.loss for _ in range(left)):
            again += left
        return again


def transport_over(node: TestNode, line: Line) -> HTTPTransport:
    return HTTPTransport(
        node.agency, node.node.node_key, node.node.limits, node.node.clock, network=OverTransport(line)
    )


def courier_over(node: TestNode, line: Line) -> Courier:
    return Courier(node.node, transport_over(node, line), seconds=line.seconds)


async def hand_in(together: Federation, count: int) -> list[ReferralCreated]:
    client = together[HELPLINE].client()
    consent = await client.consents.record(consent_request(SHELTER.agency))
    return [await client.referrals.send(referral_request(SHELTER.agency, consent.id)) for _ in range(count)]


async def until_all_arrived(together: Federation, courier: Courier, count: int) -> None:
    for _ in range(20):
        await courier.run_once()
        if len(await rows(together[SHELTER], INBOX)) == count:
            return
        together.clock.pass_by(seconds=10)
    pytest.fail("not everything arrived")


async def carries(together: Federation) -> int:
    (peer,) = await rows(together[HELPLINE], PEER)
    return int(peer["carries"])


BAD = {"bytes_a_s": 4 * KIB, "one_way_s": 2.0}
LOSSY = BAD | {"loss": 0.1}
on_bad_lines = pytest.mark.parametrize("bad", [BAD, LOSSY], ids=["slow", "slow, a tenth lost"])
GOOD = {"bytes_a_s": 4 * KIB * KIB, "one_way_s": 0.15}


@on_bad_lines
async def test_on_a_bad_line_no_batch_takes_longer_than_it_may(two: Federation, bad: dict[str, float]) -> None:
    line = Line(two.network, **bad)
    courier = courier_over(two[HELPLINE], line)
    await hand_in(two, 24)
    await until_all_arrived(two, courier, 24)
    assert line.lost == 0
    assert 1 < max(count for count, _ in line.batches) < LIMITS.batch_envelopes
    # Where packets are lost too, it is enough that it ends in time.
    assert max(took for _, took in line.batches) < (exchange_s(0) if line.loss else 2 * AIM_S)


async def test_on_a_good_line_the_second_batch_is_full(two: Federation) -> None:
    line = Line(two.network, **GOOD)
    courier = courier_over(two[HELPLINE], line)
    await hand_in(two, 60)
    await until_all_arrived(two, courier, 60)
    assert [count for count, _ in line.batches][1:2] == [LIMITS.batch_envelopes]
    assert await carries(two) == LIMITS.batch_bytes


async def test_a_line_that_got_worse_gets_smaller_batches_until_they_arrive(two: Federation) -> None:
    line = Line(two.network, **GOOD)
    courier = courier_over(two[HELPLINE], line)
    await hand_in(two, 1)
    await until_all_arrived(two, courier, 1)
    line.bytes_a_s, line.one_way_s = 1 * KIB, 2
    await hand_in(two, 40)
    await until_all_arrived(two, courier, 41)
    assert 1 <= line.lost <= 2
    assert await carries(two) < LIMITS.batch_bytes / 10


@on_bad_lines
async def test_after_a_week_away_everything_arrives_in_batches_that_fit(two: Federation, bad: dict[str, float]) -> None:
    line = Line(two.network, **bad)
    courier = courier_over(two[HELPLINE], line)
    handed_in = await hand_in(two, 12)
    await until_all_arrived(two, courier, 12)
    two.leave(SHELTER)
    for one in handed_in:
        await two[HELPLINE].client().referrals.recall(one.id)
    for _ in range(7):
        await courier.run_once()
        two.clock.pass_by(hours=24)
    two.come_back(SHELTER)
    await until_all_arrived(two, courier, 24)
    assert line.lost == 0
    assert max(took for _, took in line.batches) < (exchange_s(0) if line.loss else 2 * AIM_S)


@on_bad_lines
async def test_a_whole_referral_takes_less_than_64_kib_cards_and_tokens_included(
    two: Federation, bad: dict[str, float]
) -> None:
    line = Line(two.network, **bad)
    for here, there in ((HELPLINE, SHELTER), (SHELTER, HELPLINE)):
        assert await fetch_peer_keys(two[here].node, transport_over(two[here], line), two[there].member)
        two[here].courier = courier_over(two[here], line)
    story = await begin(two)
    await story.decides("accepted")
    assert (await story.opened("disclosure")).content is not None
    assert 20 * KIB < line.carried <= 64 * KIB
    assert line.lost == 0
