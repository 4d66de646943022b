"""The revisions, on both databases: they make what the program expects, can be undone, and bear being run at the same time."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from common.adapters.sql import SqlImageStore
from common.adapters.sql.engine import open_engine
from common.adapters.sql.migrate import config_for, current_revision, head_revision, upgrade
from common.adapters.sql.rows import METADATA
from common.errors import NotMigrated, Unavailable
from common.settings import Settings
from tests.conftest import require_url
from tests.contract.sockets import free_port
from tests.databases import postgres_database

T = TypeVar("T")


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request: pytest.FixtureRequest, tmp_path: Path, settings: Settings) -> AsyncIterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new folder' / 'images.db'}"
        return
    server = settings.postgres_url.get_secret_value()
    require_url("PostgreSQL", server, 5432)
    async with postgres_database(server) as database:
        yield database


async def on(url: str, work: Callable[[Connection], T]) -> T:
    engine = open_engine(url, 1, 10)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def checked(url: str) -> None:
    store = SqlImageStore(url, 1, 10)
    try:
        await store.check()
    finally:
        await store.close()


async def test_up_down_and_up_again(url: str) -> None:
    await asyncio.to_thread(upgrade, url)
    assert await on(url, current_revision) == head_revision()
    assert await on(url, _tables) == {"alembic_version", "idempotency_keys", "images"}

    await on(url, lambda connection: command.downgrade(config_for(connection), "base"))
    assert await on(url, current_revision) is None
    assert await on(url, _tables) == {"alembic_version"}

    await asyncio.to_thread(upgrade, url)
    await checked(url)


async def test_the_revisions_make_what_the_program_expects(url: str) -> None:
    await asyncio.to_thread(upgrade, url)

    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    def checks(connection: Connection) -> dict[str | None, str]:
        return {check["name"]: _plain(check["sqltext"]) for check in inspect(connection).get_check_constraints("images")}

    assert await on(url, differences) == []
    # What alembic does not compare: the names and texts of the checks, against those of a table made from the model.
    migrated = await on(url, checks)
    await on(url, lambda connection: METADATA.drop_all(connection))
    await on(url, lambda connection: METADATA.create_all(connection))
    assert migrated == await on(url, checks)


async def test_upgrades_at_the_same_time_do_it_once(url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(upgrade, url) for _ in range(5)))
    await checked(url)


async def test_an_upgrade_of_what_is_up_to_date_changes_nothing(url: str) -> None:
    await asyncio.to_thread(upgrade, url)
    await asyncio.to_thread(upgrade, url)
    await checked(url)


async def test_an_empty_database_is_refused_with_what_to_do(url: str) -> None:
    with pytest.raises(NotMigrated) as refusal:
        await checked(url)
    assert refusal.value.detail == (
        f"The database is not migrated (found nothing, need {head_revision()}); run: image-processor migrate"
    )


async def test_another_revision_is_refused_and_a_later_one_left_alone(url: str) -> None:
    await asyncio.to_thread(upgrade, url)
    await on(url, lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NotMigrated, match="found 9999"):
        await checked(url)
    with pytest.raises(NotMigrated, match="later version"):
        await asyncio.to_thread(upgrade, url)
    assert await on(url, current_revision) == "9999"


async def test_an_upgrade_that_breaks_leaves_nothing_behind(url: str) -> None:
    # given a database in which the revision's last step cannot succeed
    await on(url, lambda connection: connection.exec_driver_sql("CREATE TABLE other (owner text, id text)"))
    await on(url, lambda connection: connection.exec_driver_sql("CREATE INDEX images_owner ON other (owner, id)"))
    with pytest.raises(Exception, match="already exists"):
        await asyncio.to_thread(upgrade, url)
    assert await on(url, _tables) == {"other"}


def test_migrating_a_database_that_is_away_says_so() -> None:
    with pytest.raises(Unavailable) as refusal:
        upgrade(f"postgresql://u:secret@127.0.0.1:{free_port()}/d")
    assert refusal.value.service == "database"
    assert "secret" not in refusal.value.reason


def test_the_revisions_are_found_from_any_folder(tmp_path: Path) -> None:
    program = "import sys; from common.adapters.sql.migrate import upgrade; upgrade(sys.argv[1])"
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{tmp_path / 'images.db'}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        check=True,
        timeout=60,
    )
    assert (tmp_path / "images.db").exists()


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def _plain(sql: str) -> str:
    return "".join(sql.split())
