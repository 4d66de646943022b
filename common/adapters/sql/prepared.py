"""Statements that are put together once, and on PostgreSQL executed by its driver itself.

SQLAlchemy writes the text and knows how each value is to be given, for both databases alike. Executing through it costs the process
some 0.3 ms a statement, which is most of what a statement costs here; the driver, on the same connection of the same pool, needs a
tenth of that. What goes wrong is the caller's to translate: see `connected` in engine.py.
"""

from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.selectable import Select

from common.adapters.sql.rows import Row

Statement = Select[Any] | Insert | Update


class PreparedStatement:
    """Of at most one row, as a transaction of its own. The names of its parameters are the same each time; those of columns set
    them. `statement`: for a transaction of several, which is SQLAlchemy's."""

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        self.statement = statement
        self._dialect = dialect
        self._form: _Form | None = None

    async def one(self, connection: AsyncConnection, parameters: Mapping[str, Any]) -> Row | None:
        """→ the row by column, None where there is none."""
        if self._dialect.driver != "asyncpg":
            answer = await connection.execute(self.statement, parameters)
            return answer.mappings().one_or_none() if answer.returns_rows else None
        if self._form is None:
            self._form = _Form(self.statement, self._dialect, parameters)
        arguments = self._form.arguments(parameters)
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            row: Row | None = await driver.fetchrow(self._form.text, *arguments)
        except asyncpg.PostgresError:
            raise  # an answer: the connection is as good as before
        except BaseException:
            await connection.invalidate()
            raise
        return row


class _Form:
    """The text, and how the driver wants its parameters: in order, each as its type gives it."""

    def __init__(self, statement: Statement, dialect: Dialect, parameters: Mapping[str, Any]) -> None:
        self._compiled = dialect.statement_compiler(dialect, statement, column_keys=list(parameters))
        self.text = self._compiled.string
        types = {name: parameter.type.dialect_impl(dialect) for name, parameter in self._compiled.binds.items()}
        self._given = [(name, types[name].bind_processor(dialect)) for name in self._compiled.positiontup or ()]

    def arguments(self, parameters: Mapping[str, Any]) -> list[Any]:
        values = self._compiled.construct_params(parameters)
        return [given(values[name]) if given else values[name] for name, given in self._given]
