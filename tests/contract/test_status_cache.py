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
from common.ports import Miss, StatusCache
from tests.builders import image
from tests.caches import known, permit_for, remember


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Cache:
    """`seconds_left`: how much longer the cache knows anything about the image; `forget`: makes it know nothing."""

    port: StatusCache
    seconds_left: Callable[[UUID], Awaitable[float]]
    forget: Callable[[UUID], Awaitable[object]]


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

        yield Cache(RedisStatusCache(link), left, lambda image_id: client.delete(f"image:{image_id}"))
    await link.close()


def in_memory() -> Cache:
    clock = Clock()
    cache = MemoryStatusCache(clock)

    async def left(image_id: UUID) -> float:
        return cache._entries[image_id].expires_at - clock.now

    async def forget(image_id: UUID) -> None:
        del cache._entries[image_id]

    return Cache(cache, left, forget)


def versions(*numbers: int) -> list[Image]:
    first = image()
    return [replace(first, version=number, attempts=number) for number in numbers]


async def test_what_was_never_put_is_a_miss(cache: Cache) -> None:
    assert isinstance(await cache.port.get(image().id), Miss)


async def test_all_who_miss_have_the_same_permit(cache: Cache) -> None:
    one, other = image(), image()

    permits = await asyncio.gather(*(permit_for(cache.port, one.id) for _ in range(5)))

    assert len(set(permits)) == 1
    assert permits[0] != await permit_for(cache.port, other.id)


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

    await remember(cache.port, put)

    assert await cache.port.get(put.id) == put


async def test_images_are_apart(cache: Cache) -> None:
    one, other = image(), image()
    await remember(cache.port, one)
    await remember(cache.port, other)

    await cache.port.invalidate(one.id, 2)

    assert await known(cache.port, one.id) is None
    assert await cache.port.get(other.id) == other


async def test_a_newer_version_replaces_an_older_one_and_never_the_other_way(cache: Cache) -> None:
    second, third, tenth = versions(2, 3, 10)
    permit = await permit_for(cache.port, third.id)

    await cache.port.put(third, permit)
    await cache.port.put(second, permit)
    assert await cache.port.get(third.id) == third

    await cache.port.put(tenth, permit)
    await cache.port.put(third, permit)
    assert await cache.port.get(third.id) == tenth


async def test_the_same_version_may_be_put_again(cache: Cache) -> None:
    (third,) = versions(3)
    permit = await permit_for(cache.port, third.id)

    await cache.port.put(third, permit)
    await cache.port.put(third, permit)

    assert await cache.port.get(third.id) == third


async def test_without_a_permit_nothing_is_put(cache: Cache) -> None:
    (third,) = versions(3)

    await cache.port.put(third, "made up")
    assert await known(cache.port, third.id) is None
    await cache.port.put(third, "made up")
    assert await known(cache.port, third.id) is None


async def test_a_slow_reader_cannot_put_the_old_state_back(cache: Cache) -> None:
    third, fourth = versions(3, 4)
    # Given a reader that missed and has read version 3 from the rows,
    permit = await permit_for(cache.port, third.id)
    # when a worker writes version 4 before the reader gets to put what it read,
    await cache.port.invalidate(third.id, 4)
    await cache.port.put(third, permit)
    # then nobody sees version 3,
    assert await known(cache.port, third.id) is None
    # and who has read version 4 may put it.
    await remember(cache.port, fourth)
    assert await cache.port.get(third.id) == fourth


async def test_however_slow_a_reader_is_and_whatever_the_cache_has_forgotten(cache: Cache) -> None:
    third, fourth = versions(3, 4)
    permit = await permit_for(cache.port, third.id)
    await cache.port.invalidate(third.id, 4)
    # what the cache was told is gone: its time is over, or Redis was emptied
    await cache.forget(third.id)

    await cache.port.put(third, permit)
    assert await known(cache.port, third.id) is None

    # also where another reader has come meanwhile, and before it has put anything
    later = await permit_for(cache.port, third.id)
    await cache.port.put(third, permit)
    assert await known(cache.port, third.id) is None
    await cache.port.put(fourth, later)
    await cache.port.put(third, permit)
    assert await cache.port.get(third.id) == fourth


async def test_a_reader_that_holds_the_same_permit_puts_nothing_older(cache: Cache) -> None:
    """It may have read the row before another reader did, who has answered already."""
    third, fourth = versions(3, 4)
    permits = [await permit_for(cache.port, third.id) for _ in range(2)]
    await cache.port.put(fourth, permits[0])

    await cache.port.put(third, permits[1])

    assert await cache.port.get(third.id) == fourth


async def test_a_permit_is_good_for_ten_seconds(cache: Cache) -> None:
    new = image()
    await permit_for(cache.port, new.id)
    assert 8 < await cache.seconds_left(new.id) <= 10


@pytest.mark.parametrize("version", [3, 4])
async def test_invalidating_forgets_an_entry_that_is_no_newer(cache: Cache, version: int) -> None:
    (third,) = versions(3)
    await remember(cache.port, third)

    await cache.port.invalidate(third.id, version)

    assert await known(cache.port, third.id) is None


async def test_who_invalidates_may_put_what_it_changes_next(cache: Cache) -> None:
    third, fourth = versions(3, 4)
    await remember(cache.port, third)

    permit = await cache.port.invalidate(third.id, 3)
    await cache.port.put(fourth, permit)

    assert await cache.port.get(third.id) == fourth


async def test_also_where_a_reader_was_quicker_with_the_state_before(cache: Cache) -> None:
    third, fourth = versions(3, 4)
    permit = await cache.port.invalidate(third.id, 3)
    await remember(cache.port, third)

    await cache.port.put(fourth, permit)

    assert await cache.port.get(third.id) == fourth


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_a_permit_of_an_invalidation_is_void_after_the_next(cache: Cache, version: int) -> None:
    third, fourth = versions(3, 4)
    permit = await cache.port.invalidate(third.id, 3)
    await cache.port.invalidate(third.id, version)

    await cache.port.put(fourth, permit)

    assert await known(cache.port, third.id) is None


async def test_a_late_invalidation_gives_no_good_permit(cache: Cache) -> None:
    fourth, sixth = versions(4, 6)
    await cache.port.invalidate(fourth.id, 5)

    await cache.port.put(sixth, await cache.port.invalidate(fourth.id, 3))

    assert await known(cache.port, sixth.id) is None


async def test_a_permit_of_an_invalidation_is_void_once_that_is_forgotten(cache: Cache) -> None:
    third, fourth = versions(3, 4)
    permit = await cache.port.invalidate(third.id, 3)
    await cache.forget(third.id)

    await cache.port.put(fourth, permit)

    assert await known(cache.port, third.id) is None


async def test_a_late_invalidation_leaves_the_newer_entry(cache: Cache) -> None:
    (fourth,) = versions(4)
    await remember(cache.port, fourth)

    await cache.port.invalidate(fourth.id, 3)

    assert await cache.port.get(fourth.id) == fourth


async def test_a_late_invalidation_does_not_undo_a_newer_one(cache: Cache) -> None:
    fourth, fifth = versions(4, 5)
    await cache.port.invalidate(fourth.id, 5)

    await cache.port.invalidate(fourth.id, 3)
    await remember(cache.port, fourth)
    assert await known(cache.port, fourth.id) is None

    await remember(cache.port, fifth)
    assert await cache.port.get(fourth.id) == fifth


async def test_whatever_the_order_the_newest_version_wins(cache: Cache) -> None:
    every = versions(*range(1, 31))
    newest = every[-1]

    permit = await permit_for(cache.port, newest.id)
    await asyncio.gather(*(cache.port.put(version, permit) for version in (*every[::2], *every[::-2], newest)))

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

    await remember(cache.port, put)

    assert seconds - 2 < await cache.seconds_left(put.id) <= seconds


async def test_an_invalidation_is_remembered_for_a_minute(cache: Cache) -> None:
    put = image(status=ImageStatus.COMPLETED)
    await remember(cache.port, put)

    await cache.port.invalidate(put.id, 2)

    assert 58 < await cache.seconds_left(put.id) <= 60


async def test_it_says_that_it_can_work(cache: Cache) -> None:
    await cache.port.check()
