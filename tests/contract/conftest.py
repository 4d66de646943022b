"""The stores that the suites of ImageStore run over."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from common.adapters.sql import SqlImageStore, SqlUpkeep
from common.adapters.sql.migrate import upgrade
from common.ports import ImageStore, Upkeep
from common.settings import Settings
from tests.conftest import require_url
from tests.databases import execute, postgres_database
from tests.fakes import FakeImageStore

# As many connections as the largest number of calls that the suites make at once.
POOL_SIZE = 20


@pytest.fixture(scope="session")
async def migrated(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """→ the URL of a migrated database of that kind, made when it is first asked for."""
    urls: dict[str, str] = {}
    async with AsyncExitStack() as stack:

        async def url_of(kind: str) -> str:
            if kind not in urls:
                if kind == "sqlite":
                    url = f"sqlite:///{tmp_path_factory.mktemp('template') / 'images.db'}"
                else:
                    server = settings.postgres_url.get_secret_value()
                    require_url("PostgreSQL", server, 5432)
                    url = await stack.enter_async_context(postgres_database(server))
                await asyncio.to_thread(upgrade, url)
                urls[kind] = url
            return urls[kind]

        yield url_of


@pytest.fixture(params=["fake", "sqlite", "postgres"])
async def images(
    request: pytest.FixtureRequest, tmp_path: Path, migrated: Callable[[str], Awaitable[str]]
) -> AsyncIterator[ImageStore]:
    """An empty store."""
    if request.param == "fake":
        yield FakeImageStore()
        return
    url = await migrated(request.param)
    if request.param == "sqlite":
        shutil.copy(url.removeprefix("sqlite:///"), tmp_path / "images.db")
        url = f"sqlite:///{tmp_path / 'images.db'}"
    else:
        await execute(url, "TRUNCATE images, idempotency_keys, turns")
    store = SqlImageStore(url, POOL_SIZE, 20)
    yield store
    await store.close()


@pytest.fixture
def upkeep(images: ImageStore) -> Upkeep:
    """Of the same rows."""
    if isinstance(images, FakeImageStore):
        return images
    assert isinstance(images, SqlImageStore)
    return SqlUpkeep(images)
