"""Every step of receiving, each refused to a member that lies with valid keys, over the node's HTTP surface.

The lies stand in `support.lies`, what every refusal must be in `support.refusals`. `pytest -v` prints the table.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select
from support.databases import POSTGRES_IN_FAULTS, MakeDatabase
from support.federation import Federation
from support.federation_fixtures import federation_on
from support.forgeries import Scene, forge_answer
from support.lies import TABLE, Lie, bodies
from support.lying_peer import LyingPeer, batch_of
from support.refusals import (
    CANARY,
    Refusal,
    Watched,
    check_problem,
    refused,
    statements_of,
    watched,
)
from support.rosters import with_member, without

from exchange.demo.federation import HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.envelope.format import Envelope
from exchange.envelope.kinds import Kind, SignedBy
from exchange.envelope.wire import read_again
from exchange.roster import Status
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.tables import EVENT
from exchange.use_cases.node import Node, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
NEVER_OFFERED = {"withdrawal": {"event": "stop-service"}, "recall": {}, "entered-in-error": {}}


async def accepting_of(together: Federation, offer: Envelope) -> str:
    """The shelter accepts this offer; the digest of its answer."""
    header = read_again(offer.header)
    await together[SHELTER].client().inbox.decide(header["id"], DecisionRequest(decision="accepted"))
    query = select(EVENT.c.digest).where(EVENT.c.referral == header["referral"], EVENT.c.name == "accepted")
    return await together[SHELTER].node.database.read(lambda conn: str(conn.execute(query).scalar_one()))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=POSTGRES_IN_FAULTS)
async def three(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_on: Callable[[str], MakeDatabase],
) -> AsyncIterator[Federation]:
    folder: Path = tmp_path_factory.mktemp("steps")
    async with federation_on(folder, (HELPLINE, SHELTER, LABOUR_OFFICE), make_on(request.param)) as together:
        yield together


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(three: Federation) -> Scene:
    liar = await LyingPeer.of(three[HELPLINE], three[SHELTER])
    other = await LyingPeer.of(three[LABOUR_OFFICE], three[SHELTER])
    ids = [secrets.token_hex(16) for _ in range(4)]
    never = {kind: secrets.token_hex(16) for kind in NEVER_OFFERED}
    offer, others_offer = liar.forward(referral=ids[1]), other.forward(referral=ids[3])
    made = [liar.forward(referral=ids[0]), offer, liar.forward(referral=ids[2])]
    made.append(liar.stop(Kind.WITHDRAWAL, referral=ids[2], event="stop-service", number=liar.now() + 1))
    made += [liar.stop(Kind(kind), referral=never[kind], **more) for kind, more in NEVER_OFFERED.items()]
    assert {one.result for one in await liar.deliver(*made)} == {"accepted"}
    assert [one.result for one in await other.deliver(others_offer)] == ["accepted"]
    accepting = await accepting_of(three, offer)
    return Scene(liar, other, ids[0], ids[1], accepting, ids[2], ids[3], never, offer, others_offer)


@pytest.fixture(scope="module")
def receiver(three: Federation) -> Iterator[Watched]:
    with watched(three[SHELTER]) as node:
        yield node


@pytest.mark.parametrize("lie", TABLE, ids=lambda lie: lie.id)
async def test_a_lie_is_refused_at_its_step(receiver: Watched, scene: Scene, lie: Lie) -> None:
    await refused(receiver, scene.liar, lie.forge(scene), lie.refusal)


async def test_what_is_no_batch_is_a_problem_document(receiver: Watched, scene: Scene) -> None:
    await scene.liar.token()
    before = await receiver.rows()
    for name, (body, code) in bodies(scene).items():
        receiver.forget_log()
        answer = await scene.liar.post(body)
        assert answer.json()["code"] == code, name
        check_problem(receiver, answer, code, [CANARY, scene.liar.liar.agency])
    assert await receiver.rows() == before


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=utf-16", "", "application/jsonx"])
async def test_1_another_content_type_is_not_read(receiver: Watched, scene: Scene, content_type: str) -> None:
    await scene.liar.token()
    before = await receiver.rows()
    receiver.forget_log()
    answer = await scene.liar.post(batch_of(scene.liar.forward()), **{"content-type": content_type})
    check_problem(receiver, answer, "unsupported-media-type", [CANARY])
    assert await receiver.rows() == before


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.LEFT])
@pytest.mark.parametrize("stage", ["offer", "disclosure"])
async def test_7_standing_refuses_forwards(receiver: Watched, scene: Scene, status: Status, stage: str) -> None:
    envelope = scene.liar.forward()
    if stage == "disclosure":
        inside = {"preferred_name": CANARY}
        held = scene.liar.forward(Kind.DISCLOSURE, inside, referral=scene.accepted, groups=("name",))
        envelope = scene.liar.released(held, scene.accepting)
    await scene.liar.token()
    with _other_world(receiver.one.node, lambda world: _with_status(world, scene.liar.liar.agency, status)):
        await refused(receiver, scene.liar, envelope, Refusal(7, "not-in-good-standing"))


async def test_7_a_sender_in_no_roster_any_more(receiver: Watched, scene: Scene) -> None:
    """Its token is refused with the first answer that can see the new roster."""
    await scene.liar.token()
    before = await receiver.rows()
    receiver.forget_log()
    with _other_world(receiver.one.node, lambda world: _without(world, scene.liar.liar.agency)):
        answer = await scene.liar.post(batch_of(scene.liar.forward()))
    check_problem(receiver, answer, "token-invalid", [CANARY, scene.liar.liar.agency])
    assert await receiver.rows() == before


async def test_7_an_invented_person_and_a_real_member(receiver: Watched, scene: Scene) -> None:
    agency = scene.liar.liar.agency
    with _other_world(receiver.one.node, lambda world: _with_member(world, agency, synthetic=False)):
        await refused(receiver, scene.liar, scene.liar.forward(), Refusal(7, "synthetic-mixed"))


async def test_10_a_contract_that_is_not_in_force_between_the_two(receiver: Watched, scene: Scene) -> None:
    with _other_world(receiver.one.node, lambda world: replace(world, roster=replace(world.roster, contracts=()))):
        await refused(receiver, scene.liar, scene.liar.forward(), Refusal(10, "contract-not-in-force"))


async def test_4_a_repeat_gets_the_first_bytes_and_changes_nothing(receiver: Watched, scene: Scene) -> None:
    first = scene.liar.forward()
    (accepted,) = await scene.liar.deliver(first)
    before = await receiver.rows()
    once_more = await scene.liar.deliver(first, first)
    assert [answer.receipt for answer in once_more] == [accepted.receipt] * 2
    assert await receiver.rows() == before


async def test_8_an_id_that_another_member_has_used(receiver: Watched, scene: Scene) -> None:
    used = read_again(scene.others_offer.header)["id"]
    await refused(receiver, scene.liar, scene.liar.forward(id=used), Refusal(8, "id-conflict"))


async def test_19_an_answer_that_is_lost_comes_again_byte_for_byte(receiver: Watched, scene: Scene) -> None:
    body = batch_of(scene.liar.forward(), {"header": CANARY})
    lost = await scene.liar.post(body)
    before = await receiver.rows()
    again = await scene.liar.post(body)
    assert (again.content, again.headers) == (lost.content, lost.headers)
    assert await receiver.rows() == before


async def test_a_bad_item_never_fails_its_batch(scene: Scene) -> None:
    answers = await scene.liar.deliver(scene.liar.forward(), {"header": CANARY}, scene.liar.forward(recipient="nobody"))
    assert [answer.result for answer in answers] == ["accepted", "refused", "refused"]


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.LEFT])
@pytest.mark.parametrize("signed_by", list(SignedBy))
async def test_her_no_passes_whatever_the_standing(scene: Scene, status: Status, signed_by: SignedBy) -> None:
    node = scene.liar.to.node
    stop = scene.liar.stop(Kind.WITHDRAWAL, event="stop-service", signed_by=signed_by)
    with _other_world(node, lambda world: _with_status(world, scene.liar.liar.agency, status)):
        (answer,) = await scene.liar.deliver(stop)
    assert answer.result == "accepted"


DOCUMENTED = {"9-second-offer", "9-offer-after-her-no", "8-same-id-other-digest"} | {
    f"9-{name}"
    for name in ("offer-behind-her-no", "offer-behind-its-recall", "offer-behind-error", "offer-of-anothers-referral")
}
"""Lies that are none as long as the random id in them is unknown: offers that hold at every step. A member that has
learned another's id somewhere can learn so that it exists here (docs/threat-model.md)."""


async def test_the_answer_does_not_tell_whether_she_is_known(three: Federation, receiver: Watched) -> None:
    """The very same bytes before and after the node knows her: same bytes, same headers, same reads of the database.

    Told by a member that is no party to her referral, in every way that the table has.
    """
    knows = await LyingPeer.of(three[HELPLINE], three[SHELTER])
    stranger = await LyingPeer.of(three[LABOUR_OFFICE], three[SHELTER])
    ids = [secrets.token_hex(16) for _ in range(4)]
    never = {kind: secrets.token_hex(16) for kind in NEVER_OFFERED}
    offer, hers = knows.forward(referral=ids[1]), knows.forward(referral=ids[3])
    scene = Scene(stranger, knows, ids[0], ids[1], "ab" * 32, ids[2], ids[3], never, offer, hers)
    told = {lie.id: batch_of(lie.forge(scene)) for lie in TABLE if lie.id not in DOCUMENTED}
    unknown = {name: await _heard(receiver, stranger, body) for name, body in told.items()}
    made = [knows.forward(referral=ids[0]), offer, knows.forward(referral=ids[2]), hers]
    made.append(knows.stop(Kind.WITHDRAWAL, referral=ids[2], event="stop-service", number=knows.now() + 1))
    made += [knows.stop(Kind(kind), referral=never[kind], **more) for kind, more in NEVER_OFFERED.items()]
    assert {one.result for one in await knows.deliver(*made)} == {"accepted"}
    accepting = await accepting_of(three, offer)
    held = knows.forward(Kind.DISCLOSURE, {"preferred_name": CANARY}, referral=ids[1], groups=("name",))
    assert [one.result for one in await knows.deliver(knows.released(held, accepting))] == ["accepted"]
    for name, body in told.items():
        assert await _heard(receiver, stranger, body) == unknown[name], name
        assert b'"accepted"' not in unknown[name][0], name


async def _heard(receiver: Watched, stranger: LyingPeer, body: bytes) -> tuple[bytes, list[tuple[str, str]], list[str]]:
    await stranger.token()
    with statements_of(receiver.one) as statements:
        answer = await stranger.post(body)
    return answer.content, answer.headers.multi_items(), statements


@contextmanager
def _other_world(node: Node, change: Callable[[World], World]) -> Iterator[None]:
    real = node.world
    changed = change(real())
    node.world = lambda: changed
    try:
        yield
    finally:
        node.world = real


def _with_member(world: World, agency: str, **changes: Any) -> World:
    return replace(world, roster=with_member(world.roster, agency, **changes))


def _with_status(world: World, agency: str, status: Status) -> World:
    return _with_member(world, agency, status=status)


def _without(world: World, agency: str) -> World:
    return replace(world, roster=without(world.roster, agency))


async def test_7_an_invented_person_and_the_answer_of_a_real_member(receiver: Watched, scene: Scene) -> None:
    agency, told = scene.liar.liar.agency, forge_answer(scene, scene.accepted)
    with _other_world(receiver.one.node, lambda world: _with_member(world, agency, synthetic=False)):
        await refused(receiver, scene.liar, told, Refusal(7, "synthetic-mixed"))


async def test_9_what_replies_to_another_envelope_of_the_same_batch(scene: Scene) -> None:
    batch = [scene.liar.forward()]
    first = read_again(batch[0].header)
    for further in (1, 2):
        follows = {"referral": first["referral"], "number": first["number"] + further}
        reply_to = read_again(batch[-1].header)["id"]
        batch.append(scene.liar.forward(Kind.INFORMATION, in_reply_to=reply_to, **follows))
    answers = await scene.liar.deliver(*batch)
    assert [answer.result for answer in answers] == ["accepted"] * 3
