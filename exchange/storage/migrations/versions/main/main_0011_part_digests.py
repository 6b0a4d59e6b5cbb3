"""What the signature of an envelope covers is kept, so that it can be checked when the wrapped key is gone

Revision ID: main_0011
Revises: main_0010
"""

import sqlalchemy as sa
from alembic import op

revision = 'main_0011'
down_revision = 'main_0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('inbox', schema=None) as batch_op:
        batch_op.add_column(sa.Column('part_digests', sa.LargeBinary(), nullable=True))
