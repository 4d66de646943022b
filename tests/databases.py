"""Databases of a test's own on the real PostgreSQL, which other tests and the developer's own data don't meet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg


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
