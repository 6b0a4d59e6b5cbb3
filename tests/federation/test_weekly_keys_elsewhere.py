"""Weekly keys that the agency's own software makes: what its node publishes, and what it believes of its peers'."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.blind import Office
from support.federation import Federation, federation
from support.founded import PASSPHRASE
from support.people import consent_request, referral_request

from exchange.api import health
from exchange.client import ProblemError
from exchange.client.vault import AgencyVault, Identity, VaultError, open_agency_folder
from exchange.client.vault.weekly_keys import peer_epoch
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.epochs import EpochStatement, Week, state_epoch, week_of
from exchange.envelope.keys import AgencyKey, EpochKey
from exchange.envelope.statements import parse_statement, sign_statement
from exchange.envelope.wire import from_base64url, to_base64url
from exchange.federation.peers import fetch_peer_keys
from exchange.limits import HOUR_MS, LIMITS
from exchange.schemas.node import EpochKeyView, Health, PeerKeys
from exchange.schemas.problems import Who
from exchange.schemas.sealing import EpochsRequest
from exchange.use_cases.describe_node import readiness
from exchange.use_cases.maintain import maintain
from exchange.use_cases.own_epochs import publish_own_epochs

pytestmark = pytest.mark.asyncio(loop_scope="module")
WEEK = LIMITS.epoch_ms


@dataclass
class Scene:
    together: Federation
    office: Office

    @property
    def identity(self) -> Identity:
        assert self.office.vault is not None
        return self.office.vault._identity

    async def highest(self) -> int:
        return max(epoch.seq for epoch in (await self.office.client.sealing.published()).epochs)

    def statement(self, week: Week, seq: int, *, agency: str | None = None, key: AgencyKey | None = None) -> str:
        signed = state_epoch(
            EpochKey(b"\x07" * 32),
            week,
            agency=agency or self.office.node.agency,
            seq=seq,
            sign=(key or self.identity.key).sign,
        )
        return to_base64url(signed.to_bytes())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with federation(tmp_path_factory.mktemp("weeks"), (HELPLINE, SHELTER), blind=(HELPLINE,)) as together:
        yield Scene(together, Office.of(together[HELPLINE]))


def _now(scene: Scene) -> Week:
    return week_of(scene.together.clock())


Make = Callable[[Scene, int], str]
REFUSED: dict[str, tuple[Make, str]] = {
    "no-statement": (lambda _scene, _seq: "e30", "statement-malformed"),
    "signed-by-another": (
        lambda scene, seq: scene.statement(_now(scene), seq, key=AgencyKey(b"\x05" * 32)),
        "statement-signature",
    ),
    "about-another": (lambda scene, seq: scene.statement(_now(scene), seq, agency=SHELTER.agency), "epoch-of-another"),
    "over": (
        lambda scene, seq: scene.statement(week_of(scene.together.clock() - WEEK), seq),
        "epoch-over",
    ),
    "not-a-week": (
        lambda scene, seq: scene.statement(Week(_now(scene).not_before, _now(scene).not_after + WEEK), seq),
        "epoch-not-a-week",
    ),
    "far-ahead": (
        lambda scene, seq: scene.statement(
            week_of(scene.together.clock() + (LIMITS.epochs_ahead_read + 1) * WEEK), seq
        ),
        "from-the-future",
    ),
    "in-a-year-that-no-calendar-has": (lambda scene, seq: scene.statement(week_of(2**52), seq), "from-the-future"),
    "a-number-that-was-used": (lambda scene, _seq: scene.statement(_now(scene), 1), "epoch-went-back"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_statement_that_is_not_right_is_not_published(scene: Scene, name: str) -> None:
    make, code = REFUSED[name]
    before = await scene.office.client.sealing.published()
    request = EpochsRequest(statements=(make(scene, await scene.highest() + 1),))
    with pytest.raises(ProblemError) as refused:
        await scene.office.client.sealing.publish(request)
    assert (refused.value.problem.code, refused.value.problem.who) == (code, Who.SENDER)
    assert await scene.office.client.sealing.published() == before


async def test_a_key_of_low_order_is_not_published(scene: Scene) -> None:
    good = parse_statement(EpochStatement, from_base64url(scene.statement(_now(scene), 99), member="s", longest=4096))
    low = replace(good.unverified, key=to_base64url(bytes(32)), key_id="66687aadf862bd776c8fc18b8e9f8e20")
    signed = sign_statement(low, scene.identity.key.sign).to_bytes()
    with pytest.raises(ProblemError) as refused:
        await scene.office.client.sealing.publish(EpochsRequest(statements=(to_base64url(signed),)))
    assert (refused.value.problem.code, refused.value.problem.who) == ("key-unusable", Who.SENDER)


async def test_a_node_that_holds_the_keys_takes_no_statements(scene: Scene) -> None:
    request = EpochsRequest(statements=(scene.statement(_now(scene), 99),))
    with pytest.raises(ProblemError) as refused:
        await scene.together[SHELTER].client().sealing.publish(request)
    assert refused.value.problem.code == "keys-here"


async def test_publishing_again_changes_nothing_and_a_new_week_adds_one(scene: Scene) -> None:
    assert scene.office.vault is not None
    before = await scene.office.vault.publish_epochs()
    assert (len(before.epochs), before.weeks_ahead) == (6, 5)
    assert await scene.office.vault.publish_epochs() == before


async def test_an_answer_that_was_lost_is_no_new_key(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored, handed in, and never answered: the same statements go again."""
    vault = scene.office.vault
    assert vault is not None
    scene.together.clock.pass_by(hours=7 * 24)
    sent: list[tuple[str, ...]] = []

    async def lost(request: EpochsRequest) -> None:
        sent.append(request.statements)
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(scene.office.client.sealing, "publish", lost)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await vault.publish_epochs()
    assert sent[0] == sent[1]
    assert len(sent[0]) == 1
    assert (await vault.publish_epochs()).weeks_ahead == 5


async def test_another_machine_does_not_publish_over_keys_that_it_does_not_have(scene: Scene) -> None:
    folder = scene.office.node.agency_home
    other = folder.parent / "second-machine"
    other.mkdir(mode=0o700)
    for name in ("agency.keys", "roster.json"):
        (other / name).write_bytes((folder / name).read_bytes())
        (other / name).chmod(0o600)
    second = AgencyVault(
        replace(open_agency_folder(other, PASSPHRASE), clock=scene.together.clock), scene.office.client
    )
    with pytest.raises(VaultError) as refused:
        await second.publish_epochs()
    assert refused.value.code == "other-store"
    second.close()


async def test_the_node_says_when_the_weekly_keys_have_run_out(scene: Scene) -> None:
    node = scene.office.node.node
    assert (await readiness(node)).checks["epoch-key"] == "ok"
    scene.together.clock.pass_by(hours=7 * 24 * 7)
    health = await readiness(node)
    assert (health.status, health.checks["epoch-key"]) == ("ready", "missing")
    assert scene.office.vault is not None
    await scene.office.vault.publish_epochs()
    assert (await readiness(node)).checks["epoch-key"] == "ok"


def _older(view: PeerKeys) -> PeerKeys:
    return view.model_copy(update={"epochs": tuple(sorted(view.epochs, key=lambda one: one.seq))[:1]})


def _unproven(view: PeerKeys) -> PeerKeys:
    def touched(epoch: EpochKeyView) -> EpochKeyView:
        return epoch.model_copy(update={"statement": epoch.statement[:-8] + "AAAAAAAA"})

    return view.model_copy(update={"epochs": tuple(touched(epoch) for epoch in view.epochs)})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(lambda view: view.model_copy(update={"roster_version": 9}), "roster-differs", id="roster"),
        pytest.param(
            lambda view: view.model_copy(update={"roster_digest": "0" * 64}), "roster-differs", id="another-roster"
        ),
        pytest.param(_unproven, "peer-keys-refused", id="unproven"),
        pytest.param(_older, "peer-keys-refused", id="older-than-seen"),
        pytest.param(lambda view: view.model_copy(update={"epochs": ()}), "peer-keys-unknown", id="none"),
    ],
)
async def test_a_peers_keys_are_believed_for_their_proof_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, change: Callable[[PeerKeys], PeerKeys], code: str
) -> None:
    client = scene.office.client
    await scene.together.travel(1)
    proven = await peer_epoch(scene.identity, client, SHELTER.agency)
    assert proven.covers(scene.together.clock())
    view = change(await client.federation.peer_keys(SHELTER.agency))

    async def says(_agency: str) -> PeerKeys:
        return view

    monkeypatch.setattr(client.federation, "peer_keys", says)
    with pytest.raises(VaultError) as refused:
        await peer_epoch(scene.identity, client, SHELTER.agency)
    assert refused.value.code == code


async def test_two_keys_with_one_number_are_not_sealed_to(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is the newer, and whoever lists them would choose."""
    client, keyring = scene.office.client, scene.together[SHELTER].node.keyring
    assert keyring is not None
    known = await client.federation.peer_keys(SHELTER.agency)
    highest = max(epoch.seq for epoch in known.epochs)
    said = scene.statement(_now(scene), highest, agency=SHELTER.agency, key=keyring.agency_key)
    twice = known.epochs[0].model_copy(update={"statement": said})

    async def says(_agency: str) -> PeerKeys:
        return known.model_copy(update={"epochs": (*known.epochs, twice)})

    monkeypatch.setattr(client.federation, "peer_keys", says)
    with pytest.raises(VaultError) as refused:
        await peer_epoch(scene.identity, client, SHELTER.agency)
    assert refused.value.code == "peer-keys-refused"


async def test_the_keys_of_another_member_are_not_the_receivers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are proven, and of the roster: whoever runs the node could be that member, and read what was sealed."""
    client, me = scene.office.client, scene.identity.me
    assert scene.office.vault is not None
    await scene.office.vault.publish_epochs()
    known, own = await client.federation.peer_keys(SHELTER.agency), await client.sealing.published()
    view = known.model_copy(update={"agency": me.agency, "epochs": own.epochs})

    async def says(_agency: str) -> PeerKeys:
        return view

    monkeypatch.setattr(client.federation, "peer_keys", says)
    with pytest.raises(VaultError) as refused:
        await peer_epoch(scene.identity, client, SHELTER.agency)
    assert refused.value.code == "peer-keys-refused"


async def test_a_stolen_agency_key_uses_up_no_numbers_of_the_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thief published the highest number there is; then the roster gave the agency another key."""
    client, stolen, following = scene.office.client, AgencyKey(b"\x11" * 32), AgencyKey(b"\x12" * 32)
    known = await client.federation.peer_keys(SHELTER.agency)

    async def believed(key: AgencyKey, seq: int) -> EpochStatement:
        said = scene.statement(_now(scene), seq, agency=SHELTER.agency, key=key)
        view = known.model_copy(update={"epochs": (known.epochs[0].model_copy(update={"statement": said}),)})

        async def says(_agency: str) -> PeerKeys:
            return view

        members = dict(scene.identity.roster.members)
        members[SHELTER.agency] = members[SHELTER.agency].model_copy(update={"agency_key": key.public})
        roster = replace(scene.identity.roster, members=members)
        with monkeypatch.context() as patched:
            patched.setattr(client.federation, "peer_keys", says)
            return await peer_epoch(replace(scene.identity, roster=roster), client, SHELTER.agency)

    assert (await believed(stolen, 2**53 - 1)).seq == 2**53 - 1
    assert (await believed(following, 7)).seq == 7
    with pytest.raises(VaultError) as refused:
        await believed(following, 6)
    assert refused.value.code == "peer-keys-refused"


async def test_a_node_that_substitutes_keys_gets_nothing_sealed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    client, vault = scene.office.client, scene.office.vault
    assert vault is not None
    consent = await client.consents.record(consent_request(SHELTER.agency))
    view = _unproven(await client.federation.peer_keys(SHELTER.agency))

    async def says(_agency: str) -> PeerKeys:
        return view

    monkeypatch.setattr(client.federation, "peer_keys", says)
    with pytest.raises(VaultError):
        await vault.refer(referral_request(SHELTER.agency, consent.id))


THIEF = AgencyKey(b"\x05" * 32)
LYING: dict[str, tuple[dict[str, Any], AgencyKey | None]] = {
    "signed-by-another": ({}, THIEF),
    "in-anothers-name": ({"agency": HELPLINE.agency}, None),
    "for-ever": ({"not_after": 2**52}, None),
    "under-another-keys-id": ({"key_id": "f" * 32}, None),
}


@pytest.mark.parametrize("lie", LYING)
async def test_a_peers_key_is_its_own_for_this_week_and_signed_by_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    changes, signs = LYING[lie]
    client, key = scene.office.client, signs or scene.together[SHELTER].node.keyring.agency_key
    await scene.together.travel(1)
    view = await client.federation.peer_keys(SHELTER.agency)
    text = scene.statement(_now(scene), max(one.seq for one in view.epochs), agency=SHELTER.agency)
    honest = parse_statement(EpochStatement, from_base64url(text, member="s", longest=4096)).unverified
    said = [sign_statement(replace(honest, **changes), key.sign)]

    async def says(_agency: str) -> PeerKeys:
        statement = to_base64url(said[-1].to_bytes())
        return view.model_copy(update={"epochs": (view.epochs[0].model_copy(update={"statement": statement}),)})

    monkeypatch.setattr(client.federation, "peer_keys", says)
    with pytest.raises(VaultError) as refused:
        await peer_epoch(scene.identity, client, SHELTER.agency)
    assert refused.value.code == "peer-keys-refused"
    said.append(sign_statement(honest, scene.together[SHELTER].node.keyring.agency_key.sign))
    assert await peer_epoch(scene.identity, client, SHELTER.agency) == honest


async def test_a_key_ends_here_when_its_time_is_over_and_not_before(scene: Scene) -> None:
    """What was sealed in its last minute may still be on its way."""
    store, vault = scene.identity.store, scene.office.own_vault
    await vault.publish_epochs()
    key_id = next(key for key, begins, _, _ in store.epochs() if begins == _now(scene).not_before)
    last = _now(scene).not_after + LIMITS.epoch_grace_ms
    scene.together.clock.pass_by(hours=(last - scene.together.clock()) // HOUR_MS - 1)
    await vault.publish_epochs()
    assert store.epoch_key(key_id) is not None
    scene.together.clock.pass_by(hours=2)
    await vault.publish_epochs()
    assert store.epoch_key(key_id) is None


@pytest.mark.parametrize("why", ["jumped", "not-ready"])
async def test_by_a_clock_that_its_node_doubts_no_key_ends(
    scene: Scene, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, vault, one = scene.identity.store, scene.office.own_vault, scene.together[HELPLINE]
    await vault.publish_epochs()
    await one.courier._look_at_clock()
    before = {key for key, _, _, _ in store.epochs()}
    scene.together.clock.pass_by(hours=40 * 24)
    if why == "not-ready":
        monkeypatch.setattr(health, "readiness", _not_ready)
    await vault.publish_epochs()
    assert before <= {key for key, _, _, _ in store.epochs()}
    monkeypatch.undo()
    await one.courier._greet()
    await vault.publish_epochs()
    assert len(before & {key for key, _, _, _ in store.epochs()}) < len(before)


async def test_a_peers_keys_go_on_when_the_highest_number_is_of_a_week_that_is_over(tmp_path: Path) -> None:
    """Its clock was ahead for a while, so that its later weeks have the lower numbers."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE,)) as together:
        office, shelter = Office.of(together[HELPLINE]), together[SHELTER].node
        await publish_own_epochs(replace(shelter, clock=lambda: together.clock() + 8 * WEEK))
        for weeks in (2, 6, 1):
            together.clock.pass_by(hours=7 * 24 * weeks)
            await publish_own_epochs(shelter)
            await shelter_is_asked(together)
            assert (await peer_epoch(office.identity, office.client, SHELTER.agency)).covers(together.clock())
        together.clock.pass_by(hours=7 * 24 * 9)
        with pytest.raises(VaultError) as refused:
            await peer_epoch(office.identity, office.client, SHELTER.agency)
        assert refused.value.code == "peer-keys-unknown"


async def test_who_replaced_only_the_key_of_this_week_may_sleep(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE,)) as together:
        scene, asks = Scene(together, Office.of(together[HELPLINE])), together[SHELTER]
        helpline = asks.node.world().roster.member(HELPLINE.agency)
        this_week = scene.statement(_now(scene), await scene.highest() + 1)
        await scene.office.client.sealing.publish(EpochsRequest(statements=(this_week,)))
        for _ in range(4):
            assert await fetch_peer_keys(asks.node, asks.courier._transport, helpline)
            together.clock.pass_by(hours=7 * 24)
            await maintain(scene.office.node.node)


async def shelter_is_asked(together: Federation) -> None:
    one = together[HELPLINE]
    assert await fetch_peer_keys(one.node, one.courier._transport, one.node.world().roster.member(SHELTER.agency))


async def _not_ready(_: object) -> Health:
    return Health(status="not-ready", checks={"clock": "ok", "database": "storage-busy"})
