"""Receives messages: acknowledged by hand, one consumer for each priority with its own prefetch, handed out by priority.

A consumer that the broker cancels, as when its queue is deleted, and an ack that can't be sent are treated as a lost connection:
the link is closed, the broker gives what was unsettled to others, and everything is declared and consumed anew.

A quorum queue with a delivery limit puts what is handed back at its head, where as many as the prefetch would come back for ever,
and nothing behind them ever would. So what is deferred is sent again, to the tail, and acknowledged once that is confirmed.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from yarl import URL

from common.adapters.priorities import PriorityBuffer
from common.adapters.rabbitmq.link import Link, open_link, translated
from common.adapters.rabbitmq.topology import DELIVERY_LIMIT, queue_name
from common.errors import Unavailable
from common.images import Priority
from common.telemetry import log

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 10.0
# How often a message was deferred already.
DEFERRED = "x-deferred"
# The broker's own, about a delivery: not to be sent again with what was delivered.
OF_DELIVERY = ("x-delivery-count", "x-acquired-count")

Send = Callable[[Message, Priority], Awaitable[None]]


class RabbitMqDelivery:
    def __init__(self, message: AbstractIncomingMessage, priority: Priority, flow: "Flow") -> None:
        self._message = message
        self._priority = priority
        self._flow = flow

    @property
    def body(self) -> bytes:
        return self._message.body

    @property
    def request_id(self) -> str | None:
        return self._message.correlation_id

    @property
    def priority(self) -> Priority:
        return self._priority

    async def ack(self) -> None:
        await self._flow.settle(self._message.ack)

    async def hand_back(self) -> None:
        # nack, not reject: RabbitMQ 4.3 counts only the latter as a failed delivery.
        await self._flow.settle(partial(self._message.nack, requeue=True))

    async def defer(self) -> None:
        rounds = self._message.headers.get(DEFERRED)
        rounds = rounds + 1 if isinstance(rounds, int) else 1
        if rounds > DELIVERY_LIMIT:
            await self.reject()
        elif await self._flow.send_again(_copy(self._message, rounds), self._priority):
            await self.ack()
        else:
            await self.hand_back()

    async def reject(self) -> None:
        await self._flow.settle(partial(self._message.reject, requeue=False))


class Flow:
    """What one link delivers, from `start` to `stop`."""

    def __init__(self, link: Link, capacity: int, time_limit_seconds: float, send: Send) -> None:
        self._link = link
        self._send = send
        self._capacity = capacity
        self._limit = time_limit_seconds
        self._consumers: list[tuple[AbstractQueue, str]] = []
        self._waiting: PriorityBuffer[RabbitMqDelivery] = PriorityBuffer()
        self._changed = asyncio.Event()
        self._stopped = False
        self.lost: str | None = None

    async def start(self) -> None:
        """High first, so that a backlog arrives in that order. Prefetch is per consumer: quorum queues know no other."""
        channel = self._link.channel
        channel.close_callbacks.add(lambda _, error: self._lose(f"the connection was closed: {error!r}"))
        try:
            with translated():
                async with asyncio.timeout(self._limit):
                    cancelled = (await channel.get_underlay_channel()).on_consumer_cancel_callbacks
                    cancelled.add(lambda frame: self._lose(f"the broker cancelled the consumer {frame.consumer_tag}"))
                    await channel.set_qos(prefetch_count=self._capacity)
                    for priority in Priority:
                        queue = await channel.get_queue(queue_name(priority), ensure=False)
                        self._consumers.append((queue, await queue.consume(partial(self._receive, priority))))
        except Unavailable as error:
            self._lose(error.reason)

    async def next(self) -> RabbitMqDelivery | None:
        """Waits without polling; None once the link is lost."""
        while self.lost is None:
            delivery = self._waiting.take()
            if delivery is not None:
                return delivery
            self._changed.clear()
            await self._changed.wait()
        return None

    async def stop(self) -> None:
        """Hands back what waits. What was handed out can still be settled, as long as the link is open."""
        self._stopped = True
        if self.lost is not None:
            return
        try:
            with translated():
                async with asyncio.timeout(self._limit):
                    for queue, tag in self._consumers:
                        await queue.cancel(tag)
        except Unavailable as error:
            self._lose(error.reason)
            await self._link.close()
            return
        for delivery in self._waiting.drain():
            await delivery.hand_back()

    async def settle(self, send: Callable[[], Awaitable[None]]) -> None:
        """Raises nothing: what could not be settled is delivered again by the broker."""
        try:
            with translated():
                async with asyncio.timeout(self._limit):
                    await send()
        except Unavailable as error:
            log.debug("delivery not settled", reason=error.reason)
            self._lose(error.reason)

    async def send_again(self, message: Message, priority: Priority) -> bool:
        """→ whether the broker has it. Not on a link that was lost, whose messages it has given to others already."""
        if self.lost is not None:
            return False
        try:
            await self._send(message, priority)
        except Unavailable as error:
            log.warning("message not deferred", reason=error.reason)
            return False
        return True

    async def _receive(self, priority: Priority, message: AbstractIncomingMessage) -> None:
        delivery = RabbitMqDelivery(message, priority, self)
        if self._stopped:
            # It came while its consumer was being cancelled.
            await delivery.hand_back()
        else:
            self._waiting.put(priority, delivery)
            self._changed.set()

    def _lose(self, reason: str) -> None:
        if self.lost is None:
            self.lost = reason
            self._changed.set()


class Consumer:
    def __init__(self, url: URL, time_limit_seconds: float, send: Send) -> None:
        """`send`: to the queue of that priority, confirmed, not on a connection of the consumer's."""
        self._url = url
        self._limit = time_limit_seconds
        self._send = send
        self._links: set[Link] = set()
        self._flows: set[Flow] = set()

    @property
    def is_receiving(self) -> bool:
        return any(flow.lost is None for flow in self._flows)

    async def deliveries(self, capacity: int) -> AsyncGenerator[RabbitMqDelivery, None]:
        """Raises WrongConfiguration where a queue is not as it must be: waiting would not help."""
        failures = 0
        while True:
            try:
                link = await open_link(self._url, "image-processor consumer", self._limit)
            except Unavailable as error:
                reason: str | None = error.reason
            else:
                self._links.add(link)
                flow = Flow(link, capacity, self._limit, self._send)
                try:
                    await flow.start()
                    self._flows.add(flow)
                    while (delivery := await flow.next()) is not None:
                        failures = 0
                        yield delivery
                finally:
                    self._flows.discard(flow)
                    await flow.stop()
                reason = flow.lost
                self._links.discard(link)
                await link.close()
            delay = _jittered(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(failures, 10)))
            failures += 1
            log.warning("queue lost; connecting again", reason=reason, after_seconds=round(delay, 3))
            await asyncio.sleep(delay)

    async def close(self) -> None:
        """What was not settled until now is delivered again."""
        links, self._links = self._links, set()
        await asyncio.gather(*(link.close() for link in links))


def _copy(message: AbstractIncomingMessage, rounds: int) -> Message:
    headers = {name: value for name, value in message.headers.items() if name not in OF_DELIVERY}
    return Message(
        message.body,
        headers=headers | {DEFERRED: rounds},
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        timestamp=message.timestamp,
        type=message.type,
    )


def _jittered(seconds: float) -> float:
    """Between half of it and all of it, so that the workers of a broker that restarts do not come back at one moment."""
    return seconds * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
