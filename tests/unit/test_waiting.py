"""Waiting: nothing is kept of those who have left."""

import asyncio

import pytest
from uuid6 import uuid7

from common.adapters.waiting import Waiting
from common.errors import Unavailable


async def test_nobody_is_left_when_all_have_gone() -> None:
    waiting, image_id = Waiting(), uuid7()
    assert not waiting

    async def wait() -> None:
        with waiting.subscription(image_id) as subscription:
            await subscription.notified(60)

    # Given one who was woken, one who stays, and one who is cancelled,
    woken, cancelled = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    with waiting.subscription(uuid7()):
        cancelled.cancel()
        await asyncio.wait([cancelled])
        waiting.notify(image_id)
        await woken
        # then it knows of the one,
        assert waiting
    # and of none when that one has gone, too.
    assert not waiting


async def test_notifying_nobody_leaves_nothing() -> None:
    waiting = Waiting()

    waiting.notify(uuid7())

    assert not waiting


async def test_what_may_have_been_missed_is_said_whatever_came_before() -> None:
    waiting, image_id = Waiting(), uuid7()
    with waiting.subscription(image_id) as subscription:
        waiting.notify(image_id)
        waiting.lose_all("gone")

        for _ in range(2):
            with pytest.raises(Unavailable) as raised:
                await subscription.notified(60)
            assert raised.value.reason == "gone"
