"""What proves that a client was registered by this node: who can write here lets nobody in

`exchange migrate` marks the clients of before in the transaction of this step (`exchange.cli.marking`).

Revision ID: main_0018
Revises: main_0016
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = 'main_0018'
down_revision = 'main_0016'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('oauth_client', sa.Column('mark', sqlmodel.sql.sqltypes.AutoString(), nullable=True))
