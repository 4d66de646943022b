"""What RedisStatusCache promises beyond the port: it never slows a reader down for long, and heals by itself."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from common.adapters.redis import RedisLink, RedisStatusCache
from common.adapters.redis.link import PAUSE_SECONDS
from common.errors import Unavailable, WrongConfiguration
from common.ports import StatusCache
from tests.builders import image
from tests.caches import known, permit_for, remember
from tests.chaos.proxy import Proxy
from tests.contract.redis_servers import counted, hangs_up, proxy_to_redis, says_that_it_is_loading, speaks_no_redis
from tests.contract.sockets import Handler, Server, free_port, silence
from tests.polling import eventually, wait_until

LIMIT_SECONDS = 0.5
# What the machine may add when it is busy.
SLACK_SECONDS = 0.7

Operation = Callable[[StatusCache], Awaitable[object]]


@asynccontextmanager
async def cache_at(address: str, limit_seconds: float = LIMIT_SECONDS) -> AsyncIterator[RedisStatusCache]:
    async with linked_cache(f"redis://{address}/0", limit_seconds) as cache:
        yield cache


@asynccontextmanager
async def linked_cache(url: str, limit_seconds: float = 5) -> AsyncIterator[RedisStatusCache]:
    link = RedisLink(url, limit_seconds)
    try:
        yield RedisStatusCache(link)
    finally:
        await link.close()


@pytest.fixture
def to_redis(redis_url: str) -> Handler:
    return proxy_to_redis(redis_url)


every_operation = pytest.mark.parametrize(
    "operation",
    [
        lambda cache: cache.get(image().id),
        lambda cache: cache.put(image(), "permit"),
        lambda cache: cache.invalidate(image().id, 2),
        lambda cache: cache.check(),
    ],
    ids=["get", "put", "invalidate", "check"],
)


async def seconds_until_unavailable(call: Awaitable[object]) -> float:
    start = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        await call
    assert raised.value.service == "cache"
    return time.monotonic() - start


@every_operation
async def test_a_redis_that_is_not_there_is_unavailable_at_once(operation: Operation) -> None:
    async with cache_at(f"127.0.0.1:{free_port()}", limit_seconds=10) as cache:
        assert await seconds_until_unavailable(operation(cache)) < SLACK_SECONDS


@every_operation
async def test_a_redis_that_never_answers_is_unavailable_in_time(operation: Operation) -> None:
    async with Server(silence) as server, cache_at(server.address) as cache:
        assert await seconds_until_unavailable(operation(cache)) < LIMIT_SECONDS + SLACK_SECONDS


@every_operation
@pytest.mark.parametrize("answer", [says_that_it_is_loading, speaks_no_redis, hangs_up])
async def test_an_answer_that_is_of_no_use_is_unavailable(operation: Operation, answer: Handler) -> None:
    async with Server(answer) as server, cache_at(server.address) as cache:
        assert await seconds_until_unavailable(operation(cache)) < LIMIT_SECONDS + SLACK_SECONDS


@every_operation
async def test_nothing_is_tried_twice(operation: Operation) -> None:
    connections: list[float] = []
    async with Server(counted(hangs_up, connections)) as server, cache_at(server.address) as cache:
        await seconds_until_unavailable(operation(cache))

    assert len(connections) == 1


async def answers_piece_by_piece(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await asyncio.sleep(LIMIT_SECONDS * 0.8)
        writer.write(b"+OK\r\n")


@every_operation
async def test_a_redis_that_is_slow_at_each_step_is_unavailable_in_time(operation: Operation) -> None:
    async with Server(answers_piece_by_piece) as server, cache_at(server.address) as cache:
        assert await seconds_until_unavailable(operation(cache)) < LIMIT_SECONDS + SLACK_SECONDS


@pytest.mark.parametrize(
    ("scheme", "reason"), [("redis", "TimeoutError: no answer in time"), ("rediss", "no answer in TLS in 0.2 s")]
)
async def test_silence_is_a_reason_in_words(scheme: str, reason: str) -> None:
    # Given what Redis does with the beginning of TLS: waits for the end of the line
    async with Server(silence) as server, linked_cache(f"{scheme}://{server.address}/0", 0.2) as cache:
        with pytest.raises(Unavailable) as caught:
            await cache.check()

    assert caught.value.reason == reason


async def test_after_the_pause_one_caller_tries_for_all() -> None:
    connections: list[float] = []
    async with Server(counted(silence, connections)) as server, cache_at(server.address) as cache:
        await seconds_until_unavailable(cache.get(image().id))
        assert len(connections) == 1

        async def somebody_tried() -> bool:
            await asyncio.gather(*(seconds_until_unavailable(cache.get(image().id)) for _ in range(20)))
            return len(connections) > 1

        await eventually(somebody_tried, "the pause to end")

    assert len(connections) == 2


async def test_more_callers_than_connections_all_learn_it_in_time() -> None:
    async with Server(silence) as server, cache_at(server.address) as cache:
        seconds = await asyncio.gather(*(seconds_until_unavailable(cache.get(image().id)) for _ in range(100)))
    assert max(seconds) < LIMIT_SECONDS + SLACK_SECONDS


async def test_after_a_failure_nobody_waits_again() -> None:
    async with Server(silence) as server, cache_at(server.address) as cache:
        await seconds_until_unavailable(cache.get(image().id))

        seconds = [await seconds_until_unavailable(cache.get(image().id)) for _ in range(20)]

    assert sum(seconds) < SLACK_SECONDS


async def test_it_works_again_soon_after_redis_does(to_redis: Handler) -> None:
    port, put = free_port(), image()
    async with cache_at(f"127.0.0.1:{port}") as cache:
        await seconds_until_unavailable(cache.put(put, "permit"))

        async def is_put() -> bool:
            try:
                await remember(cache, put)
            except Unavailable:
                return False
            return True

        async with Server(to_redis, port):
            await eventually(is_put, "the cache to work again", 3)
            assert await known(cache, put.id) == put


async def test_a_check_that_succeeds_ends_the_pause(to_redis: Handler) -> None:
    port = free_port()
    async with cache_at(f"127.0.0.1:{port}") as cache:
        await seconds_until_unavailable(cache.get(image().id))

        async with Server(to_redis, port):
            await cache.check()
            assert await known(cache, image().id) is None


async def test_kept_connections_that_died_cost_no_call(to_redis: Handler) -> None:
    put = image()
    async with Server(to_redis) as server, cache_at(server.address, limit_seconds=5) as cache:
        # Given several kept connections, all cut, as by a restart of Redis, and one of ours that tells when that has arrived,
        callers = []
        for _ in range(5):
            callers.append(asyncio.create_task(remember(cache, put)))
            # Those that call in the same turn of the event loop share one.
            await asyncio.sleep(0)
        await asyncio.gather(*callers)
        host, port = server.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await asyncio.to_thread(wait_until, lambda: server.connections == 6, "six connections")
        await server.cut()
        await reader.read()
        writer.close()

        # then the next calls work as if nothing had happened.
        assert await asyncio.gather(*(known(cache, put.id) for _ in range(5))) == [put] * 5


async def test_calls_of_one_turn_of_the_event_loop_share_a_round_trip_and_not_their_fate(redis_url: str) -> None:
    connections: list[float] = []
    async with Server(counted(proxy_to_redis(redis_url), connections)) as server:
        link, key = RedisLink(f"redis://{server.address}/0", 5), f"test-{uuid4()}"
        try:
            await link.client.set(key, "no list")
            good = [asyncio.ensure_future(link.client.get(key)) for _ in range(3)]
            bad = asyncio.ensure_future(link.client.lpush(key, "x"))
            gone = asyncio.ensure_future(link.client.get(key))
            await asyncio.sleep(0)
            gone.cancel()

            # Who gives up, or asks what cannot be, spoils it for nobody else.
            assert await asyncio.gather(*good) == [b"no list"] * 3
            with pytest.raises(ResponseError):
                await bad
            assert gone.cancelled()
            assert len(connections) == 1
        finally:
            await link.client.delete(key)
            await link.close()


@pytest.mark.parametrize("garbage", ["", "not JSON", "[]", "7", '{"version": "high"}', "\x80"])
async def test_what_cannot_be_decoded_is_a_miss_and_is_replaced(redis_url: str, garbage: str) -> None:
    put = image()
    async with Redis.from_url(redis_url) as client:
        await client.set(f"image:{put.id}", garbage.encode("latin-1"), ex=60)

    async with linked_cache(redis_url) as cache:
        assert await known(cache, put.id) is None
        await remember(cache, put)
        assert await known(cache, put.id) == put


async def test_a_later_programs_entry_is_a_miss_until_there_is_a_newer_version(redis_url: str) -> None:
    second, third = image(version=2), image(version=3)
    third = replace(third, id=second.id)
    async with Redis.from_url(redis_url) as client:
        await client.set(f"image:{second.id}", json.dumps({"id": "in another form", "version": 2}), ex=60)

    async with linked_cache(redis_url) as cache:
        await remember(cache, second)
        assert await known(cache, second.id) is None
        await remember(cache, third)
        assert await known(cache, second.id) == third


async def test_a_key_of_another_type_is_replaced(redis_url: str) -> None:
    put = image()
    async with Redis.from_url(redis_url) as client:
        await client.rpush(f"image:{put.id}", "a list")
        await client.expire(f"image:{put.id}", 60)

    async with linked_cache(redis_url) as cache:
        await remember(cache, put)
        assert await known(cache, put.id) == put


async def test_it_works_on_a_redis_that_has_forgotten_the_script(redis_url: str) -> None:
    put = image()
    async with linked_cache(redis_url) as cache:
        await remember(cache, put)
        async with Redis.from_url(redis_url) as client:
            await client.script_flush()

        await remember(cache, put)
        assert await known(cache, put.id) == put


async def test_a_connection_that_was_closed_a_moment_ago_is_unavailable_whatever_the_event_loop_says() -> None:
    async def writes_to_it() -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")  # as uvloop does

    link = RedisLink("redis://127.0.0.1:1/0", 1)
    try:
        for _ in range(2):  # the second is not even tried
            with pytest.raises(Unavailable):
                await link.call("cache", writes_to_it)
        assert link.failures == 1
    finally:
        await link.close()


async def test_what_was_known_before_redis_was_away_is_not_believed_when_it_is_back(redis_url: str) -> None:
    # given an entry, and a permit
    second, other = image(version=2), image()
    with Proxy(urlsplit(redis_url).port or 6379) as proxy:
        async with cache_at(f"127.0.0.1:{proxy.port}") as cache:
            await remember(cache, second)
            permit = await permit_for(cache, other.id)

            # when it is away for a while, in which invalidations are lost
            proxy.cut()
            await seconds_until_unavailable(cache.get(second.id))
            proxy.heal()
            await asyncio.sleep(PAUSE_SECONDS)

            # then
            assert await known(cache, second.id) is None
            assert await permit_for(cache, other.id) != permit
            await cache.put(other, permit)
            assert await known(cache, other.id) is None

            # and what is put from now on is believed again
            await remember(cache, second)
            assert await known(cache, second.id) == second


async def test_a_permit_from_before_redis_was_away_makes_no_entry_that_is_believed_after(redis_url: str) -> None:
    # given a reader elsewhere that has a permit, has read its row, and stands still
    put = image()
    with Proxy(urlsplit(redis_url).port or 6379) as proxy:
        async with linked_cache(redis_url) as elsewhere, cache_at(f"127.0.0.1:{proxy.port}") as cache:
            permit = await permit_for(elsewhere, put.id)

            # when it goes on after Redis was away for us
            proxy.cut()
            await seconds_until_unavailable(cache.get(image().id))
            proxy.heal()
            await asyncio.sleep(PAUSE_SECONDS)
            assert await known(cache, image().id) is None
            await elsewhere.put(put, permit)

            # then
            assert await known(elsewhere, put.id) == put
            assert await known(cache, put.id) is None


async def test_a_check_finds_out_that_nothing_can_be_written(redis_url: str) -> None:
    """As in a replica, or where the disk is full: here it is the account that may not."""
    async with Redis.from_url(redis_url) as redis:
        await redis.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-@write")  # type: ignore[no-untyped-call]  # the SDK's gap
        try:
            async with linked_cache(redis_url.replace("://", "://reader:secret@")) as cache:
                await seconds_until_unavailable(cache.check())
        finally:
            await redis.execute_command("ACL", "DELUSER", "reader")  # type: ignore[no-untyped-call]  # the SDK's gap


@pytest.fixture
async def account(redis_url: str) -> AsyncIterator[str]:
    """That may do all but ask who the server is."""
    async with Redis.from_url(redis_url) as redis:
        await redis.execute_command("ACL", "SETUSER", "incurious", "on", ">secret", "~*", "&*", "+@all", "-info")  # type: ignore[no-untyped-call]  # the SDK's gap
        yield "incurious:secret"
        await redis.execute_command("ACL", "DELUSER", "incurious")  # type: ignore[no-untyped-call]  # the SDK's gap


async def test_an_account_that_may_not_ask_who_the_server_is_believes_nothing_from_before_a_new_connection(
    account: str, to_redis: Handler
) -> None:
    put = image()
    async with Server(to_redis) as server, linked_cache(f"redis://{account}@{server.address}/0") as cache:
        await remember(cache, put)
        assert await known(cache, put.id) == put

        await server.cut()

        async def is_forgotten() -> bool:
            return await known(cache, put.id) is None

        await eventually(is_forgotten, "the new connection")
        await remember(cache, put)
        assert await known(cache, put.id) == put


@pytest.mark.parametrize("url", ["redis://host:port/0", "redis://:secret@host:99999/0", "http://host"])
def test_an_address_that_is_none_is_named_without_its_password(url: str) -> None:
    with pytest.raises(WrongConfiguration, match="REDIS_URL") as raised:
        RedisLink(url, 5)
    assert "secret" not in str(raised.value)
