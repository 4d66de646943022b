"""The promises of StatusCache, over every adapter."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from redis.asyncio import Redis

from common.adapters.memory import MemoryStatusCache
from common.adapters.redis import RedisLink, RedisStatusCache
from common.images import Failure, FailureCode, Image, ImageStatus, Result
from common.ports import StatusCache
from tests.builders import image


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Cache:
    """`seconds_left`: how much longer the cache knows anything about the image."""

    port: StatusCache
    seconds_left: Callable[[UUID], Awaitable[float]]


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield in_memory()
        return
    url = request.getfixturevalue("redis_url")
    link = RedisLink(url, 5)
    async with Redis.from_url(url) as client:

        async def left(image_id: UUID) -> float:
            milliseconds: int = await client.pttl(f"image:{image_id}")
            return milliseconds / 1000

        yield Cache(RedisStatusCache(link), left)
    await link.close()


def in_memory() -> Cache:
    clock = Clock()
    cache = MemoryStatusCache(clock)

    async def left(image_id: UUID) -> float:
        """Found by going through time: an entry is known while an older version is refused."""
        start = clock.now
        probe = replace(image(id=image_id), version=-1)
        try:
            while clock.now < start + 1000:
                before = await cache.get(image_id)
                await cache.put(probe)
                if await cache.get(image_id) == probe and before != probe:
                    return clock.now - start
                clock.now += 0.5
            return float("inf")
        finally:
            clock.now = start

    return Cache(cache, left)


def versions(*numbers: int) -> list[Image]:
    first = image()
    return [replace(first, version=number, attempts=number) for number in numbers]


async def test_what_was_never_put_is_a_miss(cache: Cache) -> None:
    assert await cache.port.get(image().id) is None


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"filename": "猫 \u2028 \"'\\ \0.jpg", "owner": ""},
        {"status": ImageStatus.FAILED, "failure": Failure(code=FailureCode.CORRUPT_IMAGE, detail="no picture")},
        {
            "status": ImageStatus.COMPLETED,
            "result": Result(key="a/1", content_type="image/png", size_bytes=1, sha256="f" * 64, width=800, height=600),
            "completed_at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
            "version": 2**31,
        },
    ],
    ids=["uploaded", "odd text", "failed", "completed"],
)
async def test_what_was_put_comes_back_the_same(cache: Cache, state: dict[str, object]) -> None:
    put = image(**state)

    await cache.port.put(put)

    assert await cache.port.get(put.id) == put


async def test_images_are_apart(cache: Cache) -> None:
    one, other = image(), image()
    await cache.port.put(one)
    await cache.port.put(other)

    await cache.port.invalidate(one.id, 2)

    assert await cache.port.get(one.id) is None
    assert await cache.port.get(other.id) == other


async def test_a_newer_version_replaces_an_older_one_and_never_the_other_way(cache: Cache) -> None:
    second, third, tenth = versions(2, 3, 10)

    await cache.port.put(third)
    await cache.port.put(second)
    assert await cache.port.get(third.id) == third

    await cache.port.put(tenth)
    await cache.port.put(third)
    assert await cache.port.get(third.id) == tenth


async def test_the_same_version_may_be_put_again(cache: Cache) -> None:
    (third,) = versions(3)

    await cache.port.put(third)
    await cache.port.put(third)

    assert await cache.port.get(third.id) == third


async def test_a_slow_reader_cannot_put_the_old_state_back(cache: Cache) -> None:
    third, fourth = versions(3, 4)
    # Given a reader that missed and has read version 3 from the rows,
    assert await cache.port.get(third.id) is None
    # when a worker writes version 4 before the reader gets to put what it read,
    await cache.port.invalidate(third.id, 4)
    await cache.port.put(third)
    # then nobody sees version 3,
    assert await cache.port.get(third.id) is None
    # and who has read version 4 may put it.
    await cache.port.put(fourth)
    assert await cache.port.get(third.id) == fourth


@pytest.mark.parametrize("version", [3, 4])
async def test_invalidating_forgets_an_entry_that_is_no_newer(cache: Cache, version: int) -> None:
    (third,) = versions(3)
    await cache.port.put(third)

    await cache.port.invalidate(third.id, version)

    assert await cache.port.get(third.id) is None


async def test_a_late_invalidation_leaves_the_newer_entry(cache: Cache) -> None:
    (fourth,) = versions(4)
    await cache.port.put(fourth)

    await cache.port.invalidate(fourth.id, 3)

    assert await cache.port.get(fourth.id) == fourth


async def test_a_late_invalidation_does_not_undo_a_newer_one(cache: Cache) -> None:
    fourth, fifth = versions(4, 5)
    await cache.port.invalidate(fourth.id, 5)

    await cache.port.invalidate(fourth.id, 3)
    await cache.port.put(fourth)
    assert await cache.port.get(fourth.id) is None

    await cache.port.put(fifth)
    assert await cache.port.get(fourth.id) == fifth


async def test_whatever_the_order_the_newest_version_wins(cache: Cache) -> None:
    every = versions(*range(1, 31))
    newest = every[-1]

    await asyncio.gather(*(cache.port.put(version) for version in (*every[::2], *every[::-2], newest)))

    assert await cache.port.get(newest.id) == newest


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        (ImageStatus.UPLOADED, 5),
        (ImageStatus.QUEUED, 5),
        (ImageStatus.PROCESSING, 5),
        (ImageStatus.COMPLETED, 600),
        (ImageStatus.FAILED, 600),
    ],
)
async def test_a_state_that_can_change_is_kept_briefly(cache: Cache, status: ImageStatus, seconds: float) -> None:
    put = image(status=status)

    await cache.port.put(put)

    assert seconds - 2 < await cache.seconds_left(put.id) <= seconds


async def test_an_invalidation_is_remembered_for_a_minute(cache: Cache) -> None:
    put = image(status=ImageStatus.COMPLETED)
    await cache.port.put(put)

    await cache.port.invalidate(put.id, 2)

    assert 58 < await cache.seconds_left(put.id) <= 60


async def test_it_says_that_it_can_work(cache: Cache) -> None:
    await cache.port.check()
