"""The gateway on its real server, and clients that write to it byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from common.serving import listen, serve
from gateway.protocol import LimitedProtocol
from tests.gateway import PICTURE, World

PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
END = b"\r\n--x--\r\n"
FORM = "Content-Type: multipart/form-data; boundary=x"
TOKEN = "Authorization: Bearer alice-token"
DRAIN_SECONDS = 1


class Server:
    """`stop`: set to have it drain and end."""

    def __init__(self, world: World, port: int) -> None:
        self.world = world
        self.port = port
        self.stop: asyncio.Event = world.app.state.gateway.stopping


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    world, listener = World(), listen("127.0.0.1", 0, "PORT")
    server = Server(world, listener.getsockname()[1])
    running = asyncio.create_task(serve(world.app, listener, server.stop, DRAIN_SECONDS, LimitedProtocol))
    try:
        yield server
    finally:
        server.stop.set()
        await running


class Client:
    """One connection, written to and read from byte by byte as the test likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def head(self, method: str, path: str, *headers: str, version: str = "1.1") -> None:
        self.writer.write("\r\n".join([f"{method} {path} HTTP/{version}", "Host: gateway", *headers, "", ""]).encode())

    async def answer(self, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(10):
            status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = 0 if head_only else int(headers.get("content-length", 0))
            body = await self._reader.readexactly(length)
        return int(status.split()[1]), headers, body

    async def is_closed(self) -> bool:
        async with asyncio.timeout(10):
            return await self._reader.read(1) == b""


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])


async def uploaded(server: Server) -> UUID:
    """By alice."""
    body = PART + PICTURE + END
    async with client(server) as http:
        http.head("POST", "/upload", FORM, TOKEN, f"Content-Length: {len(body)}")
        http.writer.write(body)
        return UUID(json.loads((await http.answer())[2])["id"])
