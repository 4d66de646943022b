"""The promises of RateLimiter, over its adapter: as many as the limit says, counted together, by Redis' clock."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from common.adapters.redis import RedisLink, RedisRateLimiter, RedisStatusCache
from common.errors import RateLimited, Unavailable
from common.ports import RateLimiter
from tests.contract.redis_servers import Tap, counted, hangs_up, proxy_to_redis, says_that_it_is_loading, speaks_no_redis
from tests.contract.sockets import Handler, Server, free_port, silence
from tests.polling import eventually

LIMIT_SECONDS = 0.5
# What the machine may add when it is busy.
SLACK_SECONDS = 0.7


@pytest.fixture
async def caller(redis_url: str) -> AsyncIterator[str]:
    """Of this test alone; also the others whose names have this one in them are forgotten afterwards."""
    name = f"test-{uuid4()}"
    yield name
    async with Redis.from_url(redis_url) as client:
        for key in await keys_of(client, name):
            await client.delete(key)


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with linked(redis_url) as link:
        yield link


@asynccontextmanager
async def linked(url: str, limit_seconds: float = 5) -> AsyncIterator[RedisLink]:
    link = RedisLink(url, limit_seconds)
    try:
        yield link
    finally:
        await link.close()


async def admitted(limiter: RateLimiter, caller: str, requests: int) -> int:
    """How many of them, sent at once."""
    ends = await asyncio.gather(*(limiter.admit(caller) for _ in range(requests)), return_exceptions=True)
    assert {type(end) for end in ends} <= {type(None), RateLimited}
    return ends.count(None)


async def refusal(limiter: RateLimiter, caller: str) -> RateLimited:
    with pytest.raises(RateLimited) as raised:
        await limiter.admit(caller)
    return raised.value


async def keys_of(client: Redis, caller: str) -> list[bytes]:
    return [key async for key in client.scan_iter(f"*{caller}*", count=10_000)]


async def age(redis_url: str, caller: str, seconds: float) -> None:
    """Makes everything that is known of the caller this much older; what is over by then is gone at once."""
    async with Redis.from_url(redis_url) as client:
        keys = await keys_of(client, caller)
        assert keys
        for key in keys:
            await client.pexpire(key, await client.pttl(key) - round(seconds * 1000))


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_exactly_as_many_as_the_limit_says(link: RedisLink, caller: str, limit: int) -> None:
    limiter = RedisRateLimiter(link, limit, 3600)

    for _ in range(limit):
        await limiter.admit(caller)

    for _ in range(3):
        error = await refusal(limiter, caller)
        assert (error.limit, error.window_seconds) == (limit, 3600)


async def test_of_many_at_once_too(link: RedisLink, caller: str) -> None:
    assert await admitted(RedisRateLimiter(link, 20, 3600), caller, 30) == 20


async def test_callers_are_apart(link: RedisLink, caller: str) -> None:
    limiter = RedisRateLimiter(link, 1, 3600)
    await limiter.admit(caller)
    await refusal(limiter, caller)

    for other in (f"{caller}/", f"{caller}:1", f"{{{caller}}}", f"x{caller}"):
        await limiter.admit(other)


async def test_gateways_count_together(redis_url: str, caller: str) -> None:
    async with linked(redis_url) as one, linked(redis_url) as other:
        limiters = [RedisRateLimiter(one, 10, 3600), RedisRateLimiter(other, 10, 3600)]

        counts = await asyncio.gather(*(admitted(limiter, caller, 10) for limiter in limiters))

    assert sum(counts) == 10


async def test_a_refused_request_is_not_counted(link: RedisLink, caller: str, redis_url: str) -> None:
    limiter = RedisRateLimiter(link, 10, 3600)
    # given a caller who goes on and on after the limit
    assert await admitted(limiter, caller, 100) == 10

    # when about half of the next window has passed
    await age(redis_url, caller, 3600 * 1.55)

    # then there is as much room as if they had stopped.
    assert await admitted(limiter, caller, 100) == 6


@pytest.mark.parametrize(("windows_later", "room"), [(0.9, 0), (1.05, 1), (1.25, 3), (1.55, 6), (1.85, 9), (2.1, 10)])
async def test_a_window_that_passed_counts_for_what_is_left_of_it(
    link: RedisLink, caller: str, redis_url: str, windows_later: float, room: int
) -> None:
    """Rounded in the caller's favour."""
    limiter = RedisRateLimiter(link, 10, 1000)
    assert await admitted(limiter, caller, 10) == 10

    await age(redis_url, caller, 1000 * windows_later)

    assert await admitted(limiter, caller, 20) == room


async def test_windows_pass_by_themselves(link: RedisLink, caller: str) -> None:
    limiter = RedisRateLimiter(link, 3, 1)
    assert await admitted(limiter, caller, 5) == 3

    async def is_admitted() -> bool:
        return await admitted(limiter, caller, 1) == 1

    await eventually(is_admitted, "the window to pass", 5)


@pytest.mark.parametrize("later", [0, 0.3, 999.5, 1000.5, 1050, 1100, 1111.1, 1500, 1999])
async def test_there_is_room_again_when_it_is_said(link: RedisLink, caller: str, redis_url: str, later: float) -> None:
    limiter = RedisRateLimiter(link, 7, 1000)
    # given a caller over the limit, at some time of the first window or the next
    await admitted(limiter, caller, 7)
    if later:
        await age(redis_url, caller, later)
        await admitted(limiter, caller, 7)
    reset = (await refusal(limiter, caller)).reset_seconds

    # then there is none two seconds before
    assert 1 <= reset <= 1001
    if reset > 2:
        await age(redis_url, caller, reset - 2)
        await refusal(limiter, caller)
        reset = 2
    # but then.
    await age(redis_url, caller, reset)
    await limiter.admit(caller)


async def test_an_admission_is_one_round_trip(redis_url: str, caller: str) -> None:
    tap = Tap(proxy_to_redis(redis_url))
    async with Server(tap) as server, linked(f"redis://{server.address}/0") as link:
        limiter = RedisRateLimiter(link, 10, 3600)
        # Given a connection, and a Redis that knows the script,
        await limiter.admit(caller)
        before = len(tap.commands)

        await limiter.admit(caller)

        assert tap.commands[before:] == ["EVALSHA"]


async def test_redis_keeps_two_small_keys_a_caller_and_not_for_ever(link: RedisLink, caller: str, redis_url: str) -> None:
    limiter = RedisRateLimiter(link, 100, 50)
    await admitted(limiter, caller, 100)
    await age(redis_url, caller, 60)
    await admitted(limiter, caller, 100)

    async with Redis.from_url(redis_url) as client:
        keys = await keys_of(client, caller)
        assert len(keys) == 2
        for key in keys:
            assert 0 < await client.ttl(key) <= 100
            assert await client.strlen(key) <= 3


async def seconds_until_unavailable(call: Awaitable[object]) -> float:
    start = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        await call
    assert raised.value.service == "rate limiter"
    return time.monotonic() - start


async def test_a_redis_that_is_not_there_is_unavailable_at_once() -> None:
    async with linked(f"redis://127.0.0.1:{free_port()}/0", 10) as link:
        limiter = RedisRateLimiter(link, 10, 60)
        assert await seconds_until_unavailable(limiter.admit("alice")) < SLACK_SECONDS


@pytest.mark.parametrize("answer", [silence, says_that_it_is_loading, speaks_no_redis, hangs_up])
async def test_one_that_is_of_no_use_is_asked_once_and_then_left_alone_for_a_while(answer: Handler) -> None:
    connections: list[float] = []
    async with Server(counted(answer, connections)) as server, linked(f"redis://{server.address}/0", LIMIT_SECONDS) as link:
        limiter = RedisRateLimiter(link, 10, 60)
        first = await seconds_until_unavailable(limiter.admit("alice"))
        later = [await seconds_until_unavailable(limiter.admit("alice")) for _ in range(20)]

    assert first < LIMIT_SECONDS + SLACK_SECONDS
    if answer is not speaks_no_redis:
        assert sum(later) < LIMIT_SECONDS
        assert len(connections) == 1


async def test_what_the_limiter_has_found_out_the_cache_knows() -> None:
    connections: list[float] = []
    async with Server(counted(silence, connections)) as server, linked(f"redis://{server.address}/0", LIMIT_SECONDS) as link:
        await seconds_until_unavailable(RedisRateLimiter(link, 10, 60).admit("alice"))

        with pytest.raises(Unavailable):
            await RedisStatusCache(link).get(uuid4())

    assert len(connections) == 1


async def test_an_error_that_redis_answers_with_is_unavailable_for_this_caller_alone(
    link: RedisLink, caller: str, redis_url: str
) -> None:
    limiter = RedisRateLimiter(link, 10, 60)
    await limiter.admit(caller)
    async with Redis.from_url(redis_url) as client:
        (key,) = await keys_of(client, caller)
        await client.delete(key)
        await client.rpush(key, "a list")
        await client.expire(key, 60)

    await seconds_until_unavailable(limiter.admit(caller))

    await limiter.admit(f"{caller}-other")
