"""The weekly keys that a node makes for the agency whose key it holds: published ahead, and revoked when need be.

Rules:

* A private half is durable in the key store before its statement is: nobody can seal to a key that nobody has.
* Revoked is every key that somebody may hold something for, that of last week too: what took one took them all. In the
  same transaction their statements go and new ones of every week stand, with higher numbers than the revocations: who
  learns of the new statements alone seals to the new keys.
* Of several processes one at a time gives out numbers: no week is published twice, and no key is left out by a
  revocation.
* Keys are marked in the key store, which is in no backup, before they are revoked. Where the main database comes from a
  backup of before, their weeks are published anew: that it was restored brings no revoked key back.
* Published is by a clock that has jumped, too: a node that was off for six weeks can be written to before anybody has
  confirmed the time. Weeks that were published too early do no harm, whatever their numbers (`node_card`).
* The private halves of revoked keys stay until their time ends: what is on its way can still be opened.
* Only what the agency key that the roster lists has signed counts as published: peers believe nothing else. Where the
  key held here is another one nothing is published.
"""

from __future__ import annotations

from collections.abc import Sequence

from exchange.envelope.epochs import (
    EpochStatement,
    Week,
    private_half_ends,
    published_weeks,
    revocation_ends,
    state_epoch,
    state_revocation,
    weeks_to_publish,
)
from exchange.envelope.keys import KEY_BYTES, AgencyKey, EpochKey
from exchange.limits import SECOND_MS
from exchange.storage.access import add_audit
from exchange.storage.database import Connection
from exchange.storage.epochs import (
    StoredEpoch,
    StoredRevocation,
    lock_own_epochs,
    own_epochs,
    publish_epochs,
    remember_revocations,
    withdraw_own_epochs,
)
from exchange.storage.key_store import EpochPrivate
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import agency_key
from exchange.use_cases.peer_epochs import signed


async def publish_own_epochs(node: Node) -> None:
    """Publish the weeks that have no statement and private half yet, or a revoked one: half stored first."""
    if node.keyring is None:
        return
    key, me = node.keyring.agency_key, node.world().roster.members.get(node.agency)
    if me is None or me.agency_key != key.public:
        return  # a roster came while the node runs; nobody would believe it, and each call would publish again
    rows = await node.database.read(own_epochs)
    # Asked second: what another process publishes now it has stored before.
    held = await node.key_store.standing_epoch_key_ids()
    published = [said for row, said in signed(EpochStatement, rows, key.public) if row.key_id in held]
    at = node.clock()
    weeks = weeks_to_publish(at, published)
    if not weeks:
        return
    made, seq = await _make_keys(node, weeks), _highest_seq(rows)

    def commit(conn: Connection) -> None:
        lock_own_epochs(conn)
        # Otherwise another process published meanwhile, or revoked and published; our private halves end with their
        # weeks.
        if _highest_seq(own_epochs(conn)) == seq:
            publish_epochs(conn, _stated(node, key, made, _numbers_after(seq, at)))

    await node.database.write(commit)


async def revoke_own_epochs(node: Node, *, compromised_since: int) -> Sequence[str]:
    """Revoke every weekly key of this agency and publish new ones; returns the ids of the revoked.

    Raises:
        ConflictError: `keys-elsewhere`.
    """
    key, at = agency_key(node), node.clock()
    await node.key_store.retire_epochs(await node.key_store.epoch_key_ids())
    made = await _make_keys(node, published_weeks(at))

    def commit(conn: Connection) -> Sequence[str]:
        lock_own_epochs(conn)
        rows = own_epochs(conn)
        seq, doomed = _numbers_after(_highest_seq(rows), at), [row.key_id for row in rows]
        revocations = []
        for place, key_id in enumerate(doomed, start=1):
            signed = state_revocation(
                key_id,
                agency=node.agency,
                compromised_since=compromised_since,
                at=at,
                seq=seq + place,
                sign=key.sign,
            )
            revocations.append(StoredRevocation(key_id, seq + place, revocation_ends(at), signed.to_bytes()))
            add_audit(conn, at=at, action="epoch-revoked", subject_id=key_id)
        remember_revocations(conn, node.agency, revocations)
        withdraw_own_epochs(conn, doomed)
        publish_epochs(conn, _stated(node, key, made, seq + len(doomed)))
        return doomed

    return await node.database.write(commit)


def _highest_seq(rows: Sequence[StoredEpoch]) -> int:
    """The highest number ever used: behind every revocation statements were published."""
    return max((row.seq for row in rows), default=0)


def _numbers_after(highest: int, at: int) -> int:
    """What new numbers begin after: they pass those that were given out after the backup this database comes from.

    Peers remember these, and use no card that has none as high. An agency gives out fewer numbers than seconds pass.
    """
    return max(highest, at // SECOND_MS)


async def _make_keys(node: Node, weeks: Sequence[Week]) -> list[tuple[EpochKey, Week]]:
    made = [(EpochKey(node.entropy(KEY_BYTES)), week) for week in weeks]
    await node.key_store.put_epochs(
        EpochPrivate(key, week.not_before, week.not_after, private_half_ends(week.not_after)) for key, week in made
    )
    return made


def _stated(node: Node, agency: AgencyKey, made: Sequence[tuple[EpochKey, Week]], after: int) -> list[StoredEpoch]:
    return [
        StoredEpoch(
            key.key_id,
            seq,
            week.not_before,
            week.not_after,
            state_epoch(key, week, agency=node.agency, seq=seq, sign=agency.sign).to_bytes(),
        )
        for seq, (key, week) in enumerate(made, start=after + 1)
    ]
