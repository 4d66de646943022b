"""What is in the services, asked of them directly and not through the proxies: rows, objects, messages."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import aio_pika
import asyncpg
from aio_pika.abc import AbstractChannel

from common.ports import Bucket, Ports
from common.settings import Settings
from common.usecases.sweep import Findings, sweep
from common.wiring import open_ports
from tests.chaos.ledger import Row
from tests.chaos.servers import Servers

T = TypeVar("T")
OTHER_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
DEAD_LETTERS = "images.dead"
QUEUES = ("images.high", "images.normal", "images.low", DEAD_LETTERS)
ROWS = """
    SELECT id, filename, status, failure_code, result_key, result_sha256, result_width, result_height, attempts, deleted,
           dispatch_after, created_at, updated_at
    FROM images
"""


class Inventory:
    """`settings`: the direct addresses of a system's database, virtual host, cache and object store."""

    def __init__(self, servers: Servers, settings: Settings, vhost: str) -> None:
        self._servers = servers
        self._settings = settings
        self._vhost = vhost

    def rows(self) -> dict[str, Row]:
        """By image id."""

        async def read() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self._settings.postgres_url.get_secret_value())
            try:
                return await connection.fetch(ROWS)
            finally:
                await connection.close()

        return {str(record["id"]): _row(record) for record in asyncio.run(read())}

    def objects(self) -> dict[Bucket, list[str]]:
        async def read(ports: Ports) -> dict[Bucket, list[str]]:
            return {bucket: [key async for key in ports.blobs.keys(bucket)] for bucket in Bucket}

        return self.with_ports(read)

    def empty(self) -> None:
        """No object is left; the buckets are there."""

        async def remove(ports: Ports) -> None:
            await ports.blobs.check()
            for bucket in Bucket:
                for key in [key async for key in ports.blobs.keys(bucket)]:
                    await ports.blobs.delete(bucket, key)

        self.with_ports(remove)

    def sweep(self) -> Findings:
        """Everything that is superfluous now, at once; so nothing may be under way."""

        async def without_pause(seconds: float) -> bool:
            return True

        return self.with_ports(lambda ports: sweep(ports, timedelta(0), without_pause, however_many=True))

    def messages(self) -> dict[str, int]:
        """By queue, those that are in nobody's hands. (What rabbitmqctl says of them is seconds old.)"""

        async def count(channel: AbstractChannel, queue: str) -> int:
            return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0

        async def read() -> dict[str, int]:
            url = self._settings.rabbitmq_url.get_secret_value()
            async with await aio_pika.connect(url) as connection, connection.channel() as channel:
                return {queue: await count(channel, queue) for queue in QUEUES}

        return asyncio.run(read())

    def connections(self) -> dict[str, int]:
        """As the services count them."""

        async def of_postgres() -> int:
            connection = await asyncpg.connect(self._settings.postgres_url.get_secret_value())
            try:
                return int(await connection.fetchval(OTHER_SESSIONS))
            finally:
                await connection.close()

        vhosts = self._servers.rabbitmq.ctl("list_connections", "--no-table-headers", "vhost").split()
        return {"postgres": asyncio.run(of_postgres()), "rabbitmq": vhosts.count(self._vhost)}

    def with_ports(self, work: Callable[[Ports], Awaitable[T]]) -> T:
        """Of the services themselves; nothing of the system is asked."""

        async def run() -> T:
            async with open_ports(self._settings) as ports:
                return await work(ports)

        return asyncio.run(run())


def _row(record: asyncpg.Record) -> Row:
    has_result = record["result_sha256"] is not None
    return Row(
        image_id=str(record["id"]),
        filename=record["filename"],
        status=record["status"],
        failure_code=record["failure_code"],
        result_key=record["result_key"],
        result_sha256=record["result_sha256"],
        result_size=(record["result_width"], record["result_height"]) if has_result else None,
        attempts=record["attempts"],
        deleted=record["deleted"],
        is_settled=record["dispatch_after"] is None,
        created_at=record["created_at"],
        updated_at=record["updated_at"],
    )
