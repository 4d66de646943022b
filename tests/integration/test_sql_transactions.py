"""The SQL adapter's calls of several statements happen wholly or not at all, and leave their connection as they found it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, exc

from common.adapters.sql import SqlImageStore
from common.errors import IdempotencyMismatch, Unavailable
from common.images import IdempotencyKey
from tests.builders import image
from tests.databases import OTHERS, execute, opened, poll, transaction

HOUR = timedelta(hours=1)
KEY = IdempotencyKey(text="a key", fingerprint="1" * 64)
USE_KEY = "INSERT INTO idempotency_keys (owner, key, fingerprint, image_id, created_at) VALUES ('alice', 'a key', '2', {}, {})"
ADD_ROW = """
INSERT INTO images (id, owner, status, filename, content_type, size_bytes, sha256, width, height, processing, priority, attempts,
                    outages, version, created_at, updated_at, dispatch_after, request_id)
VALUES ($1, 'alice', 'uploaded', 'cat.jpg', 'image/jpeg', 1, '0', 1, 1, '', 'normal', 0, 0, 1, now(), now(), now(), '')
"""
WAITING = f"SELECT count(*) {OTHERS} AND wait_event_type = 'Lock'"


@pytest.fixture
async def emptied(database: str) -> str:
    await execute(database, "TRUNCATE images, idempotency_keys")
    return database


@pytest.fixture(params=["sqlite_url", "emptied"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlImageStore]:
    """One without images and with one connection."""
    async with opened(url, 1) as empty:
        yield empty


async def number_of(store: SqlImageStore, table: str) -> int:
    async with store._engine.connect() as connection:
        return int((await connection.exec_driver_sql(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608 - ours


async def is_in_transaction(store: SqlImageStore) -> bool:
    """The pool's one connection, as the driver sees it; and it still commits what it is given."""
    async with store._engine.connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        if isinstance(raw, asyncpg.Connection):
            return raw.is_in_transaction()
        return bool(raw.in_transaction or raw.isolation_level is not None)


async def test_the_connection_is_in_autocommit_again_however_a_transaction_ends(store: SqlImageStore) -> None:
    first = await store.add(image(), HOUR, KEY)
    assert not await is_in_transaction(store)
    await store.add(image(), HOUR, KEY)
    assert not await is_in_transaction(store)
    with pytest.raises(IdempotencyMismatch):
        await store.add(image(), HOUR, IdempotencyKey(text=KEY.text, fingerprint="2"))
    assert not await is_in_transaction(store)
    with pytest.raises((exc.IntegrityError, asyncpg.UniqueViolationError)):
        await store.add(first, HOUR, IdempotencyKey(text="another", fingerprint="3"))
    assert not await is_in_transaction(store)
    await store.mark_deleted(first.id, "bob", HOUR)
    assert not await is_in_transaction(store)
    await store.mark_deleted(first.id, "alice", HOUR)
    assert not await is_in_transaction(store)


async def test_a_row_that_cannot_be_stored_uses_no_key(store: SqlImageStore) -> None:
    taken = await store.add(image(), HOUR)
    with pytest.raises((exc.IntegrityError, asyncpg.UniqueViolationError)):
        await store.add(taken, HOUR, KEY)
    assert await number_of(store, "idempotency_keys") == 0


@pytest.mark.parametrize("fatal", [Unavailable("database", "gone"), asyncio.CancelledError()], ids=["error", "cancelled"])
async def test_a_call_that_breaks_between_its_statements_changes_nothing(store: SqlImageStore, fatal: BaseException) -> None:
    kept = await store.add(image(), HOUR, KEY)

    @event.listens_for(store._engine.sync_engine, "before_cursor_execute")
    def break_second(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT INTO images", "DELETE FROM idempotency_keys")):
            raise fatal

    new = image()
    with pytest.raises(type(fatal)):
        await store.add(new, HOUR, IdempotencyKey(text="another", fingerprint="3"))
    with pytest.raises(type(fatal)):
        await store.mark_deleted(kept.id, "alice", HOUR)
    event.remove(store._engine.sync_engine, "before_cursor_execute", break_second)

    assert (await number_of(store, "images"), await number_of(store, "idempotency_keys")) == (1, 1)
    assert await store.get(kept.id) == kept
    assert not await is_in_transaction(store)
    assert await store.add(new, HOUR, IdempotencyKey(text="another", fingerprint="3")) == new


@pytest.mark.parametrize("end", ["rolled back", "killed"])
async def test_a_key_is_free_where_who_was_using_it_comes_to_nothing(emptied: str, end: str) -> None:
    new = image()
    async with opened(emptied, 1) as store, transaction(emptied) as other:
        await other.execute(USE_KEY.format("gen_random_uuid()", "now()"))
        adding = asyncio.create_task(store.add(new, HOUR, KEY))
        await poll(emptied, WAITING, 1)
        if end == "rolled back":
            await other.execute("ROLLBACK")
        else:
            await execute(emptied, f"SELECT pg_terminate_backend({other.get_server_pid()})")
        assert await adding == new


async def test_a_key_is_the_first_ones_where_that_commits(emptied: str) -> None:
    first = image()
    async with opened(emptied, 1) as store, transaction(emptied) as other:
        await store.add(first, HOUR)
        await other.execute(USE_KEY.format("$1", "now()"), first.id)
        adding = asyncio.create_task(store.add(image(), HOUR, IdempotencyKey(text=KEY.text, fingerprint="2")))
        await poll(emptied, WAITING, 1)
        await other.execute("COMMIT")
        assert await adding == first


async def test_a_deletion_waits_for_the_upload_that_is_using_its_key(emptied: str) -> None:
    async with opened(emptied, 2) as store:
        first = await store.add(image(), HOUR, KEY)
        async with transaction(emptied) as other:
            # given a replay in the middle of its transaction
            await other.execute(
                USE_KEY.format("gen_random_uuid()", "now()") + " ON CONFLICT (owner, key) DO UPDATE SET key = 'x' WHERE false"
            )
            deleting = asyncio.create_task(store.mark_deleted(first.id, None, HOUR))
            await poll(emptied, WAITING, 1)
            # then readers still find the image, and so may the replay
            assert await store.get(first.id) == first
            await other.execute("COMMIT")
            assert await deleting is not None
        second = await store.add(image(), HOUR, KEY)
        assert second.id != first.id


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_a_revocation_waits_for_the_upload_that_is_under_way(emptied: str, end: str) -> None:
    """Whose caller has gone: the database is still at work."""
    new = image()
    async with opened(emptied, 2) as store:
        async with transaction(emptied) as other:
            await other.execute(ADD_ROW, new.id)
            revoking = asyncio.create_task(store.revoke(new, -HOUR))
            await poll(emptied, WAITING, 1)
            await other.execute(end)
            found = await revoking
        assert (found is not None) is (end == "COMMIT")
        assert await store.get(new.id) == found
        marked = await store.take_due(10, HOUR, deleted=True)
        assert [row.id for row in marked] == ([] if end == "COMMIT" else [new.id])


async def test_an_upload_that_waits_too_long_for_a_key_is_unavailable_and_leaves_nothing(emptied: str) -> None:
    new = image()
    async with opened(emptied, 1, 0.5) as store:
        async with transaction(emptied) as other:
            await other.execute(USE_KEY.format("gen_random_uuid()", "now()"))
            with pytest.raises(Unavailable):
                await store.add(new, HOUR, KEY)
        await poll(emptied, f"SELECT count(*) {OTHERS} AND state = 'active'", 0)
        assert await store.get(new.id) is None
        assert await number_of(store, "idempotency_keys") == 0


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_sqlite_uploads_with_a_key_wait_for_each_other(sqlite_url: str, end: str) -> None:
    new, first = image(), image()
    begun = asyncio.Event()
    async with opened(sqlite_url, 1) as store:
        await store.add(first, HOUR)

        @event.listens_for(store._engine.sync_engine, "before_cursor_execute")
        def begin(*_: Any) -> None:
            begun.set()

        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute(USE_KEY.format("?", "'9999-01-01'"), (first.id.hex,))
            adding = asyncio.create_task(store.add(new, HOUR, IdempotencyKey(text=KEY.text, fingerprint="2")))
            await begun.wait()
            other.execute(end)
        assert await adding == (first if end == "COMMIT" else new)


async def test_sqlite_locked_for_too_long_uses_no_key_and_then_works(sqlite_url: str) -> None:
    new = image()
    async with opened(sqlite_url, 1, 0.3) as store:
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable):
                await store.add(new, HOUR, KEY)
        assert await store.add(new, HOUR, KEY) == new
        assert not await is_in_transaction(store)
