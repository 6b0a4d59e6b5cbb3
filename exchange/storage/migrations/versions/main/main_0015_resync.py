"""What a peer that lost its data asks for is found without reading what ended long ago

Revision ID: main_0015
Revises: main_0014
"""

import sqlalchemy as sa
from alembic import op

revision = 'main_0015'
down_revision = 'main_0014'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index('ix_referral_peer', table_name='referral')
    for name, table, columns, condition in (
        ('ix_referral_open_with', 'referral', ['peer'], "closed_at IS NULL"),
        ('ix_outbox_stops', 'outbox', ['peer', 'settled_at'], "status = 'delivered' AND signature IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)
