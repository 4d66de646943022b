"""The revisions, on both databases: they make what the program expects, can be undone, and bear being run at the same time."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, column, exc, inspect, select, table

from common.adapters.sql.engine import open_engine
from common.adapters.sql.migrate import config_for, current_revision, head_revision, upgrade
from common.adapters.sql.rows import IMAGES, METADATA, new_row
from common.errors import NotMigrated, Unavailable
from common.images import IdempotencyKey, ImageStatus
from common.settings import Settings
from tests.builders import image
from tests.conftest import require_url
from tests.contract.sockets import free_port
from tests.databases import opened, postgres_database

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
    async with opened(url) as store:
        await store.check()


async def test_up_down_and_up_again(url: str) -> None:
    await asyncio.to_thread(upgrade, url)
    assert await on(url, current_revision) == head_revision()
    assert await on(url, _tables) == {"alembic_version", "idempotency_keys", "images", "turns"}

    await on(url, lambda connection: command.downgrade(config_for(connection), "base"))
    assert await on(url, current_revision) is None
    assert await on(url, _tables) == {"alembic_version"}

    await asyncio.to_thread(upgrade, url)
    await checked(url)


async def test_the_revisions_make_what_the_program_expects(url: str) -> None:
    await asyncio.to_thread(upgrade, url)

    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    assert await on(url, differences) == []
    # What alembic does not compare, against tables made from the model.
    migrated = await on(url, _definitions)
    await on(url, lambda connection: METADATA.drop_all(connection))
    await on(url, lambda connection: METADATA.create_all(connection))
    assert migrated == await on(url, _definitions)


async def test_going_back_a_revision_restores_every_definition_and_again_forward(url: str) -> None:
    await on(url, lambda connection: command.upgrade(config_for(connection), "0001"))
    before = await on(url, _definitions)
    await asyncio.to_thread(upgrade, url)
    after = await on(url, _definitions)
    assert before != after
    await on(url, lambda connection: command.downgrade(config_for(connection), "0001"))
    assert await on(url, _definitions) == before
    await asyncio.to_thread(upgrade, url)
    assert await on(url, _definitions) == after


async def test_images_in_every_state_survive_the_revisions(url: str) -> None:
    # given a database of the first revision with images in every state
    await on(url, lambda connection: command.upgrade(config_for(connection), "0001"))
    await on(url, _insert_images)
    before = await on(url, _images)
    assert len(before) == 6

    # when it is brought to this one, then all are there as they were, and none is deleted
    await asyncio.to_thread(upgrade, url)
    assert await on(url, _images) == before
    ids = {row["filename"]: row["id"] for row in before}
    async with opened(url) as store:
        found = await store.page(owner="alice", status=None, before=None, limit=10)
        assert {row.filename: row.status for row in found} == {
            "uploaded": "uploaded",
            "queued": "queued",
            "processing": "processing",
            "completed": "completed",
            "failed": "failed",
            "dead letter to send": "failed",
        }
        assert await store.make_all_due() == 4
        # and what it brings works
        key = IdempotencyKey(text="a key", fingerprint="1")
        added = await store.add(image(owner="alice", filename="added"), timedelta(0), key)
        assert (await store.add(image(owner="alice"), timedelta(0), key)).id == added.id
        for filename in ("processing", "completed"):
            assert await store.mark_deleted(ids[filename], "alice", timedelta(0)) is not None

    # when it goes back, then what was deleted is not seen again, and all else stays
    await on(url, lambda connection: command.downgrade(config_for(connection), "0001"))
    left = {row["filename"] for row in await on(url, _images)}
    assert left == {"uploaded", "queued", "failed", "dead letter to send", "added"}

    # and forward again
    await asyncio.to_thread(upgrade, url)
    async with opened(url) as store:
        assert {row.filename for row in await store.page(owner="alice", status=None, before=None, limit=10)} == left
        assert await store.take_due(10, timedelta(0), deleted=True) == []


@pytest.mark.parametrize(
    "change", ["deleted = true, dispatch_after = NULL", "status = 'lost'", "status = 'failed'", "size_bytes = 0"]
)
async def test_the_checks_hold_after_the_revisions(url: str, change: str) -> None:
    await asyncio.to_thread(upgrade, url)
    await on(url, _insert_images)
    with pytest.raises(exc.IntegrityError, match="images_"):
        await on(url, lambda connection: connection.exec_driver_sql(f"UPDATE images SET {change} WHERE filename = 'completed'"))  # noqa: S608 - named above


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


async def test_an_earlier_revision_is_refused_with_what_to_do(url: str) -> None:
    await on(url, lambda connection: command.upgrade(config_for(connection), "0001"))
    with pytest.raises(NotMigrated, match=r"found 0001.*image-processor migrate"):
        await checked(url)


async def test_a_later_revision_is_worked_with_and_left_alone(url: str) -> None:
    """A program that is being replaced goes on beside the new one."""
    await asyncio.to_thread(upgrade, url)
    await on(url, lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
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


def _definitions(connection: Connection) -> dict[str, object]:
    """Of all tables: the columns with type, nullness and default, the constraints, and the indexes as the database words them."""
    inspector = inspect(connection)
    found: dict[str, object] = {}
    for name in sorted(_tables(connection) - {"alembic_version"}):
        found[name] = {
            "columns": {
                each["name"]: (str(each["type"]), each["nullable"], each["default"]) for each in inspector.get_columns(name)
            },
            "key": inspector.get_pk_constraint(name)["constrained_columns"],
            "checks": {check["name"]: _plain(check["sqltext"]) for check in inspector.get_check_constraints(name)},
        }
    indexes = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name <> 'alembic_version'"
        if connection.dialect.name == "sqlite"
        else "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    )
    found["indexes"] = {row[0]: _plain(row[1]) for row in connection.exec_driver_sql(indexes)}
    return found


def _plain(sql: str) -> str:
    return "".join(sql.split())


# As the first revision makes it.
_LATER = (
    "deleted",
    "forgiven",
    "first_error",
    "first_error_at",
    "last_error",
    "last_error_at",
    "sent_attempts",
    "sent_to",
    "sent_at",
    "traceparent",
)
_FIRST_IMAGES = table("images", *(column(each.name, each.type) for each in IMAGES.c if each.name not in _LATER))


def _insert_images(connection: Connection) -> None:
    """One in every state, and one that failed whose dead letter is still to be sent."""
    time = datetime(2026, 1, 2, 3, 4, 7, 123_456, tzinfo=UTC)
    for filename in (*ImageStatus, "dead letter to send"):
        row = new_row(image(filename=str(filename), size_bytes=5_000_000_000)) | {"attempts": 2, "outages": 1, "version": 7}
        del row["deleted"], row["forgiven"], row["traceparent"]
        match filename:
            case ImageStatus.COMPLETED:
                row |= {"status": filename, "result_key": "a/2", "result_size_bytes": 4_000_000_000, "completed_at": time}
            case ImageStatus.FAILED:
                row |= {"status": filename, "failure_code": "corrupt-image", "failure_detail": "It ends before its end."}
            case "dead letter to send":
                row |= {"status": ImageStatus.FAILED, "failure_code": "time-limit", "dispatch_after": time}
            case _:
                row |= {"status": filename, "dispatch_after": time, "last_due": time}
        connection.execute(_FIRST_IMAGES.insert().values(row))


def _images(connection: Connection) -> list[dict[str, Any]]:
    """Every row, with the columns of the first revision."""
    return [dict(row) for row in connection.execute(select(_FIRST_IMAGES).order_by("id")).mappings()]
