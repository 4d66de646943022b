"""The number that KEDA scales workers by, asked of a real broker as KEDA asks: what waits and what workers hold, no dead letter."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import aio_pika
import pytest
import yaml

from common.adapters.rabbitmq import RabbitMqQueue
from common.adapters.rabbitmq.topology import DEAD_LETTERS, DEAD_QUEUE, JOBS, queue_name
from common.images import Priority
from tests.broker import Broker, open_broker
from tests.polling import eventually

SCALED_OBJECT = Path(__file__).parents[2] / "k8s" / "components" / "keda" / "scaled-object.yaml"


@pytest.fixture
async def broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    async with open_broker(rabbitmq_url) as broker:
        queue = RabbitMqQueue(broker.url, 10)
        await queue.check()
        await queue.close()
        yield broker


def trigger() -> dict[str, str]:
    scaled = next(each for each in yaml.safe_load_all(SCALED_OBJECT.read_text()) if each["kind"] == "ScaledObject")
    metadata: dict[str, str] = scaled["spec"]["triggers"][0]["metadata"]
    return metadata


async def number(broker: Broker) -> int:
    """KEDA v2's pkg/scalers/rabbitmq_scaler.go with protocol http, useRegex and the operation sum: more than a page is an error."""
    pattern = quote_plus(trigger()["queueName"])
    answer: dict[str, Any] = await broker.ask(
        "GET", f"queues/{{}}?page=1&use_regex=true&pagination=false&name={pattern}&page_size=100"
    )
    assert answer["page_count"] == 1
    return sum(queue.get("messages", 0) for queue in answer["items"])


async def publish(broker: Broker, exchange: str, key: str) -> None:
    message = {"properties": {}, "routing_key": key, "payload": "{}", "payload_encoding": "string"}
    answer = await broker.ask("POST", f"exchanges/{{}}/{exchange}/publish", json=message)
    assert answer["routed"]


async def test_it_goes_up_and_down_with_the_backlog(broker: Broker) -> None:
    # given nothing to do
    await eventually(lambda: _is(broker, 0), "the number to be 0")

    # when pictures of each priority wait, and one has failed for good
    for priority in Priority:
        await publish(broker, JOBS, priority)
    await publish(broker, DEAD_LETTERS, "")

    # then it is those that wait
    await eventually(lambda: _is(broker, len(Priority)), "the number to be that of the messages")

    # and a picture in a worker's hands is still work
    async with await aio_pika.connect(broker.url) as connection, connection.channel() as channel:
        queue = await channel.get_queue(queue_name(Priority.NORMAL))
        message = await queue.get()
        await eventually(lambda: _unacknowledged(broker), "the broker to count the message that is held")
        assert await number(broker) == len(Priority)

        # and one that is done is none
        await message.ack()
        await eventually(lambda: _is(broker, len(Priority) - 1), "the number to go down")
    assert (await broker.ask("GET", f"queues/{{}}/{DEAD_QUEUE}"))["messages"] == 1


async def _is(broker: Broker, expected: int) -> bool:
    return await number(broker) == expected


async def _unacknowledged(broker: Broker) -> bool:
    counted: dict[str, Any] = await broker.ask("GET", f"queues/{{}}/{queue_name(Priority.NORMAL)}")
    return counted.get("messages_unacknowledged") == 1
