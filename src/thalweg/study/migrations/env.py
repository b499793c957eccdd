"""What alembic runs to bring a database up to date; the connection is given by `store.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
