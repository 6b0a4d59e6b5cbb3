"""What proves that this node has registered a client, and read a peer's card, whatever somebody else writes here

`exchange migrate` marks the clients of before in the transaction of this step (`exchange.cli.marking`).

Revision ID: main_0018
Revises: main_0017
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = 'main_0018'
down_revision = 'main_0017'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('oauth_client', sa.Column('mark', sqlmodel.sql.sqltypes.AutoString(), nullable=True))
    for mark in ('read_mark', 'asked_mark'):
        op.add_column('peer_card', sa.Column(mark, sqlmodel.sql.sqltypes.AutoString(), nullable=True))
