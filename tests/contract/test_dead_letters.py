"""The promises of DeadLetters: everything is seen once, what was removed is gone, all else is where it was, whatever happens."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from common.adapters.memory import MemoryDeadLetters, MemoryQueue
from common.adapters.rabbitmq import RabbitMqDeadLetters, RabbitMqQueue
from common.errors import Unavailable
from common.images import FailureCode, Image, Priority
from common.messages import DeadLetter, Job
from common.ports import DeadLetters, HeldLetter
from tests.broker import Broker, open_broker
from tests.builders import failed_image
from tests.polling import eventually

PATIENCE_SECONDS = 1.0
# So that a walk over a few letters takes several channels.
AT_A_TIME = 3


class MemoryWorld:
    def __init__(self) -> None:
        self.queue = MemoryQueue()
        self.letters: DeadLetters = MemoryDeadLetters(self.queue, PATIENCE_SECONDS)

    def of_another(self) -> DeadLetters:
        return self.letters

    async def close(self) -> None:
        """Nothing to close."""


class RabbitMqWorld:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.queue = RabbitMqQueue(broker.url, 10)
        self.letters: DeadLetters = self.of_another()

    def of_another(self) -> DeadLetters:
        return RabbitMqDeadLetters(self.broker.url, PATIENCE_SECONDS, AT_A_TIME)

    async def close(self) -> None:
        await self.queue.close()


World = MemoryWorld | RabbitMqWorld


@pytest.fixture
async def rabbitmq(rabbitmq_url: str) -> AsyncIterator[RabbitMqWorld]:
    async with open_broker(rabbitmq_url) as broker:
        world = RabbitMqWorld(broker)
        yield world
        await world.close()


@pytest.fixture(params=["memory", "rabbitmq"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    rabbitmq: RabbitMqWorld = request.getfixturevalue("rabbitmq")
    return rabbitmq


async def bury(world: World, count: int = 1) -> list[UUID]:
    images = [failed_image() for _ in range(count)]
    for image in images:
        await world.queue.publish_dead(image)
    return [image.id for image in images]


async def seen(world: World) -> list[UUID | None]:
    async with aclosing(world.letters.walk()) as walk:
        return [held.letter.image_id async for held in walk]


async def first(walk: AsyncGenerator[HeldLetter, None]) -> HeldLetter:
    async with asyncio.timeout(10):
        return await anext(walk)


async def test_without_dead_letters_there_is_none(world: World) -> None:
    assert await seen(world) == []


async def test_each_is_seen_once_in_order_again_and_again(world: World) -> None:
    ids = await bury(world, 8)

    for _ in range(3):
        assert await seen(world) == ids


async def test_what_was_removed_is_gone_and_the_others_are_where_they_were(world: World) -> None:
    # given
    ids = await bury(world, 8)
    # when
    async with aclosing(world.letters.walk()) as walk:
        async for held in walk:
            if held.letter.image_id in (ids[0], ids[3], ids[4], ids[7]):
                await held.remove()
    # then
    assert await seen(world) == [ids[1], ids[2], ids[5], ids[6]]
    # and later ones are behind them
    later = await bury(world)
    assert await seen(world) == [ids[1], ids[2], ids[5], ids[6], *later]


async def test_all_of_them_can_be_removed(world: World) -> None:
    await bury(world, 8)

    async with aclosing(world.letters.walk()) as walk:
        async for held in walk:
            await held.remove()

    assert await seen(world) == []


@pytest.mark.parametrize("count", [1, 4, 8])
async def test_a_walk_that_is_left_early_changes_nothing_else(world: World, count: int) -> None:
    # given
    ids = await bury(world, 8)
    # when
    async with aclosing(world.letters.walk()) as walk:
        for number in range(count):
            held = await first(walk)
            if number == 0:
                await held.remove()
    # then
    assert await seen(world) == ids[1:]


async def test_a_walk_that_is_cancelled_loses_nothing(world: World) -> None:
    # given
    ids = await bury(world, 5)
    in_the_middle = asyncio.Event()

    async def look() -> None:
        async with aclosing(world.letters.walk()) as walk:
            await first(walk)
            await (await first(walk)).remove()
            in_the_middle.set()
            await asyncio.Event().wait()

    looking = asyncio.create_task(look())
    await in_the_middle.wait()
    # when
    looking.cancel()
    await asyncio.wait([looking])
    # then
    assert looking.cancelled()
    assert await seen(world) == [ids[0], *ids[2:]]


async def test_what_comes_while_it_goes_on_is_for_the_next_one(world: World) -> None:
    # given
    ids = await bury(world, 2)
    walked: list[UUID | None] = []
    later: list[UUID] = []
    # when each that is removed comes back as another, as where redriven images fail again
    async with aclosing(world.letters.walk()) as walk:
        async for held in walk:
            walked.append(held.letter.image_id)
            await held.remove()
            later += await bury(world)
    # then
    assert walked == ids
    assert await seen(world) == later


async def test_of_two_walks_one_waits_for_the_other(world: World) -> None:
    # given
    ids = await bury(world, 4)
    async with aclosing(world.letters.walk()) as walk:
        await (await first(walk)).remove()
        # when
        other = asyncio.create_task(_all_of(world.of_another()))
        await asyncio.wait([other], timeout=0.3)
        assert not other.done()
    # then
    assert await other == ids[1:]


async def test_it_does_not_wait_for_ever(world: World) -> None:
    await bury(world, 2)
    async with aclosing(world.letters.walk()) as walk:
        await first(walk)

        with pytest.raises(Unavailable) as caught:
            async with asyncio.timeout(10):
                await _all_of(world.of_another())

    assert caught.value.reason == "somebody else is looking through the dead letters"
    assert len(await seen(world)) == 2


async def _all_of(letters: DeadLetters) -> list[UUID | None]:
    async with aclosing(letters.walk()) as walk:
        return [held.letter.image_id async for held in walk]


async def _letter(world: World) -> DeadLetter:
    async with aclosing(world.letters.walk()) as walk:
        return (await first(walk)).letter


async def test_the_letter_of_a_failed_image_says_all_that_is_known(world: World) -> None:
    # given
    image: Image = failed_image()
    await world.queue.publish_dead(image)
    # when
    letter = await _letter(world)
    # then
    assert (letter.image_id, letter.request_id, letter.reason) == (image.id, image.request_id, FailureCode.MEMORY_LIMIT)
    assert (letter.detail, letter.attempts, letter.died_at) == ("Too big – sorry.", 3, image.updated_at)
    assert (letter.first_error, letter.last_error) == (image.first_error, image.last_error)
    assert letter.headers["x-failure-code"] == "memory-limit"


async def test_a_message_that_was_rejected_says_when_and_why(rabbitmq: RabbitMqWorld) -> None:
    # given
    job = Job(image_id=uuid4(), request_id="request-7")
    await rabbitmq.queue.publish(job, Priority.LOW)
    before = datetime.now(UTC)
    async with aclosing(rabbitmq.queue.deliveries(1)) as deliveries:
        await (await anext(deliveries)).reject()

    async def dead() -> list[DeadLetter]:
        async with aclosing(rabbitmq.letters.walk()) as walk:
            return [held.letter async for held in walk]

    # when
    [letter] = await eventually(dead, "the dead letter")
    # then
    assert (letter.image_id, letter.request_id, letter.reason) == (job.image_id, "request-7", "rejected")
    assert letter.died_at is not None
    # the broker's times are in whole seconds
    assert abs((letter.died_at - before).total_seconds()) < 5
    assert letter.headers["x-death"][0]["queue"] == "images.low"


async def test_a_connection_that_breaks_is_an_outage_and_loses_nothing(rabbitmq: RabbitMqWorld) -> None:
    # given
    ids = await bury(rabbitmq, 5)
    async with aclosing(rabbitmq.letters.walk()) as walk:
        held = await first(walk)

        async def close_it() -> bool:
            names = await rabbitmq.broker.connections("operator")
            for name in names:
                await rabbitmq.broker.close_connection(name)
            return bool(names)

        # when
        await eventually(close_it, "the connection to be seen and closed")
        # then
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable):
                _ = [held async for held in walk]
        with pytest.raises(Unavailable):
            await held.remove()
    assert sorted(await seen(rabbitmq), key=str) == sorted(ids)


async def test_without_a_broker_it_is_an_outage() -> None:
    with pytest.raises(Unavailable):
        await _all_of(RabbitMqDeadLetters("amqp://guest:guest@127.0.0.1:1/", PATIENCE_SECONDS))
