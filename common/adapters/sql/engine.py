"""Connections to PostgreSQL or SQLite, and the one place where what can go wrong with them becomes an error of ours.

Both run in autocommit: a statement is a transaction, which costs PostgreSQL one round trip. On SQLite a lone write takes the write
lock before it reads, as BEGIN IMMEDIATE would: concurrent writers wait for each other instead of failing as "database is locked".

No connection is pinged before its use: that would double the round trips. asyncpg notices when the server closes a connection, so
the pool replaces one that broke while idle without asking anybody; one that breaks in mid-statement costs that call an Unavailable.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
from sqlalchemy import URL, event, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from common.errors import Unavailable, WrongConfiguration
from common.tls import trusting

VERIFYING = ("verify-ca", "verify-full")
# What these say is wrong is the program or its data, and trying again would not help.
BUGS = (
    exc.ProgrammingError,
    exc.IntegrityError,
    exc.DataError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.IntegrityConstraintViolationError,
)


def open_engine(url: str, pool_size: int, time_limit_seconds: float, ca_file: Path | None = None) -> AsyncEngine:
    """`postgresql://…` with the query parameters that libpq knows (`sslmode`, `sslrootcert`, …), or `sqlite:///PATH`.
    Nothing connects yet. `time_limit_seconds`: how long SQLite waits for another's lock. `ca_file`: see common/tls.py."""
    if url.startswith("sqlite:"):
        return _sqlite(url.removeprefix("sqlite:///"), pool_size, time_limit_seconds)
    return _postgres(url, pool_size, ca_file)


def _postgres(url: str, pool_size: int, ca_file: Path | None) -> AsyncEngine:
    url, trust = trusted_url(url, ca_file)

    async def connect() -> Any:
        # asyncpg reads the URL itself, as libpq would: SQLAlchemy does not know what `sslmode` means to it.
        return await asyncpg.connect(url, **trust)

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def replace_if_closed(connection: Any, _record: Any, _proxy: Any) -> None:
        if connection.driver_connection.is_closed():
            raise exc.DisconnectionError

    return engine


def trusted_url(url: str, ca_file: Path | None) -> tuple[str, dict[str, Any]]:
    """→ what asyncpg takes. Where nobody names a file, libpq would verify with `~/.postgresql/root.crt` or not at all; here it is
    with the system's CAs, as everywhere else."""
    asked = parse_qs(urlsplit(url).query)
    if "sslrootcert" in asked:
        return url, {}
    if ca_file is not None:
        return f"{url}{'&' if '?' in url else '?'}sslrootcert={quote(str(ca_file))}", {}
    mode = asked.get("sslmode", [""])[-1]
    # A client's certificate is read by asyncpg alone, with the file of its choice.
    if mode not in VERIFYING or "sslcert" in asked or "PGSSLROOTCERT" in os.environ or _has_root_certificate():
        return url, {}
    context = trusting(None)
    context.check_hostname = mode == "verify-full"
    return url, {"ssl": context}


def _has_root_certificate() -> bool:
    with suppress(RuntimeError):  # no home
        return Path("~/.postgresql/root.crt").expanduser().exists()
    return False


def _sqlite(path: str, pool_size: int, time_limit_seconds: float) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=path),
        connect_args={"timeout": time_limit_seconds},
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "do_connect")
    def make_folder(*_: Any) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        # FULL: a commit has reached the disk when it returns, which WAL alone would put off.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # The mode is the file's and stays. SQLite refuses at once, whatever the timeout, while another connection is at work on a
        # new file; that one sets the mode, or the next does. Any other trouble comes up again with the first statement.
        with suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()

    return engine


@asynccontextmanager
async def connected(engine: AsyncEngine, time_limit_seconds: float | None) -> AsyncIterator[AsyncConnection]:
    """One limit over waiting for the pool, connecting and the statements; where a connection went silent, its closing may take two
    seconds more. Raises Unavailable, or WrongConfiguration for a URL that cannot be used; a bug's exception stays what it is."""
    try:
        async with asyncio.timeout(time_limit_seconds), engine.connect() as connection:
            yield connection
    except BUGS as error:
        if missing := lacking_right(error):
            # An operator's doing, as a role that was dropped too early: it is no picture's fault, and may be mended at any time.
            raise Unavailable("database", f"this role may not do that: {missing}") from error
        raise
    except exc.DBAPIError as error:
        raise _translated(error, error.orig.__cause__ or error.orig if error.orig is not None else error) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _translated(error, error) from error
    except TimeoutError as error:
        raise Unavailable("database", f"no answer in {time_limit_seconds} s") from error
    except (exc.DisconnectionError, exc.TimeoutError, OSError) as error:
        raise Unavailable("database", f"{type(error).__name__}: {error}") from error
    except RuntimeError as error:
        # uvloop's, for writing to a connection that was closed a moment ago, of which asyncpg has not heard yet.
        if "handler is closed" not in str(error):
            raise
        raise Unavailable("database", str(error)) from error


def lacking_right(error: BaseException | None) -> asyncpg.InsufficientPrivilegeError | None:
    """What the server said, where that is what the error or its cause is about."""
    while error is not None and not isinstance(error, asyncpg.InsufficientPrivilegeError):
        error = error.__cause__ or getattr(error, "orig", None)
    return error


def _translated(error: Exception, cause: BaseException) -> Exception:
    """Sorts what SQLAlchemy does not: asyncpg's errors by class, a server's by the first two characters of its SQLSTATE
    (https://www.postgresql.org/docs/current/errcodes-appendix.html), SQLite's by code (https://www.sqlite.org/rescode.html)."""
    if isinstance(cause, asyncpg.ClientConfigurationError):
        return WrongConfiguration("POSTGRES_URL", cause.args[0])  # without the hint that str adds in a line of its own
    data_is_wrong = isinstance(cause, asyncpg.DataError) or (getattr(cause, "sqlstate", None) or "").startswith("22")
    statement_is_wrong = getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    if data_is_wrong or statement_is_wrong:
        return error
    return Unavailable("database", f"{type(cause).__name__}: {cause}")
