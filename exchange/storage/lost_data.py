"""Between when and when this database lost what was in it: the operator of a node that was restored has said so."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from exchange.storage.prepared import Prepared
from exchange.storage.statements import insert_unless_there
from exchange.storage.tables import LOST_DATA


class Loss(NamedTuple):
    """What was made in this time may be missing."""

    since: int
    until: int


_LOSSES: Final = Prepared(select(LOST_DATA.c.since, LOST_DATA.c.until))
_REMEMBER: Final = Prepared(insert_unless_there(LOST_DATA), columns=Loss._fields)


def losses(conn: Connection) -> list[Loss]:
    """Every loss that was told."""
    return [Loss(*row) for row in _LOSSES.rows(conn, {})]


def remember_loss(conn: Connection, loss: Loss) -> None:
    """It is told; told again, it ended when it was first."""
    _REMEMBER.run(conn, loss)
