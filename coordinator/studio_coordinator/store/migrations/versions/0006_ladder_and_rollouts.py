"""How deep deployments rest, how far rollouts are, and replicas that span several hosts.

New columns have defaults, so that older code can still write its rows.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and tables."""
    _add_ladder()
    op.add_column("deployments", sa.Column("rollout", pg.JSONB()))
    _add_members()


def downgrade() -> None:
    """Drop them; who rests is awake again, and the clocks of the idle ladder begin anew."""
    op.drop_table("replica_members")
    op.drop_column("deployments", "rollout")
    _drop_ladder()


def _add_ladder() -> None:
    op.add_column("deployments", sa.Column("rest", sa.String(), nullable=False, server_default="UNSPECIFIED"))
    op.add_column("deployments", sa.Column("rest_reason", sa.String(), nullable=False, server_default=""))
    op.add_column("deployments", sa.Column("rest_since", sa.TIMESTAMP(timezone=True)))
    op.add_column("replicas", sa.Column("sleep_level", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "replicas",
        sa.Column("loaded_adapters", sa.ARRAY(sa.String()), nullable=False, server_default="{}"),
    )
    op.create_table(
        "last_requests",
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("deployment", name="last_requests_pkey"),
        sa.ForeignKeyConstraint(
            ["deployment"], ["deployments.name"], name="last_requests_deployment_fkey", ondelete="CASCADE"
        ),
    )


def _drop_ladder() -> None:
    op.drop_table("last_requests")
    op.drop_column("replicas", "loaded_adapters")
    op.drop_column("replicas", "sleep_level")
    for name in ("rest_since", "rest_reason", "rest"):
        op.drop_column("deployments", name)


def _add_members() -> None:
    op.create_table(
        "replica_members",
        sa.Column("replica_id", sa.String(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("gpu_uuids", sa.ARRAY(sa.String()), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("replica_id", "rank", name="replica_members_pkey"),
        sa.ForeignKeyConstraint(
            ["replica_id"], ["replicas.id"], name="replica_members_replica_id_fkey", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="replica_members_host_id_fkey"),
    )
    op.create_index("replica_members_host_id_idx", "replica_members", ["host_id"])
