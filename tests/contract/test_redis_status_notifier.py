"""What RedisStatusNotifier promises beyond the port: one connection for all who wait, and nobody waits on one that is dead."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from uuid6 import uuid7

from common.adapters.memory import MemoryDeadLetters, MemoryQueue
from common.adapters.redis import RedisLink, RedisStatusCache, RedisStatusNotifier, notifier
from common.errors import Unavailable
from common.images import Principal, RetryPolicy
from common.messages import Job
from common.ports import Bucket, Ports
from common.usecases.process_image import ProcessPolicy, process_image
from tests.builders import image
from tests.contract.redis_servers import (
    Tap,
    confirms_no_subscription,
    counted,
    hangs_up,
    proxy_to_redis,
    says_ok,
    says_that_it_is_loading,
    speaks_no_redis,
)
from tests.contract.sockets import Handler, Server, free_port, silence
from tests.fakes import FakeBlobStore, FakeImageStore, FakeRenderer, FakeTokenVerifier
from tests.polling import eventually

LIMIT_SECONDS = 0.5
# What the machine may add when it is busy.
SLACK_SECONDS = 0.7
LONG_SECONDS = 20


@pytest.fixture(autouse=True)
def channel(monkeypatch: pytest.MonkeyPatch) -> str:
    """Of this test alone."""
    name = f"test:{uuid7()}"
    monkeypatch.setattr(notifier, "CHANNEL", name)
    return name


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def to_redis(redis_url: str) -> Handler:
    return proxy_to_redis(redis_url)


@pytest.fixture
async def there(redis_url: str) -> AsyncIterator[RedisStatusNotifier]:
    async with linked_notifier(redis_url, 5) as opened:
        yield opened


@asynccontextmanager
async def notifier_at(address: str, limit_seconds: float = LIMIT_SECONDS) -> AsyncIterator[RedisStatusNotifier]:
    async with linked_notifier(f"redis://{address}/0", limit_seconds) as opened:
        yield opened


@asynccontextmanager
async def linked_notifier(url: str, limit_seconds: float) -> AsyncIterator[RedisStatusNotifier]:
    link = RedisLink(url, limit_seconds)
    opened = RedisStatusNotifier(link)
    try:
        yield opened
    finally:
        await opened.close()
        await link.close()


async def subscribers(client: Redis, channel: str) -> int:
    ((_, count),) = await client.pubsub_numsub(channel)
    number: int = count
    return number


async def none_is_left(client: Redis, channel: str) -> None:
    async def none() -> bool:
        return await subscribers(client, channel) == 0

    await eventually(none, "the subscription to end")


async def seconds_until_unavailable(call: Awaitable[object]) -> float:
    start = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        await call
    assert raised.value.service == "notifier"
    return time.monotonic() - start


class Waiters:
    """Tasks that wait, and have all been entered when this is."""

    def __init__(self, opened: RedisStatusNotifier, images: list[UUID]) -> None:
        self._entered = asyncio.Semaphore(0)
        self.tasks = [asyncio.create_task(self._wait(opened, image_id)) for image_id in images]

    async def _wait(self, opened: RedisStatusNotifier, image_id: UUID) -> bool:
        async with opened.subscribe(image_id) as subscription:
            self._entered.release()
            return await subscription.notified(LONG_SECONDS)

    async def entered(self) -> None:
        async with asyncio.timeout(LONG_SECONDS):
            for _ in self.tasks:
                await self._entered.acquire()

    async def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


async def enter(opened: RedisStatusNotifier) -> None:
    async with opened.subscribe(uuid7()):
        pass


async def test_redis_has_confirmed_it_when_the_subscription_is_entered(redis_url: str, client: Redis, channel: str) -> None:
    async with linked_notifier(redis_url, 5) as opened:
        assert await subscribers(client, channel) == 0

        async with opened.subscribe(uuid7()):
            assert await subscribers(client, channel) == 1


async def test_five_hundred_waiters_share_one_connection_and_leave_nothing(client: Redis, channel: str, to_redis: Handler) -> None:
    async with Server(to_redis) as server:
        async with notifier_at(server.address, 5) as opened:
            for _ in range(2):
                waiters = Waiters(opened, [uuid7() for _ in range(500)])
                await waiters.entered()
                assert await subscribers(client, channel) == 1
                assert server.connections == 1
                await waiters.cancel()

        await none_is_left(client, channel)

        async def closed() -> bool:
            return server.connections == 0

        await eventually(closed, "the connection to end")


async def test_waiting_costs_redis_nothing_once_the_connection_is_there(to_redis: Handler) -> None:
    tap = Tap(to_redis)
    async with Server(tap) as server, notifier_at(server.address, 5) as opened, opened.subscribe(uuid7()):
        before = len(tap.commands)

        for _ in range(10):
            async with opened.subscribe(uuid7()) as subscription:
                await subscription.notified(0)

        assert tap.commands[before:] == []


async def test_without_waiters_the_connection_ends_after_a_while_and_the_next_opens_another(
    client: Redis, channel: str, to_redis: Handler, there: RedisStatusNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "PING_SECONDS", 0.05)
    monkeypatch.setattr(notifier, "IDLE_SECONDS", 0.2)
    async with Server(to_redis) as server, notifier_at(server.address, 5) as opened:
        async with opened.subscribe(uuid7()) as subscription:
            # Given one who waits for longer than that, and hears nothing,
            assert not await subscription.notified(0.5)
            assert await subscribers(client, channel) == 1

        # when the last has gone
        await none_is_left(client, channel)

        # then the next one hears what there is to hear.
        image_id = uuid7()
        async with opened.subscribe(image_id) as subscription:
            await there.notify(image_id)
            assert await subscription.notified(LONG_SECONDS)


async def test_all_who_wait_are_told_when_the_connection_is_lost(to_redis: Handler, there: RedisStatusNotifier) -> None:
    async with Server(to_redis) as server, notifier_at(server.address, 5) as opened:
        waiters = Waiters(opened, [uuid7() for _ in range(20)])
        await waiters.entered()
        start = time.monotonic()

        with capture_logs() as logs:
            await server.cut()
            ends = await asyncio.gather(*waiters.tasks, return_exceptions=True)

        assert time.monotonic() - start < SLACK_SECONDS
        assert {type(end) for end in ends} == {Unavailable}
        assert [line["event"] for line in logs] == ["notifications of final states interrupted"]
        # and who subscribes next is heard again
        image_id = uuid7()
        async with opened.subscribe(image_id) as subscription:
            await there.notify(image_id)
            assert await subscription.notified(LONG_SECONDS)


async def test_who_was_told_is_told_again(to_redis: Handler) -> None:
    async with (
        Server(to_redis) as server,
        notifier_at(server.address, 5) as opened,
        opened.subscribe(uuid7()) as subscription,
    ):
        await server.cut()

        for _ in range(2):
            assert await seconds_until_unavailable(subscription.notified(LONG_SECONDS)) < SLACK_SECONDS


async def test_a_connection_that_went_silent_is_noticed(to_redis: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "PING_SECONDS", 0.2)
    tap = Tap(to_redis)
    async with Server(tap) as server, notifier_at(server.address) as opened, opened.subscribe(uuid7()) as subscription:
        # given one that answers its pings
        assert not await subscription.notified(1)

        tap.frozen.set()

        seconds = await seconds_until_unavailable(subscription.notified(LONG_SECONDS))
        assert seconds < 0.2 + LIMIT_SECONDS + SLACK_SECONDS


async def test_it_is_no_busy_loop(to_redis: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "PING_SECONDS", 0.3)
    tap = Tap(to_redis)
    async with Server(tap) as server, notifier_at(server.address) as opened, opened.subscribe(uuid7()) as subscription:
        assert not await subscription.notified(1)

    assert 2 <= tap.commands.count("PING") <= 3


async def test_a_redis_that_is_not_there_is_unavailable_at_once() -> None:
    async with notifier_at(f"127.0.0.1:{free_port()}", limit_seconds=10) as opened:
        assert await seconds_until_unavailable(enter(opened)) < SLACK_SECONDS
        assert await seconds_until_unavailable(opened.notify(uuid7())) < SLACK_SECONDS


@pytest.mark.parametrize("answer", [silence, says_that_it_is_loading, speaks_no_redis, hangs_up, says_ok, confirms_no_subscription])
async def test_a_subscription_that_is_not_confirmed_is_unavailable(answer: Handler) -> None:
    connections: list[float] = []
    async with Server(counted(answer, connections)) as server, notifier_at(server.address) as opened:
        assert await seconds_until_unavailable(enter(opened)) < LIMIT_SECONDS + SLACK_SECONDS

        async def closed() -> bool:
            return server.connections == 0

        await eventually(closed, "the connection to end")
    assert len(connections) == 1


async def test_one_finds_out_for_all_that_redis_is_away() -> None:
    connections: list[float] = []
    async with Server(counted(silence, connections)) as server, notifier_at(server.address) as opened:
        seconds = await asyncio.gather(*(seconds_until_unavailable(enter(opened)) for _ in range(100)))

    assert max(seconds) < LIMIT_SECONDS + SLACK_SECONDS
    assert len(connections) == 1


async def test_what_the_cache_has_found_out_is_known(to_redis: Handler) -> None:
    connections: list[float] = []
    async with Server(counted(silence, connections)) as server:
        link = RedisLink(f"redis://{server.address}/0", LIMIT_SECONDS)
        opened = RedisStatusNotifier(link)
        with pytest.raises(Unavailable):
            await RedisStatusCache(link).get(uuid7())

        assert await seconds_until_unavailable(enter(opened)) < LIMIT_SECONDS / 2

        assert len(connections) == 1
        await link.close()


async def test_it_works_again_soon_after_redis_does(to_redis: Handler) -> None:
    port = free_port()
    async with notifier_at(f"127.0.0.1:{port}") as opened:
        await seconds_until_unavailable(enter(opened))

        async def is_entered() -> bool:
            try:
                await enter(opened)
            except Unavailable:
                return False
            return True

        async with Server(to_redis, port):
            await eventually(is_entered, "the notifier to work again", 3)


async def test_who_is_cancelled_while_connecting_leaves_nothing() -> None:
    async with Server(silence) as server, notifier_at(server.address, 30) as opened:
        entering = [asyncio.create_task(enter(opened)) for _ in range(3)]

        async def connected() -> bool:
            return server.connections == 1

        await eventually(connected, "the connection")
        for task in entering:
            task.cancel()
        await asyncio.wait(entering)

        async def closed() -> bool:
            return server.connections == 0

        await eventually(closed, "the connection to end")


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_closing_tells_who_waits_and_leaves_nothing(client: Redis, channel: str, to_redis: Handler, turns: int) -> None:
    async with Server(to_redis) as server, notifier_at(server.address, 5) as opened:
        async with opened.subscribe(uuid7()) as subscription:
            for _ in range(turns):
                await asyncio.sleep(0)

            await opened.close()

            assert await seconds_until_unavailable(subscription.notified(LONG_SECONDS)) < SLACK_SECONDS
        await none_is_left(client, channel)


@pytest.mark.parametrize("said", ["", "not an id", b"\xff\xfe", "x" * 100_000])
async def test_what_anybody_else_says_is_not_heard(
    client: Redis, channel: str, there: RedisStatusNotifier, said: str | bytes
) -> None:
    image_id = uuid7()
    async with there.subscribe(image_id) as subscription:
        assert await client.publish(channel, said) == 1
        assert not await subscription.notified(0.2)

        await there.notify(image_id)
        assert await subscription.notified(LONG_SECONDS)


async def test_an_images_whole_way_costs_three_commands(to_redis: Handler) -> None:
    tap = Tap(to_redis)
    async with Server(tap) as server:
        link = RedisLink(f"redis://{server.address}/0", 5)
        images, blobs, queue = FakeImageStore(), FakeBlobStore(), MemoryQueue()
        ports = Ports(
            images=images,
            upkeep=images,
            blobs=blobs,
            queue=queue,
            jobs=queue,
            dead_letters=MemoryDeadLetters(queue),
            cache=RedisStatusCache(link),
            notifier=RedisStatusNotifier(link),
            tokens=FakeTokenVerifier({"token": Principal(subject="alice")}),
        )
        policy = ProcessPolicy(lease=timedelta(minutes=1), retry=RetryPolicy())

        async def process() -> None:
            uploaded = image(size_bytes=5, sha256=sha256(b"bytes").hexdigest())
            blobs.objects[Bucket.RAW, uploaded.raw_key] = b"bytes"
            await images.add(uploaded, timedelta(seconds=5))
            await process_image(ports, FakeRenderer(), policy, Job(image_id=uploaded.id, request_id="request-1"))

        # Given a connection, and a Redis that knows the script,
        await process()
        before = len(tap.commands)

        await process()

        assert tap.commands[before:] == ["EVALSHA", "EVALSHA", "PUBLISH"]
        await link.close()
