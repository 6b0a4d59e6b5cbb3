"""The newest roster that was used is remembered beyond a restart

Revision ID: main_0010
Revises: main_0009
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = 'main_0010'
down_revision = 'main_0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('used_roster',
    sa.Column('one', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('digest', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.PrimaryKeyConstraint('one', name=op.f('pk_used_roster'))
    )
