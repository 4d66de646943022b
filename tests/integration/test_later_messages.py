"""Messages that only a later program can read, on the real broker: they go round unharmed, and not for ever."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aio_pika
import pytest

from common.adapters.rabbitmq import RabbitMqQueue
from common.adapters.rabbitmq.consuming import DEFERRED
from common.adapters.rabbitmq.topology import DELIVERY_LIMIT
from tests.broker import Broker, open_broker
from tests.polling import eventually

BODY = b'{"v": 2, "picture": "of a later version"}'


@pytest.fixture
async def broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    async with open_broker(rabbitmq_url) as broker:
        yield broker


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[RabbitMqQueue]:
    queue = RabbitMqQueue(broker.url, 10)
    await queue.check()
    yield queue
    await queue.close()


async def send(broker: Broker, **headers: Any) -> None:
    async with await aio_pika.connect(broker.url) as connection, connection.channel() as channel:
        message = aio_pika.Message(
            BODY,
            headers={"traceparent": "00-1-2-01", **headers},
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id="message-1",
            correlation_id="request-1",
            type="process-image",
        )
        await (await channel.get_exchange("images")).publish(message, "low")


async def test_all_that_was_sent_with_it_stays_with_it(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    await send(broker)
    # when
    async with aclosing(queue.deliveries(1)) as deliveries:
        await (await anext(deliveries)).defer()
    # then
    [message] = await broker.read("images.low")
    assert message["payload"].encode() == BODY
    properties = message["properties"]
    assert properties["headers"].items() >= {"traceparent": "00-1-2-01", DEFERRED: 1}.items()
    assert (properties["message_id"], properties["correlation_id"], properties["type"]) == (
        "message-1",
        "request-1",
        "process-image",
    )
    assert (properties["content_type"], properties["delivery_mode"]) == ("application/json", 2)


async def test_one_that_cannot_be_sent_again_is_handed_back(broker: Broker, queue: RabbitMqQueue) -> None:
    # given a broker that takes nothing for that queue any more
    await send(broker)
    async with aclosing(queue.deliveries(1)) as deliveries:
        delivery = await anext(deliveries)
        await broker.ask("DELETE", "bindings/{}/e/images/q/images.low/low")
        # when
        await delivery.defer()
    # then
    [message] = await broker.read("images.low")
    assert DEFERRED not in message["properties"]["headers"]


@pytest.mark.parametrize("rounds", [DELIVERY_LIMIT, DELIVERY_LIMIT + 7])
async def test_one_that_nobody_can_read_ends_with_the_dead_letters(broker: Broker, queue: RabbitMqQueue, rounds: int) -> None:
    # given
    await send(broker, **{DEFERRED: rounds})
    # when
    async with aclosing(queue.deliveries(1)) as deliveries:
        await (await anext(deliveries)).defer()

    # then
    async def dead() -> list[dict[str, Any]]:
        return await broker.read("images.dead")

    [message] = await eventually(dead, "the dead letter")
    assert message["payload"].encode() == BODY
    assert await broker.read("images.low") == []


async def test_a_count_that_is_none_begins_anew(broker: Broker, queue: RabbitMqQueue) -> None:
    await send(broker, **{DEFERRED: "many"})

    async with aclosing(queue.deliveries(1)) as deliveries:
        await (await anext(deliveries)).defer()

    [message] = await broker.read("images.low")
    assert message["properties"]["headers"][DEFERRED] == 1
