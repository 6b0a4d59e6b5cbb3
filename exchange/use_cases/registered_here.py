"""What proves that a client was registered by this node: a mark in its row, written by whoever has the node's keys.

Rules:

* The mark is a keyed digest over everything else in the row. Who can write to the main database, and has no key,
  registers nobody: a row without its mark, or with one part of it changed, lets nobody in.
* Only an active client has one. That a client is revoked needs no proof.
* That a mark is right says that this node has registered this client once. Who has a copy of the row from before it was
  revoked can bring it back.
"""

from __future__ import annotations

import json
from typing import Final

from exchange.envelope.keys import StorageKey
from exchange.storage.access import StoredClient

_USE: Final = "oauth_client"


def marked(storage_key: StorageKey, client: StoredClient) -> StoredClient:
    """A client that is registered here, with its mark."""
    return client._replace(mark=storage_key.keyed_digest(_USE, _row(client)))


def is_marked(storage_key: StorageKey, client: StoredClient) -> bool:
    """Whether this row was written by this node, as it stands."""
    return storage_key.has_marked(_USE, _row(client), client.mark)


def is_foreign(storage_key: StorageKey, client: StoredClient) -> bool:
    """Whether this row says that a client may call, and this node has never said so."""
    return client.status == "active" and not is_marked(storage_key, client)


def _row(client: StoredClient) -> bytes:
    # A column more is under the mark too. JSON tells nothing from an empty word, and where one value ends.
    return json.dumps(client._replace(mark=None)).encode()
