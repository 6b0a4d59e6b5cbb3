"""What proves that a release was decided by this node, whatever else is written beside a held disclosure

Revision ID: main_0016
Revises: main_0015
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = 'main_0016'
down_revision = 'main_0015'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('outbox', sa.Column('release_mark', sqlmodel.sql.sqltypes.AutoString(), nullable=True))
