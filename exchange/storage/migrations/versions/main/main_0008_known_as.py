"""A tombstone that a stop made knows the id that its sender used: beside another member's it lies under one of its own

Revision ID: main_0008
Revises: main_0007
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = 'main_0008'
down_revision = 'main_0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('referral', schema=None) as batch_op:
        batch_op.add_column(sa.Column('known_as', sqlmodel.sql.sqltypes.AutoString(), nullable=True))
