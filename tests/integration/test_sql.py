"""What the SQL adapter promises beside the port: on outages, on the way to the database, and about what a statement costs."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import event, exc

from common.adapters.sql import SqlImageStore
from common.adapters.sql.migrate import upgrade
from common.errors import Unavailable, WrongConfiguration
from common.settings import Settings
from tests.builders import image
from tests.conftest import require_url
from tests.contract.sockets import Server, free_port, proxy_to, silence
from tests.databases import execute, postgres_database

HOUR = timedelta(hours=1)
_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
async def database(settings: Settings) -> AsyncIterator[str]:
    """A migrated PostgreSQL database."""
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


@asynccontextmanager
async def opened(url: str, pool_size: int = 2, time_limit_seconds: float = 10) -> AsyncIterator[SqlImageStore]:
    store = SqlImageStore(url, pool_size, time_limit_seconds)
    try:
        yield store
    finally:
        await store.close()


async def test_a_closed_port_is_unavailable() -> None:
    async with opened(f"postgresql://u:secret@127.0.0.1:{free_port()}/d") as store:
        for call in (store.get(image().id), store.add(image(), HOUR), store.check(), store.take_due(1, HOUR)):
            with pytest.raises(Unavailable) as outage:
                await call
            assert outage.value.service == "database"
            assert "secret" not in outage.value.reason


async def test_a_server_that_never_answers_is_unavailable_within_the_limit() -> None:
    async with Server(silence) as server, opened(f"postgresql://u:p@{server.address}/d", 1, 0.3) as store:
        begin = time.monotonic()
        with pytest.raises(Unavailable, match="unavailable"):
            await store.get(image().id)
        assert time.monotonic() - begin < 5


async def test_a_statement_that_hangs_is_unavailable_within_the_limit(database: str) -> None:
    new = image()
    async with opened(database, 1, 1) as store, _transaction(database) as other:
        await store.add(new, HOUR)
        # given another session that holds the row
        await other.execute("SELECT 1 FROM images WHERE id = $1 FOR UPDATE", new.id)
        begin = time.monotonic()
        with pytest.raises(Unavailable):
            await store.claim(new.id, HOUR)
        assert time.monotonic() - begin < 5
        # then the connection was not lost to the pool, and nothing was claimed
        assert await store.get(new.id) == new


async def test_a_pool_used_up_is_unavailable_within_the_limit(database: str) -> None:
    new = image()
    async with opened(database, 1, 1) as store, _transaction(database) as other:
        await store.add(new, HOUR)
        await other.execute("SELECT 1 FROM images WHERE id = $1 FOR UPDATE", new.id)
        answers = await asyncio.gather(*(store.claim(new.id, HOUR) for _ in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable] * 5


async def test_connections_that_the_server_closed_cost_nothing(database: str) -> None:
    # given a pool of idle connections
    async with opened(database, 3) as store:
        await asyncio.gather(*(store.get(image().id) for _ in range(3)))
        # when the server restarts, or somebody ends its sessions
        await execute(
            database,
            f"SELECT pg_terminate_backend(pid) {_OTHERS}",
        )
        await _poll(database, f"SELECT count(*) {_OTHERS}", 0)
        # then no call notices
        await asyncio.gather(*(store.get(image().id) for _ in range(3)))


async def test_a_connection_that_breaks_in_mid_statement_costs_that_call(database: str) -> None:
    new = image()
    async with opened(database, 1) as store:
        await store.add(new, HOUR)
        async with _transaction(database) as other:
            await other.execute("SELECT 1 FROM images WHERE id = $1 FOR UPDATE", new.id)
            claim = asyncio.create_task(store.claim(new.id, HOUR))
            await _poll(database, f"SELECT count(pg_terminate_backend(pid)) {_OTHERS} AND wait_event_type = 'Lock'", 1)
            with pytest.raises(Unavailable):
                await claim
        assert await store.claim(new.id, HOUR) is not None


async def test_a_cancelled_call_gives_its_connection_back(database: str) -> None:
    new = image()
    async with opened(database, 1) as store:
        await store.add(new, HOUR)
        async with _transaction(database) as other:
            await other.execute("SELECT 1 FROM images WHERE id = $1 FOR UPDATE", new.id)
            claim = asyncio.create_task(store.claim(new.id, HOUR))
            await _poll(database, f"SELECT count(*) {_OTHERS} AND wait_event_type = 'Lock'", 1)
            claim.cancel()
            with pytest.raises(asyncio.CancelledError):
                await claim
        assert await store.get(new.id) == new


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("sslmode=nonsense", WrongConfiguration),
        ("sslmode=verify-full&sslrootcert=/nowhere/root.crt", Unavailable),
        ("sslmode=disable", None),
        ("sslmode=prefer", None),
    ],
)
async def test_sslmode_means_what_libpq_says(database: str, query: str, error: type[Exception] | None) -> None:
    async with opened(f"{database}?{query}") as store:
        if error is None:
            await store.check()
        else:
            with pytest.raises(error):
                await store.check()


async def test_the_other_name_of_the_scheme_is_known(database: str) -> None:
    async with opened(database.replace("postgresql://", "postgres://")) as store:
        await store.check()


async def test_a_missing_database_is_unavailable(database: str) -> None:
    async with opened(f"{database}_missing") as store:
        with pytest.raises(Unavailable) as outage:
            await store.check()
        assert "does not exist" in outage.value.reason


@pytest.mark.parametrize("filename", ["nul\x00.jpg", "lone \ud800.jpg"])
async def test_what_the_database_cannot_hold_is_a_bug_and_no_outage(database: str, filename: str) -> None:
    async with opened(database) as store:
        with pytest.raises(exc.DBAPIError):
            await store.add(image(filename=filename), HOUR)


async def test_adding_an_image_twice_is_a_bug(database: str, sqlite_url: str) -> None:
    for url in (database, sqlite_url):
        async with opened(url) as store:
            new = image()
            await store.add(new, HOUR)
            with pytest.raises(exc.IntegrityError):
                await store.add(new, HOUR)


async def test_a_call_is_one_round_trip(database: str) -> None:
    parts = urlsplit(database)
    forward = proxy_to(parts.hostname or "", parts.port or 5432)
    sent: list[bytes] = []

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read = reader.read

        async def recording(n: int = -1) -> bytes:
            data = await read(n)
            sent.append(data)
            return data

        reader.read = recording  # type: ignore[method-assign]  # what the proxy reads is what the client sends
        await forward(reader, writer)

    async with Server(counted) as server:
        url = parts._replace(netloc=f"{parts.username}:{parts.password}@{server.address}").geturl()
        async with opened(url, 1) as store:

            async def life() -> list[int]:
                new, trips = image(), []
                for call in (
                    lambda: store.add(new, HOUR),
                    lambda: store.get(new.id),
                    lambda: store.mark_queued(new.id, 0, HOUR),
                    lambda: store.claim(new.id, HOUR),
                    lambda: store.renew(new.id, 1, HOUR),
                    lambda: store.retry(new.id, 1, HOUR, outage=False),
                    lambda: store.take_due(1, HOUR),
                ):
                    sent.clear()
                    await call()
                    trips.append(len(sent))
                return trips

            await life()
            # then, once connected and with its statements prepared
            assert await life() == [1] * 7


async def test_taking_what_is_due_reads_the_partial_index(database: str) -> None:
    # given a table of which little is due
    await execute(database, _MANY_ROWS)
    await execute(database, "ANALYZE images")
    ran: list[tuple[str, Any]] = []
    async with opened(database, 1) as store:

        @event.listens_for(store._engine.sync_engine, "before_cursor_execute")
        def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            ran.append((statement, parameters))

        await store.take_due(10, HOUR)
        [(statement, parameters)] = ran
        async with store._engine.connect() as connection:
            plan = "\n".join((await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).scalars())
    assert "Index Scan using images_due" in plan
    assert "Seq Scan" not in plan


async def test_sqlite_makes_its_folder_and_keeps_what_it_committed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a 100% new' / 'folder?' / 'images.db'}"
    await asyncio.to_thread(upgrade, url)
    async with opened(url) as store, store._engine.connect() as connection:
        pragmas = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert pragmas == ["wal", 2, 1, 10_000]


async def test_sqlite_locked_for_too_long_is_unavailable_and_then_works(sqlite_url: str) -> None:
    new = image()
    async with opened(sqlite_url, 1, 0.3) as store:
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable) as outage:
                await store.add(new, HOUR)
            assert outage.value.service == "database"
            # readers do not wait for writers
            assert await store.get(new.id) is None
        await store.add(new, HOUR)
        assert await store.get(new.id) == new


async def test_sqlite_in_a_place_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "images.db").write_text("not a database, " * 1000)
    for path in (tmp_path / "file" / "images.db", tmp_path / "images.db"):
        async with opened(f"sqlite:///{path}") as store:
            with pytest.raises(Unavailable):
                await store.get(image().id)


_MANY_ROWS = """
INSERT INTO images (id, owner, status, filename, content_type, size_bytes, sha256, width, height, processing, priority, attempts,
                    outages, version, result_key, created_at, updated_at, dispatch_after, request_id)
SELECT gen_random_uuid(), 'alice', CASE WHEN n % 20 = 0 THEN 'queued' ELSE 'completed' END, 'cat.jpg', 'image/jpeg', 1, '', 1, 1,
       '', 'normal', 1, 0, 1, CASE WHEN n % 20 = 0 THEN NULL ELSE 'a/1' END, now(), now(),
       CASE WHEN n % 20 = 0 THEN now() + (n - 1000) * interval '1 s' END, ''
FROM generate_series(1, 20000) AS n
"""


@asynccontextmanager
async def _transaction(url: str) -> AsyncIterator[Any]:
    """Another session's transaction, undone on exit."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")
        yield connection
    finally:
        await connection.close()


async def _poll(url: str, query: str, wanted: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(20):
            while await connection.fetchval(query) != wanted:  # noqa: ASYNC110 - another session's state cannot be awaited
                await asyncio.sleep(0.02)
    finally:
        await connection.close()
