"""Revocations of epoch keys: this agency's own, and those of its peers

Revision ID: main_0007
Revises: main_0006
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = 'main_0007'
down_revision = 'main_0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('epoch_revocation',
    sa.Column('agency', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('key_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('forget_at', sa.BigInteger(), nullable=False),
    sa.Column('statement', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('agency', 'key_id', name=op.f('pk_epoch_revocation'))
    )
