"""What the stores of this package share: connections, statements, transactions and the clock.

The clock is PostgreSQL's, or this process's for SQLite.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Executable, Interval, Table, bindparam, func, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from common.adapters.sql.engine import connected, open_engine
from common.adapters.sql.prepared import PreparedStatement, Statement
from common.adapters.sql.rows import IMAGES, Row, UtcDateTime


class Database:
    """`url` is `postgresql://…` or `sqlite:///PATH`; `time_limit_seconds` is that of one call, connecting included."""

    def __init__(self, url: str, pool_size: int, time_limit_seconds: float, ca_file: Path | None = None) -> None:
        self._engine = open_engine(url, pool_size, time_limit_seconds, ca_file)
        self._time_limit_seconds = time_limit_seconds
        self._has_clock = self._engine.dialect.name == "postgresql"

    async def close(self) -> None:
        await self._engine.dispose()

    def connected(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return connected(self._engine, self._time_limit_seconds)

    def insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        return (postgresql.insert if self._has_clock else sqlite.insert)(table)

    def prepared(self, statement: Statement) -> PreparedStatement:
        return PreparedStatement(statement, self._engine.dialect)

    async def one(self, statement: PreparedStatement, parameters: dict[str, Any]) -> Row | None:
        async with self.connected() as connection:
            return await statement.one(connection, parameters)

    async def execute(self, statement: Executable, parameters: dict[str, Any] | None = None) -> CursorResult[Any]:
        async with self.connected() as connection:
            return await connection.execute(statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """For several statements. The first one has to write: SQLite then waits for the lock, where else it would fail."""
        async with self.connected() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED" if self._has_clock else "SERIALIZABLE")
            async with connection.begin():
                yield connection

    def after(self, duration: timedelta) -> ColumnElement[datetime]:
        if self._has_clock:
            return func.now() + literal(duration)
        return literal(datetime.now(UTC) + duration, UtcDateTime())

    def now(self) -> ColumnElement[datetime]:
        """Of when the statement is executed."""
        if self._has_clock:
            return func.now()
        return bindparam(None, type_=UtcDateTime(), callable_=lambda: datetime.now(UTC))

    def due(self) -> ColumnElement[datetime]:
        """For a statement that is made once: the parameter `due_in` of its execution, as `due_in` makes it, from then on."""
        if self._has_clock:
            return func.now() + bindparam("due_in", type_=Interval())
        return bindparam("due_in", type_=UtcDateTime())

    def due_in(self, duration: timedelta) -> timedelta | datetime:
        return duration if self._has_clock else datetime.now(UTC) + duration


def marked_deleted(database: Database, due_in: timedelta) -> dict[str, Any]:
    return {
        "deleted": True,
        "version": IMAGES.c.version + 1,
        "updated_at": database.now(),
        "dispatch_after": database.after(due_in),
    }
