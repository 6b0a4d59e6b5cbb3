"""A cursor goes by transactions, and of one transaction by numbers; what is there already keeps the order it was read in

Revision ID: main_0012
Revises: main_0011
"""

import sqlalchemy as sa
from alembic import op

revision = 'main_0012'
down_revision = 'main_0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ('inbox', 'change'):
        op.execute(f"UPDATE {table} SET xid = 0 WHERE xid <> 0")
        op.create_index(f'ix_{table}_in_order', table, ['xid', 'seq'], unique=False, sqlite_where=sa.text("xid > 0"))
    for status in ('new', 'acknowledged'):
        name, where = f'ix_inbox_{status}', sa.text(f"status = '{status}'")
        op.drop_index(name, table_name='inbox')
        op.create_index(name, 'inbox', ['xid', 'seq'], unique=False, sqlite_where=where, postgresql_where=where)
