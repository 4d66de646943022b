"""What an image costs in calls to the services, counted on the wire; and that none of them needs a connection of its own.

The straight path goes from an upload to its acknowledged message: it is taken in, published, received, rendered, stored, completed,
and whoever waits for it is told. Counted are, of a gateway and a worker together: in PostgreSQL every statement that is executed,
and BEGIN and COMMIT as statements; in the object store every request; in RabbitMQ every message that is published; in Redis every
command that is sent, whatever a script does there.

Not in it, because it costs by the request or by the time and not by the image: the caller's rate, which with RATE_LIMIT takes one
command of Redis a request; reads of the status, which are counted on their own; the dispatcher, and what else workers do now
and then.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from redis.asyncio import Redis

from common.adapters.sql.migrate import upgrade
from common.images import Principal, RetryPolicy
from common.messages import Job
from common.settings import Settings, load
from common.usecases.process_image import ProcessPolicy, process_image
from common.wiring import open_ports
from gateway.app import create_app
from tests import wire
from tests.broker import open_broker
from tests.databases import postgres_database
from tests.fakes import FakeTokenVerifier
from tests.pictures import photo_jpeg
from tests.polling import eventually
from tests.wire import Wire
from worker.consume import consume
from worker.pool import RenderPool

PICTURE = photo_jpeg(320, 240)
PROTOCOLS = {"postgres": wire.postgres, "redis": wire.redis, "rabbitmq": wire.amqp, "minio": wire.http}
PORTS = {"postgres": 5432, "redis": 6379, "rabbitmq": 5672, "minio": 9000}
REDIS_NUMBER = 13
POOL, UPLOADS_AT_ONCE, RENDERS_AT_ONCE = 3, 8, 2


class System:
    """A gateway and a worker, each with ports of its own, and what they say to each service."""

    def __init__(self, http: httpx.AsyncClient, wires: dict[str, Wire]) -> None:
        self._http = http
        self._wires = wires
        self._uploaded: list[str] = []

    async def upload(self) -> str:
        answer = await self._http.post("/api/v1/upload", files={"image": ("cat.jpg", PICTURE)})
        assert answer.status_code == 202, answer.text
        self._uploaded.append(answer.json()["id"])
        return self._uploaded[-1]

    async def status(self, image_id: str) -> str:
        answer = await self._http.get(f"/api/v1/images/{image_id}/status")
        return str(answer.json()["status"])

    async def until_acked(self, messages: int) -> None:
        """Since the calls were last forgotten."""

        async def are_acked() -> bool:
            return self._wires["rabbitmq"].calls["ack"] == messages

        await eventually(are_acked, "the messages to be acknowledged")

    def forget_calls(self) -> None:
        for one in self._wires.values():
            one.calls.clear()

    def calls(self, service: str) -> Counter[str]:
        return self._wires[service].calls.copy()

    def connections(self) -> dict[str, int]:
        """Made so far."""
        return {name: one.connections for name, one in self._wires.items()}

    async def delete_all(self) -> None:
        for image_id in self._uploaded:
            assert (await self._http.delete(f"/api/v1/images/{image_id}")).status_code == 200


@pytest.fixture
async def system(postgres_url: str, redis_url: str, rabbitmq_url: str, minio_endpoint: str) -> AsyncIterator[System]:
    """Behind the wires, on names of its own. What it stores is gone afterwards."""
    own_number = urlsplit(redis_url)._replace(path=f"/{REDIS_NUMBER}").geturl()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(postgres_database(postgres_url))
        await asyncio.to_thread(upgrade, database)
        broker = await stack.enter_async_context(open_broker(rabbitmq_url))
        store = minio_endpoint if "://" in minio_endpoint else f"http://{minio_endpoint}"
        urls = {"postgres": f"{database}?sslmode=disable", "redis": own_number, "rabbitmq": broker.url, "minio": store}
        wires, through = {}, {}
        for name, url in urls.items():
            parts = urlsplit(url)
            wires[name] = await stack.enter_async_context(
                wire.counted(parts.hostname or "localhost", parts.port or PORTS[name], PROTOCOLS[name])
            )
            user, at, _ = parts.netloc.rpartition("@")
            through[name] = parts._replace(netloc=f"{user}{at}{wires[name].address}").geturl()
        settings = load(
            postgres_url=through["postgres"],
            redis_url=through["redis"],
            rabbitmq_url=through["rabbitmq"],
            minio_endpoint=through["minio"],
            rate_limit="off",
            postgres_pool_size=POOL,
            worker_processes=RENDERS_AT_ONCE,
        )
        system = System(await stack.enter_async_context(_running(settings)), wires)
        yield system
        await system.delete_all()
    async with Redis.from_url(own_number, protocol=2) as redis:
        await redis.flushdb()


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The gateway, and of a worker what it does for an image."""
    stop = asyncio.Event()
    policy = ProcessPolicy(lease=timedelta(seconds=30), retry=RetryPolicy(max_attempts=1, max_outages=0))
    async with open_ports(settings) as of_gateway, open_ports(settings) as of_worker, RenderPool(settings) as renderer:

        async def handle(job: Job) -> None:
            await process_image(of_worker, renderer, policy, job)

        consuming = asyncio.create_task(consume(of_worker.jobs, handle, RENDERS_AT_ONCE + 1, stop, 10))
        tokens = FakeTokenVerifier({"token": Principal(subject="alice", roles=frozenset({"user"}))})
        gateway = httpx.ASGITransport(create_app(settings, replace(of_gateway, tokens=tokens)))
        headers = {"Authorization": "Bearer token"}
        try:
            async with httpx.AsyncClient(transport=gateway, base_url="http://gateway", headers=headers) as http:
                yield http
        finally:
            stop.set()
            await consuming


async def test_the_straight_path_is_four_statements_three_requests_one_message_and_three_commands(system: System) -> None:
    # given that everybody is connected, and every statement prepared
    await system.upload()
    await system.until_acked(1)
    for _ in range(3):
        system.forget_calls()

        # when
        image_id = await system.upload()
        await system.until_acked(1)

        # then
        assert system.calls("postgres") == {"statement": 4}
        assert system.calls("minio") == {"PUT": 2, "GET": 1}
        assert system.calls("rabbitmq") == {"publish": 1, "ack": 1}
        assert system.calls("redis") == {"EVALSHA": 2, "PUBLISH": 1}
        assert await system.status(image_id) == "completed"


async def test_a_final_status_is_read_from_the_cache_alone(system: System) -> None:
    # given
    earlier, image_id = await system.upload(), await system.upload()
    await system.until_acked(2)
    await system.status(earlier)
    system.forget_calls()

    # when
    assert await system.status(image_id) == "completed"

    # then
    assert system.calls("postgres") == {}
    assert system.calls("redis") == {"EVALSHA": 1}


async def test_connections_are_as_many_as_there_is_work_at_once_and_not_as_there_are_images(system: System) -> None:
    images = 10 * UPLOADS_AT_ONCE

    async def client() -> None:
        for _ in range(images // UPLOADS_AT_ONCE):
            await system.status(await system.upload())

    await asyncio.gather(*(client() for _ in range(UPLOADS_AT_ONCE)))
    await system.until_acked(images)

    made = system.connections()
    jobs = RENDERS_AT_ONCE + 1
    assert made["postgres"] <= 2 * POOL
    assert made["minio"] <= UPLOADS_AT_ONCE + jobs
    assert made["redis"] <= UPLOADS_AT_ONCE + jobs
    # The gateway publishes on one, the worker receives on one for each priority.
    assert made["rabbitmq"] == 1 + 3
