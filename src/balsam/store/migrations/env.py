"""Alembic's entry: always run inside the transaction that `store.engine.upgrade` opened."""

from alembic import context

from balsam.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,
)
context.run_migrations()
