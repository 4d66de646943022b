"""A backlog on the real database and the real broker: what waits gets no second message, and what is lost is sent again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

import pytest

from common.adapters.memory import MemoryStatusCache, MemoryStatusNotifier
from common.adapters.rabbitmq import RabbitMqQueue
from common.adapters.sql import SqlImageStore, SqlUpkeep
from common.images import Priority, RetryPolicy
from common.messages import Job
from common.ports import Ports
from common.usecases.dispatch_due import DispatchPolicy, dispatch_until_none_is_due
from tests.broker import Broker, open_broker
from tests.builders import image
from tests.databases import execute, opened
from tests.polling import eventually

MANY = 1_000
POLICY = DispatchPolicy(stale_after=timedelta(minutes=10), retry=RetryPolicy())


@dataclass(frozen=True)
class Backlog:
    url: str
    broker: Broker
    store: SqlImageStore
    queue: RabbitMqQueue

    async def dispatch_what_is_stale(self) -> int:
        """→ the messages that there are then."""
        await execute(self.url, "UPDATE images SET dispatch_after = now()")
        cache, notifier = MemoryStatusCache(lambda: 0.0), MemoryStatusNotifier()
        unused = cast("Any", None)
        ports = Ports(
            images=self.store,
            upkeep=SqlUpkeep(self.store),
            queue=self.queue,
            cache=cache,
            notifier=notifier,
            **dict.fromkeys(("blobs", "jobs", "dead_letters", "tokens"), unused),
        )
        await dispatch_until_none_is_due(ports, POLICY)
        return (await self.queue.depths())["normal"]


@pytest.fixture
async def backlog(database: str, rabbitmq_url: str) -> AsyncIterator[Backlog]:
    async with open_broker(rabbitmq_url) as broker, opened(database) as store:
        queue = RabbitMqQueue(broker.url, 10)
        try:
            await execute(database, "TRUNCATE images")
            for _ in range(MANY // 100):
                await asyncio.gather(*(_submitted(store, queue) for _ in range(100)))
            yield Backlog(database, broker, store, queue)
        finally:
            await queue.close()


async def _submitted(store: SqlImageStore, queue: RabbitMqQueue) -> None:
    new = await store.add(replace(image(), priority=Priority.NORMAL), timedelta(hours=1))
    await queue.publish(Job(image_id=new.id, request_id="r"), Priority.NORMAL)
    assert await store.mark_queued(new.id, 0, Priority.NORMAL, timedelta(hours=1)) is not None


async def test_what_waits_gets_no_second_message_and_what_is_lost_gets_one(backlog: Backlog) -> None:
    for _ in range(3):
        assert await backlog.dispatch_what_is_stale() == MANY

    # when the broker loses them
    await backlog.broker.ask("DELETE", "queues/{}/images.normal/contents")

    async def is_empty() -> bool:
        return (await backlog.queue.depths())["normal"] == 0

    await eventually(is_empty, "the queue to be empty")
    assert await backlog.dispatch_what_is_stale() == MANY
    assert await backlog.dispatch_what_is_stale() == MANY
