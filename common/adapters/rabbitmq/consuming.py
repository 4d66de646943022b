"""Receives messages: acknowledged by hand, one consumer for each priority with its own prefetch, handed out by priority.

A consumer that the broker cancels, as when its queue is deleted, and an ack that can't be sent are treated as a lost connection:
the link is closed, the broker gives what was unsettled to others, and everything is declared and consumed anew.

A quorum queue with a delivery limit puts what is handed back at its head, where as many as the prefetch would come back for ever,
and nothing behind them ever would. So what is deferred is sent again, to the tail, and acknowledged once that is confirmed.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from functools import partial

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from common.adapters.priorities import PriorityBuffer
from common.adapters.rabbitmq.link import Broker, Link, open_link, translated
from common.adapters.rabbitmq.topology import DELIVERY_LIMIT, queue_name
from common.errors import Unavailable, WrongConfiguration
from common.images import Priority
from common.messages import read_sent_at, read_traceparent
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
    def sent_at(self) -> datetime | None:
        return read_sent_at(self._message.headers)

    @property
    def traceparent(self) -> str | None:
        return read_traceparent(self._message.headers)

    @property
    def priority(self) -> Priority:
        return self._priority

    @property
    def is_lost(self) -> bool:
        """The broker has given it to somebody else."""
        return self._flow.lost is not None

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


class Arrivals:
    """What has come over all links and waits for a worker. What came over a link that was lost meanwhile is with somebody else."""

    def __init__(self) -> None:
        self._waiting: PriorityBuffer[RabbitMqDelivery] = PriorityBuffer()
        self._changed = asyncio.Event()
        self._error: WrongConfiguration | None = None

    def fail(self, error: WrongConfiguration) -> None:
        """Whoever waits for the next shall know."""
        self._error = error
        self._changed.set()

    def put(self, delivery: RabbitMqDelivery) -> None:
        self._waiting.put(delivery.priority, delivery)
        self._changed.set()

    async def next(self) -> RabbitMqDelivery:
        """Waits without polling."""
        while True:
            while (delivery := self._waiting.take()) is not None:
                if not delivery.is_lost:
                    return delivery
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()

    async def hand_back(self) -> None:
        for delivery in self._waiting.drain():
            await delivery.hand_back()


class Flow:
    """What one link delivers of one priority, from `start` to `stop`."""

    def __init__(self, link: Link, priority: Priority, arrivals: Arrivals, time_limit_seconds: float, send: Send) -> None:
        self._link = link
        self.priority = priority
        self._arrivals = arrivals
        self._limit = time_limit_seconds
        self._send = send
        self._consumer: tuple[AbstractQueue, str] | None = None
        self._ended = asyncio.Event()
        self._stopped = False
        self.lost: str | None = None
        self.has_delivered = False

    async def start(self, capacity: int) -> None:
        """Prefetch is per consumer: quorum queues know no other."""
        channel = self._link.channel
        channel.close_callbacks.add(lambda _, error: self._lose(f"the connection was closed: {error!r}"))
        try:
            with translated():
                async with asyncio.timeout(self._limit):
                    cancelled = (await channel.get_underlay_channel()).on_consumer_cancel_callbacks
                    cancelled.add(lambda frame: self._lose(f"the broker cancelled the consumer {frame.consumer_tag}"))
                    await channel.set_qos(prefetch_count=capacity)
                    queue = await channel.get_queue(queue_name(self.priority), ensure=False)
                    self._consumer = queue, await queue.consume(self._receive)
        except Unavailable as error:
            self._lose(error.reason)

    async def until_lost(self) -> str:
        """→ why."""
        await self._ended.wait()
        return self.lost or ""

    async def stop(self) -> None:
        """Nothing more is delivered. What was can still be settled, as long as the link is open."""
        self._stopped = True
        if self.lost is not None or self._consumer is None:
            return
        queue, tag = self._consumer
        try:
            with translated():
                async with asyncio.timeout(self._limit):
                    await queue.cancel(tag)
        except Unavailable as error:
            self._lose(error.reason)
            await self._link.close()

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

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        delivery = RabbitMqDelivery(message, self.priority, self)
        self.has_delivered = True
        if self._stopped:
            # It came while its consumer was being cancelled.
            await delivery.hand_back()
        else:
            self._arrivals.put(delivery)

    def _lose(self, reason: str) -> None:
        if self.lost is None:
            self.lost = reason
            self._ended.set()


class Consumer:
    """A link for each priority: a queue that the broker cannot serve, as one whose leader is missing, takes the whole connection
    down with it when somebody wants to consume it."""

    def __init__(self, broker: Broker, time_limit_seconds: float, send: Send) -> None:
        """`send`: to the queue of that priority, confirmed, not on a connection of the consumer's."""
        self._broker = broker
        self._limit = time_limit_seconds
        self._send = send
        self._links: set[Link] = set()
        self._flows: set[Flow] = set()

    @property
    def is_receiving(self) -> bool:
        """Of every priority."""
        return {flow.priority for flow in self._flows if flow.lost is None} == set(Priority)

    async def deliveries(self, capacity: int) -> AsyncGenerator[RabbitMqDelivery, None]:
        """Raises WrongConfiguration where a queue is not as it must be: waiting would not help."""
        arrivals, flows = Arrivals(), set[Flow]()
        keeping: set[asyncio.Task[None]] = set()
        before: asyncio.Event | None = None
        for priority in Priority:
            # High first, so that a backlog arrives in that order; no priority waits for another that cannot be had.
            begun = asyncio.Event()
            keeping.add(asyncio.create_task(self._keep(priority, capacity, arrivals, flows, before, begun)))
            before = begun
        try:
            while True:
                yield await arrivals.next()
        finally:
            # Again and again: aiormq may take a cancellation for a connection's.
            while any(not kept.done() for kept in keeping):
                for kept in keeping:
                    kept.cancel()
                await asyncio.wait(keeping, timeout=0.5)
            for flow in list(flows):
                self._flows.discard(flow)
                await flow.stop()
            await arrivals.hand_back()

    async def _keep(
        self,
        priority: Priority,
        capacity: int,
        arrivals: Arrivals,
        flows: set[Flow],
        before: asyncio.Event | None,
        begun: asyncio.Event,
    ) -> None:
        """Keeps one priority's flow going. Begins when the one before has begun, or could not."""
        if before is not None:
            await before.wait()
        failures = 0
        while True:
            try:
                link = await open_link(self._broker, "image-processor consumer", self._limit)
            except Unavailable as error:
                reason = error.reason
            except WrongConfiguration as error:
                arrivals.fail(error)
                return
            else:
                flow = Flow(link, priority, arrivals, self._limit, self._send)
                try:
                    await flow.start(capacity)
                except asyncio.CancelledError:
                    await link.close()
                    raise
                self._links.add(link)
                flows.add(flow)
                self._flows.add(flow)
                begun.set()
                reason = await flow.until_lost()
                failures = 0 if flow.has_delivered else failures
                flows.discard(flow)
                self._flows.discard(flow)
                self._links.discard(link)
                await link.close()
            begun.set()
            delay = _jittered(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(failures, 10)))
            failures += 1
            log.warning("queue lost; connecting again", priority=priority, reason=reason, after_seconds=round(delay, 3))
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
