"""What a call to the SQL adapter costs: round trips, transactions, and how PostgreSQL comes to the rows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import event
from uuid6 import uuid7

from common.adapters.sql import SqlImageStore, SqlUpkeep
from common.errors import IdempotencyMismatch
from common.images import IdempotencyKey, ImageStatus
from tests.builders import image
from tests.contract.sockets import Server, proxy_to
from tests.databases import execute, opened

HOUR = timedelta(hours=1)


@asynccontextmanager
async def counted(url: str) -> AsyncIterator[tuple[SqlImageStore, list[bytes]]]:
    """A store of one connection, and what that sends: an item a round trip."""
    parts = urlsplit(url)
    forward = proxy_to(parts.hostname or "", parts.port or 5432)
    sent: list[bytes] = []

    async def recorded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read = reader.read

        async def recording(n: int = -1) -> bytes:
            data = await read(n)
            sent.append(data)
            return data

        reader.read = recording  # type: ignore[method-assign]  # what the proxy reads is what the client sends
        await forward(reader, writer)

    async with Server(recorded) as server:
        through = parts._replace(netloc=f"{parts.username}:{parts.password}@{server.address}").geturl()
        async with opened(through, 1) as store:
            yield store, sent


async def test_a_call_is_one_round_trip_and_a_transaction_its_statements_and_two(database: str) -> None:
    async with counted(database) as (store, sent):

        async def life() -> dict[str, int]:
            new, keyed, trips = image(), image(), {}
            key, other = (IdempotencyKey(text=str(keyed.id), fingerprint=text) for text in "12")
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "add": lambda: store.add(new, HOUR),
                "get": lambda: store.get(new.id),
                "page": lambda: store.page(owner="alice", status=ImageStatus.FAILED, before=new.id, limit=20),
                "mark_queued": lambda: store.mark_queued(new.id, 0, HOUR),
                "claim": lambda: store.claim(new.id, HOUR),
                "renew": lambda: store.renew(new.id, 1, HOUR),
                "retry": lambda: store.retry(new.id, 1, HOUR, "away", outage=False),
                "take_due": lambda: store.take_due(1, HOUR),
                "add with a key": lambda: store.add(keyed, HOUR, key),
                "add again": lambda: store.add(image(), HOUR, key),
                "add another": lambda: store.add(image(), HOUR, other),
                "mark_deleted": lambda: store.mark_deleted(keyed.id, "alice", HOUR),
                "mark_deleted again": lambda: store.mark_deleted(keyed.id, "alice", HOUR),
                "get after transactions": lambda: store.get(new.id),
                "remove": lambda: store.remove(keyed.id),
            }
            for name, call in calls.items():
                sent.clear()
                try:
                    await call()
                except IdempotencyMismatch:
                    assert name == "add another"
                trips[name] = len(sent)
            return trips

        first = await life()
        # then, once connected and with its statements prepared
        again = await life()
    assert first.keys() == again.keys()
    assert {name: trips for name, trips in again.items() if trips != 1} == {
        # BEGIN, the key, the row, COMMIT
        "add with a key": 4,
        # BEGIN, the key, the first one's image, COMMIT
        "add again": 4,
        "add another": 4,
        # BEGIN, the row, its key, COMMIT
        "mark_deleted": 4,
        # BEGIN, the row, COMMIT
        "mark_deleted again": 3,
    }


async def test_an_upload_is_an_insert_and_an_update_and_no_more(sqlite_url: str) -> None:
    ran: list[str] = []
    async with opened(sqlite_url, 1) as store:
        # given that a transaction was before it on the same connection
        await store.add(image(), HOUR, IdempotencyKey(text="a key", fingerprint="1"))
        async with store._engine.connect() as connection:
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await raw.set_trace_callback(ran.append)
        new = await store.add(image(), HOUR)
        await store.mark_queued(new.id, 0, HOUR)
    assert [statement.split()[0] for statement in ran] == ["INSERT", "UPDATE"]


async def test_sqlite_looks_for_a_rare_status_in_its_index(sqlite_url: str) -> None:
    async with opened(sqlite_url, 1) as store:
        ran = _recorded(store)
        await store.page(owner=None, status=ImageStatus.FAILED, before=uuid7(), limit=21)
        [(statement, parameters)] = ran
        async with store._engine.connect() as connection:
            steps = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).mappings()
            plan = [step["detail"] for step in steps]
    assert plan == ["SEARCH images USING INDEX images_status (status=? AND id<?)"]


def _recorded(store: SqlImageStore) -> list[tuple[str, tuple[Any, ...]]]:
    """The statements that it is going to run, with their parameters."""
    ran: list[tuple[str, tuple[Any, ...]]] = []

    @event.listens_for(store._engine.sync_engine, "before_cursor_execute")
    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        ran.append((statement, parameters))

    return ran


# ---- How PostgreSQL comes to the rows


@dataclass(frozen=True, slots=True)
class Explained:
    """`plan` is the one that a connection comes to keep for a statement; `rows_read` what it reads, of the table or an index."""

    plan: str
    rows_read: float


async def explained(url: str, call: Callable[[SqlImageStore], Awaitable[object]]) -> Explained:
    """For the call's first statement."""
    async with opened(url, 1) as store:
        ran = _recorded(store)
        await call(store)
    statement, parameters = ran[0]
    values = ", ".join("'" + str(value).replace("'", "''") + "'" for value in parameters)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"PREPARE asked AS {statement}")
        execution = f"EXECUTE asked({values})" if values else "EXECUTE asked"
        # PostgreSQL makes five plans for the very values before it thinks of one for all values.
        for _ in range(10):
            await connection.execute(f"BEGIN; {execution}; ROLLBACK")
        async with connection.transaction():
            lines = [row[0] for row in await connection.fetch(f"EXPLAIN ANALYZE {execution}")]
    finally:
        await connection.close()
    return Explained("\n".join(lines), sum(_rows_read(lines)))


def _rows_read(lines: list[str]) -> list[float]:
    """Of each scan, what it found and what it threw away."""
    found, inside = [], False
    for line in lines:
        if "->" in line or line == lines[0]:
            inside = " Scan " in line and "(never executed)" not in line
            if inside:
                actual = line.rpartition("(actual ")[2]
                found.append(float(actual.partition("rows=")[2].split()[0]) * float(actual.partition("loops=")[2].rstrip(")")))
        elif inside and "Rows Removed by" in line:
            found.append(float(line.rpartition(" ")[2]))
    return found


# 100,000 images of 200 owners, one a second, of which 3 failed and 100 wait; 50 of these are due.
_MANY_ROWS = """
INSERT INTO images (id, owner, status, filename, content_type, size_bytes, sha256, width, height, processing, priority, attempts,
                    outages, version, result_key, failure_code, created_at, updated_at, dispatch_after, request_id)
SELECT (lpad(to_hex(1700000000000 + n * 1000), 12, '0') || '7000' || '8' || substr(md5(n::text), 1, 15))::uuid,
       'owner-' || n % 200, status, 'cat.jpg', 'image/jpeg', 1, repeat('0', 64), 1, 1, '', 'normal', 1, 0, 1,
       CASE WHEN status = 'completed' THEN 'a/1' END, CASE WHEN status = 'failed' THEN 'corrupt-image' END,
       to_timestamp(1700000000 + n), to_timestamp(1700000000 + n),
       CASE WHEN status = 'queued' THEN now() + (n - 50000) * interval '1 s' END, ''
FROM (
    SELECT n, CASE WHEN n IN (1000, 2000, 3001) THEN 'failed' WHEN n % 1000 = 7 THEN 'queued' ELSE 'completed' END AS status
    FROM generate_series(1, 100000) AS n
) AS numbered
"""


# 20,000 idempotency keys of the last 25 hours, of which those of the last 24 are alive.
_MANY_KEYS = """
INSERT INTO idempotency_keys (owner, key, fingerprint, image_id, created_at)
SELECT 'owner-' || n % 200, n::text, '1', gen_random_uuid(), now() - n * interval '4.5 s' FROM generate_series(1, 20000) AS n
"""


@pytest.fixture(scope="module")
async def large(database: str) -> str:
    await execute(database, "TRUNCATE images, idempotency_keys")
    await execute(database, _MANY_ROWS)
    await execute(database, _MANY_KEYS)
    await execute(database, "VACUUM ANALYZE images, idempotency_keys")
    return database


async def test_taking_what_is_due_reads_the_partial_index(large: str) -> None:
    found = await explained(large, lambda store: store.take_due(10, HOUR))
    assert "Index Scan using images_due" in found.plan
    assert found.rows_read < 100


@pytest.mark.parametrize("before", [None, uuid7()], ids=["first", "later"])
async def test_a_page_of_an_owner_reads_that_ones_index(large: str, before: UUID | None) -> None:
    found = await explained(large, lambda store: store.page(owner="owner-7", status=None, before=before, limit=21))
    assert "Index Scan Backward using images_owner" in found.plan
    assert found.rows_read <= 21


@pytest.mark.parametrize("before", [None, uuid7()], ids=["first", "later"])
async def test_a_page_of_all_owners_reads_the_primary_key(large: str, before: UUID | None) -> None:
    found = await explained(large, lambda store: store.page(owner=None, status=None, before=before, limit=21))
    assert "Index Scan Backward using images_pkey" in found.plan
    assert found.rows_read <= 21


@pytest.mark.parametrize("owner", [None, "owner-0", "owner-7", "nobody"])
@pytest.mark.parametrize("status", ImageStatus)
async def test_a_page_of_one_status_never_reads_everything_to_find_a_few(
    large: str, owner: str | None, status: ImageStatus
) -> None:
    found = await explained(large, lambda store: store.page(owner=owner, status=status, before=None, limit=21))
    assert "Seq Scan" not in found.plan
    # of 100,000; the most is what one owner has, and all that wait, to find what is both
    assert found.rows_read <= 1_000


def age_of(number: int) -> timedelta:
    """Of the image of that number."""
    return datetime.now(UTC) - datetime.fromtimestamp(1_700_000_000 + number, UTC)


@pytest.mark.parametrize(
    ("oldest", "limit", "most"), [(0, 1000, 0), (50, 1000, 200), (100_000, 100, 500)], ids=["none", "few", "all"]
)
async def test_expiring_reads_only_what_expires(large: str, oldest: int, limit: int, most: int) -> None:
    found = await explained(large, lambda store: SqlUpkeep(store).expire(age_of(oldest), limit))
    assert "Seq Scan" not in found.plan
    # to find them, to hand them on, and to mark them
    assert found.rows_read <= most


@pytest.mark.parametrize("after", [None, UUID(int=(1_700_000_050_000 << 80))], ids=["first", "later"])
async def test_a_scan_reads_the_primary_key(large: str, after: UUID | None) -> None:
    found = await explained(large, lambda store: SqlUpkeep(store).scan(after, 1000))
    assert "Index Scan using images_pkey" in found.plan
    assert found.rows_read <= 1000


async def test_forgetting_keys_reads_those_that_are_old(large: str) -> None:
    found = await explained(large, lambda store: SqlUpkeep(store).forget_expired_keys(10))
    assert "Index Scan using idempotency_keys_age" in found.plan
    assert "Seq Scan" not in found.plan
    assert found.rows_read <= 100


async def test_the_backlog_reads_what_is_not_completed(large: str) -> None:
    found = await explained(large, lambda store: SqlUpkeep(store).backlog())
    assert "Seq Scan" not in found.plan
    # the hundred that wait, a few times
    assert found.rows_read <= 400


async def test_deletions_that_are_due_read_the_partial_index(large: str) -> None:
    found = await explained(large, lambda store: store.take_due(10, HOUR, deleted=True))
    assert "Index Scan using images_due" in found.plan
    assert found.rows_read <= 100
