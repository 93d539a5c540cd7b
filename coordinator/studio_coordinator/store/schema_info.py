"""Which code can work with this schema; written by migrations only."""

from sqlalchemy import CheckConstraint, Column, Integer, String, Table

from studio_coordinator.store.metadata import METADATA

SCHEMA_INFO = Table(
    "schema_info",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("oldest_code_revision", String, nullable=False),
)
