"""What a call to the SQL adapter costs: round trips and transactions. How the rows are found: see test_query_plans.py."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from common.adapters.sql import SqlImageStore
from common.errors import IdempotencyMismatch
from common.images import IdempotencyKey, ImageStatus, Priority
from tests.builders import image
from tests.contract.sockets import Server, proxy_to
from tests.databases import opened

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
                "mark_queued": lambda: store.mark_queued(new.id, 0, Priority.NORMAL, HOUR),
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
        await store.mark_queued(new.id, 0, Priority.NORMAL, HOUR)
    assert [statement.split()[0] for statement in ran] == ["INSERT", "UPDATE"]
