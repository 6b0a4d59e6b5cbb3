"""A referral knows whether it is a drill, so that all that follows its offer can say so

Revision ID: main_0017
Revises: main_0016
"""

import sqlalchemy as sa
from alembic import op

revision = 'main_0017'
down_revision = 'main_0016'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('referral', schema=None) as batch_op:
        batch_op.add_column(sa.Column('exercise', sa.Boolean(), nullable=True))
