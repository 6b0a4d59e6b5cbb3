"""The sealed facts of a referral say what she was told, and what both agencies were, when something of it was sealed

No column is another one. A program of before cannot read such facts, and by this number it refuses the database at its
start instead of each referral.

Revision ID: main_0019
Revises: main_0018
"""

revision = 'main_0019'
down_revision = 'main_0018'
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
