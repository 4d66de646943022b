"""Migrated databases of a test module's own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.adapters.sql.migrate import upgrade
from common.settings import Settings
from tests.conftest import require_url
from tests.databases import postgres_database


@pytest.fixture(scope="module")
async def database(settings: Settings) -> AsyncIterator[str]:
    """The URL of one on PostgreSQL."""
    server = settings.postgres_url.get_secret_value()
    require_url("PostgreSQL", server, 5432)
    async with postgres_database(server) as url:
        await asyncio.to_thread(upgrade, url)
        yield url


@pytest.fixture
async def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'images.db'}"
    await asyncio.to_thread(upgrade, url)
    return url
