"""Migrated first, while programs of the revision before still run: their statements, which know its columns alone, go on working
beside this program's. The columns are read from a database of that revision, so this holds for whatever revision is the last."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, table
from sqlalchemy.sql.expression import column

from common.adapters.sql.engine import open_engine
from common.adapters.sql.migrate import config_for, upgrade
from common.adapters.sql.rows import IMAGES, new_row
from common.images import ImageStatus, Result
from common.settings import Settings
from tests.builders import image
from tests.conftest import require_url
from tests.databases import opened, postgres_database

LEASE = timedelta(minutes=1)


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request: pytest.FixtureRequest, tmp_path: Path, settings: Settings) -> AsyncIterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'images.db'}"
        return
    server = settings.postgres_url.get_secret_value()
    require_url("PostgreSQL", server, 5432)
    async with postgres_database(server) as database:
        yield database


def before_the_last(connection: Connection) -> set[str]:
    """Migrates to the revision before the last. → the columns that a row of images has there."""
    config = config_for(connection)
    last = ScriptDirectory.from_config(config).get_revision("head")
    assert last is not None
    assert isinstance(last.down_revision, str)
    command.upgrade(config, last.down_revision)
    return {each["name"] for each in inspect(connection).get_columns("images")}


class OldProgram:
    """The statements of the revision before: none of its columns is missing, and it knows no others."""

    def __init__(self, url: str, columns: set[str]) -> None:
        self._engine = open_engine(url, 1, 10)
        # A table of its own, so that none of today's defaults fills in what it does not know.
        self._images = table("images", *(column(each.name, each.type) for each in IMAGES.c if each.name in columns))
        self._columns = columns

    async def close(self) -> None:
        await self._engine.dispose()

    async def add(self) -> UUID:
        row = {name: value for name, value in new_row(image(owner="alice")).items() if name in self._columns}
        await self._execute(self._images.insert().values(row | {"dispatch_after": datetime.now(UTC)}))
        found: UUID = row["id"]
        return found

    async def change(self, image_id: UUID, **values: Any) -> None:
        await self._execute(self._images.update().where(self._images.c.id == image_id).values(**values))

    async def read(self, image_id: UUID) -> dict[str, Any]:
        async with self._engine.connect() as connection:
            found = await connection.execute(select(self._images).where(self._images.c.id == image_id))
            return dict(found.mappings().one())

    async def _execute(self, statement: Any) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(statement)


@pytest.fixture
async def old(url: str) -> AsyncIterator[OldProgram]:
    engine = open_engine(url, 1, 10)
    async with engine.connect() as connection:
        columns = await connection.run_sync(before_the_last)
    await engine.dispose()
    await asyncio.to_thread(upgrade, url)
    program = OldProgram(url, columns)
    yield program
    await program.close()


def test_there_is_something_that_the_old_program_does_not_know(old: OldProgram) -> None:
    assert old._columns < {each.name for each in IMAGES.c}


async def test_what_the_old_program_takes_in_the_new_one_finishes(url: str, old: OldProgram) -> None:
    image_id = await old.add()
    async with opened(url) as store:
        assert [due.id for due in await store.take_due(10, timedelta(0))] == [image_id]
        claimed = await store.claim(image_id, LEASE)
        assert claimed is not None
        await store.retry(image_id, 1, timedelta(0), "The object store was away.", outage=True)
        claimed = await store.claim(image_id, LEASE)
        assert claimed is not None
        result = Result(key=claimed.result_key, content_type="image/jpeg", size_bytes=1, sha256="0", width=1, height=1)
        assert await store.complete(image_id, 2, result) is not None

    seen = await old.read(image_id)
    assert (seen["status"], seen["attempts"], seen["result_key"]) == ("completed", 2, f"{image_id}/2")


async def test_what_the_new_program_takes_in_the_old_one_finishes(url: str, old: OldProgram) -> None:
    async with opened(url) as store:
        added = await store.add(image(owner="alice"), timedelta(0))
        assert (await old.read(added.id))["status"] == "uploaded"
        lease_end = datetime.now(UTC) + LEASE
        await old.change(added.id, status="processing", attempts=1, version=2, dispatch_after=lease_end)
        assert await store.claim(added.id, LEASE) is None  # the old program's lease is respected
        result = {"result_key": f"{added.id}/1", "result_content_type": "image/jpeg", "result_size_bytes": 1}
        result |= {"result_sha256": "0", "result_width": 1, "result_height": 1, "completed_at": lease_end}
        await old.change(added.id, status="completed", version=3, dispatch_after=None, **result)

        found = await store.get(added.id)
        assert found is not None
        assert (found.status, found.attempts, found.version) == (ImageStatus.COMPLETED, 1, 3)
        assert found.result is not None
        assert found.result.key == f"{added.id}/1"


async def test_what_the_old_program_gave_up_or_deleted_the_new_one_sends_again_or_removes(url: str, old: OldProgram) -> None:
    failed, deleted = await old.add(), await old.add()
    await old.change(failed, status="failed", attempts=5, version=9, failure_code="time-limit", failure_detail="Slow.")
    await old.change(deleted, deleted=True, version=2)
    async with opened(url) as store:
        again = await store.redrive(failed)
        assert again is not None
        assert (again.status, again.forgiven, again.version) == (ImageStatus.QUEUED, 6, 10)
        assert [row.id for row in await store.take_due(10, timedelta(0), deleted=True)] == [deleted]
        assert await store.get(deleted) is None
        await store.remove(deleted)
    seen = await old.read(failed)
    assert (seen["status"], seen["failure_code"]) == ("queued", None)
