"""Whether what lies here can still be opened: the key store has no backup, and a new one opens nothing of before.

Rules:

* What was not destroyed and does not open is lost here, and is said to be: whoever waits for it would wait in vain.
* After the key store was lost, what comes next for a referral brings a new key, which opens that and what comes later.
* Nothing is promised about what nobody here can read. A no passes.
"""

from __future__ import annotations

from exchange.envelope.errors import SealedRowError
from exchange.envelope.keys import Dek, ReferralKey
from exchange.envelope.rewrap import unwrap_again
from exchange.storage.inbox import ArrivedRecord, load_arrived
from exchange.use_cases.node import Node
from exchange.use_cases.refusals import key_lost


def data_key(row: ArrivedRecord, key: ReferralKey | None) -> Dek | None:
    """What opens the content of a row; nothing where the key or the body is gone, or the key is a later one."""
    if key is None or row.rewrapped_key is None or row.ciphertext is None:
        return None
    try:
        return unwrap_again(row.rewrapped_key, referral_key=key, referral=row.referral, envelope=row.id)
    except SealedRowError:
        return None


async def refuse_unreadable(node: Node, offer: str) -> None:
    """Nothing, where this node can open the offer, or never opens any.

    Raises:
        ConflictError: `key-lost`.
    """
    if node.keyring is None:
        return
    found = await node.database.read(lambda conn: load_arrived(conn, [offer]))
    row = found[offer][1] if offer in found else None
    if row is None or data_key(row, await node.key_store.get(row.referral)) is None:
        raise key_lost()
