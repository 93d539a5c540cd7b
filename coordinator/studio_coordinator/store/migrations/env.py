"""Run by Alembic: migrations use the connection, and the transaction, that ``migrations.configuration`` was given."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
