"""What was read of models, and what starts of engines measured.

Two tables more, which older code does not see: what ``schema_info`` says stays true.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "model_facts",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("revision", sa.String(), nullable=False),
        sa.Column("facts", pg.JSONB(), nullable=False),
        sa.Column("read_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source", "revision", name="model_facts_pkey"),
    )
    op.create_table(
        "measured_memory",
        sa.Column("recipe_digest", sa.String(), nullable=False),
        sa.Column("engine_version", sa.String(), nullable=False),
        sa.Column("gpu_model", sa.String(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("lowest", pg.JSONB(), nullable=False),
        sa.Column("highest", pg.JSONB(), nullable=False),
        sa.Column("measured_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("recipe_digest", "engine_version", "gpu_model", "gpus", name="measured_memory_pkey"),
    )


def downgrade() -> None:
    """Drop both tables; models are read again, and starts are measured again."""
    op.drop_table("measured_memory")
    op.drop_table("model_facts")
