"""The agency's own software runs for months: what the federation publishes meanwhile counts from the next act on."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.blind import Office, referred
from support.federation import Federation, federation
from support.people import consent_request, referral_request

from exchange.client.vault import AgencyVault, RefusedItemError, VaultError
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.envelope.keys import AgencyKey
from exchange.roster import Member, Status
from exchange.schemas.referrals import ReferralRequest

OTHER_KEY = AgencyKey(b"\x09" * 32)


@pytest.fixture
async def blind(tmp_path: Path) -> AsyncIterator[Federation]:
    """Two agencies, both with their keys elsewhere."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE, SHELTER)) as together:
        yield together


async def _asked(office: Office) -> tuple[AgencyVault, ReferralRequest]:
    consent = await office.client.consents.record(consent_request(SHELTER.agency))
    return office.own_vault, referral_request(SHELTER.agency, consent.id)


def changed(plan: AgencyPlan, **update: Any) -> Callable[[Member], Member]:
    """One member as the roster lists it from now on."""
    return lambda member: member.model_copy(update=update) if member.agency == plan.agency else member


async def test_nothing_is_sealed_for_a_member_that_was_suspended_meanwhile(blind: Federation) -> None:
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    assert (await vault.preview(request)).allowed
    await blind.new_roster(member=changed(SHELTER, status=Status.SUSPENDED))
    assert not (await vault.preview(request)).allowed


async def test_what_a_key_has_signed_that_was_replaced_meanwhile_is_not_opened(blind: Federation) -> None:
    story = await referred(blind, blind[HELPLINE], blind[SHELTER])
    vault, item = story.helps.own_vault, await story.helps.item(story.id, "offer")
    await blind.new_roster(member=changed(HELPLINE, agency_key=OTHER_KEY.public))
    with pytest.raises(RefusedItemError) as refused:
        await vault.open(item)
    assert refused.value.code == "unknown-key"


@pytest.mark.parametrize("damage", [b"", b"{", None], ids=["empty", "half", "gone"])
async def test_without_a_roster_nothing_goes_until_one_is_there(blind: Federation, damage: bytes | None) -> None:
    office = Office.of(blind[HELPLINE])
    vault, request = await _asked(office)
    sealed = await vault.seal(request)
    path = blind[HELPLINE].agency_home / "roster.json"
    whole = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    for _ in range(2):
        with pytest.raises(VaultError) as refused:
            await vault.seal(request)
        assert refused.value.code == "no-roster"
    # What is sealed is handed in all the same, and her no is heard.
    created = await vault.hand_in(sealed)
    assert await vault.destroy_ended() == ()
    path.write_bytes(whole)
    assert (await vault.seal(request)).created.id != created.id


async def test_an_older_roster_is_refused_while_running_too(blind: Federation) -> None:
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    path = blind[HELPLINE].agency_home / "roster.json"
    older = path.read_bytes()
    await blind.new_roster()
    await vault.seal(request)
    path.write_bytes(older)
    with pytest.raises(VaultError) as refused:
        await vault.seal(request)
    assert refused.value.code == "roster-went-back"


async def test_a_contract_that_is_adopted_meanwhile_counts_and_one_that_is_taken_away_does_not(
    blind: Federation,
) -> None:
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    (path,) = (blind[HELPLINE].agency_home / "contracts").glob("*.yaml")
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(VaultError) as refused:
        await vault.seal(request)
    assert refused.value.code == "no-contract"
    path.write_bytes(data)
    assert (await vault.preview(request)).allowed


async def test_a_contract_that_cannot_be_read_once_counts_again_at_the_next_act(
    blind: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, request = await _asked(Office.of(blind[HELPLINE]))
    (path,) = (blind[HELPLINE].agency_home / "contracts").glob("*.yaml")
    path.write_bytes(path.read_bytes())
    read = Path.read_bytes

    def not_the_contract(asked: Path) -> bytes:
        if asked == path:
            raise OSError(errno.EIO, "not now")
        return read(asked)

    with monkeypatch.context() as failing:
        failing.setattr(Path, "read_bytes", not_the_contract)
        with pytest.raises(VaultError) as refused:
            await vault.seal(request)
        assert refused.value.code == "no-contract"
    assert (await vault.seal(request)).created.id
