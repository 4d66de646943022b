"""Whether what an image costs grows with what is there already: rows in PostgreSQL, messages in RabbitMQ.

Statements are the store's own, over a table of which most images are final, a few wait and a few are due; times are a client's, one
call after another, and buffers those of one more execution that is undone. Messages go through the service's own adapters, to an
empty queue and behind a backlog. All on names of its own, which are removed whatever ends it.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from uuid6 import uuid7

from bench import processes
from bench.results import show, write_results
from bench.running import stopped_by_signals
from bench.services import own_names, server_processes
from common.adapters.rabbitmq import RabbitMqQueue
from common.adapters.sql import SqlImageStore
from common.images import ImageStatus, Priority
from common.messages import Job
from common.settings import load
from tests.databases import opened, recorded

ROWS, QUICK_ROWS = [1_000, 100_000, 2_000_000], [1_000, 20_000]
BACKLOG, QUICK_BACKLOG = 100_000, 2_000
CALLS, QUICK_CALLS = 300, 30
MESSAGES, QUICK_MESSAGES = 2_000, 200
AT_ONCE = 200
HOUR = timedelta(hours=1)
# One image a second of 200 owners: of 1,000, one failed and one waits. Ten, of the first 500, are due, however many there are.
_INSERT = """
INSERT INTO images (id, owner, status, filename, content_type, size_bytes, sha256, width, height, processing, priority, attempts,
                    outages, version, result_key, failure_code, created_at, updated_at, dispatch_after, request_id)
SELECT (lpad(to_hex(1700000000000 + n * 1000), 12, '0') || '7000' || '8' || substr(md5(n::text), 1, 15))::uuid,
       'owner-' || n % 200, status, 'cat.jpg', 'image/jpeg', 1, repeat('0', 64), 1, 1, '', 'normal', 1, 0, 1,
       CASE WHEN status = 'completed' THEN 'a/1' END, CASE WHEN status = 'failed' THEN 'corrupt-image' END,
       to_timestamp(1700000000 + n), to_timestamp(1700000000 + n),
       CASE WHEN status = 'queued' THEN now() + CASE WHEN n % 50 = 9 THEN - interval '1 s' ELSE interval '1 h' END END, ''
FROM (SELECT n, CASE WHEN n % 1000 = 3 THEN 'failed' WHEN n % 1000 = 7 OR n <= 500 AND n % 50 = 9 THEN 'queued'
                ELSE 'completed' END AS status
      FROM generate_series($1::bigint, $2::bigint) AS n) AS numbered
"""
Call = Callable[[SqlImageStore, UUID], Awaitable[object]]
CALLS_TIMED: dict[str, Call] = {
    "status": lambda store, one: store.get(one),
    "dispatch round": lambda store, _: store.take_due(100, timedelta(0)),
    # With a lease that has ended, so that there may be more calls than images that wait.
    "claim": lambda store, one: store.claim(one, -HOUR),
    "list, first page": lambda store, _: store.page(owner="owner-7", status=None, before=None, limit=21),
    "list, later page": lambda store, one: store.page(owner="owner-7", status=None, before=one, limit=21),
    "list, failed": lambda store, _: store.page(owner=None, status=ImageStatus.FAILED, before=None, limit=21),
}


def run(out: Path, counts: list[int] | None, *, quick: bool) -> None:
    console, settings = Console(), load()
    counts = sorted(counts or (QUICK_ROWS if quick else ROWS))
    with stopped_by_signals(), own_names(settings) as names, Progress(console=console) as progress:
        task = progress.add_task("rows", total=len(counts) + 2)
        rows, there = [], 0
        for count in counts:
            progress.update(task, description=f"{count:,} rows")
            rows += asyncio.run(_statements(names["POSTGRES_URL"], there, count, QUICK_CALLS if quick else CALLS))
            there = count
            progress.advance(task)
        for backlog in (0, QUICK_BACKLOG if quick else BACKLOG):
            progress.update(task, description=f"{backlog:,} messages")
            rows.append(asyncio.run(_messages(names["RABBITMQ_URL"], backlog, QUICK_MESSAGES if quick else MESSAGES)))
            progress.advance(task)
    show(console, out, "scale", [_table(rows)])
    console.print(f"Written: {write_results(out, 'scale', rows, x='what', y='median_ms', by='there')}")


async def _statements(url: str, there: int, count: int, calls: int) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(url)
    store = SqlImageStore(url, 1, 60)
    try:
        await connection.execute(_INSERT, there + 1, count)
        await connection.execute("VACUUM ANALYZE images")
        query = "SELECT id FROM images WHERE status = $1 AND (dispatch_after IS NULL OR dispatch_after > now()) LIMIT $2"
        some = {name: [row["id"] for row in await connection.fetch(query, name, calls)] for name in ("completed", "queued")}
        found = []
        for what, call in CALLS_TIMED.items():
            ids = some["queued" if what == "claim" else "completed"]
            times = [await _seconds(call, store, ids[number % len(ids)]) for number in range(calls + 10)][10:]
            buffers = await _buffers(connection, url, call, ids[0])
            found.append(_row(what, f"{count:,} rows", times) | {"buffers": buffers})
        await connection.execute("UPDATE images SET dispatch_after = now() + interval '1 h' WHERE status = 'processing'")
        return found
    finally:
        await store.close()
        await connection.close()


async def _seconds(call: Call, store: SqlImageStore, one: UUID) -> float:
    began = time.perf_counter()
    await call(store, one)
    return time.perf_counter() - began


async def _buffers(connection: Any, url: str, call: Call, one: UUID) -> int:
    """Pages of 8 KiB that the call's first statement looks at."""
    async with opened(url, 1) as store:
        ran = recorded(store)
        await call(store, one)
    statement, parameters = ran[0]
    transaction = connection.transaction()
    await transaction.start()
    try:
        lines = [row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", *parameters)]
    finally:
        await transaction.rollback()
    # The first line of the plan's own counts what all below it does.
    numbers = next((line for line in lines if "Buffers: shared" in line), "")
    return sum(int(part.partition("=")[2]) for part in numbers.split() if part.startswith(("hit=", "read=")))


async def _messages(url: str, backlog: int, count: int) -> dict[str, Any]:
    """Publishing and taking so many behind what waits, a message; the broker's CPU time and memory with it."""
    queue, broker = RabbitMqQueue(url, 60), server_processes(load())["rabbitmq"]
    try:
        await queue.check()
        await _publish(queue, backlog)
        cpu, began = processes.cpu_seconds(broker), time.perf_counter()
        await _publish(queue, count)
        async with aclosing(queue.deliveries(AT_ONCE)) as deliveries:
            for _ in range(count):
                await (await anext(deliveries)).ack()
        passed, used = time.perf_counter() - began, processes.cpu_seconds(broker) - cpu
        row = _row("publish and take", f"{backlog:,} messages", [passed / count])
        return row | {"broker_cpu_ms": used * 1000 / count, "broker_mb": processes.rss_bytes(broker) / 1e6}
    finally:
        await queue.close()


async def _publish(queue: RabbitMqQueue, count: int) -> None:
    for first in range(0, count, AT_ONCE):
        jobs = [Job(image_id=UUID(str(uuid7())), request_id="bench") for _ in range(min(AT_ONCE, count - first))]
        await asyncio.gather(*(queue.publish(job, Priority.NORMAL) for job in jobs))


def _row(what: str, there: str, seconds: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds)
    p99 = ordered[-(-len(ordered) * 99 // 100) - 1]
    return {"what": what, "there": there, "median_ms": statistics.median(ordered) * 1000, "p99_ms": p99 * 1000}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("", "there are", "median ms", "p99 ms", "buffers", "broker CPU ms", "broker MB")
    for row in sorted(rows, key=lambda row: str(row["what"])):
        extra = [f"{row[name]:.2f}" if name in row else "" for name in ("broker_cpu_ms", "broker_mb")]
        table.add_row(
            row["what"], row["there"], f"{row['median_ms']:.2f}", f"{row['p99_ms']:.2f}", str(row.get("buffers", "")), *extra
        )
    return table
