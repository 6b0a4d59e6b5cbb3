"""Answers kept for an Idempotency-Key name the referral that they are destroyed with

Those that were kept before name none and end with their keys, within 24 hours.

Revision ID: main_0005
Revises: main_0004
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = 'main_0005'
down_revision = 'main_0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('idempotency', schema=None) as batch_op:
        batch_op.add_column(sa.Column('referral', sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.alter_column('sealed_answer', existing_type=sa.LargeBinary(), nullable=True)
        batch_op.create_index('ix_idempotency_referral', ['referral'], unique=False, sqlite_where=sa.text('referral IS NOT NULL'), postgresql_where=sa.text('referral IS NOT NULL'))
