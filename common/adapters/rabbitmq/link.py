"""One connection with one channel, and the only place where what the SDK raises becomes our errors.

Promises that a link that cannot be opened within the limit leaves nothing open. Does not reconnect: a link that was lost stays
lost, and who uses it opens another. (aio-pika's robust connections wait without a limit for a broker that is away.)
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb

from aio_pika import Connection
from aio_pika.abc import AbstractChannel
from aio_pika.connection import make_url
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.exceptions import InvalidFrameError
from pamqp.commands import Connection as ConnectionFrames
from yarl import URL

from common.adapters.rabbitmq.leniency import read_whatever_comes
from common.adapters.rabbitmq.topology import declare, require
from common.errors import Unavailable, WrongConfiguration
from common.telemetry import log

# A silent connection is given up after three of them (aiormq), and by the broker after two.
HEARTBEAT_SECONDS = 15
CLOSE_SECONDS = 5.0
# What a URL may say of whose certificates are believed.
CAS = {"cafile", "capath", "cadata"}


@dataclass(frozen=True, slots=True)
class Broker:
    """`declares`: whether this program is to declare what it needs, or finds it there."""

    url: URL
    declares: bool = True


def broker_at(text: str, ca_file: Path | None = None, *, declares: bool = True) -> Broker:
    """`ca_file`: see common/tls.py. Raises WrongConfiguration."""
    try:
        url = make_url(text, heartbeat=HEARTBEAT_SECONDS)
    except ValueError as error:
        raise WrongConfiguration("RABBITMQ_URL", f"is no URL: {error}") from None
    if not url.host:
        raise WrongConfiguration("RABBITMQ_URL", "names no host")
    if url.scheme == "amqps" and ca_file is not None and not CAS & url.query.keys():
        url = url.update_query(cafile=str(ca_file))
    return Broker(url, declares)


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Unavailable("queue", "no answer within the time limit") from error
    except CONNECTION_EXCEPTIONS as error:
        raise Unavailable("queue", _refusal(error) or f"{type(error).__name__}: {error}") from error
    except asyncio.CancelledError:
        # When a connection closes, aiormq cancels what waits on it. That is an outage, unless somebody cancelled this very task.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable("queue", "the connection was closed") from None
    except Exception as error:
        # … or rejects it with a bare Exception, where the connection closed without a fault.
        if type(error) is not Exception:
            raise
        raise Unavailable("queue", "the connection was closed") from None


def _refusal(error: BaseException) -> str | None:
    """What the broker says where it refuses the virtual host. The SDK expects no close at this point, and tells of it only where in
    memory it is: the frame itself is still in the function that raised."""
    if not isinstance(error, InvalidFrameError):
        return None
    received = (caller.f_locals.get("frame") for caller, _ in walk_tb(error.__traceback__))
    return next((frame.reply_text for frame in received if isinstance(frame, ConnectionFrames.Close)), None)


class Link:
    def __init__(self, connection: Connection, channel: AbstractChannel) -> None:
        self._connection = connection
        self.channel = channel

    @property
    def is_open(self) -> bool:
        return self._connection.connected.is_set() and not self.channel.is_closed

    async def is_blocked(self) -> bool:
        """Whether the broker has told that it takes no messages now, because its memory or disk runs low. Does not wait."""
        if self._connection.transport is None:
            return False
        try:
            async with asyncio.timeout(0):
                await self._connection.transport.ready()
        except TimeoutError:
            return True
        return False

    async def probe(self) -> None:
        """One round trip, on a channel of its own: one that is cancelled would close the channel."""
        async with self._connection.channel():
            pass

    async def open_channel(self) -> AbstractChannel:
        """One more, for what may close it."""
        return await self._connection.channel()

    async def depths(self, queues: Sequence[str]) -> list[int]:
        """On a channel of its own, too: asking for a queue that does not exist closes the channel."""
        async with self._connection.channel() as channel:
            answers = [(await channel.declare_queue(name, passive=True)).declaration_result for name in queues]
            return [answer.message_count or 0 for answer in answers]

    async def close(self) -> None:
        await _close(self._connection)


async def open_link(broker: Broker, name: str, time_limit_seconds: float) -> Link:
    """Connects, declares or finds the topology, opens the channel; the console shows `name`. Raises Unavailable, or
    WrongConfiguration."""
    read_whatever_comes()
    connection = Connection(broker.url, client_properties={"connection_name": name})
    try:
        with translated():
            async with asyncio.timeout(time_limit_seconds):
                await connection.connect()
                await (declare if broker.declares else require)(connection)
                return Link(connection, await connection.channel(on_return_raises=True))
    except BaseException:
        await _close(connection)
        raise


async def _close(connection: Connection) -> None:
    """In a task that is left alone past its limit: a close that is cancelled halfway never ends, one that is not ends with the
    heartbeat at the latest."""

    async def close() -> None:
        try:
            with translated():
                await connection.close()
        except Unavailable as error:
            log.debug("connection not closed in good order", reason=error.reason)

    await asyncio.wait([asyncio.create_task(close())], timeout=CLOSE_SECONDS)
