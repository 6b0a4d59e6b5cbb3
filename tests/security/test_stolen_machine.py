"""What a stolen server or a stolen backup of the main database still opens after destruction: nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import select
from support.federation import Federation
from support.lying_peer import LyingPeer
from support.people import CANARY_NAME, consent_request, referral_request

from contracts.vocabulary import WithdrawalForm
from exchange.client import ProblemError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.errors import EnvelopeError
from exchange.envelope.keys import ReferralKey
from exchange.envelope.rewrap import unwrap_again
from exchange.envelope.wire import read_again
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.database import Database
from exchange.storage.inbox import load_arrived
from exchange.storage.tables import INBOX
from exchange.use_cases.maintain import destroy_ended


async def disclosed(pair: Federation) -> str:
    """A referral whose disclosure the shelter has opened."""
    helpline, shelter = pair[HELPLINE].client(), pair[SHELTER].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    created = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))
    await pair.travel()
    (offer,) = (await shelter.inbox.list()).items
    await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await pair.travel()
    item = next(item for item in (await shelter.inbox.list()).items if item.kind == "disclosure")
    opened = await shelter.inbox.open(item.id)
    assert opened.content is not None
    assert opened.content.preferred_name == CANARY_NAME
    return created.id


def _steal(folder: Path) -> None:
    """Copy the shelter's main database with its log, as a backup would."""
    file = next(path for path in folder.rglob("*.db") if "shelter" in path.name and "main" in path.name)
    for suffix in ("", "-wal"):
        if Path(f"{file}{suffix}").exists():
            shutil.copyfile(f"{file}{suffix}", f"{folder / 'stolen.db'}{suffix}")


async def test_a_backup_of_the_main_database_opens_nothing_after_erasure(two: Federation, tmp_path: Path) -> None:
    referral = await disclosed(two)
    shelter = two[SHELTER]
    _steal(tmp_path)
    await two[HELPLINE].client().withdrawals.of_referral(referral, WithdrawalForm.ERASE)
    await two.travel()
    assert await shelter.node.key_store.get(referral) is None
    backup = Database.open(f"sqlite:///{tmp_path / 'stolen.db'}")
    query = select(INBOX).where(INBOX.c.referral == referral, INBOX.c.rewrapped_key.is_not(None))
    rows = await backup.read(lambda conn: list(conn.execute(query).all()))
    assert {row.kind for row in rows} >= {"offer", "disclosure"}
    for row in rows:
        # The one key that opened it is gone; any other opens nothing. What the sender sealed was never stored.
        with pytest.raises(EnvelopeError):
            unwrap_again(row.rewrapped_key, referral_key=ReferralKey(bytes(32)), referral=referral, envelope=row.id)
    await backup.close()


async def test_a_key_that_came_between_the_two_steps_of_destruction_goes_too(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An envelope may commit after the keys were destroyed and before its rows are: it brings a key of its own."""
    referral = await disclosed(pair)
    node = pair[SHELTER].node
    real = node.key_store.destroy
    late = ReferralKey(b"\x01" * 32)
    calls: list[int] = []

    async def destroy(referrals: list[str]) -> None:
        await real(referrals)
        if not calls:
            await node.key_store.put_many({referral: late}, at=node.clock())
        calls.append(1)

    await pair[HELPLINE].client().withdrawals.of_referral(referral, WithdrawalForm.ERASE)
    monkeypatch.setattr(node.key_store, "destroy", destroy)
    await pair[HELPLINE].courier.run_once()
    await destroy_ended(node)
    assert len(calls) == 2
    assert await node.key_store.get(referral) is None


async def test_a_node_without_the_agencys_keys_keeps_what_came_sealed_and_opens_nothing(pair: Federation) -> None:
    liar = await LyingPeer.of(pair[HELPLINE], pair[SHELTER])
    node = pair[SHELTER].node
    node.keyring = None
    sent = liar.forward()
    (answer,) = await liar.deliver(sent)
    assert answer.result == "accepted"
    header = read_again(sent.header)
    ((_, row),) = (await node.database.read(lambda conn: load_arrived(conn, [header["id"]]))).values()
    assert (row.wrapped_key, row.rewrapped_key, row.ciphertext) == (sent.wrapped_key, None, sent.ciphertext)
    assert await node.key_store.get(header["referral"]) is None
    client = pair[SHELTER].client()
    with pytest.raises(ProblemError) as opening:
        await client.inbox.open(header["id"])
    with pytest.raises(ProblemError) as advised:
        await client.inbox.contact_advice(header["id"])
    assert opening.value.problem.code == advised.value.problem.code == "keys-elsewhere"
    assert (await client.inbox.sealed(header["id"])).model_dump(exclude_none=True) == sent.to_json()
