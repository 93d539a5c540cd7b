"""Tenants, limits, quota leases and prices.

New tables, and columns with defaults, which older code does not see: what ``schema_info`` says stays true.

Revision ID: 0005
Revises: 0004
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.TIMESTAMP(timezone=True)


def added() -> dict[str, tuple[sa.Column[Any], ...]]:
    """The new columns of tables that were there, by table."""
    return {
        "api_keys": (
            sa.Column("limits", pg.JSONB()),
            sa.Column("last_used_at", INSTANT),
            sa.Column("version", sa.BigInteger(), nullable=False, server_default="1"),
            sa.Column("user", sa.String(), nullable=False, server_default=""),
        ),
        "usage": (
            sa.Column("queue_seconds", sa.Double(), nullable=False, server_default="0"),
            sa.Column("inter_token_seconds", sa.Double()),
            sa.Column("cost_micros", sa.BigInteger(), nullable=False, server_default="0"),
            sa.Column("user", sa.String(), nullable=False, server_default=""),
        ),
        "provider_models": (sa.Column("fallbacks", pg.ARRAY(sa.String()), nullable=False, server_default="{}"),),
    }


def upgrade() -> None:
    """Create the tables; everybody's tenant is there from the start."""
    tenants = op.create_table(
        "tenants",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("limits", pg.JSONB()),
        sa.Column("weight", sa.Double()),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("user_limits", pg.JSONB()),
        sa.PrimaryKeyConstraint("name", name="tenants_pkey"),
    )
    op.execute(
        sa.insert(tenants).values(
            name="default", description="whoever belongs to no other", created_at=sa.func.now(), version=1
        )
    )
    op.create_table(
        "prices",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("prompt_micros", sa.BigInteger(), nullable=False),
        sa.Column("completion_micros", sa.BigInteger(), nullable=False),
        sa.Column("cached_micros", sa.BigInteger()),
        sa.PrimaryKeyConstraint("model", name="prices_pkey"),
    )
    op.create_table(
        "quota_gateways",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("gateway_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name="quota_gateways_pkey"),
    )
    op.create_table(
        "quota_ledger",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("bound", sa.String(), nullable=False),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("leased", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "bound", "window", name="quota_ledger_pkey"),
    )
    op.create_table(
        "quota_holdings",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("bound", sa.String(), nullable=False),
        sa.Column("slots", sa.BigInteger(), nullable=False),
        sa.Column("outage_amount", sa.BigInteger(), nullable=False),
        sa.Column("asked_window", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "owner", "bound", name="quota_holdings_pkey"),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["quota_gateways.instance_id"],
            name="quota_holdings_instance_id_fkey",
            ondelete="CASCADE",
        ),
    )
    for table, columns in added().items():
        for column in columns:
            op.add_column(table, column)


def downgrade() -> None:
    """Drop the tables and columns; leases are given anew."""
    for table, columns in added().items():
        for column in columns:
            op.drop_column(table, column.name)
    for table in ("quota_holdings", "quota_ledger", "quota_gateways", "prices", "tenants"):
        op.drop_table(table)
