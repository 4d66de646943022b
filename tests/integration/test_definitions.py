"""`rabbitmq/definitions.json` is what the program declares; with it, an account that may declare nothing can do everything."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from common.adapters.rabbitmq import RabbitMqDeadLetters, RabbitMqQueue
from common.adapters.rabbitmq.topology import DEAD_TURN
from common.errors import Unavailable, WrongConfiguration
from common.images import Priority
from common.messages import Job, decode
from tests.broker import Broker, open_broker
from tests.builders import failed_image

DEFINITIONS = json.loads((Path(__file__).parents[2] / "rabbitmq" / "definitions.json").read_text())
# What an operator would write for an account that may declare nothing.
PERMISSIONS = {"configure": "^$", "write": r"^images(\..*)?$", "read": r"^images(\..*)?$"}


@pytest.fixture
async def broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    async with open_broker(rabbitmq_url) as broker:
        yield broker


@pytest.fixture
async def imported(broker: Broker) -> Broker:
    await broker.ask("POST", "definitions/{}", json=DEFINITIONS)
    return broker


@pytest.fixture
async def restricted(broker: Broker) -> AsyncIterator[str]:
    """→ the URL of an account of its own."""
    user = f"test-{uuid4()}"
    await broker.ask("PUT", f"users/{user}", json={"password": "password", "tags": ""})
    await broker.ask("PUT", f"permissions/{{}}/{user}", json=PERMISSIONS)
    parts = urlsplit(broker.url)
    yield parts._replace(netloc=f"{user}:password@{parts.hostname}:{parts.port or 5672}").geturl()
    await broker.ask("DELETE", f"users/{user}")


@pytest.fixture
async def queue(restricted: str) -> AsyncIterator[RabbitMqQueue]:
    queue = RabbitMqQueue(restricted, 10, declares=False)
    yield queue
    await queue.close()


def letters(url: str) -> RabbitMqDeadLetters:
    return RabbitMqDeadLetters(url, 2, declares=False)


def named(entries: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Without what an export adds, in an order."""
    return sorted(({key: entry[key] for key in keys} for entry in entries), key=str)


async def test_the_file_is_what_the_program_declares(broker: Broker) -> None:
    # given what the program has declared, and what a walker needs where it may not
    queue = RabbitMqQueue(broker.url, 10)
    await queue.check()
    await queue.close()
    await broker.ask("PUT", f"queues/{{}}/{DEAD_TURN}", json={"durable": True, "arguments": {"x-queue-type": "classic"}})

    # when
    declared = await broker.ask("GET", "definitions/{}")

    # then
    for what, keys in (
        ("exchanges", ("name", "type", "durable", "auto_delete", "internal", "arguments")),
        ("queues", ("name", "durable", "auto_delete", "arguments")),
        ("bindings", ("source", "destination", "destination_type", "routing_key", "arguments")),
    ):
        assert named(DEFINITIONS[what], *keys) == named(declared[what], *keys)


async def test_a_program_that_declares_finds_what_was_imported_as_it_must_be(imported: Broker) -> None:
    queue = RabbitMqQueue(imported.url, 10)

    await queue.check()

    await queue.close()


async def test_an_account_that_may_declare_nothing_sends_receives_defers_and_counts(imported: Broker, queue: RabbitMqQueue) -> None:
    job = Job(image_id=uuid4(), request_id="request-1")

    await queue.check()
    await queue.publish(job, Priority.LOW)
    assert (await queue.depths())["low"] == 1
    async with asyncio.timeout(20), aclosing(queue.deliveries(1)) as deliveries:
        await (await anext(deliveries)).defer()
        again = await anext(deliveries)
        assert decode(again.body, again.request_id) == job
        await again.reject()

    assert len(await imported.read("images.dead")) == 1


async def test_dead_letters_are_looked_at_by_one_at_a_time_and_removed(
    imported: Broker, queue: RabbitMqQueue, restricted: str
) -> None:
    # given
    images = [failed_image() for _ in range(3)]
    for image in images:
        await queue.publish_dead(image)

    # when
    async with aclosing(letters(restricted).walk()) as walk:
        first = await anext(walk)
        await first.remove()
        # then another one waits, and gives up
        with pytest.raises(Unavailable) as refused:
            async with aclosing(letters(restricted).walk()) as other:
                await anext(other)
    assert "somebody else" in refused.value.reason

    # and then has its turn
    async with aclosing(letters(restricted).walk()) as walk:
        assert [held.letter.image_id async for held in walk] == [image.id for image in images[1:]]


@pytest.mark.parametrize(
    "missing", ["exchanges/{}/images", "exchanges/{}/images.dlx", "queues/{}/images.low", "queues/{}/images.dead"]
)
async def test_what_is_missing_is_named_and_stops_a_worker(imported: Broker, queue: RabbitMqQueue, missing: str) -> None:
    # given
    await imported.ask("DELETE", missing)

    # when
    with pytest.raises(WrongConfiguration) as caught:
        async with asyncio.timeout(20), aclosing(queue.deliveries(1)) as deliveries:
            await anext(deliveries)
    with pytest.raises(WrongConfiguration):
        await queue.check()

    # then
    assert caught.value.variable == "RABBITMQ_DECLARE"
    assert f"{missing.rpartition('/')[2]} is not there" in caught.value.detail
    assert "import rabbitmq/definitions.json" in caught.value.detail


async def test_a_walk_says_what_it_misses(imported: Broker, restricted: str) -> None:
    await imported.ask("DELETE", f"queues/{{}}/{DEAD_TURN}")

    with pytest.raises(WrongConfiguration, match=DEAD_TURN):
        async with aclosing(letters(restricted).walk()) as walk:
            await anext(walk)


async def test_an_account_that_may_not_declare_and_tries_is_told_of_the_setting(imported: Broker, restricted: str) -> None:
    queue = RabbitMqQueue(restricted, 10)

    with pytest.raises(WrongConfiguration) as caught:
        await queue.check()

    await queue.close()
    assert "this account may not declare" in caught.value.detail
    assert "RABBITMQ_DECLARE=false" in caught.value.detail
    assert "\n" not in caught.value.detail
