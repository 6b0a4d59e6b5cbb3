"""What a member can send about another member's referral, and about one that does not exist."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from support.federation import federation
from support.lying_peer import LyingPeer, batch_of
from timing.pair import WARM_UP, Pair, Send

from exchange.api.rate import Buckets, ByteBuckets
from exchange.demo.federation import HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.envelope.format import Envelope
from exchange.envelope.kinds import Kind
from exchange.schemas.federation import BatchAnswer

A_BATCH = 40
DECLINE = {"decision": "declined", "reason": "no-capacity"}


@asynccontextmanager
async def envelope_pairs(folder: Path, samples: int) -> AsyncIterator[list[Pair]]:
    """A stop, an answer and an update of a member that is no party, to a node that knows the referral and to none."""
    async with federation(folder, (HELPLINE, SHELTER, LABOUR_OFFICE)) as together:
        for transport in together.network.apps.values():
            serving = transport.app.state.serving  # type: ignore[attr-defined]
            serving.peers = Buckets(1_000_000)
            serving.peer_bytes = ByteBuckets(2**40, reserve=2**40, small=2**40)
        party = await LyingPeer.of(together[HELPLINE], together[SHELTER])
        stranger = await LyingPeer.of(together[LABOUR_OFFICE], together[SHELTER])
        # The first stop about a referral is another thing than a second one, and each is sent once.
        count = samples + WARM_UP
        known = [await _offered(party, A_BATCH) for _ in range(-(-2 * count // A_BATCH))]
        hers = [referral for batch in known for referral in batch]
        nobodys = [secrets.token_hex(16) for _ in range(count)]

        def stop(referral: str) -> Envelope:
            return stranger.stop(Kind.WITHDRAWAL, referral=referral, event="stop-service")

        def answer(referral: str) -> Envelope:
            reply = secrets.token_hex(16)
            return stranger.answer(Kind.DECISION, "declined", DECLINE, referral=referral, in_reply_to=reply)

        def update(referral: str) -> Envelope:
            return stranger.forward(Kind.UPDATE, referral=referral)

        # Stops come last: before them nothing lies here between the two.
        yield [
            Pair(f"{name} about another member's", _sends(stranger, make, hers), _sends(stranger, make, nobodys))
            for name, make in (("an answer", answer), ("an update", update), ("a stop", stop))
        ]


async def _offered(party: LyingPeer, count: int) -> list[str]:
    """Referrals of the party that the node has."""
    referrals = [secrets.token_hex(16) for _ in range(count)]
    answers = await party.deliver(*[party.forward(referral=referral) for referral in referrals])
    if {one.result for one in answers} != {"accepted"}:
        raise SystemExit("the node does not take the offers")
    return referrals


def _sends(stranger: LyingPeer, make: Callable[[str], Envelope], referrals: Iterable[str]) -> Send:
    """Sends an envelope about the next of these referrals."""
    bodies = iter([batch_of(make(referral)) for referral in referrals])

    async def send() -> tuple[int, str]:
        answer = await stranger.post(next(bodies))
        (one,) = BatchAnswer.model_validate_json(answer.content).answers
        code = one.problem.code if one.problem is not None else ""
        return answer.status_code, f"{one.result} {code} {len(answer.content)}"

    return send
