"""Between the gate's yes and the release nothing may change: consent, receiver's key, what is held."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import delete, update
from support.federation import Federation
from support.people import consent_request, referral_request

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.database import Connection
from exchange.storage.epochs import epoch_revocations, remember_revocations
from exchange.storage.tables import CONSENT, OUTBOX, PEER_EPOCH
from exchange.use_cases import release_disclosure
from exchange.use_cases.own_epochs import revoke_own_epochs
from exchange.use_cases.release_disclosure import release_due


async def accepted(pair: Federation) -> str:
    """A referral whose acceptance has just arrived; its disclosure is held and due."""
    helpline, shelter = pair[HELPLINE].client(), pair[SHELTER].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    created = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))
    await pair.travel()
    (offer,) = [item for item in (await shelter.inbox.list()).items if item.kind == "offer"]
    await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await pair[SHELTER].courier.run_once()
    return created.id


@pytest.mark.parametrize("wait", [update(CONSENT).values(version=CONSENT.c.version + 1)], ids=["consent-changed"])
async def test_what_changes_after_the_gate_runs_the_gate_again(
    pair: Federation, monkeypatch: pytest.MonkeyPatch, wait: Any
) -> None:
    referral = await accepted(pair)
    node = pair[HELPLINE].node
    real, ran = release_disclosure.still_allowed, []

    def gate(*args: Any) -> Any:
        outcome = real(*args)
        ran.append(outcome)
        if len(ran) == 1:
            node.database.write_sync(lambda conn: conn.execute(wait).rowcount)
        return outcome

    monkeypatch.setattr(release_disclosure, "still_allowed", gate)
    await release_due(node)
    assert len(ran) == 2
    assert (await pair[HELPLINE].client().referrals.read(referral)).flags.disclosed


async def test_what_was_held_and_is_gone_is_not_said_to_be_released(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    referral = await accepted(pair)
    node = pair[HELPLINE].node
    real = release_disclosure.still_allowed

    def gate(*args: Any) -> Any:
        node.database.write_sync(_drop_held)
        return real(*args)

    monkeypatch.setattr(release_disclosure, "still_allowed", gate)
    await release_due(node)
    flags = (await pair[HELPLINE].client().referrals.read(referral)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)


def _drop_held(conn: Connection) -> int:
    return conn.execute(delete(OUTBOX).where(OUTBOX.c.status == "held")).rowcount


async def test_a_key_that_turns_out_to_be_revoked_after_the_gate_has_looked_releases_nothing(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The courier of another process has read the receiver's card in that moment."""
    referral = await accepted(pair)
    node, shelter = pair[HELPLINE].node, pair[SHELTER]
    real, ran = release_disclosure._sealed_to, []

    def sealed_to(*args: Any) -> bool:
        ran.append(real(*args))
        if len(ran) == 1:
            node.database.write_sync(lambda conn: remember_revocations(conn, SHELTER.agency, revoked))
        return ran[-1]

    doomed = await revoke_own_epochs(shelter.node, compromised_since=pair.clock())
    revoked = await shelter.node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency))
    assert len(revoked) == len(doomed)
    monkeypatch.setattr(release_disclosure, "_sealed_to", sealed_to)
    await release_due(node)
    flags = (await pair[HELPLINE].client().referrals.read(referral)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)
    assert ran == [True, False]


async def test_nothing_is_released_to_a_key_that_the_receivers_roster_key_does_not_stand_for(pair: Federation) -> None:
    referral = await accepted(pair)
    node = pair[HELPLINE].node
    world = node.world()
    members = dict(world.roster.members)
    changed_key = {"agency_key": pair[HELPLINE].member.agency_key}
    members[SHELTER.agency] = members[SHELTER.agency].model_copy(update=changed_key)
    changed = replace(world, roster=replace(world.roster, members=MappingProxyType(members)))
    node.world = lambda: changed
    await release_due(node)
    flags = (await pair[HELPLINE].client().referrals.read(referral)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)


async def test_a_key_that_is_no_longer_known_releases_nothing(pair: Federation) -> None:
    referral = await accepted(pair)
    node = pair[HELPLINE].node
    await node.database.write(lambda conn: conn.execute(delete(PEER_EPOCH)).rowcount)
    await release_due(node)
    flags = (await pair[HELPLINE].client().referrals.read(referral)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)
