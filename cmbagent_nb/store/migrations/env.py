"""Runs the migrations in ``versions`` on the connection that the store passes to Alembic."""

from alembic import context

from cmbagent_nb.store.tables import Table

config = getattr(context, "config", None)
if config is not None:  # Alembic runs it; otherwise something only looks at the file
    context.configure(connection=config.attributes["connection"], target_metadata=Table.metadata)
    with context.begin_transaction():
        context.run_migrations()
