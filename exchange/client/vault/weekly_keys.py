"""Weekly keys: this agency's own, made here and published by the node; and a peer's, believed for its signature alone.

Rules:

* A private half is stored here, durably, before its statement leaves: nobody can seal to a key that nobody has.
* A week is published once. Where one is published whose private half is not here, another machine of the agency has it,
  or it was lost: only `replace` says which, since its envelopes cannot be opened here.
* A peer's statements are verified under the agency key that the roster here lists, and `seq` never goes back.
* The node's proof shows that the peer's agency signed these keys, and by which roster the node acts. It does not show
  that there is no newer statement: a node that hides one makes its own agency seal to an older key of the same agency.
"""

from __future__ import annotations

import contextlib

from exchange.client.agency_client import AgencyClient
from exchange.client.vault.agency_keys import Identity
from exchange.client.vault.errors import VaultError
from exchange.client.vault.store import OwnEpoch
from exchange.envelope.epochs import (
    EpochStatement,
    check_epoch,
    check_not_older,
    current_epoch,
    private_half_ends,
    published_weeks,
    state_epoch,
)
from exchange.envelope.errors import EnvelopeError
from exchange.envelope.keys import KEY_BYTES, EpochKey
from exchange.envelope.statements import parse_statement
from exchange.envelope.wire import from_base64url, to_base64url
from exchange.limits import LIMITS, SECOND_MS
from exchange.schemas.node import PeerKeys
from exchange.schemas.sealing import EpochsRequest, OwnEpochs
from exchange.schemas.shapes import to_millis


async def publish_epochs(identity: Identity, client: AgencyClient, *, replace: bool) -> OwnEpochs:
    """See that this week and the five that follow are published, under keys that are here.

    Raises:
        VaultError: `other-store`.
    """
    at, store = identity.clock(), identity.store
    published = await client.sealing.published()
    mine = {key_id for key_id, _, _, _ in store.epochs()}
    covered = {to_millis(epoch.not_before) for epoch in published.epochs if epoch.key_id in mine}
    foreign = {to_millis(epoch.not_before) for epoch in published.epochs} - covered
    weeks = [week for week in published_weeks(at) if week.not_before not in covered]
    if not replace and any(week.not_before in foreign for week in weeks):
        raise VaultError("other-store", "Weekly keys are published that are not here. Use the machine that has them.")
    highest = max((epoch.seq for epoch in published.epochs), default=0)
    waiting = {begins: (seq, raw) for _, begins, seq, raw in store.epochs() if seq > highest}
    # Peers may have seen numbers that the node and this store have both forgotten; the seconds of the clock pass them.
    highest = max([highest, at // SECOND_MS, *(seq for _, _, seq, _ in store.epochs())])
    statements = {seq: raw for begins, (seq, raw) in waiting.items() if begins in {week.not_before for week in weeks}}
    fresh = []
    for week in weeks:
        if week.not_before in waiting:
            continue
        highest += 1
        key = EpochKey(identity.entropy(KEY_BYTES))
        signed = state_epoch(key, week, agency=identity.me.agency, seq=highest, sign=identity.key.sign).to_bytes()
        ends = private_half_ends(week.not_after)
        fresh.append(OwnEpoch(key, signed, week.not_before, week.not_after, highest, ends))
        statements[highest] = signed
    store.put_epochs(fresh)
    store.destroy_ended_epochs(at)
    if not statements:
        return published
    ordered = tuple(to_base64url(statements[seq]) for seq in sorted(statements))
    return await client.sealing.publish(EpochsRequest(statements=ordered))


async def peer_epoch(identity: Identity, client: AgencyClient, agency: str) -> EpochStatement:
    """The key of this week of a peer, proven.

    Raises:
        VaultError: `roster-differs`, `peer-keys-unknown`, or `peer-keys-refused`.
    """
    view = await client.federation.peer_keys(agency)
    if (view.roster_version, view.roster_digest) != (identity.roster.version, identity.roster.digest):
        raise VaultError("roster-differs", "The node has another roster than you. Install the newer on both machines.")
    try:
        statements = _proven(identity, view)
        highest = check_not_older(identity.store.peer_seq(agency), statements)
        identity.store.remember_peer_seq(agency, highest)
        # The node may know statements of a key that was changed since: only those that are proven count.
        return current_epoch(statements, (), at=identity.clock())
    except EnvelopeError as error:
        if not view.epochs:
            raise VaultError("peer-keys-unknown", "The receiver's keys are not known yet. Telephone it.") from error
        raise VaultError("peer-keys-refused", "The keys that the node names are not proven by the receiver.") from error


def _proven(identity: Identity, view: PeerKeys) -> list[EpochStatement]:
    peer = identity.member(view.agency)
    found = []
    for epoch in view.epochs:
        with contextlib.suppress(EnvelopeError):
            raw = from_base64url(epoch.statement, member="statement", longest=LIMITS.statement_bytes)
            statement = parse_statement(EpochStatement, raw).verify(peer.agency_key)
            check_epoch(statement)
            if statement.agency == peer.agency:
                found.append(statement)
    return found
