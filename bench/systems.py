"""Two systems that do the same job, this service and one of Celery, as clients meet them: send a picture, know when it is done.

Both have a gateway and workers of one picture at a time each, on names of their own on the same services. So that nobody's way of
waiting is measured, clients of both learn that an image is final from what its worker publishes in Redis, where it does that
anyway; then they ask the gateway for its state, once.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
from minio import Minio
from minio.deleteobjects import DeleteObject
from redis.asyncio import Redis

from bench import installed, processes
from bench.running import Running, cpu_seconds_by_process, running, stopped_by_signals
from bench.services import own_names, server_processes
from common.adapters.redis.notifier import CHANNEL
from common.loopback import DIRECT
from common.settings import Settings, load
from tests.e2e.stack import Process, free_port
from tests.polling import wait_until

WAIT_SECONDS = 30


@dataclass(frozen=True)
class Api:
    """Paths of the gateway, `state` with a place for the id; the pattern of the channels on which finals are published, with the id
    in the channel's name behind `prefix`, or in the message where that is empty; what the state of a processed image is called."""

    upload: str
    state: str
    channels: str
    prefix: str
    done: str


OURS = Api("/api/v1/upload", "/api/v1/images/{}/status", CHANNEL, "", "completed")
CELERY = Api("/upload", "/images/{}", "celery-task-meta-*", "celery-task-meta-", "SUCCESS")


class Clients:
    """Any number of them, in one event loop."""

    def __init__(self, api: Api, http: httpx.AsyncClient) -> None:
        self._api = api
        self._http = http
        self._finals: dict[str, asyncio.Future[None]] = {}

    async def upload(self, picture: bytes) -> str:
        """→ the image's id, once it is accepted."""
        answer = await self._http.post(self._api.upload, files={"image": ("photo.jpg", picture, "image/jpeg")})
        return str(answer.raise_for_status().json()["id"])

    async def completed(self, image_id: str) -> None:
        """Returns when it is, by the gateway's word. Raises where it has failed, or takes too long."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self._final(image_id)
        del self._finals[image_id]
        state = (await self._http.get(self._api.state.format(image_id))).raise_for_status().json()["status"]
        if state != self._api.done:
            raise RuntimeError(f"an image is {state} when it should be {self._api.done}")

    async def listen(self, redis: Redis, listening: asyncio.Event) -> None:
        async with redis.pubsub() as messages:
            await messages.psubscribe(self._api.channels)
            async for message in messages.listen():
                if message["type"] == "psubscribe":
                    listening.set()
                    continue
                told = message["channel"].removeprefix(self._api.prefix.encode()) if self._api.prefix else message["data"]
                final = self._final(told.decode())
                if not final.done():
                    final.set_result(None)

    def _final(self, image_id: str) -> asyncio.Future[None]:
        """It may be known before anybody waits."""
        return self._finals.setdefault(image_id, asyncio.get_running_loop().create_future())


@asynccontextmanager
async def _clients(api: Api, url: str, headers: dict[str, str], redis_url: str) -> AsyncIterator[Clients]:
    mounts: dict[str, httpx.AsyncBaseTransport | None] = dict.fromkeys(DIRECT)
    http = httpx.AsyncClient(base_url=url, headers=headers, timeout=2 * WAIT_SECONDS, mounts=mounts)
    async with http, Redis.from_url(redis_url, protocol=2) as redis:
        clients, listening = Clients(api, http), asyncio.Event()
        task = asyncio.create_task(clients.listen(redis, listening))
        try:
            await listening.wait()
            yield clients
        finally:
            task.cancel()
            await asyncio.wait([task])


class System(Protocol):
    def clients(self) -> AbstractAsyncContextManager[Clients]: ...

    def cpu_seconds(self) -> dict[str, float]:
        """So far, of the gateway, the workers (with their children) and each service."""


class OurSystem:
    def __init__(self, system: Running) -> None:
        self._system = system

    def clients(self) -> AbstractAsyncContextManager[Clients]:
        return _clients(OURS, self._system.gateway_url, self._system.as_user(), self._system.environment["REDIS_URL"])

    def cpu_seconds(self) -> dict[str, float]:
        return cpu_seconds_by_process()


@contextmanager
def ours(folder: Path, workers: int) -> Iterator[System]:
    with running(folder, workers=workers, worker_processes=1) as system:
        yield OurSystem(system)


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

    def clients(self) -> AbstractAsyncContextManager[Clients]:
        return _clients(CELERY, self._url, {}, self._redis_url)

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


Starting = AbstractContextManager[System]
