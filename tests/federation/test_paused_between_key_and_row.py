"""A process may stand still after it has stored a referral's key and before its row: for longer than a key is young."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from support.federation import Federation
from support.people import CANARY_NAME
from support.stories import begin

from exchange import startup
from exchange.demo.federation import SHELTER
from exchange.envelope.keys import ReferralKey
from exchange.storage.key_store import ORPHANS_OLDER_THAN_MS, KeyStore
from exchange.use_cases.destroy import destroy_referrals


async def test_what_is_signed_for_can_be_opened_although_another_process_has_swept(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, real, stood = two[SHELTER].node, KeyStore.put_many, []

    async def put_many(store: KeyStore, keys: Mapping[str, ReferralKey], *, at: int) -> dict[str, ReferralKey | None]:
        stands = await real(store, keys, at=at)
        if store is node.key_store and not stood:
            stood.append(at)
            two.clock.pass_by(seconds=ORPHANS_OLDER_THAN_MS // 1000 + 1)
            await startup._sweep(node)
        return stands

    monkeypatch.setattr(KeyStore, "put_many", put_many)
    story = await begin(two)
    assert len(stood) == 1
    assert (await story.opened("offer")).content is not None
    await story.decides("accepted")
    told = await story.opened("disclosure")
    assert told.content is not None
    assert told.content.preferred_name == CANARY_NAME


async def test_a_key_that_comes_while_its_referral_is_destroyed_does_not_stay(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an envelope that another process commits between the end of the keys and that of the rows."""
    story = await begin(two)
    node, real = two[SHELTER].node, KeyStore.destroy
    late = {name: key for name, key in (await node.key_store.get_many([story.id])).items() if key is not None}

    async def destroy(store: KeyStore, referrals: Iterable[str]) -> None:
        await real(store, referrals)
        await store.put_many(late, at=two.clock())
        late.clear()

    monkeypatch.setattr(KeyStore, "destroy", destroy)
    await story.is_over(at=two[SHELTER])
    await destroy_referrals(node, [story.id])
    assert late == {}
    assert await node.key_store.get(story.id) is None
