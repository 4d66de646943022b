"""Brings a database to this program's revision, with the revisions of the package `migrations`, from whatever folder it is run.

Promises that an upgrade happens wholly or not at all, and that any number of them at once do it once. Goes only forwards.
"""

import asyncio
import ssl
from functools import cache
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from common.adapters.sql.engine import connected, lacking_right, open_engine
from common.errors import NotMigrated, Unavailable, WrongConfiguration

# How long another's upgrade may hold SQLite's lock.
_PATIENCE_SECONDS = 60
# Any number that nothing else in the database locks.
_LOCK = 7_240_113
# Of SQLSTATE: who it is, and that there is no such database.
REFUSED = ("28", "3D000")


def upgrade(url: str, ca_file: Path | None = None) -> None:
    """Waits for others that are at it. Raises Unavailable; WrongConfiguration; NotMigrated for one of a later version than this."""
    asyncio.run(_upgrade(url, ca_file))


async def _upgrade(url: str, ca_file: Path | None) -> None:
    engine = open_engine(url, 1, _PATIENCE_SECONDS, ca_file)
    try:
        async with connected(engine, None) as connection:
            await connection.run_sync(_upgrade_alone)
    except Unavailable as error:
        if lacking_right(error):
            raise WrongConfiguration("POSTGRES_URL", f"to migrate takes the owner's role: {error.reason}") from error
        if lasting := _lasting(error):
            raise WrongConfiguration("POSTGRES_URL", " ".join(str(lasting).split())) from error
        raise
    finally:
        await engine.dispose()


def _lasting(error: BaseException | None) -> BaseException | None:
    """What does not pass by itself. Programs that run on take it for an outage, as an operator may be at it; who migrates waits for
    the answer."""
    while error is not None:
        is_refused = (getattr(error, "sqlstate", None) or "").startswith(REFUSED)
        is_without_tls = isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)
        if is_refused or is_without_tls or isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or getattr(error, "orig", None)
    return None


def _upgrade_alone(connection: Connection) -> None:
    """In one transaction. Where it does not end, neither does it stay: it goes with the connection."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    try:
        command.upgrade(config_for(connection), "head")
    except CommandError as error:
        raise NotMigrated(f"The database cannot be migrated: {error}. Is it of a later version than this program?") from error
    connection.exec_driver_sql("COMMIT")


def config_for(connection: Connection | None) -> Config:
    """What alembic's commands take; without a connection, for those that only read the revisions' files."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def current_revision(connection: Connection) -> str | None:
    """None for a database that was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


@cache
def head_revision() -> str:
    head = ScriptDirectory.from_config(config_for(None)).get_current_head()
    if head is None:
        raise RuntimeError("migrations/versions is not installed")
    return head
