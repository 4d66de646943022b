"""What the SQL adapter promises beside the port: on outages, and on the way to the database."""

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import exc

from common.adapters.sql.migrate import upgrade
from common.errors import Unavailable, WrongConfiguration
from common.settings import Settings
from tests.builders import image
from tests.contract.sockets import Server, free_port, silence
from tests.databases import OTHERS, execute, opened, poll, postgres_database, transaction

HOUR = timedelta(hours=1)


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
    async with opened(database, 1, 1) as store, transaction(database) as other:
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
    async with opened(database, 1, 1) as store, transaction(database) as other:
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
            f"SELECT pg_terminate_backend(pid) {OTHERS}",
        )
        await poll(database, f"SELECT count(*) {OTHERS}", 0)
        # then no call notices
        await asyncio.gather(*(store.get(image().id) for _ in range(3)))


async def test_a_connection_that_breaks_in_mid_statement_costs_that_call(database: str) -> None:
    new = image()
    async with opened(database, 1) as store:
        await store.add(new, HOUR)
        async with transaction(database) as other:
            await other.execute("SELECT 1 FROM images WHERE id = $1 FOR UPDATE", new.id)
            claim = asyncio.create_task(store.claim(new.id, HOUR))
            await poll(database, f"SELECT count(pg_terminate_backend(pid)) {OTHERS} AND wait_event_type = 'Lock'", 1)
            with pytest.raises(Unavailable):
                await claim
        assert await store.claim(new.id, HOUR) is not None


@pytest.mark.parametrize(
    ("said", "expected"),
    [("unable to perform operation on <TCPTransport closed=True>; the handler is closed", Unavailable), ("?", RuntimeError)],
)
async def test_a_connection_that_uvloop_knows_to_be_closed_is_an_outage(
    database: str, said: str, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def written_too_late(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    async with opened(database) as store:
        await store.get(image().id)
        monkeypatch.setattr(asyncpg.Connection, "prepare", written_too_late)
        with pytest.raises(expected):
            await store.settle(image().id, 1)  # a statement that is not prepared yet


async def test_a_cancelled_call_gives_its_connection_back(database: str) -> None:
    new = image()
    async with opened(database, 1) as store:
        await store.add(new, HOUR)
        async with transaction(database) as other:
            await other.execute("SELECT 1 FROM images WHERE id = $1 FOR UPDATE", new.id)
            claim = asyncio.create_task(store.claim(new.id, HOUR))
            await poll(database, f"SELECT count(*) {OTHERS} AND wait_event_type = 'Lock'", 1)
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


async def test_a_database_that_takes_no_writes_is_unavailable(settings: Settings) -> None:
    """As a standby is, to which an address may lead after a failover."""
    async with postgres_database(settings.postgres_url.get_secret_value()) as database:
        await asyncio.to_thread(upgrade, database)
        await execute(database, f"ALTER DATABASE {urlsplit(database).path[1:]} SET default_transaction_read_only = on")
        async with opened(database) as store:
            with pytest.raises(Unavailable, match="database") as outage:
                await store.check()
            assert "read-only" in outage.value.reason


async def test_a_missing_database_is_unavailable(database: str) -> None:
    async with opened(f"{database}_missing") as store:
        with pytest.raises(Unavailable) as outage:
            await store.check()
        assert "does not exist" in outage.value.reason


@pytest.mark.parametrize("filename", ["nul\x00.jpg", "lone \ud800.jpg"])
async def test_what_the_database_cannot_hold_is_a_bug_and_no_outage(database: str, filename: str) -> None:
    async with opened(database) as store:
        with pytest.raises((exc.DBAPIError, asyncpg.DataError, asyncpg.CharacterNotInRepertoireError)):
            await store.add(image(filename=filename), HOUR)


async def test_adding_an_image_twice_is_a_bug(database: str, sqlite_url: str) -> None:
    for url in (database, sqlite_url):
        async with opened(url) as store:
            new = image()
            await store.add(new, HOUR)
            with pytest.raises((exc.IntegrityError, asyncpg.UniqueViolationError)):
                await store.add(new, HOUR)


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
