"""A TCP proxy that does to connections what networks and dying services do: cut, freeze, delay, throttle, lose one direction.

It runs in a thread with an event loop of its own, so that tests with and without one use it alike. Its methods return once what
they ask for is in force.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

T = TypeVar("T")
Direction = Literal["to_server", "from_server"]

CHUNK_BYTES = 64 * 1024
AWAY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """A context manager: listens on a free port of loopback while it is open."""

    def __init__(self, upstream_port: int, host: str = "127.0.0.1") -> None:
        self._upstream = (host, upstream_port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-to-{upstream_port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self._passing: asyncio.Event | None = None
        self._refuses = self._is_away = False
        self._lost: Direction | None = None
        self._delay_seconds = 0.0
        self.delayed = 0
        self._bytes_per_second: float | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def heal(self) -> None:
        """Passes everything, what was held too: as at the start."""
        self._call(self._heal)

    def cut(self) -> None:
        """Resets all connections, and refuses new ones until it is healed."""
        self._call(self._cut)

    def reset(self) -> None:
        """Resets all connections; lets new ones through."""
        self._call(self._reset)

    def freeze(self) -> None:
        """Open and silent: bytes are held in both directions until it is healed."""
        self._call(self._freeze)

    def swallow(self, direction: Direction) -> None:
        """Bytes of one direction are lost; those of the other pass."""
        self._lost = direction

    def delay(self, seconds: float) -> None:
        """Each piece is passed on that much later; `delayed` says how many were, or are being."""
        self._delay_seconds = seconds

    def throttle(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second

    def answer_503(self) -> None:
        """Connections are answered as an HTTP service answers that is overloaded."""
        self._call(self._be_away)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(30)

    async def _open(self) -> None:
        self._passing = asyncio.Event()
        self._passing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._reset()

    async def _heal(self) -> None:
        self._refuses = self._is_away = False
        self._lost, self._delay_seconds, self._bytes_per_second = None, 0.0, None
        if self._passing is not None:
            self._passing.set()

    async def _cut(self) -> None:
        self._refuses = True
        await self._reset()

    async def _be_away(self) -> None:
        self._is_away = True
        await self._reset()

    async def _freeze(self) -> None:
        if self._passing is not None:
            self._passing.clear()

    async def _reset(self) -> None:
        for writer in list(self._writers):
            _send_reset(writer)
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        if connections:
            await asyncio.wait(connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._carry(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._refuses:
                _send_reset(writer)
            elif self._is_away:
                # What was asked is read first: closing with unread bytes would reset the connection before the answer is seen.
                await reader.read(CHUNK_BYTES)
                writer.write(AWAY)
                await writer.drain()
            else:
                await self._connect(reader, writer)
        except OSError:
            _send_reset(writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_server = await asyncio.open_connection(*self._upstream)
        self._writers.add(to_server)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass_on(reader, to_server, "to_server"))
                ways.create_task(self._pass_on(there, writer, "from_server"))
        except* OSError:
            _send_reset(writer)
            _send_reset(to_server)
        finally:
            self._writers.discard(to_server)
            to_server.close()

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, direction: Direction) -> None:
        """Until the end, which is passed on, too."""
        while chunk := await source.read(CHUNK_BYTES):
            if self._delay_seconds:
                self.delayed += 1
                await asyncio.sleep(self._delay_seconds)
            if self._bytes_per_second:
                await asyncio.sleep(len(chunk) / self._bytes_per_second)
            if self._passing is not None:
                await self._passing.wait()
            if self._lost != direction:
                target.write(chunk)
                await target.drain()
        if self._passing is not None:
            await self._passing.wait()
        if target.can_write_eof():
            target.write_eof()


def _send_reset(writer: asyncio.StreamWriter) -> None:
    """Closing with no time to linger sends RST in place of FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
