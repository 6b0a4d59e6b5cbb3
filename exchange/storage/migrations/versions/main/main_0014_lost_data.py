"""Since when, and until when, this database lost what was in it

Revision ID: main_0014
Revises: main_0013
"""

import sqlalchemy as sa
from alembic import op

revision = 'main_0014'
down_revision = 'main_0013'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('lost_data',
    sa.Column('since', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('until', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('since', name=op.f('pk_lost_data'))
    )
