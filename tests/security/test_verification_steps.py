"""Every step of receiving, each refused to a member that lies with valid keys. Numbers as in docs/protocol.md.

Each forged envelope holds at every other step, so that exactly the named one refuses. The answer says which code and
who has to act, repeats nothing that was submitted, and not one row of the receiver's database changed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import pytest_asyncio
from nacl.secret import Aead
from sqlalchemy import select
from support.federation import federation
from support.lying_peer import LyingPeer, row_counts

from contracts.vocabulary import Basis
from exchange.demo.federation import HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.envelope.format import Envelope
from exchange.envelope.keys import Dek
from exchange.envelope.kinds import Kind, SignedBy
from exchange.envelope.seal import assemble, wrap_dek
from exchange.envelope.wire import canonical, read_again
from exchange.limits import DAY_MS, HOUR_MS
from exchange.roster import Status
from exchange.schemas.federation import ItemAnswer
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.tables import EVENT
from exchange.use_cases.acting import Acting
from exchange.use_cases.decide_referral import decide_referral
from exchange.use_cases.node import Node, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "Canary-Bunga"


@dataclass(slots=True)
class Scene:
    """A liar, an honest receiver, and what lies between them."""

    liar: LyingPeer
    other: LyingPeer
    """Another member, and a liar too."""
    open: str
    """A referral the receiver has not answered."""
    accepted: str
    """One it has accepted."""
    accepting: str
    """The digest of that acceptance."""
    stopped: str
    """One that was withdrawn."""
    foreign: str
    """One between the receiver and the other member."""
    offer: Envelope
    """The accepted referral's offer, as it was delivered."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("steps")
    async with federation(folder, (HELPLINE, SHELTER, LABOUR_OFFICE)) as together:
        liar = await LyingPeer.of(together[HELPLINE], together[SHELTER])
        other = await LyingPeer.of(together[LABOUR_OFFICE], together[SHELTER])
        ids = [secrets.token_hex(16) for _ in range(4)]
        offer = liar.forward(referral=ids[1])
        made = [liar.forward(referral=ids[0]), offer, liar.forward(referral=ids[2])]
        made.append(liar.stop(Kind.WITHDRAWAL, referral=ids[2], event="stop-service", number=liar.now() + 1))
        assert [one.result for one in await liar.deliver(*made)] == ["accepted"] * 4
        assert [one.result for one in await other.deliver(other.forward(referral=ids[3]))] == ["accepted"]
        node = together[SHELTER].node
        item = read_again(offer.header)["id"]
        await decide_referral(node, Acting("test", "w-1"), item, DecisionRequest(decision="accepted"))
        query = select(EVENT.c.digest).where(EVENT.c.referral == ids[1], EVENT.c.name == "accepted")
        accepting = await node.database.read(lambda conn: str(conn.execute(query).scalar_one()))
        yield Scene(liar, other, ids[0], ids[1], accepting, ids[2], ids[3], offer)


Forge = Callable[[Scene], Envelope | dict[str, Any]]


def _raw(scene: Scene, **changes: Any) -> Envelope:
    """An offer whose header has members that no honest writer writes; signed all the same."""
    envelope = scene.liar.forward()
    return scene.liar.signed(replace(envelope, header=canonical(read_again(envelope.header) | changes)))


def _wrapped_wrongly(scene: Scene) -> Envelope:
    header = scene.liar.header(Kind.OFFER)
    wrapped = wrap_dek(Dek(secrets.token_bytes(32)), scene.liar.epoch.public)
    body = secrets.token_bytes(10)
    dek, nonce = Dek(secrets.token_bytes(32)), secrets.token_bytes(24)
    return assemble(header, body, wrapped_key=wrapped, sign=scene.liar.agency_key.sign, dek=dek, nonce=nonce)


def _changed_ciphertext(scene: Scene) -> Envelope:
    envelope = scene.liar.forward()
    return scene.liar.signed(replace(envelope, ciphertext=envelope.ciphertext[:-1] + b"\x00"))


def _padded_wrongly(scene: Scene) -> Envelope:
    dek = secrets.token_bytes(32)
    header = replace(scene.liar.header(Kind.OFFER), dek_commitment=Dek(dek).commitment())
    head = canonical(header.members())
    ciphertext = bytes(Aead(dek).encrypt(bytes(4096), head, secrets.token_bytes(24)))
    return scene.liar.signed(Envelope(head, wrap_dek(Dek(dek), scene.liar.epoch.public), ciphertext, b""))


def _disclosure(scene: Scene, referral: str, *, content: dict[str, Any] | None = None, **changes: Any) -> Envelope:
    inside = {"preferred_name": CANARY} if content is None else content
    return scene.liar.forward(Kind.DISCLOSURE, inside, referral=referral, groups=("name",), **changes)


def _with_release(scene: Scene, referral: str, **changes: Any) -> Envelope:
    accepting = changes.pop("accepting", scene.accepting)
    return scene.liar.released(_disclosure(scene, referral), accepting, **changes)


def _release_of_another_key(scene: Scene) -> Envelope:
    envelope = _disclosure(scene, scene.accepted)
    other = scene.other.released(envelope, scene.accepting)
    return replace(envelope, release=other.release)


def _same_id(scene: Scene) -> Envelope:
    return scene.liar.forward(id=read_again(scene.offer.header)["id"])


def _answer(scene: Scene, referral: str, **changes: Any) -> Envelope:
    reply = read_again(scene.offer.header)["id"]
    decline = {"decision": "declined", "reason": "no-capacity"}
    return scene.liar.answer(Kind.DECISION, "declined", decline, referral=referral, in_reply_to=reply, **changes)


def _at(scene: Scene, ms: int) -> int:
    return scene.liar.now() + ms


LATER = "later"
STEPS: list[Any] = [
    pytest.param(
        lambda s: s.liar.forward().to_json() | {"ciphertext": "A" * 100_000}, "too-large", id="1-part-too-large"
    ),
    pytest.param(lambda s: s.liar.forward().to_json() | {CANARY: "x"}, "malformed", id="2-unknown-member"),
    pytest.param(lambda _: {"header": CANARY}, "malformed", id="2-members-missing"),
    pytest.param(lambda s: s.liar.forward().to_json() | {"signature": "A==="}, "malformed", id="2-other-spelling"),
    pytest.param(lambda s: _raw(s, note=CANARY), "malformed", id="2-unknown-header-member"),
    pytest.param(lambda s: _raw(s, created=1.5), "malformed", id="2-fraction"),
    pytest.param(lambda s: _disclosure(s, s.accepted), "malformed", id="2-disclosure-without-release"),
    pytest.param(lambda s: replace(s.liar.forward(), release=b"{}"), "malformed", id="2-release-with-an-offer"),
    pytest.param(lambda s: s.liar.forward(recipient="another-house"), "wrong-recipient", id="3-to-somebody-else"),
    pytest.param(lambda s: s.other.forward(), "wrong-recipient", id="3-from-somebody-else"),
    pytest.param(lambda s: _raw(s, suite="rx0"), "unknown-suite", id="5-suite"),
    pytest.param(lambda s: _raw(s, vocabulary=99), "unknown-vocabulary", id="5-vocabulary"),
    pytest.param(
        lambda s: s.liar.forward(created=_at(s, HOUR_MS), respond_by=_at(s, 2 * HOUR_MS), expires=_at(s, 26 * HOUR_MS)),
        "from-the-future",
        id="6-from-the-future",
    ),
    pytest.param(
        lambda s: s.liar.forward(
            created=_at(s, -2 * DAY_MS), respond_by=_at(s, -26 * HOUR_MS), expires=_at(s, -2 * HOUR_MS)
        ),
        "expired",
        id="6-expired",
    ),
    pytest.param(
        lambda s: s.liar.released(
            _disclosure(s, s.accepted, created=_at(s, -2 * DAY_MS), expires=_at(s, -DAY_MS)), s.accepting
        ),
        "release-too-late",
        id="6-released-after-its-end",
    ),
    pytest.param(
        lambda s: s.liar.released(
            _disclosure(s, s.accepted, created=_at(s, -16 * DAY_MS), expires=_at(s, -14 * DAY_MS)),
            s.accepting,
            released_at=_at(s, -15 * DAY_MS),
        ),
        "expired",
        id="6-delivered-too-late",
    ),
    pytest.param(lambda s: s.liar.forward(signing_key="ab" * 16), LATER, id="7-unknown-key"),
    pytest.param(
        lambda s: s.liar.forward(signing_key=s.liar.liar.node.node_key.key_id), LATER, id="7-key-of-the-other-kind"
    ),
    pytest.param(lambda s: replace(s.liar.forward(), signature=bytes(63) + b"\x01"), "bad-signature", id="8-signature"),
    pytest.param(
        lambda s: replace(s.liar.forward(), wrapped_key=bytes(80)), "bad-signature", id="8-wrapped-key-exchanged"
    ),
    pytest.param(_same_id, "id-conflict", id="8-same-id-other-digest"),
    pytest.param(lambda s: s.liar.forward(referral=s.open), "not-legal", id="9-second-offer"),
    pytest.param(lambda s: s.liar.forward(referral=s.stopped), "withdrawn", id="9-offer-after-her-no"),
    pytest.param(lambda s: _with_release(s, secrets.token_hex(16)), LATER, id="9-disclosure-without-offer"),
    pytest.param(lambda s: _with_release(s, s.foreign), LATER, id="9-forward-about-anothers-referral"),
    pytest.param(lambda s: _with_release(s, s.open), "not-accepted", id="9-disclosure-before-acceptance"),
    pytest.param(lambda s: _with_release(s, s.stopped), "not-legal", id="9-disclosure-after-her-no"),
    pytest.param(
        lambda s: _with_release(s, s.accepted, accepting="00" * 32), "not-accepted", id="9-release-of-no-acceptance"
    ),
    pytest.param(
        lambda s: _with_release(s, s.accepted, disclosure="00" * 32), "release-invalid", id="9-release-of-another"
    ),
    pytest.param(_release_of_another_key, "release-invalid", id="9-release-by-another-node"),
    pytest.param(
        lambda s: s.liar.forward(
            Kind.UPDATE, {"preferred_name": CANARY}, referral=s.open, stage="disclosure", groups=("name",)
        ),
        "not-accepted",
        id="9-update-that-discloses-before-acceptance",
    ),
    pytest.param(
        lambda s: s.liar.forward(Kind.INFORMATION, referral=s.open, in_reply_to="ab" * 16),
        "reply-unknown",
        id="9-reply-to-nothing",
    ),
    pytest.param(
        lambda s: s.liar.forward(Kind.UPDATE, referral=s.open, purpose="provide-legal-aid"),
        "not-legal",
        id="9-another-purpose",
    ),
    pytest.param(lambda s: s.liar.forward(Kind.HOLD, referral=s.open), "kind-not-supported", id="9-kind-of-later"),
    pytest.param(lambda s: _answer(s, s.open), "not-legal", id="9-answer-by-the-referring-side"),
    pytest.param(lambda s: _answer(s, secrets.token_hex(16)), "unknown-referral", id="9-answer-about-nothing"),
    pytest.param(lambda s: _answer(s, s.foreign), "unknown-referral", id="9-answer-about-anothers-referral"),
    pytest.param(lambda s: s.liar.forward(contract="ab" * 32), LATER, id="10-unknown-contract"),
    pytest.param(
        lambda s: s.liar.forward(receipt={"groups": ("safety",)}), "receipt-mismatch", id="11-groups-not-covered"
    ),
    pytest.param(
        lambda s: s.liar.forward(receipt={"issuer": "labour-office"}), "receipt-mismatch", id="11-another-issuer"
    ),
    pytest.param(
        lambda s: s.liar.forward(receipt={"recipient": "another-house"}), "receipt-mismatch", id="11-another-recipient"
    ),
    pytest.param(
        lambda s: s.liar.forward(receipt={"purpose": "provide-legal-aid"}), "receipt-mismatch", id="11-another-purpose"
    ),
    pytest.param(
        lambda s: s.liar.forward(receipt={"issued": 1, "expires": 2}), "receipt-expired", id="11-consent-over"
    ),
    pytest.param(lambda s: s.liar.forward(receipt={"signature": bytes(64)}), "receipt-signature", id="11-not-signed"),
    pytest.param(lambda s: s.liar.forward(purpose="provide-livelihood"), "no-rule", id="12-no-rule-for-this-service"),
    pytest.param(
        lambda s: s.liar.forward(groups=("need", "perpetrator")), "over-shared", id="12-group-never-permitted"
    ),
    pytest.param(lambda s: s.liar.forward(groups=("name", "need")), "over-shared", id="12-name-in-an-offer"),
    pytest.param(lambda s: s.liar.forward(epoch_key=s.other.strange.key_id), "cannot-unwrap", id="13-unknown-epoch"),
    pytest.param(_wrapped_wrongly, "commitment-mismatch", id="14-another-data-key"),
    pytest.param(_changed_ciphertext, "cannot-decrypt", id="14-ciphertext-changed"),
    pytest.param(_padded_wrongly, "bad-padding", id="15-no-padding-mark"),
    pytest.param(lambda s: s.liar.forward(body=CANARY.encode()), "content-invalid", id="16-not-a-content"),
    pytest.param(
        lambda s: s.liar.forward(
            body=b'{"basis":"consent","content":{"' + CANARY.encode() + b'":1},"feedback":"decision"}'
        ),
        "content-invalid",
        id="16-unknown-field",
    ),
    pytest.param(lambda s: s.liar.forward(groups=("need", "safety")), "groups-differ", id="16-more-groups-than-inside"),
    pytest.param(
        lambda s: s.liar.forward(content={"needs": ["tonight"], "safety_flags": ["confined"]}),
        "groups-differ",
        id="16-fewer-groups-than-inside",
    ),
    pytest.param(
        lambda s: s.liar.forward(content={"needs": ["tonight"], "referring_agency": "labour-office"}, groups=_ROUTED),
        "content-invalid",
        id="16-another-agency-inside",
    ),
    pytest.param(lambda s: s.liar.forward(basis=Basis.CAREGIVER_AND_ASSENT), "basis-differs", id="17-another-basis"),
    pytest.param(
        lambda s: s.liar.forward(content={"care_window": "under-72h"}, groups=("health",)),
        "over-shared",
        id="17-field-not-permitted",
    ),
]
_ROUTED = ("need", "routing")


@pytest.mark.parametrize(("forge", "code"), STEPS)
async def test_a_forged_envelope_is_refused_at_its_step(scene: Scene, forge: Forge, code: str) -> None:
    database = scene.liar.to.node.database
    before = await row_counts(database)
    forged = forge(scene)
    (answer,) = await scene.liar.deliver(forged)
    _is_refused(answer, code)
    _repeats_nothing(answer, forged)
    assert await row_counts(database) == before


@pytest.mark.parametrize(
    ("status", "forge", "code"),
    [
        pytest.param(Status.SUSPENDED, lambda s: s.liar.forward(), "not-in-good-standing", id="7-suspended-offer"),
        pytest.param(Status.LEFT, lambda s: s.liar.forward(), "not-in-good-standing", id="7-left-offer"),
        pytest.param(
            Status.SUSPENDED,
            lambda s: _with_release(s, s.accepted),
            "not-in-good-standing",
            id="7-suspended-disclosure",
        ),
    ],
)
async def test_standing_refuses_forwards(scene: Scene, status: Status, forge: Forge, code: str) -> None:
    node = scene.liar.to.node
    before = await row_counts(node.database)
    with _other_world(node, lambda world: _with_status(world, scene.liar.liar.agency, status)):
        (answer,) = await scene.liar.deliver(forge(scene))
    _is_refused(answer, code)
    assert await row_counts(node.database) == before


async def test_7_a_peer_that_is_in_no_roster_waits_for_a_newer_one(scene: Scene) -> None:
    node = scene.liar.to.node
    before = await row_counts(node.database)
    with _other_world(node, lambda world: _without(world, scene.liar.liar.agency)):
        (answer,) = await scene.liar.deliver(scene.liar.forward())
    _is_refused(answer, LATER)
    assert await row_counts(node.database) == before


async def test_10_a_contract_that_is_not_in_force_between_the_two(scene: Scene) -> None:
    node = scene.liar.to.node
    before = await row_counts(node.database)
    with _other_world(node, lambda world: replace(world, roster=replace(world.roster, contracts=()))):
        (answer,) = await scene.liar.deliver(scene.liar.forward())
    _is_refused(answer, "contract-not-in-force")
    assert await row_counts(node.database) == before


async def test_4_a_repeat_gets_the_first_bytes_and_changes_nothing(scene: Scene) -> None:
    first = scene.liar.forward()
    (accepted,) = await scene.liar.deliver(first)
    before = await row_counts(scene.liar.to.node.database)
    once_more = await scene.liar.deliver(first, first)
    assert [answer.receipt for answer in once_more] == [accepted.receipt] * 2
    assert await row_counts(scene.liar.to.node.database) == before


async def test_a_bad_item_never_fails_its_batch(scene: Scene) -> None:
    answers = await scene.liar.deliver(scene.liar.forward(), {"header": CANARY}, _padded_wrongly(scene))
    assert [answer.result for answer in answers] == ["accepted", "refused", "refused"]


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.LEFT])
@pytest.mark.parametrize("signed_by", list(SignedBy))
async def test_her_no_passes_whatever_the_standing(scene: Scene, status: Status, signed_by: SignedBy) -> None:
    node = scene.liar.to.node
    stop = scene.liar.stop(Kind.WITHDRAWAL, event="stop-service", signed_by=signed_by)
    with _other_world(node, lambda world: _with_status(world, scene.liar.liar.agency, status)):
        (answer,) = await scene.liar.deliver(stop)
    assert answer.result == "accepted"


def _is_refused(answer: ItemAnswer, code: str) -> None:
    if code == LATER:
        assert (answer.result, answer.problem) == ("later", None)
        assert answer.retry_after is not None
        return
    assert answer.problem is not None, answer.result
    assert (answer.result, answer.problem.code, answer.problem.who) == ("refused", code, "sender")
    assert answer.problem.type.endswith(f"#{code}")


def _repeats_nothing(answer: ItemAnswer, forged: Envelope | dict[str, Any]) -> None:
    said = answer.model_dump_json()
    assert CANARY not in said
    if isinstance(forged, Envelope):
        header = json.loads(forged.header)
        values = (header["id"], header["referral"], header["from"], header["to"], forged.digest())
        assert not [value for value in values if value in said]


@contextmanager
def _other_world(node: Node, change: Callable[[World], World]) -> Any:
    real = node.world
    changed = change(real())
    node.world = lambda: changed
    try:
        yield
    finally:
        node.world = real


def _with_status(world: World, agency: str, status: Status) -> World:
    members = dict(world.roster.members)
    members[agency] = members[agency].model_copy(update={"status": status})
    return replace(world, roster=replace(world.roster, members=MappingProxyType(members)))


def _without(world: World, agency: str) -> World:
    members = {name: member for name, member in world.roster.members.items() if name != agency}
    return replace(world, roster=replace(world.roster, members=MappingProxyType(members)))
