"""What clients say to the real services, read on the way there: connections that are made, and calls that are sent.

Of each protocol only as much is understood as it takes to tell one call from the next; TLS not at all.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.contract.sockets import Server, proxy_to

# Yields what it wants next, a number of bytes or all up to a delimiter, and is sent that.
Reading = Generator[int | bytes, bytes, None]
Protocol = Callable[[Callable[[str], None]], Reading]


@dataclass
class Wire:
    """`address`: of the proxy. `calls`: how many by name, since whoever looks has last cleared it."""

    address: str
    connections: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    def count(self, call: str) -> None:
        self.calls[call] += 1


@asynccontextmanager
async def counted(host: str, port: int, protocol: Protocol) -> AsyncIterator[Wire]:
    wire = Wire("")
    forward = proxy_to(host, port)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire.connections += 1
        read, said = reader.read, _Said(protocol(wire.count))

        async def reading(n: int = -1) -> bytes:
            data = await read(n)
            said.feed(data)
            return data

        reader.read = reading  # type: ignore[method-assign]  # what the proxy reads is what the client sends
        await forward(reader, writer)

    async with Server(handle) as server:
        wire.address = server.address
        yield wire


class _Said:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._wanted = next(reading)
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while (piece := self._piece()) is not None:
            self._buffer = self._buffer[len(piece) :]
            self._wanted = self._reading.send(piece)

    def _piece(self) -> bytes | None:
        """None where it has not come yet."""
        if isinstance(self._wanted, int):
            end = self._wanted
        else:
            end = self._buffer.find(self._wanted)
            end = end + len(self._wanted) if end >= 0 else len(self._buffer) + 1
        return self._buffer[:end] if end <= len(self._buffer) else None


def postgres(count: Callable[[str], None]) -> Reading:
    """A simple query, as BEGIN and COMMIT are sent, or the execution of a prepared one. Source:
    https://www.postgresql.org/docs/current/protocol-message-formats.html"""
    yield int.from_bytes((yield 4)) - 4
    while True:
        kind = yield 1
        yield int.from_bytes((yield 4)) - 4
        if kind in b"QE":
            count("statement")


def redis(count: Callable[[str], None]) -> Reading:
    """Commands, by name. Source: https://redis.io/docs/latest/develop/reference/protocol-spec/"""
    while True:
        words = []
        for _ in range(int((yield b"\r\n")[1:])):
            size = int((yield b"\r\n")[1:])
            words.append((yield size + 2)[:-2])
        count(words[0].decode().upper())


def http(count: Callable[[str], None]) -> Reading:
    """Requests, by method."""
    while True:
        request, *headers = (yield b"\r\n\r\n").decode("latin-1").split("\r\n")
        count(request.partition(" ")[0])
        lengths = [
            int(value) for name, _, value in (header.partition(":") for header in headers) if name.lower() == "content-length"
        ]
        yield sum(lengths)


def amqp(count: Callable[[str], None]) -> Reading:
    """Messages that are published, and acknowledgements of such that were received. Source: AMQP 0-9-1, 4.2.3 and the classes."""
    methods = {(60, 40): "publish", (60, 80): "ack"}
    yield len(b"AMQP\0\0\x09\x01")
    while True:
        head = yield 7
        payload = yield int.from_bytes(head[3:]) + 1
        method = int.from_bytes(payload[:2]), int.from_bytes(payload[2:4])
        if head[0] == 1 and method in methods:
            count(methods[method])
