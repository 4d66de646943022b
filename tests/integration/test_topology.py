"""What stands on the broker after a first use, as an operator sees it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import pytest

from common.adapters.rabbitmq import RabbitMqQueue
from common.errors import Unavailable, WrongConfiguration
from common.images import Priority
from common.messages import Job
from tests.broker import Broker, open_broker

QUEUES = ("images.high", "images.normal", "images.low")


@pytest.fixture
async def broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    async with open_broker(rabbitmq_url) as broker:
        yield broker


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[RabbitMqQueue]:
    queue = RabbitMqQueue(broker.url, 10)
    yield queue
    await queue.close()


async def test_exchanges_queues_and_bindings_are_there_after_the_first_use(broker: Broker, queue: RabbitMqQueue) -> None:
    # when
    await queue.check()
    # then
    exchanges: dict[str, Any] = {exchange["name"]: exchange for exchange in await broker.ask("GET", "exchanges/{}")}
    assert (exchanges["images"]["type"], exchanges["images"]["durable"]) == ("direct", True)
    assert (exchanges["images.dlx"]["type"], exchanges["images.dlx"]["durable"]) == ("fanout", True)
    bindings = {
        (binding["source"], binding["routing_key"], binding["destination"])
        for binding in await broker.ask("GET", "bindings/{}")
        if binding["source"]
    }
    assert bindings == {
        ("images", "high", "images.high"),
        ("images", "normal", "images.normal"),
        ("images", "low", "images.low"),
        ("images.dlx", "", "images.dead"),
    }


@pytest.mark.parametrize("name", QUEUES)
async def test_a_job_queue_is_a_quorum_queue_that_loses_no_dead_letter(broker: Broker, queue: RabbitMqQueue, name: str) -> None:
    # when
    await queue.check()
    # then
    declared = await broker.ask("GET", f"queues/{{}}/{name}")
    assert declared["durable"] is True
    assert declared["arguments"].pop("x-delivery-limit") >= 20
    assert declared["arguments"] == {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "images.dlx",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


async def test_the_dead_letters_are_kept_in_a_quorum_queue(broker: Broker, queue: RabbitMqQueue) -> None:
    await queue.check()
    declared = await broker.ask("GET", "queues/{}/images.dead")
    assert declared["durable"] is True
    assert declared["arguments"]["x-queue-type"] == "quorum"


async def test_declaring_again_changes_nothing(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    await queue.publish(Job(image_id=uuid4(), request_id="request-1"), Priority.LOW)
    # when
    another = RabbitMqQueue(broker.url, 10)
    await another.check()
    await another.close()
    # then
    assert len(await broker.read("images.low")) == 1


async def test_a_message_is_persistent_and_says_what_it_is(broker: Broker, queue: RabbitMqQueue) -> None:
    # when
    for _ in range(2):
        await queue.publish(Job(image_id=uuid4(), request_id="request-1"), Priority.HIGH)
    # then
    first, second = (message["properties"] for message in await broker.read("images.high"))
    assert first["delivery_mode"] == 2
    assert first["content_type"] == "application/json"
    assert first["correlation_id"] == "request-1"
    assert first["type"] == "process-image"
    assert first["timestamp"] > 0
    assert first["message_id"] != second["message_id"]


async def test_a_queue_of_another_kind_stops_a_worker_with_a_line_that_says_what_to_do(
    broker: Broker, queue: RabbitMqQueue
) -> None:
    # given
    await broker.ask("PUT", "queues/{}/images.normal", json={"durable": True, "arguments": {"x-queue-type": "classic"}})
    # when
    with pytest.raises(WrongConfiguration) as caught:
        async with aclosing(queue.deliveries(1)) as deliveries:
            await anext(deliveries)
    # then
    assert caught.value.variable == "RABBITMQ_URL"
    assert "the queue images.normal is already there" in caught.value.detail
    assert "Delete it" in caught.value.detail
    assert "\n" not in caught.value.detail


async def test_a_queue_of_another_kind_is_an_outage_for_whoever_sends(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    await broker.ask("PUT", "queues/{}/images.normal", json={"durable": True, "arguments": {"x-queue-type": "classic"}})
    # when, then: an upload is accepted all the same
    with pytest.raises(Unavailable) as caught:
        await queue.publish(Job(image_id=uuid4(), request_id="request-1"), Priority.NORMAL)
    assert "images.normal" in caught.value.reason
    # and an operator is told what it is
    with pytest.raises(WrongConfiguration) as said:
        await queue.check()
    assert "the queue images.normal is already there" in said.value.detail


@pytest.mark.parametrize("url", ["amqp://localhost:port/", "amqp://", "amqp:///images"])
def test_an_address_that_is_none_is_a_wrong_configuration(url: str) -> None:
    with pytest.raises(WrongConfiguration) as caught:
        RabbitMqQueue(url, 10)
    assert caught.value.variable == "RABBITMQ_URL"
