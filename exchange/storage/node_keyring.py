"""The agency's keys where they live with the node: the agency key in memory, private halves from the key store.

A private half is read once and kept for as long as the process needs it; the key store forgets it when its time ends,
and so does this ring when it is asked to.
"""

from __future__ import annotations

from exchange.envelope.keys import AgencyKey, EpochKey
from exchange.storage.key_store import KeyStore


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
        """The private half of one week, or nothing if it was never ours or has ended."""
        known = self._known.get(key_id)
        if known is None:
            known = await self._key_store.epoch_key(key_id)
            if known is not None:
                self._known[key_id] = known
        return known

    def forget(self) -> None:
        """Private halves that were destroyed must not live on in memory."""
        self._known.clear()
