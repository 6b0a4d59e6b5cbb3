"""The agency's keys where they live with the node: the agency key in memory, private halves from the key store.

A private half is kept in memory for a minute after it was read, so that a busy node reads it once a minute. The key
store destroys it when its time ends, in whichever process that happens, and a minute later no other process has it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from exchange.envelope.keys import AgencyKey, EpochKey
from exchange.storage.key_store import KeyStore

KEPT_S: Final = 60


class NodeKeyring:
    """`Keyring` of a node that holds its agency's keys."""

    def __init__(self, agency_key: AgencyKey, key_store: KeyStore) -> None:
        """Take the agency key and the store of the private halves."""
        self._agency_key = agency_key
        self._key_store = key_store
        self._known: dict[str, EpochKey] = {}

    @property
    def agency_key(self) -> AgencyKey:
        """Speaks for the agency."""
        return self._agency_key

    async def epoch_key(self, key_id: str) -> EpochKey | None:
        """The private half of one week, or nothing if it was never ours or has ended.

        Raises:
            SealedRowError: it is there and does not open here.
        """
        known = self._known.get(key_id)
        if known is None:
            known = await self._key_store.epoch_key(key_id)
            if known is not None:
                self._known[key_id] = known
                asyncio.get_running_loop().call_later(KEPT_S, self._known.pop, key_id, None)
        return known
