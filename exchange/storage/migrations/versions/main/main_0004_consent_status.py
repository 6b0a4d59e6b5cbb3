"""Consent status: the receipt of each forward at its sender, the last word about it at its receiver

Revision ID: main_0004
Revises: main_0003
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = 'main_0004'
down_revision = 'main_0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('outbox', schema=None) as batch_op:
        batch_op.add_column(sa.Column('consent_receipt', sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.create_index('ix_outbox_consent_receipt', ['consent_receipt'], unique=False, sqlite_where=sa.text('consent_receipt IS NOT NULL'), postgresql_where=sa.text('consent_receipt IS NOT NULL'))
    with op.batch_alter_table('inbox', schema=None) as batch_op:
        batch_op.add_column(sa.Column('consent_live_at', sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column('consent_ended_at', sa.BigInteger(), nullable=True))
