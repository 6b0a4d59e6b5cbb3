"""Weekly keys that the agency's own software has made: revoked by it, published by its node, all of them or none."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import delete
from support.blind import referred
from support.databases import MakeDatabase
from support.federation import Federation, TestNode, federation
from support.founded import PASSPHRASE, history_of
from support.stories import travelled

from exchange.client import ProblemError
from exchange.client.vault import AgencyVault, VaultError, open_agency_folder
from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.epochs import EpochRevocation, published_weeks, state_epoch, state_revocation, week_of
from exchange.envelope.key_file import FLOOR, open_keys, read_key_file, seal_keys
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES, AgencyKey, EpochKey
from exchange.envelope.statements import parse_statement
from exchange.envelope.wire import from_base64url, to_base64url
from exchange.federation.peers import fetch_peer_keys
from exchange.limits import HOUR_MS, LIMITS, MINUTE_MS, WEEK_MS
from exchange.roster import Member
from exchange.schemas.sealing import EpochsRequest, OwnEpochs
from exchange.schemas.shapes import from_millis
from exchange.storage.database import Connection
from exchange.storage.epochs import StoredEpoch, epoch_revocations, own_epochs, publish_epochs
from exchange.storage.tables import EPOCH_REVOCATION, OWN_EPOCH
from exchange.use_cases.describe_node import node_card
from exchange.use_cases.maintain import maintain
from exchange.use_cases.outgoing import current_peer_epoch

LARGEST_SEQ = 2**53 - 1


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline, and a shelter that keeps its keys elsewhere."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as together:
        yield together


async def revokes(pair: Federation, *, hours_ago: float = 3, vault: AgencyVault | None = None) -> tuple[str, ...]:
    since = from_millis(pair.clock() - int(hours_ago * HOUR_MS))
    return await (vault or pair[SHELTER].vault()).revoke_epochs(compromised_since=since)


async def learns(pair: Federation) -> str:
    """The helpline asks for the shelter's card; the key that it seals to now."""
    one = pair[HELPLINE]
    peer = one.node.world().roster.member(SHELTER.agency)
    assert await fetch_peer_keys(one.node, one.courier._transport, peer)
    return (await current_peer_epoch(one.node, peer)).key_id


async def rows(one: TestNode) -> tuple[Sequence[StoredEpoch], list[EpochRevocation]]:
    """What the node publishes, and what it says is revoked."""
    card = await node_card(one.node, revocations=True)
    said = [from_base64url(text, member="s", longest=4096) for text in card.revocations or ()]
    key = one.node.member.agency_key
    return await one.node.database.read(own_epochs), [parse_statement(EpochRevocation, raw).verify(key) for raw in said]


async def test_all_are_revoked_that_of_last_week_too_and_every_week_has_a_new_one(
    tmp_path: Path, make_database: MakeDatabase
) -> None:
    with make_database(history_of("a-main")) as main, make_database(history_of("a-keys")) as keys:
        urls = {f"{SHELTER.agency}-main": main, f"{SHELTER.agency}-keys": keys}
        async with federation(tmp_path, (SHELTER,), database=urls.__getitem__, blind=(SHELTER,)) as alone:
            shelter = alone[SHELTER]
            alone.clock.pass_by(hours=24 * 7)
            await shelter.vault().publish_epochs()
            before, _ = await rows(shelter)
            assert len(before) == 7
            revoked = await revokes(alone, hours_ago=5)
            after, said = await rows(shelter)
            assert list(revoked) == [row.key_id for row in before] == [item.key_id for item in said]
            assert {(item.revoked_at - item.compromised_since) // MINUTE_MS for item in said} == {5 * 60}
            assert [row.not_before for row in after] == [week.not_before for week in published_weeks(alone.clock())]
            numbers = [one.seq for one in (*before, *said, *after)]
            assert numbers == sorted(set(numbers))
            assert await revokes(alone) == tuple(row.key_id for row in after)


async def test_peers_seal_to_a_new_key_which_opens_and_what_was_on_its_way_opens_too(pair: Federation) -> None:
    early = await referred(pair, pair[HELPLINE], pair[SHELTER])
    revoked = await revokes(pair)
    assert await learns(pair) not in revoked
    late = await referred(pair, pair[HELPLINE], pair[SHELTER])
    sealed_to = [one.header.epoch_key for one in travelled(pair) if one.header.kind == "offer"]
    assert [key in revoked for key in sealed_to] == [True, False]
    for story in (early, late):
        assert (await story.helps.open(story.id, "offer")).content is not None


async def test_what_is_held_for_a_revoked_key_is_not_released(pair: Federation) -> None:
    story = await referred(pair, pair[HELPLINE], pair[SHELTER])
    await revokes(pair)
    await learns(pair)
    await story.accepted()
    flags = (await story.asks.client.referrals.read(story.id)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)


def on_a_new_machine(pair: Federation, folder: Path) -> AgencyVault:
    """The shelter's software after its machine was lost: the same agency key, and no weekly key."""
    shelter = pair[SHELTER]
    folder.mkdir(mode=0o700)
    for name in (AGENCY_KEYS_NAME, "roster.json"):
        (folder / name).write_bytes((shelter.agency_home / name).read_bytes())
        (folder / name).chmod(0o600)
    return AgencyVault(replace(open_agency_folder(folder, PASSPHRASE), clock=pair.clock), shelter.client())


async def test_whoever_publishes_again_and_again_stays_readable_for_its_peers(pair: Federation, tmp_path: Path) -> None:
    for place in range(4):
        vault = on_a_new_machine(pair, tmp_path / f"machine-{place}")
        await vault.publish_epochs(replace=True)
        vault.close()
    sealed_to = await learns(pair)
    before = await rows(pair[SHELTER])
    assert len(before[0]) == 30
    last = on_a_new_machine(pair, tmp_path / "machine-4")
    with pytest.raises(ProblemError) as refused:
        await last.publish_epochs(replace=True)
    assert refused.value.problem.code == "epochs-too-many"
    assert await rows(pair[SHELTER]) == before
    assert await learns(pair) == sealed_to
    assert len(await last.revoke_epochs(compromised_since=from_millis(pair.clock() - HOUR_MS))) == 30
    assert (await last.publish_epochs()).weeks_ahead == 5
    new = await learns(pair)
    assert new != sealed_to
    assert last._identity.store.epoch_key(new) is not None
    last.close()


@pytest.mark.parametrize("more_that_never_arrived", [False, True])
async def test_a_week_for_which_another_machine_has_published_later_is_not_ones_own(
    pair: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more_that_never_arrived: bool
) -> None:
    """Peers seal to the later key: that an earlier one of the week is here opens nothing."""
    vault = pair[SHELTER].vault()

    async def lost(_request: EpochsRequest) -> OwnEpochs:
        raise ConnectionError

    if more_that_never_arrived:
        pair.clock.pass_by(hours=24 * 7)
        with monkeypatch.context() as patched:
            patched.setattr(vault._client.sealing, "publish", lost)
            with pytest.raises(ConnectionError):
                await vault.publish_epochs()
    pair.clock.pass_by(hours=1)
    other = on_a_new_machine(pair, tmp_path / "other-machine")
    await other.publish_epochs(replace=True)
    other.close()
    with pytest.raises(VaultError) as refused:
        await vault.publish_epochs()
    assert refused.value.code == "other-store"
    await vault.publish_epochs(replace=True)
    latest = {row.not_before: row.key_id for row in sorted((await rows(pair[SHELTER]))[0], key=lambda row: row.seq)}
    store = vault._identity.store
    assert all(store.epoch_key(latest[week.not_before]) is not None for week in published_weeks(pair.clock()))
    assert store.epoch_key(await learns(pair)) is not None
    again = await rows(pair[SHELTER])
    await vault.publish_epochs()
    assert await rows(pair[SHELTER]) == again


async def test_a_new_machine_revokes_what_the_lost_one_has_made(pair: Federation, tmp_path: Path) -> None:
    shelter = pair[SHELTER]
    pair.clock.pass_by(hours=24 * 7)
    await shelter.vault().publish_epochs()
    lost = {row.key_id for row in (await rows(shelter))[0]}
    vault = on_a_new_machine(pair, tmp_path / "new-machine")
    assert set(await vault.revoke_epochs(compromised_since=from_millis(pair.clock() - HOUR_MS))) == lost
    assert len(lost) == 7
    assert (await vault.publish_epochs()).weeks_ahead == 5
    vault.close()
    assert await learns(pair) not in lost


async def test_a_key_that_is_not_proven_to_be_ours_is_neither_revoked_nor_taken_for_published(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = pair[SHELTER].vault()
    listed = await vault._client.sealing.published()
    key, week = EpochKey(secrets.token_bytes(KEY_BYTES)), published_weeks(pair.clock())[0]
    seq = max(one.seq for one in listed.epochs) + 1
    forged = to_base64url(state_epoch(key, week, agency=SHELTER.agency, seq=seq, sign=THIEF.sign).to_bytes())
    added = listed.epochs[0].model_copy(update={"key_id": key.key_id, "seq": seq, "statement": forged})
    lied = listed.model_copy(update={"epochs": (*listed.epochs, added)})

    async def says() -> OwnEpochs:
        return lied

    monkeypatch.setattr(vault._client.sealing, "published", says)
    assert await vault.publish_epochs() == lied
    assert await revokes(pair, vault=vault) == tuple(one.key_id for one in listed.epochs)


async def test_a_node_restored_from_before_the_revocation_gets_the_new_keys_again(pair: Federation) -> None:
    shelter = pair[SHELTER]
    backup, _ = await rows(shelter)
    revoked = await revokes(pair)
    sealed_to = await learns(pair)
    new, _ = await rows(shelter)

    def restore(conn: Connection) -> None:
        for table in (OWN_EPOCH, EPOCH_REVOCATION):
            conn.execute(delete(table))
        publish_epochs(conn, backup)

    await shelter.node.database.write(restore)
    await shelter.vault().publish_epochs()
    assert [row for row in (await rows(shelter))[0] if row.key_id not in revoked] == new
    assert await learns(pair) == sealed_to


async def test_a_revocation_that_never_arrived_leaves_the_new_keys_to_be_published(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the old ones are replaced, and revoked when it is said again."""
    vault, client = pair[SHELTER].vault(), pair[SHELTER].client()
    old = {row.key_id for row in (await rows(pair[SHELTER]))[0]}

    async def lost(_request: EpochsRequest) -> OwnEpochs:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(vault._client.sealing, "publish", lost)
        with pytest.raises(ConnectionError):
            await vault.revoke_epochs(compromised_since=from_millis(pair.clock() - HOUR_MS))
    assert {epoch.key_id for epoch in (await client.sealing.published()).epochs} == old
    await vault.publish_epochs()
    again = await vault.publish_epochs()
    assert len(again.epochs) == 12
    assert await learns(pair) not in old
    assert old < set(await revokes(pair))


async def replaces_the_agency_key(pair: Federation) -> AgencyVault:
    """The roster lists a new agency key for the shelter, and its office has it; the key store stays."""
    shelter, new = pair[SHELTER], AgencyKey(secrets.token_bytes(KEY_BYTES))

    def renewed(member: Member) -> Member:
        return member.model_copy(update={"agency_key": new.public}) if member.agency == SHELTER.agency else member

    file = shelter.agency_home / AGENCY_KEYS_NAME
    keys = replace(open_keys(read_key_file(file), PASSPHRASE.encode()), agency=new)
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(NONCE_BYTES)
    await pair.new_roster(member=renewed)
    for vault in shelter.vaults:
        vault.close()
    shelter.vaults.clear()
    file.write_bytes(seal_keys(keys, PASSPHRASE.encode(), salt=salt, nonce=nonce, cost=FLOOR))
    identity = replace(open_agency_folder(shelter.agency_home, PASSPHRASE), clock=pair.clock)
    vault = AgencyVault(identity, shelter.client())
    shelter.vaults.append(vault)
    return vault


async def test_after_the_agency_key_was_replaced_every_week_is_published_anew(pair: Federation) -> None:
    """With the key store staying: what was sealed to the keys of the old one before still finds them."""
    shelter = pair[SHELTER]
    old = {row.key_id for row in (await rows(shelter))[0]}
    vault = await replaces_the_agency_key(pair)
    assert (await shelter.client().sealing.published()).epochs == ()
    published = await vault.publish_epochs()
    assert (len(published.epochs), published.weeks_ahead) == (6, 5)
    assert await vault.publish_epochs() == published
    fresh = {epoch.key_id for epoch in published.epochs}
    assert not fresh & old
    assert all(vault._identity.store.epoch_key(key_id) is not None for key_id in old)
    assert set(await vault.revoke_epochs(compromised_since=from_millis(pair.clock() - HOUR_MS))) == fresh


async def test_a_stolen_office_folder_uses_up_no_numbers_of_the_next_agency_key(pair: Federation) -> None:
    """The thief revoked and published up to the highest number there is, for the last week that the node takes."""
    shelter, forging = pair[SHELTER], Forging(pair)
    listed, at = (await rows(shelter))[0], pair.clock()
    first = LARGEST_SEQ - len(listed) - 10
    revocations = [forging.revocation(row.key_id, first + place) for place, row in enumerate(listed)]
    weeks = [*published_weeks(at)[:-1], published_weeks(at)[-1], week_of(at + LIMITS.epochs_ahead_read * WEEK_MS)]
    statements = [
        to_base64url(
            state_epoch(
                EpochKey(secrets.token_bytes(KEY_BYTES)), week, agency=shelter.agency, seq=seq, sign=forging.key.sign
            ).to_bytes()
        )
        for seq, week in enumerate(weeks, start=LARGEST_SEQ - len(weeks) + 1)
    ]
    await shelter.client().sealing.publish(EpochsRequest(statements=tuple(statements), revocations=tuple(revocations)))
    assert max(row.seq for row in (await rows(shelter))[0]) == LARGEST_SEQ
    vault = await replaces_the_agency_key(pair)
    published = await vault.publish_epochs()
    assert (len(published.epochs), published.weeks_ahead) == (6, 5)
    fresh = {epoch.key_id for epoch in published.epochs}
    assert {row.key_id for row in (await rows(shelter))[0]} == fresh
    assert set(await vault.revoke_epochs(compromised_since=from_millis(at - HOUR_MS))) == fresh
    own, gone = await rows(shelter)
    assert {row.key_id for row in gone} == fresh
    assert await learns(pair) in {row.key_id for row in own}


@dataclass
class Forging:
    """Who can sign revocations for the shelter, and what it would rightly sign now."""

    pair: Federation

    @property
    def agency(self) -> str:
        return self.pair[SHELTER].agency

    @property
    def key(self) -> AgencyKey:
        return self.pair[SHELTER].vault()._identity.key

    def revocation(
        self, key_id: str, seq: int, *, agency: str = "", key: AgencyKey | None = None, at: int = 0, since: int = 0
    ) -> str:
        at = at or self.pair.clock()
        return to_base64url(
            state_revocation(
                key_id,
                agency=agency or self.agency,
                compromised_since=since or at - HOUR_MS,
                at=at,
                seq=seq,
                sign=(key or self.key).sign,
            ).to_bytes()
        )

    def revocations(self, listed: OwnEpochs, after: int, **changes: object) -> tuple[str, ...]:
        ids = [epoch.key_id for epoch in (*listed.ended, *listed.epochs)]
        return tuple(self.revocation(one, after + place, **changes) for place, one in enumerate(ids, 1))  # type: ignore[arg-type]

    def statements(self, after: int, *, weeks: int = 6) -> tuple[str, ...]:
        return tuple(
            to_base64url(
                state_epoch(
                    EpochKey(secrets.token_bytes(32)), week, agency=self.agency, seq=seq, sign=self.key.sign
                ).to_bytes()
            )
            for seq, week in enumerate(published_weeks(self.pair.clock())[:weeks], after + 1)
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def forging(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Forging]:
    async with federation(tmp_path_factory.mktemp("r"), (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        pair.clock.pass_by(hours=24 * 7)
        await pair[SHELTER].vault().publish_epochs()
        await maintain(pair[HELPLINE].node)
        yield Forging(pair)


Make = Callable[[Forging, OwnEpochs, int], tuple[tuple[str, ...], tuple[str, ...]]]
"""The revocations and the statements, from what is published and the highest number of it."""
THIEF = AgencyKey(b"\x05" * 32)
OTHERS_KEY = "0123456789abcdef0123456789abcdef"
REFUSED: dict[str, tuple[Make, str]] = {
    "no-revocation": (lambda f, _, n: (("e30",), f.statements(n)), "statement-malformed"),
    "a-statement-instead": (lambda f, _, n: (f.statements(n), f.statements(n + 6)), "statement-malformed"),
    "signed-by-another-key": (
        lambda f, all_, n: (f.revocations(all_, n, key=THIEF), f.statements(n + 9)),
        "statement-signature",
    ),
    "about-another-agency": (
        lambda f, all_, n: (f.revocations(all_, n, agency=HELPLINE.agency), f.statements(n + 9)),
        "epoch-of-another",
    ),
    "of-a-key-that-is-not-published-here": (
        lambda f, all_, n: ((*f.revocations(all_, n), f.revocation(OTHERS_KEY, n + 9)), f.statements(n + 9)),
        "epochs-differ",
    ),
    "of-somebody-elses-key-alone": (
        lambda f, _, n: ((f.revocation(OTHERS_KEY, n + 1),), f.statements(n + 1)),
        "epochs-differ",
    ),
    "without-last-weeks": (
        lambda f, all_, n: (f.revocations(all_, n)[1:], f.statements(n + 9)),
        "epochs-differ",
    ),
    "the-same-key-twice": (
        lambda f, all_, n: (
            (*f.revocations(all_, n)[:-1], f.revocation(all_.epochs[0].key_id, n + 8)),
            f.statements(n + 9),
        ),
        "epochs-differ",
    ),
    "a-week-without-a-new-key": (
        lambda f, all_, n: (f.revocations(all_, n), f.statements(n + 9, weeks=5)),
        "epochs-differ",
    ),
    "without-new-keys": (
        lambda f, all_, n: (f.revocations(all_, n), (all_.epochs[0].statement,)),
        "epochs-differ",
    ),
    "low-numbers": (lambda f, all_, n: (f.revocations(all_, n - 1), f.statements(n + 9)), "epoch-went-back"),
    "numbers-above-those-of-the-new-keys": (
        lambda f, all_, n: (f.revocations(all_, n + 6), f.statements(n)),
        "epoch-went-back",
    ),
    "from-the-future": (
        lambda f, all_, n: (f.revocations(all_, n, at=f.pair.clock() + 3 * MINUTE_MS), f.statements(n + 9)),
        "from-the-future",
    ),
    "lost-after-it-was-revoked": (
        lambda f, all_, n: (f.revocations(all_, n, since=f.pair.clock() + MINUTE_MS), f.statements(n + 9)),
        "from-the-future",
    ),
    "signed-long-ago": (
        lambda f, all_, n: (f.revocations(all_, n, at=f.pair.clock() - 11 * MINUTE_MS), f.statements(n + 9)),
        "too-old",
    ),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_not_right_revokes_nothing_and_publishes_nothing(forging: Forging, name: str) -> None:
    make, code = REFUSED[name]
    shelter = forging.pair[SHELTER]
    before, client = await rows(shelter), shelter.client()
    listed = await client.sealing.published()
    assert (len(listed.ended), len(listed.epochs)) == (1, 6)
    revocations, statements = make(forging, listed, max(row.seq for row in before[0]))
    with pytest.raises(ProblemError) as refused:
        await client.sealing.publish(EpochsRequest(statements=statements, revocations=revocations))
    assert refused.value.problem.code == code
    assert await rows(shelter) == before


@pytest.mark.asyncio(loop_scope="module")
async def test_no_revocation_is_taken_without_statements(forging: Forging) -> None:
    shelter = forging.pair[SHELTER]
    listed = await shelter.client().sealing.published()
    request = EpochsRequest.model_construct(statements=(), revocations=forging.revocations(listed, 2**40))
    before = await rows(shelter)
    with pytest.raises(ProblemError) as refused:
        await shelter.client().sealing.publish(request)
    assert refused.value.problem.status == 422
    assert await rows(shelter) == before


async def test_said_again_nothing_changes_and_a_revoked_key_is_never_published_again(pair: Federation) -> None:
    shelter, forging = pair[SHELTER], Forging(pair)
    client = shelter.client()
    listed = await client.sealing.published()
    highest = max(epoch.seq for epoch in listed.epochs)
    request = EpochsRequest(
        statements=forging.statements(highest + 6), revocations=forging.revocations(listed, highest)
    )
    first = await client.sealing.publish(request)
    after = await rows(shelter)
    assert await client.sealing.publish(request) == first
    with pytest.raises(ProblemError) as refused:
        await client.sealing.publish(EpochsRequest(statements=(listed.epochs[0].statement,)))
    assert refused.value.problem.code == "epoch-went-back"
    vault = shelter.vault()
    half = vault._identity.store.epoch_key(listed.epochs[0].key_id)
    assert half is not None
    week = published_weeks(pair.clock())[0]
    anew = state_epoch(half, week, agency=shelter.agency, seq=highest + 99, sign=forging.key.sign)
    with pytest.raises(ProblemError) as refused:
        await client.sealing.publish(EpochsRequest(statements=(to_base64url(anew.to_bytes()),)))
    assert refused.value.problem.code == "epoch-went-back"
    assert await rows(shelter) == after


async def test_a_revocation_is_forgotten_when_no_key_of_its_time_is_left(pair: Federation) -> None:
    shelter = pair[SHELTER]
    await revokes(pair)
    pair.clock.pass_by(hours=9 * WEEK_MS / HOUR_MS)
    await maintain(shelter.node)
    assert not await shelter.node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency))
