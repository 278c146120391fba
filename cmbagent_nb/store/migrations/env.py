"""What Alembic runs: the scripts in ``versions`` on the connection that the store gives it."""

from alembic import context

from cmbagent_nb.store.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
with context.begin_transaction():
    context.run_migrations()
