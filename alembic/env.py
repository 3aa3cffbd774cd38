"""Alembic's entry: evalsvc hands over an open connection, or the URL comes from ``EVALSVC_DATABASE_URL``."""

from alembic import context
from sqlalchemy import create_engine

from evalsvc.core.settings import Settings
from evalsvc.store.tables import Table, UtcDateTime


def migrate(connection):
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        render_as_batch=True,
        # A migration must not change when our types do: it names the plain type beneath.
        render_item=lambda kind, item, _: "sa.DateTime(timezone=True)" if isinstance(item, UtcDateTime) else False,
    )
    with context.begin_transaction():
        context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    migrate(given)
else:
    with create_engine(Settings().database).begin() as opened:
        migrate(opened)
