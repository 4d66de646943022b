"""Servers that stand where Redis should: the real one behind a proxy, and what answers like none."""

import asyncio
import re
import time
from urllib.parse import urlsplit

from tests.contract.sockets import Handler, proxy_to

_COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Z]+)\r\n")


def proxy_to_redis(url: str) -> Handler:
    parts = urlsplit(url)
    return proxy_to(parts.hostname or "localhost", parts.port or 6379)


def counted(handler: Handler, connections: list[float]) -> Handler:
    """Notes when each connection came."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(time.monotonic())
        await handler(reader, writer)

    return handle


class Tap:
    """In front of a proxy: lets pass what the client sends, and knows the commands. Once `frozen`, nothing passes any more."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.commands: list[str] = []
        self.frozen = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = asyncio.StreamReader()
        copying = asyncio.ensure_future(self._copy(reader, passed))
        try:
            await self._handler(passed, writer)
        finally:
            copying.cancel()
            await asyncio.wait([copying])

    async def _copy(self, reader: asyncio.StreamReader, passed: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self.commands += [found.decode() for found in _COMMAND.findall(data)]
            if not self.frozen.is_set():
                passed.feed_data(data)
        passed.feed_eof()


async def says_that_it_is_loading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        writer.write(b"-LOADING Redis is loading the dataset in memory\r\n" * 3)


async def speaks_no_redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await reader.read(65536)


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def says_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """To whatever is asked."""
    while data := await reader.read(65536):
        writer.write(b"+OK\r\n" * len(_COMMAND.findall(data)))


async def confirms_no_subscription(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers all else."""
    while data := await reader.read(65536):
        writer.write(b"+OK\r\n" * sum(name != b"SUBSCRIBE" for name in _COMMAND.findall(data)))
