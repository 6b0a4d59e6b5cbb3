"""One node's clock is two hours off, in either direction; and clocks that change with the season.

While a clock is wrong nothing passes between the two nodes: assertions and tokens are good for minutes, and both sides
refuse. So nothing that has expired is taken by a node that is behind, and nothing is refused for good by one that is
ahead. The log names it (`clocks-differ`, with the peer), `exchange doctor` does too (test_examination.py), and who
handed in an offer is told that it is not delivered, as where a peer is away (test_peer_away.py). When the clock is
right again everything arrives; what was dated two hours ahead waits until that time has come.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
from structlog.testing import CapturingLogger
from support.federation import Federation
from support.ledger import record
from support.stories import PHONE, begin, now_of, safe_contact

from contracts.vocabulary import Channel
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.federation import courier
from exchange.federation.transport import PeerUnreachableError
from exchange.limits import HOUR_MS
from exchange.referral.contact_plan import advice
from exchange.schemas.inbox import DecisionRequest

CASES = [
    pytest.param(HELPLINE, 2, id="sender two hours ahead"),
    pytest.param(HELPLINE, -2, id="sender two hours behind"),
    pytest.param(SHELTER, 2, id="receiver two hours ahead"),
    pytest.param(SHELTER, -2, id="receiver two hours behind"),
]


def _set(two: Federation, plan: AgencyPlan, hours: float) -> None:
    """This node's clock, and with it that of its agency's systems, is off by so much."""
    one = two[plan]

    def skewed() -> int:
        return two.clock() + int(hours * HOUR_MS)

    one.node.clock = skewed
    one.courier._transport._clock = skewed  # type: ignore[attr-defined]


def _answers_are_dated(two: Federation) -> None:
    """As a real server does it: the time at the node that answers."""
    for one in two.nodes.values():
        inner, node = two.network.apps[one.port], one.node

        class Dated(httpx2.ASGITransport):
            async def handle_async_request(self, request: httpx2.Request, inner=inner, node=node) -> httpx2.Response:  # type: ignore[no-untyped-def,override]  # noqa: ANN001
                answer = await inner.handle_async_request(request)
                answer.headers["date"] = format_datetime(datetime.fromtimestamp(node.clock() / 1000, UTC), usegmt=True)
                return answer  # type: ignore[no-any-return]

        two.network.apps[one.port] = Dated(app=inner.app)


@pytest.mark.parametrize(("wrong", "hours"), CASES)
async def test_nothing_passes_and_nothing_is_lost(
    two: Federation, wrong: AgencyPlan, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answers_are_dated(two)
    two.clock.pass_by(hours=3)  # the contract has been in force since this midnight, also for a clock that is behind
    # Given long enough ago to be no consent of tomorrow to a node that is behind.
    given = now_of(two) - timedelta(hours=3)
    consent = {"given_at": given.isoformat(), "limits_explained_at": (given - timedelta(minutes=5)).isoformat()}
    decided, stopped = await begin(two, consent=consent), await begin(two)
    offer = await decided.offer()
    # Tokens of before must not help: they are asked for anew.
    two.clock.pass_by(hours=0.1)
    _set(two, wrong, hours)
    new = await begin(two, travel=False, priority="routine", consent=decided.consent)
    await decided.helps.inbox.decide(offer, DecisionRequest(decision="accepted"))
    await stopped.says_no("stop-service", travel=False)
    log = CapturingLogger()
    with monkeypatch.context() as patched:
        patched.setattr(courier, "get_logger", lambda: log)
        await two.travel()
    said = [(call.args, call.kwargs) for call in log.calls]
    for node in two.nodes.values():
        assert (("peer-not-reached",), {"peer": node.agency, "code": "clocks-differ"}) in said
    assert await new.items("offer") == []
    assert await stopped.items("withdrawal") == []
    assert await decided.items("decision", at=two[HELPLINE]) == []
    for node, peer in ((two[HELPLINE], two[SHELTER]), (two[SHELTER], two[HELPLINE])):
        with pytest.raises(PeerUnreachableError) as unreachable:
            await node.courier._transport.greet(peer.member)  # type: ignore[attr-defined]
        assert unreachable.value.code == "clocks-differ"
    assert (await new.outgoing())["offer"] == ["queued"]
    _set(two, wrong, 0)
    for _ in range(3):
        await decided.later(hours=1.1)
    await new.both_say("received")
    await stopped.both_say("withdrawn")
    await decided.both_say("accepted")
    assert (await decided.flags()).disclosed
    outgoing = [await story.outgoing() for story in (new, decided, stopped)]
    settled = [status for story in outgoing for statuses in story.values() for status in statuses]
    lost = sum(settled.count(status) for status in ("queued", "refused", "expired"))
    kinds = [story.kinds_posted() for story in (new, decided, stopped)]
    doubled = len(await new.items("offer")) + len(await decided.items("disclosure")) - 2
    record("clocks two hours off", lost=lost, doubled=doubled)
    assert (lost, doubled, kinds[0]) == (0, 0, ["offer"])


async def test_what_expired_is_not_taken_by_a_node_that_is_behind(two: Federation) -> None:
    """Its own tokens are from the future to it as soon as its clock falls back; none lets anybody in."""
    _answers_are_dated(two)
    story = await begin(two, travel=False)
    wire = await story.wire_of("offer")
    await two[HELPLINE].courier._transport.greet(two[SHELTER].member)  # type: ignore[attr-defined]
    two.clock.pass_by(hours=48.1)
    _set(two, SHELTER, -2)
    with pytest.raises(PeerUnreachableError):
        await story.post(wire)
    assert await story.items("offer") == []


@pytest.mark.parametrize(
    ("zone", "moment", "open_now"),
    [
        # Clocks in Berlin go forward at 01:00 UTC on 29 March 2026, and back at 01:00 UTC on 25 October.
        pytest.param("Europe/Berlin", "2026-03-28T17:30:00+00:00", True, id="Berlin, the evening before: 18:30"),
        pytest.param("Europe/Berlin", "2026-03-28T16:30:00+00:00", False, id="Berlin, the evening before: 17:30"),
        pytest.param("Europe/Berlin", "2026-03-29T16:30:00+00:00", True, id="Berlin, the evening after: 18:30"),
        pytest.param("Europe/Berlin", "2026-03-29T18:30:00+00:00", False, id="Berlin, the evening after: 20:30"),
        pytest.param("Europe/Berlin", "2026-10-24T16:30:00+00:00", True, id="Berlin in October, before: 18:30"),
        pytest.param("Europe/Berlin", "2026-10-25T17:30:00+00:00", True, id="Berlin in October, after: 18:30"),
        pytest.param("Europe/Berlin", "2026-10-25T16:30:00+00:00", False, id="Berlin in October, after: 17:30"),
        pytest.param("Asia/Kuala_Lumpur", "2026-03-29T10:30:00+00:00", True, id="Kuala Lumpur: 18:30 in March"),
        pytest.param("Asia/Kuala_Lumpur", "2026-10-25T10:30:00+00:00", True, id="Kuala Lumpur: 18:30 in October"),
        pytest.param("Asia/Kuala_Lumpur", "2026-10-25T16:30:00+00:00", False, id="Kuala Lumpur: past midnight"),
    ],
)
@pytest.mark.parametrize("machine", ["UTC", "Europe/Berlin", "Asia/Jakarta"])
def test_her_hours_are_hers_whatever_the_season_and_the_machine(
    zone: str, moment: str, open_now: bool, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18:00 to 20:00 on every day, by the clock on her wall."""
    monkeypatch.setenv("TZ", machine)
    time.tzset()
    try:
        at = datetime.fromisoformat(moment)
        days = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
        times = [{"weekday": day, "from": "18:00", "to": "20:00", "time_zone": zone} for day in days]
        plan = safe_contact(at - timedelta(hours=1), safe_times=times, address=PHONE)
        assert advice(plan, Channel.PHONE_CALL, at).may_contact == open_now
    finally:
        monkeypatch.undo()
        time.tzset()
