"""A third member answers in the shelter's place: to a referral that is none of its own, so that her name is let go.

The helpline has referred her to the shelter. The labour office has learned the ids of referral and offer, has valid
keys and signs what it likes. Whatever it says is answered as if there were no such referral: the same bytes, after the
same reads of the database. Nothing changes, nothing is released, and nothing goes to anyone.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.databases import POSTGRES_IN_FAULTS, MakeDatabase
from support.federation import Federation
from support.federation_fixtures import federation_on
from support.lying_peer import LyingPeer, batch_of
from support.refusals import Refusal, Watched, refused, statements_of, watched
from support.stories import Story, begin, to_the_labour_office

from exchange.demo.federation import HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.envelope.format import Envelope
from exchange.envelope.kinds import Kind
from exchange.referral.lifecycle import State
from exchange.storage.tables import ATTESTATION, EVENT, INBOX, OUTBOX, REFERRAL

pytestmark = pytest.mark.asyncio(loop_scope="module")
UNKNOWN = Refusal(9, "unknown-referral")
AT = (State.RECEIVED, State.ACCEPTED)
"""Before the shelter's word, when an acceptance would let her name go, and after it."""


@dataclass(slots=True)
class Scene:
    """One referral in each of these states, and the stranger to both."""

    together: Federation
    stranger: LyingPeer
    hers: dict[State, Story]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=POSTGRES_IN_FAULTS)
async def scene(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_on: Callable[[str], MakeDatabase],
) -> AsyncIterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("stranger")
    async with federation_on(folder, (HELPLINE, SHELTER, LABOUR_OFFICE), make_on(request.param)) as together:
        hers = {state: await begin(together, priority="emergency") for state in AT}
        await hers[State.ACCEPTED].decides("accepted")
        yield Scene(together, await LyingPeer.of(together[LABOUR_OFFICE], together[HELPLINE]), hers)


ANSWERS: dict[str, tuple[Kind, str, dict[str, Any]]] = {
    "accepts": (Kind.DECISION, "accepted", {"decision": "accepted"}),
    "declines": (Kind.DECISION, "declined", {"decision": "declined", "reason": "no-capacity"}),
    "serves her": (Kind.PROGRESS, "in-service", {"state": "in-service"}),
    "says that it is over": (Kind.PROGRESS, "completed", {"state": "completed"}),
    "asks for more": (Kind.INFORMATION_REQUEST, "information-requested", {"fields": ["language"]}),
    "agrees to a recall": (Kind.RECALL_ANSWER, "recalled", {"agreed": True}),
}
STOPS: dict[str, tuple[Kind, dict[str, Any]]] = {
    "refuses the offer": (Kind.REFUSAL, {"event": "not-legal"}),
    "says that she said no": (Kind.WITHDRAWAL, {"event": "stop-service"}),
    "says that it erased her": (Kind.ERASURE_RECEIPT, {"event": "erased-by-node"}),
}


async def _said(scene: Scene, name: str, state: State, referral: str | None = None) -> Envelope:
    """What the stranger signs about her referral, in reply to the shelter's offer, or about another id."""
    hers = scene.hers[state]
    about = {"referral": referral or hers.id, "in_reply_to": await hers.offer()}
    if name in ANSWERS:
        kind, event, content = ANSWERS[name]
        return scene.stranger.answer(kind, event, content, **about)
    kind, more = STOPS[name]
    if kind is not Kind.REFUSAL:
        del about["in_reply_to"]
    return scene.stranger.stop(kind, **about, **more)


@pytest.mark.parametrize("state", AT, ids=lambda state: state.value)
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_in_anothers_place_is_refused_as_about_no_referral(
    scene: Scene, name: str, state: State
) -> None:
    hers, unknown = await _said(scene, name, state), await _said(scene, name, state, secrets.token_hex(16))
    with watched(scene.together[HELPLINE]) as helpline:
        await refused(helpline, scene.stranger, hers, UNKNOWN)
        await refused(helpline, scene.stranger, unknown, UNKNOWN)
        assert await _heard(helpline, scene.stranger, hers) == await _heard(helpline, scene.stranger, unknown)
    await _nothing_is_released(scene, state)


@pytest.mark.parametrize("state", AT, ids=lambda state: state.value)
@pytest.mark.parametrize("name", STOPS)
async def test_a_stop_in_anothers_place_is_signed_for_and_does_nothing(scene: Scene, name: str, state: State) -> None:
    """As every stop of a member is, about whichever referral: a refusal would tell that there is one."""
    helpline, tables = scene.together[HELPLINE], (REFERRAL, EVENT, OUTBOX, INBOX, ATTESTATION)
    before = [await scene.hers[state].rows(table, at=helpline) for table in tables]
    said, unknown = await _said(scene, name, state), await _said(scene, name, state, secrets.token_hex(16))
    about_hers, about_nothing = await scene.stranger.deliver(said, unknown)
    assert (about_hers.result, about_nothing.result) == ("accepted", "accepted")
    assert len(about_hers.receipt or "") == len(about_nothing.receipt or "")
    assert [await scene.hers[state].rows(table, at=helpline) for table in tables] == before
    await _nothing_is_released(scene, state)


async def test_an_answer_under_an_own_referral_to_the_shelters_offer(scene: Scene) -> None:
    """The stranger was asked for something else, about another woman: the shelter's offer is no part of that."""
    consent, request = to_the_labour_office()
    own = await begin(scene.together, receiver=LABOUR_OFFICE, consent=consent, **request)
    about = {"referral": own.id, "number": scene.stranger.now()}
    kind, event, content = ANSWERS["accepts"]
    hers, unknown = (
        scene.stranger.answer(kind, event, content, in_reply_to=offer, **about)
        for offer in (await scene.hers[State.RECEIVED].offer(), secrets.token_hex(16))
    )
    with watched(scene.together[HELPLINE]) as helpline:
        await refused(helpline, scene.stranger, hers, Refusal(9, "reply-unknown"))
        assert await _heard(helpline, scene.stranger, hers) == await _heard(helpline, scene.stranger, unknown)
    await _nothing_is_released(scene, State.RECEIVED)
    assert (await own.outgoing())["disclosure"] == ["held"]


async def test_an_answer_in_the_shelters_name(scene: Scene) -> None:
    """Who brings it is not who it says it is from; that the signature is not the shelter's is not even asked."""
    hers = scene.hers[State.RECEIVED]
    kind, event, content = ANSWERS["accepts"]
    about = {"referral": hers.id, "in_reply_to": await hers.offer(), "sender": SHELTER.agency}
    with watched(scene.together[HELPLINE]) as helpline:
        said = scene.stranger.answer(kind, event, content, **about)
        await refused(helpline, scene.stranger, said, Refusal(3, "wrong-recipient"))
    await _nothing_is_released(scene, State.RECEIVED)


async def test_the_shelters_own_word_lets_her_name_go(scene: Scene) -> None:
    """It was all that was missing: this is what the stranger was after."""
    hers = await begin(scene.together, priority="emergency")
    assert await hers.outgoing() == {"offer": ["delivered"], "disclosure": ["held"]}
    await hers.decides("accepted")
    assert await hers.outgoing() == {"offer": ["delivered"], "disclosure": ["delivered"]}
    assert {row["peer"] for row in await hers.outbox_rows()} == {SHELTER.agency}


async def _heard(node: Watched, stranger: LyingPeer, said: Envelope) -> tuple[bytes, list[tuple[str, str]], list[str]]:
    await stranger.token()
    with statements_of(node.one) as statements:
        answer = await stranger.post(batch_of(said))
    return answer.content, answer.headers.multi_items(), statements


async def _nothing_is_released(scene: Scene, state: State) -> None:
    """Also when the helpline's clocks and courier have had their turn."""
    await scene.together.travel(rounds=1)
    hers, disclosure = scene.hers[state], "held" if state is State.RECEIVED else "delivered"
    assert await hers.outgoing() == {"offer": ["delivered"], "disclosure": [disclosure]}
    await hers.both_say(state.value)
    assert not (await hers.flags()).undeliverable
    assert {row["peer"] for row in await hers.outbox_rows()} == {SHELTER.agency}
