"""What alembic runs for each command: on the connection and in the transaction of its caller."""

from alembic import context
from sqlalchemy import Connection

from common.adapters.sql.rows import METADATA

connection: Connection = context.config.attributes["connection"]
# SQLite can change a table only by making it anew, which is what a batch does.
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=connection.dialect.name == "sqlite")
with context.begin_transaction():
    context.run_migrations()
