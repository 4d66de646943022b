"""How the databases come to the rows: every statement of the stores, as they send it, finds what it needs in an index.

On PostgreSQL the plan is the one that a connection comes to keep, over 100,000 rows with statistics, run with EXPLAIN ANALYZE: what
is held against a limit is how many rows were read, so that a sort or a filter over many rows is found out, too.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import md5
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from uuid6 import uuid7

from common.adapters.sql import SqlImageStore, SqlUpkeep
from common.images import Failure, FailureCode, IdempotencyKey, ImageStatus, Priority, Result
from tests.builders import image
from tests.databases import execute, opened, recorded

HOUR = timedelta(hours=1)
RESULT = Result(key="a/1", content_type="image/jpeg", size_bytes=1, sha256="0" * 64, width=1, height=1)
FAILURE = Failure(code=FailureCode.CORRUPT_IMAGE, detail="It ends before its end.")
Call = Callable[[SqlImageStore], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Explained:
    """`plan` is the one that a connection comes to keep for a statement; `rows_read` what it reads, of the table or an index."""

    plan: str
    rows_read: float


async def explained(url: str, call: Call, *, without: str | None = None) -> list[Explained]:
    """For each of the call's statements; `without` this index."""
    async with opened(url, 1) as store:
        ran = recorded(store)
        await call(store)
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            if without is not None:
                await connection.execute(f"DROP INDEX {without}")
            found = [await _explain(connection, f"asked_{number}", *asked) for number, asked in enumerate(ran)]
            # What was explained was carried out as well.
            raise _Undone
    except _Undone:
        return found
    finally:
        await connection.close()


class _Undone(Exception):
    pass


async def _explain(connection: Any, name: str, statement: str, parameters: tuple[Any, ...]) -> Explained:
    values = ", ".join("NULL" if value is None else "'" + str(value).replace("'", "''") + "'" for value in parameters)
    execution = f"EXECUTE {name}({values})" if values else f"EXECUTE {name}"
    await connection.execute(f"PREPARE {name} AS {statement}")
    # PostgreSQL makes five plans for the very values before it thinks of one for all values.
    for _ in range(6):
        await connection.execute(f"SAVEPOINT before; {execution}; ROLLBACK TO before")
    lines = [row[0] for row in await connection.fetch(f"EXPLAIN ANALYZE {execution}")]
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


def id_of(number: int) -> UUID:
    """Of the image of that number."""
    return UUID(f"{1_700_000_000_000 + number * 1000:012x}70008{md5(str(number).encode()).hexdigest()[:15]}")  # noqa: S324 - as in the rows above


@pytest.fixture(scope="module")
async def large(database: str) -> str:
    await execute(database, _MANY_ROWS)
    await execute(database, _MANY_KEYS)
    await execute(database, "VACUUM ANALYZE images, idempotency_keys")
    return database


WAITING = id_of(90_007)

OF_ONE_IMAGE: dict[str, Call] = {
    "get": lambda store: store.get(id_of(500)),
    "mark_queued": lambda store: store.mark_queued(WAITING, 1, Priority.NORMAL, HOUR),
    "claim": lambda store: store.claim(WAITING, HOUR),
    "renew": lambda store: store.renew(WAITING, 1, HOUR),
    "complete": lambda store: store.complete(WAITING, 1, RESULT),
    "retry": lambda store: store.retry(WAITING, 1, HOUR, "away", outage=True),
    "fail": lambda store: store.fail(WAITING, 1, FAILURE, HOUR),
    "redrive": lambda store: store.redrive(id_of(1000)),
    "settle": lambda store: store.settle(id_of(2000), 1),
    "remove": lambda store: store.remove(id_of(500)),
}


@pytest.mark.parametrize("call", OF_ONE_IMAGE.values(), ids=OF_ONE_IMAGE)
async def test_what_concerns_one_image_reads_one_row(large: str, call: Call) -> None:
    [found] = await explained(large, call)
    assert "using images_pkey" in found.plan
    assert found.rows_read == 1


async def test_an_idempotency_key_is_looked_up_by_its_owner_and_text(large: str) -> None:
    key = IdempotencyKey(text="a key", fingerprint="1")
    async with opened(large, 1) as store:
        await store.add(image(owner="alice"), HOUR, key)
    taking, looking_up = (await explained(large, lambda store: store.add(image(owner="alice"), HOUR, key)))[-2:]
    assert "Conflict Arbiter Indexes: idempotency_keys_pkey" in taking.plan
    assert "using idempotency_keys_pkey" in looking_up.plan
    assert "using images_pkey" in looking_up.plan
    assert looking_up.rows_read <= 2


async def test_a_deletion_finds_the_image_and_its_key(large: str) -> None:
    row, key = (await explained(large, lambda store: store.mark_deleted(id_of(700), None, HOUR)))[-2:]
    assert "using images_pkey" in row.plan
    assert "using idempotency_keys_image" in key.plan
    assert row.rows_read + key.rows_read <= 1


@pytest.mark.parametrize("deleted", [False, True])
async def test_without_the_index_of_what_is_due_everything_would_be_read(large: str, deleted: bool) -> None:
    # so that the tests here are known to see it
    [found] = await explained(large, lambda store: store.take_due(10, HOUR, deleted=deleted), without="images_due")
    assert found.rows_read > 90_000


async def test_taking_what_is_due_reads_the_partial_index(large: str) -> None:
    [found] = await explained(large, lambda store: store.take_due(10, HOUR))
    assert "Index Scan using images_due" in found.plan
    assert found.rows_read < 100


@pytest.mark.parametrize("before", [None, uuid7()], ids=["first", "later"])
async def test_a_page_of_an_owner_reads_that_ones_index(large: str, before: UUID | None) -> None:
    [found] = await explained(large, lambda store: store.page(owner="owner-7", status=None, before=before, limit=21))
    assert "Index Scan Backward using images_owner" in found.plan
    assert found.rows_read <= 21


@pytest.mark.parametrize("before", [None, uuid7()], ids=["first", "later"])
async def test_a_page_of_all_owners_reads_the_primary_key(large: str, before: UUID | None) -> None:
    [found] = await explained(large, lambda store: store.page(owner=None, status=None, before=before, limit=21))
    assert "Index Scan Backward using images_pkey" in found.plan
    assert found.rows_read <= 21


@pytest.mark.parametrize("owner", [None, "owner-0", "owner-7", "nobody"])
@pytest.mark.parametrize("status", ImageStatus)
async def test_a_page_of_one_status_never_reads_everything_to_find_a_few(
    large: str, owner: str | None, status: ImageStatus
) -> None:
    [found] = await explained(large, lambda store: store.page(owner=owner, status=status, before=None, limit=21))
    assert "Seq Scan" not in found.plan
    # of 100,000; the most is what one owner has, and all that wait, to find what is both,
    # with what the tests before have left of rows that they changed
    assert found.rows_read <= 1_100


def age_of(number: int) -> timedelta:
    """Of the image of that number."""
    return datetime.now(UTC) - datetime.fromtimestamp(1_700_000_000 + number, UTC)


@pytest.mark.parametrize(
    ("oldest", "limit", "most"), [(0, 1000, 0), (50, 1000, 200), (100_000, 100, 500)], ids=["none", "few", "all"]
)
async def test_expiring_reads_only_what_expires(large: str, oldest: int, limit: int, most: int) -> None:
    found, *_ = await explained(large, lambda store: SqlUpkeep(store).expire(age_of(oldest), limit))
    assert "Seq Scan" not in found.plan
    # to find them, to hand them on, and to mark them
    assert found.rows_read <= most


@pytest.mark.parametrize("after", [None, UUID(int=(1_700_000_050_000 << 80))], ids=["first", "later"])
async def test_a_scan_reads_the_primary_key(large: str, after: UUID | None) -> None:
    [found] = await explained(large, lambda store: SqlUpkeep(store).scan(after, 1000))
    assert "Index Scan using images_pkey" in found.plan
    assert found.rows_read <= 1000


async def test_forgetting_keys_reads_those_that_are_old(large: str) -> None:
    [found] = await explained(large, lambda store: SqlUpkeep(store).forget_expired_keys(10))
    assert "Index Scan using idempotency_keys_age" in found.plan
    assert "Seq Scan" not in found.plan
    assert found.rows_read <= 100


async def test_the_backlog_reads_what_is_not_completed(large: str) -> None:
    [found] = await explained(large, lambda store: SqlUpkeep(store).backlog())
    assert "Seq Scan" not in found.plan
    # the hundred that wait, a few times
    assert found.rows_read <= 400


async def test_counting_the_messages_that_are_awaited_reads_what_is_not_completed(large: str) -> None:
    [found] = await explained(large, lambda store: SqlUpkeep(store).awaited())
    assert "using images_status" in found.plan or "on images_status" in found.plan
    # the hundred that wait, in the index and in the table
    assert found.rows_read <= 250


async def test_putting_off_reads_the_rows_that_it_is_given(large: str) -> None:
    [found] = await explained(large, lambda store: store.put_off([id_of(number) for number in range(100)], HOUR, HOUR))
    assert "Seq Scan" not in found.plan
    # it finds them by id, or goes through all that wait
    assert found.rows_read <= 200


async def test_deletions_that_are_due_read_the_partial_index(large: str) -> None:
    [found] = await explained(large, lambda store: store.take_due(10, HOUR, deleted=True))
    assert "Index Scan using images_due" in found.plan
    assert found.rows_read <= 100


# ---- SQLite

PAGES: dict[str, Call] = {
    f"page of {owner or 'all'}, {status or 'any status'}, {'later' if before else 'first'}": partial(
        lambda store, **asked: store.page(**asked, limit=21), owner=owner, status=status, before=before
    )
    for owner in (None, "alice")
    for status in (None, *ImageStatus)
    for before in (None, WAITING)
}
OTHERS: dict[str, Call] = {
    "take_due": lambda store: store.take_due(10, HOUR),
    "take_due, deleted": lambda store: store.take_due(10, HOUR, deleted=True),
    "make_all_due": lambda store: store.make_all_due(),
    "add with a key": lambda store: store.add(image(), HOUR, IdempotencyKey(text="a key", fingerprint="1")),
    "mark_deleted": lambda store: store.mark_deleted(WAITING, None, HOUR),
    "expire": lambda store: SqlUpkeep(store).expire(HOUR, 10),
    "scan": lambda store: SqlUpkeep(store).scan(None, 10),
    "later scan": lambda store: SqlUpkeep(store).scan(WAITING, 10),
    "forget_expired_keys": lambda store: SqlUpkeep(store).forget_expired_keys(10),
    "backlog": lambda store: SqlUpkeep(store).backlog(),
    "awaited": lambda store: SqlUpkeep(store).awaited(),
    "put_off": lambda store: store.put_off([WAITING], HOUR, HOUR),
}


@pytest.mark.parametrize("call", (OF_ONE_IMAGE | PAGES | OTHERS).values(), ids=OF_ONE_IMAGE | PAGES | OTHERS)
async def test_sqlite_neither_reads_nor_sorts_the_whole_table(sqlite_url: str, call: Call) -> None:
    async with opened(sqlite_url, 1) as store:
        ran = recorded(store)
        await call(store)
        steps = [step for asked in list(ran) for step in await _steps(store, *asked)]
    for step in steps:
        # a scan of an index in its order ends with the page
        assert not step.startswith("SCAN images") or " USING INDEX " in step, steps
        assert "FOR ORDER BY" not in step, steps


async def _steps(store: SqlImageStore, statement: str, parameters: tuple[Any, ...]) -> list[str]:
    async with store._engine.connect() as connection:
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [str(step["detail"]) for step in plan.mappings()]


async def test_sqlite_looks_for_a_rare_status_in_its_index(sqlite_url: str) -> None:
    async with opened(sqlite_url, 1) as store:
        ran = recorded(store)
        await store.page(owner=None, status=ImageStatus.FAILED, before=uuid7(), limit=21)
        assert await _steps(store, *ran[0]) == ["SEARCH images USING INDEX images_status (status=? AND id<?)"]
