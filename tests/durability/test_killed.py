"""kill -9, at the moments that matter, of real processes on real databases. Lost: 0. Doubled: 0.

At each of these moments something is committed (or nearly) and nobody has been told. What the caller does next is what
the interface promises to make safe: the same request again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from support.node_processes import ONCE, NodeProcesses, node_processes, until
from support.postgres import Databases

from contracts.vocabulary import Priority, WithdrawalForm
from exchange.client import AgencyClient, NodeUnreachableError, ProblemError, new_idempotency_key
from exchange.demo.federation import EMBASSY, HELPLINE
from exchange.demo.people import seruni
from exchange.demo.waiting import item_of, items_of, referral_that
from exchange.schemas.inbox import DecisionRequest, InboxItem
from exchange.schemas.referrals import ReferralCreated, ReferralRequest
from exchange.storage.tables import INBOX, OUTBOX, REFERRAL, REFERRAL_KEY, SEEN_ENVELOPE


class Pair:
    """A helpline and an embassy, each with an API process and a courier."""

    def __init__(self, helpline: NodeProcesses, embassy: NodeProcesses) -> None:
        self.helpline = helpline
        self.embassy = embassy

    async def request(self, client: AgencyClient, *, priority: Priority = Priority.ROUTINE) -> ReferralRequest:
        """A referral under a fresh consent, not yet handed in."""
        now = datetime.now(UTC)
        person = seruni(now)
        consent = await client.consents.record(person.consent(now))
        return person.referral(consent.id).model_copy(update={"priority": priority})

    async def delivered(self, *, priority: Priority = Priority.ROUTINE) -> tuple[ReferralCreated, InboxItem]:
        """A referral whose offer is at the embassy."""
        async with self.helpline.client() as helpline, self.embassy.client() as embassy:
            created = await helpline.referrals.send(await self.request(helpline, priority=priority))
            return created, await item_of(embassy, created.id, "offer")

    async def arrived(self, referral: str) -> list[str]:
        """The kinds of what has come to the embassy for a referral, in order."""
        async with self.embassy.client() as embassy:
            return [item.kind for item in await items_of(embassy, referral)]

    def receipt(self, referral: str, kind: str) -> bytes | None:
        """What the helpline keeps as the embassy's signed word."""
        query = select(OUTBOX.c.receipt).where(OUTBOX.c.referral == referral, OUTBOX.c.kind == kind)
        return self.helpline.look(lambda conn: conn.execute(query).scalar())

    def answer(self, envelope: str) -> bytes | None:
        """What the embassy remembers to have answered."""
        query = select(SEEN_ENVELOPE.c.answer).where(SEEN_ENVELOPE.c.id == envelope)
        return self.embassy.look(lambda conn: conn.execute(query).scalar())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Started once for a kind of database; a test that kills a process starts it again."""
    with ExitStack() as stack:
        new_database: Callable[[str], str] | None = None
        if request.param == "postgresql":
            databases: Databases = request.getfixturevalue("postgres")
            new_database = lambda _name: databases.create()  # noqa: E731
        folder = tmp_path_factory.mktemp("killed") / "nodes"
        nodes = stack.enter_context(node_processes(folder, (HELPLINE, EMBASSY), new_database))
        for node in nodes:
            node.start()
        yield Pair(*nodes)


@pytest.mark.parametrize("moment", ["during", "after"])
async def test_hand_in(pair: Pair, moment: str) -> None:
    helpline, key = pair.helpline, new_idempotency_key()
    before = helpline.count(REFERRAL)
    async with helpline.client() as patient, helpline.client(retries=ONCE) as client:
        request = await pair.request(patient)
        helpline.doom("POST /v1/referrals", moment=moment)
        with pytest.raises(NodeUnreachableError):
            await client.referrals.send(request, idempotency_key=key)
        helpline.wait_until_killed("api")
        helpline.start("api")
        stored = helpline.count(REFERRAL) - before
        assert stored == (1 if moment == "after" else 0)
        first = await patient.referrals.send(request, idempotency_key=key)
        again = await patient.referrals.send(request, idempotency_key=key)
        assert first == again
        await referral_that(patient, first.id, lambda view: view.flags.delivered, "delivery")
    assert helpline.count(REFERRAL) == before + 1
    assert await pair.arrived(first.id) == ["offer"]


@pytest.mark.parametrize(
    ("commit", "moment"),
    [
        pytest.param(1, "after", id="its key is stored, the item is not"),
        pytest.param(2, "during", id="the item is written and not committed"),
        pytest.param(2, "after", id="everything is committed, the peer has not heard"),
    ],
)
async def test_delivery(pair: Pair, commit: int, moment: str) -> None:
    embassy = pair.embassy
    keys = embassy.look(_keys, database="keys")
    async with pair.helpline.client() as helpline, embassy.client() as receiver:
        request = await pair.request(helpline)
        embassy.doom("POST /federation/v1/envelopes", commit=commit, moment=moment)
        created = await helpline.referrals.send(request)
        embassy.wait_until_killed("api")
        committed = {"id": None} if (commit, moment) != (2, "after") else {"id": _offer(embassy, created.id)}
        before = pair.answer(committed["id"]) if committed["id"] else None
        assert (before is None) == (committed["id"] is None)
        embassy.start("api")
        await referral_that(helpline, created.id, lambda view: view.flags.delivered, "delivery")
        offer = await item_of(receiver, created.id, "offer")
        assert (await receiver.inbox.open(offer.id)).client_code == created.client_code
    assert await pair.arrived(created.id) == ["offer"]
    answered = pair.answer(offer.id)
    assert before in {None, answered}
    assert answered == pair.receipt(created.id, "offer")
    assert embassy.look(_keys, database="keys") == keys | {created.id}


async def test_courier_between_the_answer_and_its_own_commit(pair: Pair) -> None:
    courier = pair.helpline
    async with courier.client() as helpline, pair.embassy.client() as receiver:
        request = await pair.request(helpline)
        courier.doom("settle", moment="during")
        created = await helpline.referrals.send(request)
        courier.wait_until_killed("courier")
        offer = await item_of(receiver, created.id, "offer")
        answered = pair.answer(offer.id)
        assert not (await helpline.referrals.read(created.id)).flags.delivered
        assert pair.receipt(created.id, "offer") is None
        courier.start("courier")
        await referral_that(helpline, created.id, lambda view: view.flags.delivered, "delivery")
    assert pair.receipt(created.id, "offer") == answered == pair.answer(offer.id)
    assert await pair.arrived(created.id) == ["offer"]


async def test_decision(pair: Pair) -> None:
    created, offer = await pair.delivered()
    accepted = DecisionRequest(decision="accepted")
    async with pair.embassy.client() as patient, pair.embassy.client(retries=ONCE) as receiver:
        pair.embassy.doom("POST /v1/inbox/{id}/decision")
        with pytest.raises(NodeUnreachableError):
            await receiver.inbox.decide(offer.id, accepted)
        pair.embassy.wait_until_killed("api")
        pair.embassy.start("api")
        act = await patient.inbox.decide(offer.id, accepted)
        assert act.repeated
        assert act.referral.state == "accepted"
        with pytest.raises(ProblemError) as refused:
            await patient.inbox.decide(offer.id, DecisionRequest(decision="declined", reason="no-capacity"))
        assert refused.value.problem.status == 409
    async with pair.helpline.client() as helpline:
        await referral_that(helpline, created.id, lambda view: view.state == "accepted", "the acceptance")
        assert [item.kind for item in await items_of(helpline, created.id)] == ["decision"]


async def test_release_by_a_worker(pair: Pair) -> None:
    created, offer = await pair.delivered()
    async with (
        pair.embassy.client() as receiver,
        pair.helpline.client() as patient,
        pair.helpline.client(retries=ONCE) as helpline,
    ):
        await receiver.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
        await referral_that(patient, created.id, lambda view: view.flags.awaiting_confirmation, "the acceptance")
        pair.helpline.doom("POST /v1/referrals/{id}/release")
        with pytest.raises(NodeUnreachableError):
            await helpline.referrals.release(created.id)
        pair.helpline.wait_until_killed("api")
        pair.helpline.start("api")
        assert (await patient.referrals.release(created.id)).released
        await item_of(receiver, created.id, "disclosure")
    assert await pair.arrived(created.id) == ["offer", "disclosure"]


async def test_release_by_the_courier(pair: Pair) -> None:
    created, offer = await pair.delivered(priority=Priority.EMERGENCY)
    async with pair.embassy.client() as receiver:
        pair.helpline.doom("release_due", moment="after")
        await receiver.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
        pair.helpline.wait_until_killed("courier")
        pair.helpline.start("courier")
        await item_of(receiver, created.id, "disclosure")
    assert await pair.arrived(created.id) == ["offer", "disclosure"]


@pytest.mark.parametrize(
    ("commit", "moment"),
    [
        pytest.param(1, "during", id="her no is written and not committed"),
        pytest.param(1, "after", id="her no is committed, nothing is destroyed"),
        pytest.param(2, "after", id="the keys are destroyed, the rows are not"),
    ],
)
async def test_withdrawal(pair: Pair, commit: int, moment: str) -> None:
    created, _ = await pair.delivered()
    key = new_idempotency_key()
    # The courier would destroy as soon as her no is committed; here the API process does it, or dies of it.
    pair.helpline.stop("courier")
    async with pair.helpline.client() as patient, pair.helpline.client(retries=ONCE) as helpline:
        pair.helpline.doom("POST /v1/withdrawals", commit=commit, moment=moment)
        with pytest.raises(NodeUnreachableError):
            await helpline.withdrawals.of_referral(created.id, WithdrawalForm.ERASE, idempotency_key=key)
        pair.helpline.wait_until_killed("api")
        held = pair.helpline.count(OUTBOX, referral=created.id, status="held")
        assert held == (1 if moment == "during" else 0)
        pair.helpline.start()
        first = await patient.withdrawals.of_referral(created.id, WithdrawalForm.ERASE, idempotency_key=key)
        again = await patient.withdrawals.of_referral(created.id, WithdrawalForm.ERASE, idempotency_key=key)
        assert first == again
        view = await referral_that(
            patient,
            created.id,
            lambda view: {a.party for a in view.attestations if a.done_at} >= {"own-node", "peer-node"},
            "both nodes' word that it is destroyed",
        )
        assert view.state == "withdrawn"
    kinds = pair.embassy.look(
        lambda conn: list(conn.execute(select(INBOX.c.kind).where(INBOX.c.referral == created.id)).scalars())
    )
    assert kinds.count("withdrawal") == 1
    assert "disclosure" not in kinds
    assert created.id not in pair.embassy.look(_keys, database="keys")


def _keys(conn: object) -> set[str]:
    return set(conn.execute(select(REFERRAL_KEY.c.referral)).scalars())  # type: ignore[attr-defined]


def _offer(node: NodeProcesses, referral: str) -> str:
    query = select(INBOX.c.id).where(INBOX.c.referral == referral, INBOX.c.kind == "offer")
    return until(lambda: node.look(lambda conn: conn.execute(query).scalar()), "the offer")
