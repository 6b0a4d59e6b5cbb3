"""Weekly keys of an agency that holds its keys itself: it signs statements and revocations, this node publishes them.

Rules:

* Each statement is signed by the agency key that the roster lists, is about this agency, covers exactly one week that
  is not over, and names a key that can be sealed to and that was never published here.
* A revocation is signed by the same key, about this agency, and of now. Revoked is every key that somebody may hold
  something for, that of last week too, and nothing else: what took one took them all. In the same transaction their
  statements go, and each of their weeks that is not over has a new one.
* `seq` rises with every statement and revocation that one agency key ever published here, those of one request in this
  order: revocations, statements. Who learns of the new statements alone seals to the new keys. One that does not rise
  is refused, and with it the whole request.
* No more stand at a time, those of ended weeks too, than peers read from one card and than one revocation can take.
  None is left off the card or dropped for a new one: somebody may have sealed to it. Revoking makes room.
* The same statements and revocations again are no error and change nothing.
* No week is published that begins more than a year from now.
* What an agency key that was replaced has signed is not published, as it is not on the card. It goes with the next
  publication, and its numbers are free: who stole it would have used up those of the next.
* A node that holds its agency's keys makes its own statements and takes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exchange.envelope.epochs import EpochRevocation, EpochStatement, check_epoch, is_far_ahead, revocation_ends
from exchange.envelope.errors import EpochError, KeyUnusableError, StatementError
from exchange.envelope.statements import parse_statement
from exchange.envelope.wire import from_base64url
from exchange.limits import LIMITS
from exchange.schemas.node import MOST_STATEMENTS
from exchange.schemas.problems import Who
from exchange.schemas.sealing import EpochsRequest, OwnEpochs
from exchange.storage.database import Connection
from exchange.storage.epochs import (
    StoredEpoch,
    StoredRevocation,
    drop_revocations,
    epoch_revocations,
    lock_own_epochs,
    own_epochs,
    publish_epochs,
    remember_revocations,
    withdraw_own_epochs,
)
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import audit
from exchange.use_cases.describe_node import epoch_view
from exchange.use_cases.errors import ConflictError, InvalidError
from exchange.use_cases.node import Node
from exchange.use_cases.peer_epochs import outlived, signed


async def take_epochs(node: Node, acting: Acting, request: EpochsRequest) -> OwnEpochs:
    """Publish what the agency's own software has signed.

    Raises:
        EnvelopeError: something is not base64url, or too large.
        InvalidError: `statement-malformed`, `statement-signature`, `epoch-not-a-week`, `key-unusable`,
            `epoch-of-another`, `epoch-over`, `from-the-future`, or `too-old`.
        ConflictError: `keys-here`, `epoch-went-back`, `epochs-differ`, or `epochs-too-many`.
    """
    if node.keyring is not None:
        raise ConflictError("keys-here", "This node holds the agency's keys and publishes its weekly keys itself.")
    try:
        offered = [_checked(node, text) for text in request.statements]
        revoked = [_checked_revocation(node, text) for text in request.revocations]
    except (StatementError, EpochError) as error:
        raise InvalidError(error.code, error.sentence, who=Who.SENDER) from error
    except KeyUnusableError as error:
        raise InvalidError(error.code, "This public key cannot be used. Make a new one.", who=Who.SENDER) from error

    def commit(conn: Connection) -> Sequence[StoredEpoch]:
        lock_own_epochs(conn)
        rows, gone = own_epochs(conn), epoch_revocations(conn, node.agency)
        fresh = [row for row in offered if row not in rows]
        doomed = [row for row in revoked if row not in gone]
        old_rows = outlived(node, conn, node.agency, EpochStatement, rows)
        old_gone = outlived(node, conn, node.agency, EpochRevocation, gone)
        given_out = [row.seq for row in rows if row not in old_rows] + [row.seq for row in gone if row not in old_gone]
        _check_rising(given_out, [*doomed, *fresh])
        _check_keys_new([*rows, *gone], fresh)
        if doomed or fresh:
            withdraw_own_epochs(conn, [row.key_id for row in old_rows])
            drop_revocations(conn, node.agency, [row.key_id for row in old_gone])
        if doomed:
            _check_all_are_replaced(_standing(node, rows), doomed, fresh, node.clock())
            remember_revocations(conn, node.agency, doomed)
            withdraw_own_epochs(conn, [row.key_id for row in doomed])
            audit(conn, node, acting, "epoch-revoked", [row.key_id for row in doomed])
        publish_epochs(conn, fresh)
        audit(conn, node, acting, "epoch-published", [row.key_id for row in fresh])
        rows = own_epochs(conn)
        if fresh:
            _check_peers_read_them(_standing(node, rows))
        return rows

    return _published(node, await node.database.write(commit))


def _checked(node: Node, text: str) -> StoredEpoch:
    raw = from_base64url(text, member="statement", longest=LIMITS.statement_bytes)
    statement = parse_statement(EpochStatement, raw).verify(node.member.agency_key)
    check_epoch(statement)
    if statement.agency != node.agency:
        raise InvalidError("epoch-of-another", "This statement is about another agency.")
    if statement.not_after <= node.clock():
        raise InvalidError("epoch-over", "The week of this statement is over.")
    if is_far_ahead(statement, node.clock()):
        raise InvalidError("from-the-future", "The week of this statement is far ahead. Set the clock of your machine.")
    return StoredEpoch(statement.key_id, statement.seq, statement.not_before, statement.not_after, raw)


def _checked_revocation(node: Node, text: str) -> StoredRevocation:
    raw = from_base64url(text, member="revocation", longest=LIMITS.statement_bytes)
    said, at = parse_statement(EpochRevocation, raw).verify(node.member.agency_key), node.clock()
    if said.agency != node.agency:
        raise InvalidError("epoch-of-another", "This revocation is about another agency.")
    if said.revoked_at > at + node.limits.skew_ms or said.compromised_since > said.revoked_at:
        raise InvalidError("from-the-future", "The revocation is dated later than now. Set the clock of your machine.")
    if said.revoked_at < at - node.limits.hand_in_within_ms:
        raise InvalidError("too-old", "The revocation was made too long ago. Sign it again.")
    return StoredRevocation(said.key_id, said.seq, revocation_ends(said.revoked_at), raw)


def _check_rising(given_out: Iterable[int], new: Iterable[StoredEpoch | StoredRevocation]) -> None:
    highest = max(given_out, default=0)
    for row in new:
        if row.seq <= highest:
            raise ConflictError("epoch-went-back", "Each statement has a higher `seq` than every one before it.")
        highest = row.seq


def _check_keys_new(known: Iterable[StoredEpoch | StoredRevocation], fresh: Iterable[StoredEpoch]) -> None:
    used = {row.key_id for row in known}
    for row in fresh:
        if row.key_id in used:
            raise ConflictError("epoch-went-back", "A key is published once: make a new one.")
        used.add(row.key_id)


def _check_all_are_replaced(
    standing: Sequence[StoredEpoch], doomed: Iterable[StoredRevocation], fresh: Iterable[StoredEpoch], at: int
) -> None:
    living = {row.not_before for row in standing if row.not_after > at}
    all_of_them = sorted(row.key_id for row in doomed) == sorted(row.key_id for row in standing)
    if not all_of_them or living - {row.not_before for row in fresh}:
        raise ConflictError(
            "epochs-differ",
            "Revoke every key that is listed and no other, and publish a new one for each week that is not over.",
        )


def _check_peers_read_them(standing: Sequence[StoredEpoch]) -> None:
    if len(standing) > MOST_STATEMENTS:
        raise ConflictError(
            "epochs-too-many",
            "Too many weekly keys are published, and peers would not read the card. Revoke them all on the agency's "
            "own machine, `exchange keys revoke`: it publishes new ones in the same step.",
        )


async def list_own_epochs(node: Node) -> OwnEpochs:
    """What is published now."""
    return _published(node, await node.database.read(own_epochs))


def _standing(node: Node, rows: Sequence[StoredEpoch]) -> list[StoredEpoch]:
    return [row for row, _ in signed(EpochStatement, rows, node.member.agency_key)]


def _published(node: Node, rows: Sequence[StoredEpoch]) -> OwnEpochs:
    at, standing = node.clock(), _standing(node, rows)
    living = [row for row in standing if row.not_after > at]
    ahead = {row.not_before for row in living if row.not_before > at}
    return OwnEpochs(
        epochs=tuple(epoch_view(row) for row in living),
        ended=tuple(epoch_view(row) for row in standing if row.not_after <= at),
        weeks_ahead=len(ahead),
    )
