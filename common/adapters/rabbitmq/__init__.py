"""The job queue on RabbitMQ: what is sent and received here, and on which of the two connections.

One connection publishes and another consumes, because a broker that runs low on memory stops reading from those that publish: acks
must not wait behind a message it does not take. Nothing connects before its first use.
"""

from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from aio_pika import DeliveryMode, Message
from uuid6 import uuid7

from common.adapters.rabbitmq.consuming import Consumer
from common.adapters.rabbitmq.dead_letters import RabbitMqDeadLetters
from common.adapters.rabbitmq.link import broker_at
from common.adapters.rabbitmq.publishing import Publisher
from common.adapters.rabbitmq.topology import DEAD_LETTERS, DEAD_QUEUE, JOBS, queue_name
from common.images import Image, Priority
from common.messages import Job, dead_letter_headers, encode, job_headers
from common.ports import Delivery

MESSAGE_TYPE = "process-image"

__all__ = ["RabbitMqDeadLetters", "RabbitMqQueue"]


class RabbitMqQueue:
    """A JobQueue and a JobSource. `url`: amqp:// or amqps://."""

    def __init__(self, url: str, time_limit_seconds: float, ca_file: Path | None = None, *, declares: bool = True) -> None:
        """Raises WrongConfiguration where `url` is none."""
        broker = broker_at(url, ca_file, declares=declares)
        self._publisher = Publisher(broker, time_limit_seconds)
        self._consumer = Consumer(broker, time_limit_seconds, self._send_again)

    async def publish(self, job: Job, priority: Priority) -> None:
        await self._publisher.publish(JOBS, priority, _message(job, job_headers(job, datetime.now(UTC))))

    async def publish_dead(self, image: Image) -> None:
        """A message that was rejected by hand carries the broker's own `x-death` instead of these headers."""
        job = Job(image_id=image.id, request_id=image.request_id)
        await self._publisher.publish(DEAD_LETTERS, "", _message(job, dead_letter_headers(image)))

    async def depths(self) -> dict[str, int]:
        queues = {str(priority): queue_name(priority) for priority in Priority} | {"dead": DEAD_QUEUE}
        counts = await self._publisher.depths(list(queues.values()))
        return dict(zip(queues, counts, strict=True))

    async def check(self) -> None:
        await self._publisher.check()

    @property
    def is_receiving(self) -> bool:
        return self._consumer.is_receiving

    def deliveries(self, capacity: int) -> AsyncGenerator[Delivery, None]:
        """Raises WrongConfiguration where a queue of the broker is not as this program declares it."""
        return self._consumer.deliveries(capacity)

    async def _send_again(self, message: Message, priority: Priority) -> None:
        await self._publisher.publish(JOBS, priority, message)

    async def close(self) -> None:
        """For after the last delivery was settled."""
        await self._publisher.close()
        await self._consumer.close()


def _message(job: Job, headers: Mapping[str, str | int]) -> Message:
    return Message(
        encode(job),
        headers=dict(headers),
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=str(uuid7()),
        correlation_id=job.request_id,
        timestamp=datetime.now(UTC),
        type=MESSAGE_TYPE,
    )
