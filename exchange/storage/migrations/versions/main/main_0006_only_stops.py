"""Until when nothing but stops goes to a peer that said that it is enough for now

Revision ID: main_0006
Revises: main_0005
"""

import sqlalchemy as sa
from alembic import op

revision = 'main_0006'
down_revision = 'main_0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('peer', schema=None) as batch_op:
        batch_op.add_column(sa.Column('only_stops_until', sa.BigInteger(), nullable=True))
