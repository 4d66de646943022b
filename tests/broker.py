"""A virtual host of its own on the real RabbitMQ, and its operator's view: the management API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import httpx

MANAGEMENT_PORT = 15672


class Broker:
    """`url`: the virtual host, for AMQP clients."""

    def __init__(self, url: str, vhost: str, api: httpx.AsyncClient) -> None:
        self.url = url
        self._vhost = vhost
        self._api = api

    async def ask(self, method: str, path: str, **arguments: Any) -> Any:
        """`{}` in the path stands for the virtual host."""
        answer = await self._api.request(method, path.format(self._vhost), **arguments)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def read(self, queue: str) -> list[dict[str, Any]]:
        """Up to 100 messages with their properties; they stay where they are."""
        wanted = {"count": 100, "ackmode": "ack_requeue_true", "encoding": "auto"}
        messages: list[dict[str, Any]] = await self.ask("POST", f"queues/{{}}/{queue}/get", json=wanted)
        return messages

    async def is_ready_empty(self, *queues: str) -> bool:
        """Whether every message of these queues is in some consumer's hands. (The management API's own numbers are seconds old.)"""
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            counts = [(await channel.declare_queue(name, passive=True)).declaration_result.message_count for name in queues]
        return not any(counts)

    async def connections(self, role: str) -> list[str]:
        """Names of the open connections of a role, `publisher` or `consumer`."""
        connections = await self.ask("GET", "vhosts/{}/connections")
        return [
            connection["name"]
            for connection in connections
            if connection.get("client_properties", {}).get("connection_name") == f"image-processor {role}"
        ]

    async def close_connection(self, name: str) -> None:
        (await self._api.delete(f"connections/{httpx.URL(path=name).raw_path.decode()}")).raise_for_status()


@asynccontextmanager
async def open_broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    """`rabbitmq_url`: any virtual host of the broker, by a user who may administer it. What it makes is gone on exit."""
    parts = urlsplit(rabbitmq_url)
    vhost = f"test-{uuid4()}"
    async with httpx.AsyncClient(
        base_url=f"http://{parts.hostname}:{MANAGEMENT_PORT}/api/",
        auth=(parts.username or "guest", parts.password or "guest"),
        timeout=30,
        trust_env=False,
    ) as api:
        broker = Broker(parts._replace(path=f"/{vhost}").geturl(), vhost, api)
        await broker.ask("PUT", "vhosts/{}")
        try:
            yield broker
        finally:
            await broker.ask("DELETE", "vhosts/{}")
