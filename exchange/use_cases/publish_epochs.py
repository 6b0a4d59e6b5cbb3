"""Weekly keys of an agency that holds its keys itself: it signs the statements, this node publishes them.

Rules:

* Each statement is signed by the agency key that the roster lists, is about this agency, covers exactly one week that
  is not over, and names a key that can be sealed to.
* `seq` rises with every statement ever published here: one that does not is refused, and with it the whole list.
* The same statement again is no error and changes nothing.
* A node that holds its agency's keys makes its own statements and takes none.
"""

from __future__ import annotations

from exchange.envelope.epochs import EpochStatement, check_epoch
from exchange.envelope.statements import parse_statement
from exchange.envelope.wire import from_base64url
from exchange.limits import LIMITS
from exchange.schemas.sealing import EpochsRequest, OwnEpochs
from exchange.storage.database import Connection
from exchange.storage.epochs import StoredEpoch, own_epochs, publish_epochs
from exchange.storage.errors import IntegrityError
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import audit
from exchange.use_cases.describe_node import epoch_view
from exchange.use_cases.errors import ConflictError, InvalidError
from exchange.use_cases.node import Node
from exchange.use_cases.refusals import changed_meanwhile


async def take_epochs(node: Node, acting: Acting, request: EpochsRequest) -> OwnEpochs:
    """Publish what the agency's own software has signed.

    Raises:
        EnvelopeError: a statement is malformed, not signed by the agency key, not about a week, or its key is unusable.
        InvalidError: `epoch-of-another`, or `epoch-over`.
        ConflictError: `keys-here`, `epoch-went-back`, or `changed-meanwhile`.
    """
    if node.keyring is not None:
        raise ConflictError("keys-here", "This node holds the agency's keys and publishes its weekly keys itself.")
    offered = [_checked(node, text) for text in request.statements]

    def commit(conn: Connection) -> list[StoredEpoch]:
        known = {row.key_id: row for row in own_epochs(conn)}
        fresh = [row for row in offered if known.get(row.key_id) != row]
        highest = max((row.seq for row in known.values()), default=0)
        for row in fresh:
            if row.seq <= highest or row.key_id in known:
                raise ConflictError("epoch-went-back", "Each statement has a higher `seq` than every one before it.")
            highest = row.seq
        publish_epochs(conn, fresh)
        audit(conn, node, acting, "epoch-published", [row.key_id for row in fresh])
        return list(own_epochs(conn))

    try:
        rows = await node.database.write(commit)
    except IntegrityError as error:
        raise changed_meanwhile() from error
    return _published(node, rows)


def _checked(node: Node, text: str) -> StoredEpoch:
    raw = from_base64url(text, member="statement", longest=LIMITS.statement_bytes)
    statement = parse_statement(EpochStatement, raw).verify(node.member.agency_key)
    check_epoch(statement)
    if statement.agency != node.agency:
        raise InvalidError("epoch-of-another", "This statement is about another agency.")
    if statement.not_after <= node.clock():
        raise InvalidError("epoch-over", "The week of this statement is over.")
    return StoredEpoch(statement.key_id, statement.seq, statement.not_before, statement.not_after, raw)


async def list_own_epochs(node: Node) -> OwnEpochs:
    """What is published now."""
    return _published(node, list(await node.database.read(own_epochs)))


def _published(node: Node, rows: list[StoredEpoch]) -> OwnEpochs:
    at = node.clock()
    living = [row for row in rows if row.not_after > at]
    ahead = {row.not_before for row in living if row.not_before > at}
    return OwnEpochs(epochs=tuple(epoch_view(row) for row in living), weeks_ahead=len(ahead))
