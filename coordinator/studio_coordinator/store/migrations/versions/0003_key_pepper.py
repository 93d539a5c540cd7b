"""The check value of the secret that API keys are hashed with.

One table more, which older code does not see: what ``schema_info`` says stays true.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; the first coordinator that starts fills it."""
    op.create_table(
        "key_pepper",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("check_value", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("key_pepper_single_row_check")),
        sa.PrimaryKeyConstraint("id", name="key_pepper_pkey"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("key_pepper")
