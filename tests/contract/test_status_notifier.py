"""The promises of StatusNotifier, over every adapter."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from uuid import UUID

import pytest
from uuid6 import uuid7

from common.adapters.memory import MemoryStatusNotifier
from common.adapters.redis import RedisLink, RedisStatusNotifier
from common.ports import StatusNotifier

# Long enough for whatever has to arrive.
LONG_SECONDS = 20
# Long enough for what must not arrive to have arrived.
SHORT_SECONDS = 0.2


@dataclass
class Notifiers:
    """`here` is where one waits; `there` may be in another process."""

    here: StatusNotifier
    there: StatusNotifier


@pytest.fixture(params=["memory", "redis"])
async def notifiers(request: pytest.FixtureRequest) -> AsyncIterator[Notifiers]:
    if request.param == "memory":
        notifier = MemoryStatusNotifier()
        yield Notifiers(notifier, notifier)
        return
    url = request.getfixturevalue("redis_url")
    async with AsyncExitStack() as stack:

        def opened() -> RedisStatusNotifier:
            link = RedisLink(url, 5)
            stack.push_async_callback(link.close)
            notifier = RedisStatusNotifier(link)
            stack.push_async_callback(notifier.close)
            return notifier

        yield Notifiers(opened(), opened())


async def test_a_notification_wakes(notifiers: Notifiers) -> None:
    image_id = uuid7()
    async with notifiers.here.subscribe(image_id) as subscription:
        waiting = asyncio.create_task(subscription.notified(LONG_SECONDS))
        await asyncio.sleep(0)

        await notifiers.there.notify(image_id)

        assert await waiting


async def test_also_where_somebody_waits_that_it_comes_from(notifiers: Notifiers) -> None:
    image_id = uuid7()
    async with notifiers.here.subscribe(image_id) as here, notifiers.there.subscribe(image_id) as there:
        await notifiers.there.notify(image_id)

        assert all(await asyncio.gather(here.notified(LONG_SECONDS), there.notified(LONG_SECONDS)))


async def test_none_is_missed_from_the_moment_the_subscription_is_entered(notifiers: Notifiers) -> None:
    for _ in range(20):
        image_id = uuid7()
        async with notifiers.here.subscribe(image_id) as subscription:
            await notifiers.there.notify(image_id)
            assert await subscription.notified(LONG_SECONDS)


async def test_one_from_before_is_not_heard(notifiers: Notifiers) -> None:
    image_id = uuid7()
    async with notifiers.here.subscribe(image_id):
        await notifiers.there.notify(image_id)
    # Given that it has arrived: this one was sent later,
    later = uuid7()
    async with notifiers.here.subscribe(later) as subscription:
        await notifiers.there.notify(later)
        await subscription.notified(LONG_SECONDS)

    # then who subscribes now does not hear it.
    async with notifiers.here.subscribe(image_id) as subscription:
        assert not await subscription.notified(SHORT_SECONDS)


async def test_one_is_heard_once(notifiers: Notifiers) -> None:
    image_id = uuid7()
    async with notifiers.here.subscribe(image_id) as subscription:
        await notifiers.there.notify(image_id)

        assert await subscription.notified(LONG_SECONDS)
        assert not await subscription.notified(SHORT_SECONDS)


async def test_and_the_next_one_is_heard_again(notifiers: Notifiers) -> None:
    image_id = uuid7()
    async with notifiers.here.subscribe(image_id) as subscription:
        for _ in range(3):
            await notifiers.there.notify(image_id)
            assert await subscription.notified(LONG_SECONDS)


async def test_one_that_came_while_nobody_looked_is_kept(notifiers: Notifiers) -> None:
    image_id = uuid7()
    async with notifiers.here.subscribe(image_id) as one, notifiers.here.subscribe(image_id) as other:
        await notifiers.there.notify(image_id)
        # Given that it has come, as the other one says,
        assert await other.notified(LONG_SECONDS)

        # then not even a moment is needed to hear it.
        assert await one.notified(0)


async def test_another_image_wakes_nobody(notifiers: Notifiers) -> None:
    async with notifiers.here.subscribe(uuid7()) as subscription:
        await notifiers.there.notify(uuid7())

        assert not await subscription.notified(SHORT_SECONDS)


@pytest.mark.parametrize("seconds", [0, 0.3])
async def test_the_time_may_be_over(notifiers: Notifiers, seconds: float) -> None:
    async with notifiers.here.subscribe(uuid7()) as subscription:
        start = time.monotonic()

        assert not await subscription.notified(seconds)

        # (The loop's clock may be a little ahead of this one.)
        assert seconds - 0.05 <= time.monotonic() - start < seconds + 1


async def test_after_a_time_that_was_over_one_can_wait_again(notifiers: Notifiers) -> None:
    image_id = uuid7()
    async with notifiers.here.subscribe(image_id) as subscription:
        assert not await subscription.notified(0)
        await notifiers.there.notify(image_id)

        assert await subscription.notified(LONG_SECONDS)


async def test_notifying_where_nobody_waits(notifiers: Notifiers) -> None:
    await notifiers.there.notify(uuid7())


async def test_hundreds_wait_at_once_for_the_same_and_for_others(notifiers: Notifiers) -> None:
    # given 500 waiters: five for each of 100 images
    images = [uuid7() for _ in range(100)]
    never = uuid7()
    entered = 0

    async def wait(image_id: UUID, seconds: float) -> bool:
        nonlocal entered
        async with notifiers.here.subscribe(image_id) as subscription:
            entered += 1
            if entered == 501:
                all_entered.set()
            return await subscription.notified(seconds)

    all_entered = asyncio.Event()
    last = asyncio.create_task(wait(never, LONG_SECONDS))
    waiting = [asyncio.create_task(wait(image_id, LONG_SECONDS)) for image_id in images * 5]
    await asyncio.wait_for(all_entered.wait(), LONG_SECONDS)

    # when
    for image_id in images:
        await notifiers.there.notify(image_id)

    # then
    assert all(await asyncio.gather(*waiting))
    assert not last.done()
    last.cancel()
    await asyncio.wait([last])


async def test_who_goes_away_takes_nobody_along(notifiers: Notifiers) -> None:
    image_id = uuid7()

    async def wait() -> bool:
        async with notifiers.here.subscribe(image_id) as subscription:
            return await subscription.notified(LONG_SECONDS)

    async with notifiers.here.subscribe(image_id) as subscription:
        # Given others, some of whom have not even begun to wait,
        others = [asyncio.create_task(wait()) for _ in range(10)]
        await asyncio.sleep(0)
        others += [asyncio.create_task(wait()) for _ in range(10)]

        # when they are cancelled
        for other in others:
            other.cancel()
        assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*others, return_exceptions=True))

        # then the one who stayed hears it.
        await notifiers.there.notify(image_id)
        assert await subscription.notified(LONG_SECONDS)
