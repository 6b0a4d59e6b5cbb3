"""What the node last saw of the time, to notice a clock that has jumped ahead

Revision ID: main_0013
Revises: main_0012
"""

import sqlalchemy as sa
from alembic import op

revision = 'main_0013'
down_revision = 'main_0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('clock_look',
    sa.Column('one', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('settled_at', sa.BigInteger(), nullable=False),
    sa.Column('looked_at', sa.BigInteger(), nullable=False),
    sa.Column('doubted_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('one', name=op.f('pk_clock_look'))
    )
