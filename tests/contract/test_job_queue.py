"""The promises of JobQueue and JobSource, which go together: what one sends, the other receives."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import pytest

from common.adapters.memory import MemoryQueue
from common.adapters.priorities import PATIENCE
from common.adapters.rabbitmq import RabbitMqQueue
from common.images import Priority
from common.messages import Job, decode
from common.ports import Delivery, JobQueue, JobSource
from tests.broker import Broker, open_broker
from tests.builders import failed_image
from tests.polling import eventually


class Queue(JobQueue, JobSource, Protocol): ...


class Dead(NamedTuple):
    job: Job
    headers: dict[str, Any]


class MemoryWorld:
    def __init__(self) -> None:
        self._adapter = MemoryQueue()
        self.queue: Queue = self._adapter

    async def reopen(self) -> None:
        """There is no connection that could end."""

    async def handed_over(self) -> None:
        """There is no way between."""

    async def dead_letters(self) -> list[Dead]:
        return [Dead(decode(letter.body, letter.request_id), letter.headers) for letter in self._adapter.dead_letters]

    async def close(self) -> None:
        """Nothing to close."""


class RabbitMqWorld:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._adapter = RabbitMqQueue(broker.url, 10)
        self.queue: Queue = self._adapter

    async def reopen(self) -> None:
        """Ends the connections and begins anew."""
        await self._adapter.close()
        self.queue = self._adapter = RabbitMqQueue(self._broker.url, 10)

    async def handed_over(self) -> None:
        """Until all that was sent is with the consumer."""

        async def condition() -> bool:
            return await self._broker.is_ready_empty("images.high", "images.normal", "images.low")

        await eventually(condition, "all messages to be delivered")

    async def dead_letters(self) -> list[Dead]:
        return [
            Dead(decode(message["payload"].encode(), message["properties"]["correlation_id"]), message["properties"]["headers"])
            for message in await self._broker.read("images.dead")
        ]

    async def close(self) -> None:
        await self._adapter.close()


World = MemoryWorld | RabbitMqWorld


@pytest.fixture(params=["memory", "rabbitmq"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    async with open_broker(request.getfixturevalue("rabbitmq_url")) as broker:
        rabbitmq = RabbitMqWorld(broker)
        yield rabbitmq
        await rabbitmq.close()


def a_job() -> Job:
    return Job(image_id=uuid4(), request_id=f"request-{uuid4()}")


def job_of(delivery: Delivery) -> Job:
    return decode(delivery.body, delivery.request_id)


async def take(deliveries: AsyncGenerator[Delivery, None]) -> Delivery:
    async with asyncio.timeout(20):
        return await anext(deliveries)


async def send(queue: Queue, priority: Priority = Priority.NORMAL, count: int = 1) -> list[Job]:
    jobs = [a_job() for _ in range(count)]
    for job in jobs:
        await queue.publish(job, priority)
    return jobs


@pytest.mark.parametrize("priority", Priority)
async def test_a_job_arrives_as_it_was_sent(world: World, priority: Priority) -> None:
    # given
    [job] = await send(world.queue, priority)
    # when
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        delivery = await take(deliveries)
        # then
        assert job_of(delivery) == job
        assert delivery.priority is priority
        await delivery.ack()


@pytest.mark.parametrize("traceparent", [None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])
async def test_a_delivery_tells_when_and_in_which_span_it_was_sent(world: World, traceparent: str | None) -> None:
    # given
    before = datetime.now(UTC)
    await world.queue.publish(replace(a_job(), traceparent=traceparent), Priority.NORMAL)
    after = datetime.now(UTC)
    # when
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        delivery = await take(deliveries)
        # then
        assert delivery.traceparent == traceparent
        assert delivery.sent_at is not None
        assert before <= delivery.sent_at <= after
        await delivery.ack()


async def test_a_job_sent_while_the_consumer_waits_arrives(world: World) -> None:
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        # given
        waiting = asyncio.create_task(take(deliveries))
        # when
        [job] = await send(world.queue)
        # then
        delivery = await waiting
        assert job_of(delivery) == job
        await delivery.ack()


async def test_what_was_acked_is_gone(world: World) -> None:
    # given
    await send(world.queue)
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        await (await take(deliveries)).ack()
    # when
    await world.reopen()
    [later] = await send(world.queue)
    # then
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        delivery = await take(deliveries)
        assert job_of(delivery) == later
        await delivery.ack()


async def test_what_was_handed_back_comes_again(world: World) -> None:
    # given
    [job] = await send(world.queue)
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        # when
        await (await take(deliveries)).hand_back()
        # then
        again = await take(deliveries)
        assert job_of(again) == job
        assert again.priority is Priority.NORMAL
        await again.ack()


@pytest.mark.parametrize("priority", Priority)
async def test_what_was_deferred_comes_after_what_waits_in_its_line_as_it_was_sent(world: World, priority: Priority) -> None:
    # given as many as a consumer may hold, which all go round
    first, second, third = await send(world.queue, priority, 3)
    async with aclosing(world.queue.deliveries(2)) as deliveries:
        for _ in range(2):
            await (await take(deliveries)).defer()
        # then
        taken = [await take(deliveries)]
        assert job_of(taken[0]) == third
        await taken[0].ack()
        taken = [await take(deliveries), await take(deliveries)]
        assert [job_of(delivery) for delivery in taken] == [first, second]
        assert {delivery.priority for delivery in taken} == {priority}
        for delivery in taken:
            await delivery.ack()
    assert await world.dead_letters() == []


@pytest.mark.parametrize("priority", Priority)
async def test_what_was_rejected_is_with_the_dead_letters_and_does_not_come_again(world: World, priority: Priority) -> None:
    # given
    [unreadable] = await send(world.queue, priority)
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        # when
        await (await take(deliveries)).reject()
        # then
        [later] = await send(world.queue, priority)
        delivery = await take(deliveries)
        assert job_of(delivery) == later
        await delivery.ack()
    [dead] = await eventually(world.dead_letters, "the dead letter")
    assert dead.job == unreadable
    assert "x-failure-code" not in dead.headers


async def test_the_dead_letter_of_a_failed_image_says_why(world: World) -> None:
    # given
    image = failed_image()
    # when
    await world.queue.publish_dead(image)
    # then
    [dead] = await world.dead_letters()
    assert dead.job == Job(image_id=image.id, request_id=image.request_id)
    assert (
        dead.headers.items()
        >= {
            "x-failure-code": "memory-limit",
            "x-failure-detail": "Too big – sorry.",
            "x-attempts": 3,
            "x-failed-at": image.updated_at.isoformat(),
            "x-first-error": "The object store was away.",
            "x-first-error-at": "2026-01-02T03:04:05+00:00",
            "x-last-error": "Too big – sorry.",
            "x-last-error-at": "2026-01-02T03:05:05+00:00",
        }.items()
    )


async def test_the_dead_letter_of_an_image_that_failed_at_once_names_no_error_before(world: World) -> None:
    await world.queue.publish_dead(failed_image(first_error=None, last_error=None))

    [dead] = await world.dead_letters()
    assert dead.headers["x-failure-code"] == "memory-limit"
    assert not [name for name in dead.headers if "error" in name]


async def test_the_depths_are_of_what_waits(world: World) -> None:
    await send(world.queue, Priority.HIGH, 3)
    await send(world.queue, Priority.LOW, 1)
    await world.queue.publish_dead(failed_image())

    async def is_told() -> bool:
        return await world.queue.depths() == {"high": 3, "normal": 0, "low": 1, "dead": 1}

    await eventually(is_told, "what waits to be told")

    # what a worker has in hand does not wait
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        delivery = await take(deliveries)

        async def is_told_without() -> bool:
            return (await world.queue.depths())["high"] == 2

        await eventually(is_told_without, "the rest to be told")
        await delivery.ack()


async def test_no_more_than_the_capacity_is_unsettled(world: World) -> None:
    # given
    first, second, third = await send(world.queue, Priority.NORMAL, 3)
    async with aclosing(world.queue.deliveries(2)) as deliveries:
        held = [await take(deliveries), await take(deliveries)]
        assert [job_of(delivery) for delivery in held] == [first, second]
        # when
        [urgent] = await send(world.queue, Priority.HIGH)
        # then: there is room for another priority, and the third of this one comes only now
        high = await take(deliveries)
        assert job_of(high) == urgent
        waiting = asyncio.create_task(take(deliveries))
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
        await held[0].ack()
        last = await waiting
        assert job_of(last) == third
        for delivery in (held[1], high, last):
            await delivery.ack()


async def test_a_backlog_is_taken_high_first_then_normal_then_low(world: World) -> None:
    async with aclosing(world.queue.deliveries(10)) as deliveries:
        # given: a consumer that is busy while the backlog grows
        await send(world.queue)
        busy = await take(deliveries)
        low = await send(world.queue, Priority.LOW, 2)
        normal = await send(world.queue, Priority.NORMAL, 2)
        high = await send(world.queue, Priority.HIGH, 2)
        await world.handed_over()
        # when
        taken = [await take(deliveries) for _ in range(6)]
        # then
        assert [job_of(delivery) for delivery in taken] == [*high, *normal, *low]
        for delivery in (busy, *taken):
            await delivery.ack()


async def test_low_is_not_starved(world: World) -> None:
    async with aclosing(world.queue.deliveries(100)) as deliveries:
        # given
        await send(world.queue, Priority.HIGH)
        busy = await take(deliveries)
        [low] = await send(world.queue, Priority.LOW)
        await send(world.queue, Priority.HIGH, 3 * PATIENCE)
        await world.handed_over()
        # when
        taken = [await take(deliveries) for _ in range(PATIENCE + 1)]
        # then
        assert low in [job_of(delivery) for delivery in taken]
        for delivery in (busy, *taken):
            await delivery.ack()


async def test_closing_hands_back_what_was_not_yielded_and_leaves_the_rest_to_be_settled(world: World) -> None:
    # given
    first, second, third = await send(world.queue, Priority.NORMAL, 3)
    async with aclosing(world.queue.deliveries(3)) as deliveries:
        held = await take(deliveries)
        assert job_of(held) == first
        await world.handed_over()
    # when: another takes over
    async with aclosing(world.queue.deliveries(3)) as deliveries:
        others = [await take(deliveries), await take(deliveries)]
        # then
        assert {job_of(delivery).image_id for delivery in others} == {second.image_id, third.image_id}
        for delivery in (held, *others):
            await delivery.ack()
    await world.reopen()
    [later] = await send(world.queue)
    async with aclosing(world.queue.deliveries(3)) as deliveries:
        delivery = await take(deliveries)
        assert job_of(delivery) == later
        await delivery.ack()


async def test_a_consumer_that_is_cancelled_while_it_waits_loses_nothing(world: World) -> None:
    # given
    await send(world.queue)
    done_one = asyncio.Event()

    async def consume() -> None:
        async with aclosing(world.queue.deliveries(1)) as deliveries:
            async for delivery in deliveries:
                await delivery.ack()
                done_one.set()

    consuming = asyncio.create_task(consume())
    await done_one.wait()
    # when
    consuming.cancel()
    await asyncio.wait([consuming])
    # then
    assert consuming.cancelled()
    [job] = await send(world.queue)
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        delivery = await take(deliveries)
        assert job_of(delivery) == job
        await delivery.ack()


async def test_closing_again_and_again_under_load_loses_nothing(world: World) -> None:
    # given
    jobs = await send(world.queue, Priority.NORMAL, 100)
    arrived: list[Job] = []
    # when
    for _ in range(20):
        async with aclosing(world.queue.deliveries(20)) as deliveries:
            delivery = await take(deliveries)
            arrived.append(job_of(delivery))
            await delivery.ack()
    # then
    async with aclosing(world.queue.deliveries(20)) as deliveries:
        while len(arrived) < len(jobs):
            delivery = await take(deliveries)
            arrived.append(job_of(delivery))
            await delivery.ack()
    assert sorted(job.image_id for job in arrived) == sorted(job.image_id for job in jobs)


async def test_of_two_consumers_each_job_goes_to_one(world: World) -> None:
    # given
    jobs = await send(world.queue, Priority.NORMAL, 20)
    taken: list[Job] = []
    enough = asyncio.Event()

    async def consume() -> None:
        async with aclosing(world.queue.deliveries(1)) as deliveries:
            async for delivery in deliveries:
                taken.append(job_of(delivery))
                await delivery.ack()
                if len(taken) >= len(jobs):
                    enough.set()

    # when
    consumers = [asyncio.create_task(consume()) for _ in range(2)]
    try:
        async with asyncio.timeout(20):
            await enough.wait()
    finally:
        for consumer in consumers:
            consumer.cancel()
        await asyncio.wait(consumers)
    # then
    assert sorted(job.image_id for job in taken) == sorted(job.image_id for job in jobs)


async def test_many_tasks_send_at_once(world: World) -> None:
    # when
    jobs = [a_job() for _ in range(300)]
    await asyncio.gather(*(world.queue.publish(job, Priority.LOW) for job in jobs))
    # then
    arrived: set[Job] = set()
    async with aclosing(world.queue.deliveries(50)) as deliveries:
        while len(arrived) < len(jobs):
            delivery = await take(deliveries)
            arrived.add(job_of(delivery))
            await delivery.ack()
    assert arrived == set(jobs)


async def test_whether_deliveries_can_arrive(world: World) -> None:
    # given
    assert not world.queue.is_receiving
    await send(world.queue)
    # when
    async with aclosing(world.queue.deliveries(1)) as deliveries:
        delivery = await take(deliveries)
        # then

        async def is_receiving() -> bool:
            return world.queue.is_receiving

        await eventually(is_receiving, "every priority to be received")
        await delivery.ack()
    assert not world.queue.is_receiving


async def test_check_is_silent_where_the_queue_answers(world: World) -> None:
    await world.queue.check()
