"""Until when a released referral counts as accepted and not yet served

Revision ID: main_0003
Revises: main_0002
"""

import sqlalchemy as sa
from alembic import op

revision = 'main_0003'
down_revision = 'main_0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('referral', schema=None) as batch_op:
        batch_op.add_column(sa.Column('unserved_until', sa.BigInteger(), nullable=True))
        batch_op.create_index('ix_referral_unserved', ['peer', 'unserved_until'], unique=False, sqlite_where=sa.text('unserved_until IS NOT NULL'), postgresql_where=sa.text('unserved_until IS NOT NULL'))
        batch_op.create_index('ix_referral_waiting', ['peer', 'updated_at'], unique=False, sqlite_where=sa.text("hold = 'unserved'"), postgresql_where=sa.text("hold = 'unserved'"))
