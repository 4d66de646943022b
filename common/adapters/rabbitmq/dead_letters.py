"""A walk over the dead letters: consumed and not acknowledged, but for those that are to go. What makes it safe:

- What is held goes back when its channel closes, however that comes about, and then keeps its place. (Messages that are handed back
  one by one, or are on their way to a consumer that is being cancelled, do not.)
- So many are taken at a time, on a channel of their own, which bounds what is in this process's memory; and nothing is looked at
  before they all are here and the channel's consumer is gone. The channels are closed in their order.
- An exclusive queue, which goes with its connection, is the walker's, or where nothing may be declared the only consumer that a
  certain queue takes: a second walker would not see what the first has in hand. (Both kinds at once do not know of each other.)
- The end is known by the number at the beginning: what a walk sends on may fail and come back while it goes on.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

from common.adapters.rabbitmq.link import Broker, Link, broker_at, open_link, translated
from common.adapters.rabbitmq.topology import DEAD_QUEUE, DEAD_TURN, DEAD_WALK, imported
from common.errors import Unavailable
from common.messages import DeadLetter, read_dead_letter
from common.ports import HeldLetter
from common.telemetry import log

AT_A_TIME = 1_000
# How often somebody who waits looks again.
POLL_SECONDS = 0.1
# What has gone back is in the queue again after a few milliseconds.
BACK_SECONDS = 2.0
# In how the broker refuses a second consumer; the same code may mean an account without the right.
EXCLUSIVE = "exclusive use"


class RabbitMqDeadLetters:
    """A DeadLetters. Connects for each walk."""

    def __init__(
        self, url: str, time_limit_seconds: float, at_a_time: int = AT_A_TIME, ca_file: Path | None = None, *, declares: bool = True
    ) -> None:
        """Raises WrongConfiguration where `url` is none."""
        self._broker = broker_at(url, ca_file, declares=declares)
        self._limit = time_limit_seconds
        self._at_a_time = at_a_time

    async def walk(self) -> AsyncGenerator[HeldLetter, None]:
        walk = _Walk(self._broker, await open_link(self._broker, "image-processor operator", self._limit), self._limit)
        try:
            left = await walk.begin()
            while left > 0:
                for held in await walk.take(min(left, self._at_a_time)):
                    yield held
                left -= self._at_a_time
            await walk.confirm()
        finally:
            await walk.end()


class RabbitMqHeldLetter:
    def __init__(self, message: AbstractIncomingMessage, part: "_Part", time_limit_seconds: float) -> None:
        self._message = message
        self._part = part
        self._limit = time_limit_seconds

    @property
    def letter(self) -> DeadLetter:
        return read_dead_letter(self._message.body, self._message.correlation_id, self._message.headers)

    async def remove(self) -> None:
        with translated():
            async with asyncio.timeout(self._limit):
                await self._message.ack()
        self._part.held -= 1


class _Part:
    """What is taken on one channel: `held` were not removed."""

    def __init__(self, channel: AbstractChannel) -> None:
        self.channel = channel
        self.held = 0


class _Walk:
    def __init__(self, broker: Broker, link: Link, time_limit_seconds: float) -> None:
        self._broker = broker
        self._link = link
        self._limit = time_limit_seconds
        self._parts: list[_Part] = []

    async def begin(self) -> int:
        """→ how many there are, once nobody else is at them."""
        give_up_at = _now() + self._limit
        with translated():
            while not await self._is_our_turn():
                if _now() > give_up_at:
                    raise Unavailable("queue", "somebody else is looking through the dead letters")
                await asyncio.sleep(POLL_SECONDS)
            async with asyncio.timeout(self._limit):
                return await self._waiting()

    async def take(self, count: int) -> list[RabbitMqHeldLetter]:
        """The next so many; fewer where somebody else has taken some, in the console perhaps."""
        arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        with translated():
            async with asyncio.timeout(self._limit):
                part = _Part(await self._link.open_channel())
                self._parts.append(part)
                part.channel.close_callbacks.add(lambda *_: arrived.put_nowait(None))
                await part.channel.set_qos(prefetch_count=count)
                queue = await part.channel.get_queue(DEAD_QUEUE, ensure=False)
                tag = await queue.consume(arrived.put)
            taken: list[RabbitMqHeldLetter] = []
            while len(taken) < count:
                try:
                    async with asyncio.timeout(self._limit):
                        message = await arrived.get()
                except TimeoutError:
                    if await self._waiting() == 0:
                        break
                    raise
                if message is None:
                    raise Unavailable("queue", "the connection was closed")
                part.held += 1
                taken.append(RabbitMqHeldLetter(message, part, self._limit))
            async with asyncio.timeout(self._limit):
                await queue.cancel(tag)
        return taken

    async def confirm(self) -> None:
        """The broker has seen every removal."""
        with translated():
            async with asyncio.timeout(self._limit):
                for part in self._parts:
                    await part.channel.declare_queue(DEAD_QUEUE, passive=True)

    async def end(self) -> None:
        """Raises nothing: without the connection, what is held is back in the queue just as well."""
        try:
            with translated():
                for part in self._parts:
                    async with asyncio.timeout(self._limit):
                        await self._put_back(part)
        except Unavailable as error:
            log.debug("dead letters not put back in good order", reason=error.reason)
        finally:
            await self._link.close()

    async def _put_back(self, part: _Part) -> None:
        """Until it is there: the queue hears of the end of channels later, and in any order."""
        waiting = await self._waiting()
        await part.channel.close()
        give_up_at = _now() + BACK_SECONDS
        while await self._waiting() < waiting + part.held and _now() < give_up_at:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(POLL_SECONDS / 10)

    async def _is_our_turn(self) -> bool:
        try:
            async with asyncio.timeout(self._limit):
                channel = await self._link.open_channel()
                if self._broker.declares:
                    await channel.declare_queue(DEAD_WALK, exclusive=True)
                else:
                    with imported("queue", DEAD_TURN):
                        queue = await channel.get_queue(DEAD_TURN)
                    await queue.consume(_ignore, exclusive=True)
        except ChannelLockedResource:
            return False
        except ChannelAccessRefused as error:
            if EXCLUSIVE not in str(error):
                raise
            return False
        return True

    async def _waiting(self) -> int:
        [count] = await self._link.depths([DEAD_QUEUE])
        return count


async def _ignore(message: AbstractIncomingMessage) -> None:
    """Nothing is sent there."""


def _now() -> float:
    return asyncio.get_running_loop().time()
