"""Sends messages: mandatory, confirmed, within a time limit. Many tasks share one channel and don't wait for each other.

Connects on first use, and again on the first use after the connection was lost. Once the broker has not answered in time, callers
wait for a new connection for a short moment at most, whatever the time limit. Does not promise that a message whose sending raised
is not in a queue all the same.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from aio_pika import Message
from aio_pika.exceptions import DeliveryError, PublishError

from common.adapters.rabbitmq.link import Broker, Link, open_link, translated
from common.errors import Full, Unavailable, WrongConfiguration
from common.telemetry import PUBLISH_SECONDS, PUBLISHES, log

# After a failed connect the next one starts no earlier, and nobody waits longer for it.
RETRY_SECONDS = 1.0
RESULTS = ((TimeoutError, "timed-out"), (PublishError, "unroutable"), (DeliveryError, "refused"))
SILENT = "the broker did not answer within the time limit"
BLOCKED = "the broker takes no messages now: its memory or disk runs low"


@contextmanager
def _counted() -> Iterator[None]:
    """By the broker's answer; one that never came is told apart from a message that was refused or has no queue."""
    try:
        yield
    except Unavailable as error:
        known = (result for kind, result in RESULTS if isinstance(error.__cause__, kind))
        PUBLISHES.labels("blocked" if isinstance(error, Full) else next(known, "unavailable")).inc()
        raise
    PUBLISHES.labels("confirmed").inc()


class Publisher:
    def __init__(self, broker: Broker, time_limit_seconds: float) -> None:
        self._broker = broker
        self._limit = time_limit_seconds
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._failure: str | None = None  # why the last connection could not be made or used; None while all is well
        self._mismatch: WrongConfiguration | None = None  # the same, where that is the reason
        self._next_connect_at = 0.0

    async def publish(self, exchange_name: str, routing_key: str, message: Message) -> None:
        """Raises Unavailable also where the broker refuses the message or has no queue for it."""
        with _counted(), PUBLISH_SECONDS.time():
            async with self._ready() as link:
                exchange = await link.channel.get_exchange(exchange_name, ensure=False)
                await exchange.publish(message, routing_key, mandatory=True)

    async def depths(self, queues: Sequence[str]) -> list[int]:
        """Messages that wait in each. Raises Unavailable also where one of them does not exist."""
        async with self._ready() as link:
            return await link.depths(queues)

    async def check(self) -> None:
        """Raises WrongConfiguration where a queue is not as it must be: to whoever publishes that is an outage like any other."""
        try:
            async with self._ready() as link:
                await link.probe()
        except Unavailable:
            if self._mismatch is not None:
                raise self._mismatch.with_traceback(None) from None
            raise

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._link is not None:
            self._drop(self._link)
        if self._closing:
            await asyncio.wait(self._closing)

    @asynccontextmanager
    async def _ready(self) -> AsyncIterator[Link]:
        """A link for one call to the broker. One on which the broker does not answer in time is not used again, except where it
        has said why."""
        link: Link | None = None
        with translated():
            try:
                async with asyncio.timeout(self._limit):
                    link = await self._connected()
                    if await link.is_blocked():
                        raise Full("queue", BLOCKED)
                    yield link
            except TimeoutError:
                if link is None:
                    raise
                if await link.is_blocked():
                    raise Full("queue", BLOCKED) from None
                if self._link is link:
                    self._drop(link)
                    self._failure = SILENT
                raise

    async def _connected(self) -> Link:
        """Waits for the one connect that runs. Giving up waiting does not end it for the others."""
        if self._link is not None:
            if self._link.is_open:
                return self._link
            self._drop(self._link)
        if self._connecting is None:
            if self._failure is not None and asyncio.get_running_loop().time() < self._next_connect_at:
                raise Unavailable("queue", self._failure)
            self._connecting = asyncio.create_task(self._connect())
        await asyncio.wait([self._connecting], timeout=None if self._failure is None else RETRY_SECONDS)
        if self._link is None:
            raise Unavailable("queue", self._failure or "the connection was closed")
        return self._link

    async def _connect(self) -> None:
        try:
            self._link = await open_link(self._broker, "image-processor publisher", self._limit)
            self._failure = self._mismatch = None
        except Unavailable as error:
            self._failure, self._mismatch = error.reason, None
        except WrongConfiguration as error:
            # Whoever publishes goes on without the queue; the worker, which can't, stops with this error.
            log.error("the queue cannot be used", reason=error.detail)
            self._failure, self._mismatch = error.detail, error
        finally:
            self._next_connect_at = asyncio.get_running_loop().time() + RETRY_SECONDS
            self._connecting = None

    def _drop(self, link: Link) -> None:
        self._link = None
        closing = asyncio.create_task(link.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
