"""Wakes waiters through Redis' pub/sub: one channel for all images, whose messages are ids.

One channel, so that a wait costs Redis nothing: while a process has waiters at all, it holds one subscribed connection, beside the
pool, and picks out of the stream what concerns it. (A channel an image would cost each wait two commands and a round trip before it
can begin; what is paid instead is some 100 bytes for each image that becomes final, to each process that has waiters.)

Redis remembers no message, so a connection that was lost is never replaced behind a waiter's back: all who wait on it are told, and
the next subscription opens another. That is why this speaks through a bare connection: the SDK's own PubSub connects again by
itself. A connection that only went silent is found out by a ping, within PING_SECONDS and the link's time limit.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from uuid import UUID

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.adapters.redis.link import RedisLink, translated
from common.adapters.waiting import Waiting
from common.errors import Unavailable
from common.ports import Subscription
from common.telemetry import log

SERVICE = "notifier"
CHANNEL = "images:final"
PING_SECONDS = 2.0
# Without waiters. As long as a request may wait, so that a client that waits again and again finds it open.
IDLE_SECONDS = 30.0


class RedisStatusNotifier:
    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._listener: _Listener | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Before the link is. Whoever still waits is told."""
        if self._listener is not None:
            await self._listener.close()

    async def notify(self, image_id: UUID) -> None:
        await self._link.call(SERVICE, lambda: self._link.client.publish(CHANNEL, str(image_id)))

    @asynccontextmanager
    async def subscribe(self, image_id: UUID) -> AsyncIterator[Subscription]:
        # One opens for all. Where that fails, the others learn it from the link at once.
        async with self._opening:
            if self._listener is None or not self._listener.is_listening:
                self._listener = _Listener(await self._link.call(SERVICE, self._open), self._link.timeout_seconds)
            listener = self._listener
        with listener.subscription(image_id) as subscription:
            yield subscription

    async def _open(self) -> AbstractConnection:
        """→ a connection whose subscription Redis has confirmed."""
        connection = self._link.own_connection()
        try:
            # The SDK's own limits are for each step.
            async with asyncio.timeout(self._link.timeout_seconds):
                await connection.connect()  # type: ignore[no-untyped-call]  # the SDK's gap
                await connection.send_command("SUBSCRIBE", CHANNEL)
                answer = await connection.read_response()
            if not isinstance(answer, list) or answer[0] != b"subscribe":
                raise RedisConnectionError("no confirmation of the subscription")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


class _Listener:
    """One subscribed connection, and who waits on it."""

    def __init__(self, connection: AbstractConnection, answer_seconds: float) -> None:
        self._connection = connection
        self._answer_seconds = answer_seconds
        self._waiting = Waiting()
        self._last_left_at = asyncio.get_running_loop().time()
        self.is_listening = True
        # Of no request, so that no request's id is in what it logs.
        self._task = asyncio.create_task(self._listen(), context=Context())

    @contextmanager
    def subscription(self, image_id: UUID) -> Iterator[Subscription]:
        try:
            with self._waiting.subscription(image_id) as subscription:
                yield subscription
        finally:
            self._last_left_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        # A task that had no time to begin has not ended anything either.
        await self._end("the notifier was closed")

    async def _listen(self) -> None:
        reason = "the notifier was closed"
        try:
            with translated(SERVICE):
                while not self._is_idle():
                    self._dispatch(await self._next_message())
        except Unavailable as error:
            reason = error.reason
            log.info("notifications of final states interrupted", reason=reason)
        finally:
            await self._end(reason)

    async def _end(self, reason: str) -> None:
        self.is_listening = False
        self._waiting.lose_all(reason)
        await self._connection.disconnect(nowait=True)

    def _is_idle(self) -> bool:
        return not self._waiting and asyncio.get_running_loop().time() - self._last_left_at >= IDLE_SECONDS

    async def _next_message(self) -> object:
        message = await self._connection.read_response(timeout=PING_SECONDS)
        if message is None:
            await self._connection.send_command("PING")
            message = await self._connection.read_response(timeout=self._answer_seconds)
        if message is None:
            raise RedisTimeoutError("no answer to a ping")
        return message

    def _dispatch(self, message: object) -> None:
        """What is no id of an image, of a ping or anybody's, is nobody's concern."""
        match message:
            case [b"message", _, bytes(text)]:
                try:
                    self._waiting.notify(UUID(text.decode("ascii")))
                except ValueError:
                    log.debug("message that is no id of an image")
