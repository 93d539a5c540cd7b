"""The store lane: every test on a database of its own, in a real PostgreSQL."""

from fakes.postgres import database, database_url, empty_database_url, postgres

__all__ = ["database", "database_url", "empty_database_url", "postgres"]
