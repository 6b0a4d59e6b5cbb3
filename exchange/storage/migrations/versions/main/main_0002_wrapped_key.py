"""An arrived envelope keeps its wrapped key until the agency's own software has taken it over

Revision ID: main_0002
Revises: main_0001
"""

import sqlalchemy as sa
from alembic import op

revision = 'main_0002'
down_revision = 'main_0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('inbox', schema=None) as batch_op:
        batch_op.add_column(sa.Column('wrapped_key', sa.LargeBinary(), nullable=True))
