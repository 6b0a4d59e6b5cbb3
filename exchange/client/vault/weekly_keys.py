"""Weekly keys: this agency's own, made here and published by the node; and a peer's, believed for its signature alone.

Rules:

* A private half is stored here, durably, before its statement leaves: nobody can seal to a key that nobody has.
* A week is published once. Where one is published whose private half is not here, another machine of the agency has it,
  or it was lost: only `replace` says which, since its envelopes cannot be opened here. Of several for one week the
  latest counts, since peers seal to it: an earlier one that is here does not make the week this machine's.
* A key counts as published while today's agency key has signed its statement. After the agency key was replaced every
  week is published anew, under new keys: who had the old one may have had these. So is a week of which a newer key is
  here than the one that the node has, as after a restore from its backup.
* Revoked is every key that the node lists with this agency's signature, whichever machine has made it. The new ones are
  stored before, and go in the same request. No revocation is signed for a key that the node cannot prove to be ours.
* A key of ours that the node hides is not revoked. This store cannot tell it from one that never was published, or was
  revoked before, and a node that hides it could keep its revocation from the peers as well.
* The private halves of replaced and revoked keys stay until their time ends: what is on its way can still be opened. By
  a clock that its node doubts (`/health/ready`: `jumped`) no time ends: one machine often has both.
* A peer's statements are verified under the agency key that the roster here lists, and `seq` never goes back under it:
  who stole the key before cannot use up the numbers of the key after. No number stands for two of them.
* The node's proof shows that the peer's agency signed these keys, and by which roster the node acts. It does not show
  that there is no newer statement: a node that hides one makes its own agency seal to an older key of the same agency.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Final

from exchange.client.agency_client import AgencyClient
from exchange.client.errors import ClientError
from exchange.client.vault.agency_keys import Identity
from exchange.client.vault.errors import VaultError
from exchange.client.vault.store import OwnEpoch
from exchange.envelope.epochs import (
    EpochStatement,
    Week,
    check_epoch,
    check_not_older,
    check_numbered_once,
    current_epoch,
    private_half_ends,
    published_weeks,
    state_epoch,
    state_revocation,
)
from exchange.envelope.errors import EnvelopeError
from exchange.envelope.keys import KEY_BYTES, EpochKey
from exchange.envelope.statements import parse_statement
from exchange.envelope.wire import from_base64url, to_base64url
from exchange.limits import LIMITS, SECOND_MS
from exchange.schemas.node import EpochKeyView
from exchange.schemas.sealing import EpochsRequest, OwnEpochs
from exchange.schemas.shapes import to_millis

_READY: Final = "ready"


async def publish_epochs(identity: Identity, client: AgencyClient, *, replace: bool) -> OwnEpochs:
    """See that this week and the five that follow are published, under keys that are here.

    Raises:
        VaultError: `other-store`.
    """
    at, store = identity.clock(), identity.store
    published = await client.sealing.published()
    standing = _proven(identity, identity.me.agency, published.epochs)
    newest = _newest_here(identity)
    latest = {said.not_before: said for said in sorted(standing, key=lambda said: said.seq)}
    covered = {week for week, said in latest.items() if newest.get(week) == said}
    weeks = [week for week in published_weeks(at) if week.not_before not in covered]
    here = {key_id for key_id, _, _, _ in store.epochs()}
    foreign = {week for week, said in latest.items() if said.key_id not in here}
    if not replace and any(week.not_before in foreign for week in weeks):
        raise VaultError("other-store", "Weekly keys are published that are not here. Use the machine that has them.")
    highest = max((said.seq for said in standing), default=0)
    begins = {week.not_before for week in weeks}
    waiting = {week: said for week, said in newest.items() if week in begins and said.seq > highest}
    missing = [week for week in weeks if week.not_before not in waiting]
    fresh = _made(identity, missing, _numbers_after(identity, published))
    store.put_epochs(fresh)
    if await _time_is_sure(client):
        store.destroy_ended_epochs(at)
    statements = {one.seq: one.statement for one in fresh}
    statements |= {seq: raw for _, week, seq, raw in store.epochs() if week in waiting and seq == waiting[week].seq}
    if not statements:
        return published
    ordered = tuple(to_base64url(statements[seq]) for seq in sorted(statements))
    return await client.sealing.publish(EpochsRequest(statements=ordered))


async def _time_is_sure(client: AgencyClient) -> bool:
    """Whether the node believes the clock; one that does not say is asked the next time."""
    try:
        said = await client.federation.ready()
    except ClientError:
        return False
    return said.status == _READY and said.checks.get("clock") != "jumped"


async def revoke_epochs(identity: Identity, client: AgencyClient, *, compromised_since: int) -> tuple[str, ...]:
    """Revoke every weekly key of this agency and publish new ones; returns the ids of the revoked."""
    at = identity.clock()
    published = await client.sealing.published()
    doomed = _proven(identity, identity.me.agency, (*published.ended, *published.epochs))
    after = _numbers_after(identity, published)
    revocations = [
        state_revocation(
            said.key_id,
            agency=identity.me.agency,
            compromised_since=compromised_since,
            at=at,
            seq=seq,
            sign=identity.key.sign,
        )
        for seq, said in enumerate(doomed, start=after + 1)
    ]
    fresh = _made(identity, published_weeks(at), after + len(doomed))
    identity.store.put_epochs(fresh)
    await client.sealing.publish(
        EpochsRequest(
            statements=tuple(to_base64url(one.statement) for one in fresh),
            revocations=tuple(to_base64url(one.to_bytes()) for one in revocations),
        )
    )
    return tuple(said.key_id for said in doomed)


def _newest_here(identity: Identity) -> dict[int, EpochStatement]:
    """Of each week the newest key that is here and that today's agency key has signed for, by the week's beginning."""
    newest = {}
    for _, _, _, raw in identity.store.epochs():
        with contextlib.suppress(EnvelopeError):
            said = parse_statement(EpochStatement, raw).verify(identity.key.public)
            newest[said.not_before] = said
    return newest


def _numbers_after(identity: Identity, published: OwnEpochs) -> int:
    """Peers may have seen numbers that node and store have both forgotten; the seconds of the clock pass them."""
    said = (epoch.seq for epoch in (*published.ended, *published.epochs))
    return max([identity.clock() // SECOND_MS, *said, *(seq for _, _, seq, _ in identity.store.epochs())])


def _made(identity: Identity, weeks: Sequence[Week], after: int) -> list[OwnEpoch]:
    made = []
    for seq, week in enumerate(weeks, start=after + 1):
        key = EpochKey(identity.entropy(KEY_BYTES))
        signed = state_epoch(key, week, agency=identity.me.agency, seq=seq, sign=identity.key.sign).to_bytes()
        made.append(OwnEpoch(key, signed, week.not_before, week.not_after, seq, private_half_ends(week.not_after)))
    return made


async def has_newest_week(identity: Identity, client: AgencyClient) -> bool:
    """Whether the key to which others seal now is here, as far as the node lists it; where it lists none, too."""
    published, at = await client.sealing.published(), identity.clock()
    proven = _proven(identity, identity.me.agency, (*published.ended, *published.epochs))
    begun = [said for said in proven if said.not_before <= at]
    latest = max(begun, key=lambda said: (said.not_before, said.seq), default=None)
    return latest is None or identity.store.epoch_key(latest.key_id) is not None


async def peer_epoch(identity: Identity, client: AgencyClient, agency: str) -> EpochStatement:
    """The key of this week of a peer, proven.

    Raises:
        VaultError: `roster-differs`, `peer-keys-unknown`, or `peer-keys-refused`.
    """
    view = await client.federation.peer_keys(agency)
    if (view.roster_version, view.roster_digest) != (identity.roster.version, identity.roster.digest):
        raise VaultError("roster-differs", "The node has another roster than you. Install the newer on both machines.")
    try:
        # Not of the agency that the answer names: another member's keys are proven as well, and would open it.
        statements = _proven(identity, agency, view.epochs)
        agency_key = identity.member(agency).agency_key
        highest = check_not_older(identity.store.peer_seq(agency, agency_key), statements)
        check_numbered_once((), statements)  # the store keeps the highest number alone
        identity.store.remember_peer_seq(agency, agency_key, highest)
        # The node may know statements of a key that was changed since: only those that are proven count.
        return current_epoch(statements, (), at=identity.clock())
    except EnvelopeError as error:
        # The highest number is named though its week is over.
        if all(to_millis(epoch.not_after) <= identity.clock() for epoch in view.epochs):
            raise VaultError("peer-keys-unknown", "The receiver's keys are not known yet. Telephone it.") from error
        raise VaultError("peer-keys-refused", "The keys that the node names are not proven by the receiver.") from error


def _proven(identity: Identity, agency: str, epochs: Iterable[EpochKeyView]) -> list[EpochStatement]:
    member = identity.member(agency)
    found = []
    for epoch in epochs:
        with contextlib.suppress(EnvelopeError):
            raw = from_base64url(epoch.statement, member="statement", longest=LIMITS.statement_bytes)
            statement = parse_statement(EpochStatement, raw).verify(member.agency_key)
            check_epoch(statement)
            if statement.agency == member.agency:
                found.append(statement)
    return found
