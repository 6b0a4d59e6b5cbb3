"""When a peer was asked for its card is known to all processes of a node

Revision ID: main_0009
Revises: main_0008
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = 'main_0009'
down_revision = 'main_0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('peer_card',
    sa.Column('agency', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('read_at', sa.BigInteger(), nullable=False),
    sa.Column('asked_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('agency', name=op.f('pk_peer_card'))
    )
    with op.batch_alter_table('peer_epoch', schema=None) as batch_op:
        batch_op.drop_column('fetched_at')
