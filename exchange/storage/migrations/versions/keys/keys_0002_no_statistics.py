"""No statistics of keys: PostgreSQL's ANALYZE keeps values of columns in a table of its own, where destroying a key does
not reach

A key store on PostgreSQL that was in use before this step may still have some in `pg_statistic`: run
`VACUUM FULL pg_statistic` there once, as the database's owner.

Revision ID: keys_0002
Revises: keys_0001
"""

from alembic import op

revision = 'keys_0002'
down_revision = 'keys_0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name != 'postgresql':
        return
    for table in ('epoch_private', 'referral_key'):
        op.execute(f'ALTER TABLE {table} ALTER COLUMN wrapped SET STATISTICS 0')
        # The type stays as it is; what was known of the column's values goes.
        op.execute(f'ALTER TABLE {table} ALTER COLUMN wrapped TYPE bytea')
