"""Rollups of telemetry.

Two tables, partitioned by day; the coordinator makes and drops partitions. Older code does not see them.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROLLUPS = ("telemetry_10s", "telemetry_1m")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "telemetry_layouts",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("names", pg.ARRAY(sa.String()), nullable=False),
        sa.Column("first_used", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="telemetry_layouts_pkey"),
        sa.UniqueConstraint("host_id", "digest", name="telemetry_layouts_host_id_digest_key"),
    )
    # Series are asked for by name.
    op.create_index("telemetry_layouts_names_idx", "telemetry_layouts", ["names"], postgresql_using="gin")
    for table in ROLLUPS:
        op.create_table(
            table,
            sa.Column("layout_id", sa.BigInteger(), nullable=False),
            sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
            sa.Column("mean", pg.ARRAY(sa.REAL()), nullable=False),
            sa.Column("highest", pg.ARRAY(sa.REAL()), nullable=False),
            postgresql_partition_by="RANGE (at)",
        )
        # Not unique: after a change of leader a step may be there twice, in halves.
        op.create_index(f"{table}_layout_id_at_idx", table, ["layout_id", "at"])


def downgrade() -> None:
    """Drop the tables with all their partitions."""
    for table in ROLLUPS:
        op.drop_table(table)
    op.drop_table("telemetry_layouts")
