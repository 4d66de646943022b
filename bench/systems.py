"""Two systems that do the same job, this service and one of Celery, as clients meet them: send a picture, know when it is done.

Both have a gateway and workers of one picture at a time each, on names of their own on the same services. This service's clients
are told by one read that waits for the final state. Celery's gateway has no such thing; so that nobody's polling is measured, its
clients are told by what the result backend publishes, and then read the state once, as well.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import httpx
from minio import Minio
from minio.deleteobjects import DeleteObject
from redis.asyncio import Redis

from bench import installed, processes
from bench.running import Running, cpu_seconds_by_process, running, stopped_by_signals
from bench.services import own_names, server_processes
from common.loopback import DIRECT
from common.settings import Settings, load
from tests.e2e.stack import Process, free_port
from tests.polling import wait_until

WAIT_SECONDS = 30
META = "celery-task-meta-"


class Clients(Protocol):
    """Any number of them, in one event loop."""

    async def upload(self, picture: bytes) -> str:
        """→ the image's id, once it is accepted."""

    async def completed(self, image_id: str) -> None: ...


class System(Protocol):
    def clients(self) -> AbstractAsyncContextManager[Clients]: ...

    def cpu_seconds(self) -> dict[str, float]:
        """So far, of the gateway, the workers (with their children) and each service."""


class OurClients:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def upload(self, picture: bytes) -> str:
        answer = await self._http.post("/api/v1/upload", files={"image": ("photo.jpg", picture, "image/jpeg")})
        return str(answer.raise_for_status().json()["id"])

    async def completed(self, image_id: str) -> None:
        answer = await self._http.get(f"/api/v1/images/{image_id}", headers={"Prefer": f"wait={WAIT_SECONDS}"})
        status = answer.raise_for_status().json()["status"]
        if status != "completed":
            raise RuntimeError(f"an image is {status} after {WAIT_SECONDS} s")


class Ours:
    def __init__(self, system: Running) -> None:
        self._system = system

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[Clients]:
        headers = self._system.as_user()
        async with _http(self._system.gateway_url, headers) as http:
            yield OurClients(http)

    def cpu_seconds(self) -> dict[str, float]:
        return cpu_seconds_by_process()


@contextmanager
def ours(folder: Path, workers: int) -> Iterator[System]:
    with running(folder, workers=workers, worker_processes=1) as system:
        yield Ours(system)


class CeleryClients:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._states: dict[str, asyncio.Future[str]] = {}

    async def upload(self, picture: bytes) -> str:
        answer = await self._http.post("/upload", files={"image": ("photo.jpg", picture, "image/jpeg")})
        return str(answer.raise_for_status().json()["id"])

    async def completed(self, image_id: str) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            state = await self._state(image_id)
        del self._states[image_id]
        answer = await self._http.get(f"/images/{image_id}")
        if state != "SUCCESS" or answer.raise_for_status().json()["status"] != state:
            raise RuntimeError(f"a task is {state}")

    async def listen(self, redis: Redis, subscribed: asyncio.Event) -> None:
        async with redis.pubsub() as messages:
            await messages.psubscribe(f"{META}*")
            async for message in messages.listen():
                if message["type"] == "psubscribe":
                    subscribed.set()
                else:
                    self._state(message["channel"].decode().removeprefix(META)).set_result(json.loads(message["data"])["status"])

    def _state(self, image_id: str) -> asyncio.Future[str]:
        """It may be known before anybody asks."""
        return self._states.setdefault(image_id, asyncio.get_running_loop().create_future())


class CelerySystem:
    def __init__(self, folder: Path, environment: dict[str, str], workers: int) -> None:
        self._redis_url = environment["REDIS_URL"]
        self._settings = load()
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        python = installed.CELERY.command[0]
        arguments = ["-m", "uvicorn", "gateway:api", "--port", str(port), "--log-level", "warning"]
        self._gateway = Process(arguments, environment, folder / "celery-gateway.log", (python,))
        self._workers = [
            Process(
                ["-m", "celery", "-A", "tasks", "worker", "--concurrency", "1", "-n", f"{number}@%h", "-l", "WARNING"],
                environment,
                folder / f"celery-worker-{number}.log",
                (python,),
            )
            for number in range(workers)
        ]

    def wait_until_it_answers(self) -> None:
        def answers() -> bool:
            for process in (self._gateway, *self._workers):
                if not process.is_running():
                    raise RuntimeError(f"Celery's part has ended while it started:\n{process.log.read_text()[-2000:]}")
            with suppress(httpx.TransportError), httpx.Client(mounts=DIRECT) as http:
                return http.get(f"{self._url}/health").is_success
            return False

        wait_until(answers, f"Celery's gateway; its log: {self._gateway.log}", 60)

    def stop(self) -> None:
        for process in (*self._workers, self._gateway):
            with suppress(Exception):
                process.stop()
            process.kill()

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[Clients]:
        async with _http(self._url, {}) as http, Redis.from_url(self._redis_url, protocol=2) as redis:
            clients, subscribed = CeleryClients(http), asyncio.Event()
            listening = asyncio.create_task(clients.listen(redis, subscribed))
            try:
                await subscribed.wait()
                yield clients
            finally:
                listening.cancel()
                await asyncio.wait([listening])

    def cpu_seconds(self) -> dict[str, float]:
        used = {
            "gateway": processes.cpu_seconds(self._gateway.pid),
            "worker": processes.cpu_seconds(*(worker.pid for worker in self._workers)),
        }
        return used | {name: processes.cpu_seconds(pid) for name, pid in server_processes(self._settings).items()}


@contextmanager
def celery(folder: Path, workers: int) -> Iterator[System]:
    settings = load()
    with stopped_by_signals(), own_names(settings) as names, _own_buckets(settings, names) as buckets:
        environment = names | buckets | {"PYTHONPATH": str(installed.HERE / "celery")}
        system = CelerySystem(folder, environment, workers)
        try:
            system.wait_until_it_answers()
            yield system
        finally:
            system.stop()


@contextmanager
def _own_buckets(settings: Settings, names: dict[str, str]) -> Iterator[dict[str, str]]:
    keys = settings.minio_access_key.get_secret_value(), settings.minio_secret_key.get_secret_value()
    endpoint = settings.minio_endpoint.removeprefix("http://")
    client = Minio(endpoint, *keys, secure=False, region=settings.minio_region)
    name = names["RABBITMQ_URL"].rpartition("/")[2].replace("_", "-")
    buckets = {"RAW_BUCKET": f"{name}-raw", "PROCESSED_BUCKET": f"{name}-processed"}
    try:
        for bucket in buckets.values():
            client.make_bucket(bucket)
        yield buckets | {"MINIO_ENDPOINT": endpoint, "MINIO_ACCESS_KEY": keys[0], "MINIO_SECRET_KEY": keys[1]}
    finally:
        for bucket in buckets.values():
            stored = client.list_objects(bucket, recursive=True)
            for error in client.remove_objects(bucket, (DeleteObject(str(one.object_name)) for one in stored)):
                raise RuntimeError(f"{error.name} could not be removed: {error.message}")
            client.remove_bucket(bucket)


def _http(url: str, headers: dict[str, str]) -> httpx.AsyncClient:
    mounts: dict[str, httpx.AsyncBaseTransport | None] = dict.fromkeys(DIRECT)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=2 * WAIT_SECONDS, mounts=mounts)


Starting = AbstractContextManager[System]
