"""Databases of a test's own on the real PostgreSQL, which other tests and the developer's own data don't meet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
from sqlalchemy import event

from common.adapters.sql import SqlImageStore

# The sessions of a test's store, to select from.
OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@asynccontextmanager
async def postgres_database(url: str) -> AsyncIterator[str]:
    """→ the URL of a new and empty database beside that of `url`, gone on exit whoever is connected."""
    name = f"test_{uuid4().hex}"
    await execute(url, f'CREATE DATABASE "{name}"')
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        await execute(url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def opened(url: str, pool_size: int = 2, time_limit_seconds: float = 10) -> AsyncIterator[SqlImageStore]:
    store = SqlImageStore(url, pool_size, time_limit_seconds)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[Any]:
    """Another session's transaction on PostgreSQL, undone on exit."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")
        yield connection
    finally:
        await connection.close()


async def poll(url: str, query: str, wanted: int) -> None:
    """Until that is what PostgreSQL answers."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(20):
            while await connection.fetchval(query) != wanted:  # noqa: ASYNC110 - another session's state cannot be awaited
                await asyncio.sleep(0.02)
    finally:
        await connection.close()


def recorded(store: SqlImageStore) -> list[tuple[str, tuple[Any, ...]]]:
    """The statements that it is going to run, with their parameters."""
    ran: list[tuple[str, tuple[Any, ...]]] = []

    @event.listens_for(store._engine.sync_engine, "before_cursor_execute")
    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        ran.append((statement, parameters))

    @event.listens_for(store._engine.sync_engine, "checkout")
    def listen(connection: Any, *_: Any) -> None:
        if isinstance(connection.driver_connection, asyncpg.Connection):
            connection.driver_connection.add_query_logger(record_of_driver)

    def record_of_driver(logged: asyncpg.connection.LoggedQuery) -> None:
        # Without what SQLAlchemy prepares, which is recorded above.
        if logged.query.startswith(("SELECT images", "UPDATE images")):
            ran.append((logged.query, tuple(logged.args)))

    return ran
