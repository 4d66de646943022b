"""The exchanges and queues, and how they are declared. The same on RabbitMQ 3.10 and 4.x.

    images (direct) ── high, normal, low ──▶ images.high, images.normal, images.low
    images.dlx (fanout) ── whatever the routing key ──▶ images.dead

Declaring is idempotent. Does not change what is there already: a queue with other arguments is a WrongConfiguration. Where clients
are not to declare, an operator imports `rabbitmq/definitions.json`, which says the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aio_pika import Connection, ExchangeType
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from common.errors import WrongConfiguration
from common.images import Priority

JOBS = "images"
DEAD_LETTERS = "images.dlx"
DEAD_QUEUE = "images.dead"
# Of whoever walks over the dead letters, for as long as the connection lasts.
DEAD_WALK = "images.dead.walk"
# The same where nothing may be declared: one consumer at a time has this one, which nobody sends anything to.
DEAD_TURN = "images.dead.turn"

# The row's attempts are the real limit of a picture. This one is the net below it, and wide: before RabbitMQ 4.3 a message that was
# handed back counts as well, and an outage of the database makes every worker hand back about once a second.
DELIVERY_LIMIT = 1_000
# Looking at a dead letter in the console is a delivery too. RabbitMQ 4 would drop it after 20 where nothing is said, and 3.10 does
# not know -1 for "no limit".
DEAD_DELIVERY_LIMIT = 1_000_000

QUEUE_ARGUMENTS: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-dead-letter-exchange": DEAD_LETTERS,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",  # without it the broker silently falls back to at-most-once
}
DEAD_QUEUE_ARGUMENTS: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": DEAD_DELIVERY_LIMIT}


def queue_name(priority: Priority) -> str:
    return f"{JOBS}.{priority}"


async def declare(connection: Connection) -> None:
    """On a channel of its own, since a mismatch closes the channel. The dead letters' end first, so that none is ever homeless."""
    async with connection.channel() as channel:
        with _matching("exchange", DEAD_LETTERS):
            dead_letters = await channel.declare_exchange(DEAD_LETTERS, ExchangeType.FANOUT, durable=True)
        with _matching("queue", DEAD_QUEUE):
            dead_queue = await channel.declare_queue(DEAD_QUEUE, durable=True, arguments=DEAD_QUEUE_ARGUMENTS)
        await dead_queue.bind(dead_letters, "")
        with _matching("exchange", JOBS):
            jobs = await channel.declare_exchange(JOBS, ExchangeType.DIRECT, durable=True)
        for priority in Priority:
            with _matching("queue", queue_name(priority)):
                queue = await channel.declare_queue(queue_name(priority), durable=True, arguments=QUEUE_ARGUMENTS)
            await queue.bind(jobs, priority)


async def require(connection: Connection) -> None:
    """For an account that may not declare: what it needs is there. Arguments and bindings cannot be asked for."""
    async with connection.channel() as channel:
        for exchange in (DEAD_LETTERS, JOBS):
            with imported("exchange", exchange):
                await channel.get_exchange(exchange)
        for queue in (DEAD_QUEUE, *map(queue_name, Priority)):
            with imported("queue", queue):
                await channel.get_queue(queue)


@contextmanager
def imported(kind: str, name: str) -> Iterator[None]:
    try:
        yield
    except ChannelNotFoundEntity:
        raise WrongConfiguration(
            "RABBITMQ_DECLARE", f"the {kind} {name} is not there, and is not to be declared: import rabbitmq/definitions.json"
        ) from None


@contextmanager
def _matching(kind: str, name: str) -> Iterator[None]:
    try:
        yield
    except ChannelPreconditionFailed as error:
        raise WrongConfiguration(
            "RABBITMQ_URL",
            f"the {kind} {name} is already there and is not as this program declares it: {error}. "
            "Delete it, or import definitions that agree",
        ) from None
    except ChannelAccessRefused as error:
        raise WrongConfiguration(
            "RABBITMQ_URL",
            f"this account may not declare the {kind} {name}: {error}. "
            "See image-processor accounts; or import rabbitmq/definitions.json, and set RABBITMQ_DECLARE=false",
        ) from None
