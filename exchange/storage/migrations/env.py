"""Runs inside Alembic: the connection, its transaction and its lock belong to `exchange.storage.migrate`."""

from alembic import context

from exchange.storage.migrate import configuration

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes["metadata"],
    **configuration(connection),
)
with context.begin_transaction():
    context.run_migrations()
