"""Names of a benchmark's own on the real services, which nobody else uses and which are gone afterwards.

A database, a virtual host and a number of Redis. The object store's buckets are everybody's: of them, the objects are removed that
belong to images of the benchmark's database. Not for use in a running event loop.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import redis
from minio import Minio
from minio.deleteobjects import DeleteObject
from pydantic import SecretStr

from bench.processes import listening
from common.adapters.sql import SqlImageStore, SqlUpkeep
from common.loopback import DIRECT
from common.ports import Bucket
from common.settings import Settings
from common.wiring import migrate

# Those above are the tests'.
REDIS_NUMBERS = range(12, 0, -1)
# What a benchmark takes at most; after it, a number that was never given back is free again.
TAKEN_SECONDS = 3600
TAKEN = "taken-by-benchmark"


class NotRunning(Exception):
    pass


def addresses(settings: Settings) -> dict[str, tuple[str, int]]:
    """Host and port, by service."""
    urls = {
        "postgres": (settings.postgres_url.get_secret_value(), 5432),
        "rabbitmq": (settings.rabbitmq_url.get_secret_value(), 5672),
        "redis": (settings.redis_url.get_secret_value(), 6379),
        "minio": (settings.minio_endpoint, 9000),
        "keycloak": (settings.keycloak_url, 8080),
    }
    parts = {name: (urlsplit(url if "://" in url else f"//{url}"), port) for name, (url, port) in urls.items()}
    return {name: (split.hostname or "localhost", split.port or port) for name, (split, port) in parts.items()}


def server_processes(settings: Settings) -> dict[str, int]:
    """By service. Raises NotRunning."""
    found = {}
    for name, (host, port) in addresses(settings).items():
        pid = listening(port)
        if pid is None:
            raise NotRunning(
                f"{name}: no process here that this user may look at listens on {host}:{port}; scripts/services up --native"
            )
        found[name] = pid
    return found


@contextmanager
def own_names(settings: Settings) -> Iterator[dict[str, str]]:
    """→ POSTGRES_URL of a migrated database, RABBITMQ_URL, REDIS_URL. Raises NotRunning."""
    server_processes(settings)
    name = f"bench_{uuid4().hex[:12]}"
    postgres, rabbitmq = settings.postgres_url.get_secret_value(), settings.rabbitmq_url.get_secret_value()
    own = urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
    since = datetime.now(UTC)
    with ExitStack() as stack:
        _execute(postgres, f"CREATE DATABASE {name}")
        stack.callback(_execute, postgres, f"DROP DATABASE {name} WITH (FORCE)")
        stack.callback(_remove_objects, settings, own, since)
        migrate(settings.model_copy(update={"postgres_url": SecretStr(own)}))
        asyncio.run(_take_turn(own, timedelta(seconds=settings.sweep_interval_seconds)))
        _manage(settings, "PUT", f"vhosts/{name}")
        stack.callback(_manage, settings, "DELETE", f"vhosts/{name}")
        redis_url = stack.enter_context(_own_number(settings.redis_url.get_secret_value()))
        yield {
            "POSTGRES_URL": own,
            "RABBITMQ_URL": urlunsplit(urlsplit(rabbitmq)._replace(path=f"/{name}")),
            "REDIS_URL": redis_url,
        }


async def _take_turn(database: str, every: timedelta) -> None:
    """The first worker would else begin with a sweep, through objects that are everybody's."""
    store = SqlImageStore(database, 1, 10)
    try:
        await SqlUpkeep(store).take_turn("sweep", every)
    finally:
        await store.close()


def _execute(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def _manage(settings: Settings, method: str, path: str) -> None:
    """RabbitMQ's own API."""
    parts = urlsplit(settings.rabbitmq_url.get_secret_value())
    address = os.environ.get("RABBITMQ_MANAGEMENT_URL", f"http://{parts.hostname}:15672")
    with httpx.Client(mounts=DIRECT, auth=(parts.username or "guest", parts.password or "guest"), timeout=60) as http:
        http.request(method, f"{address}/api/{path}").raise_for_status()


@contextmanager
def _own_number(url: str) -> Iterator[str]:
    """An empty one."""
    for number in REDIS_NUMBERS:
        own = urlunsplit(urlsplit(url)._replace(path=f"/{number}"))
        with redis.Redis.from_url(own, protocol=2) as client:
            if client.set(TAKEN, 1, nx=True, ex=TAKEN_SECONDS):
                if client.dbsize() == 1:
                    try:
                        yield own
                        return
                    finally:
                        client.flushdb()
                client.delete(TAKEN)
    raise NotRunning("Redis: all its numbers are in use")


def _remove_objects(settings: Settings, database: str, since: datetime) -> None:
    """Of the images of this database, whose ids begin with the time of their upload."""
    scheme, _, address = settings.minio_endpoint.rpartition("://")
    keys = settings.minio_access_key.get_secret_value(), settings.minio_secret_key.get_secret_value()
    client = Minio(address, *keys, secure=scheme == "https", region=settings.minio_region)
    first = str(UUID(int=int(since.timestamp() * 1000) << 80))
    for bucket in Bucket:
        if not client.bucket_exists(bucket):
            continue
        found = [str(one.object_name) for one in client.list_objects(bucket, recursive=True, start_after=first)]
        ours = asyncio.run(_known(database, {key[:36] for key in found}))
        for error in client.remove_objects(bucket, [DeleteObject(key) for key in found if key[:36] in ours]):
            raise NotRunning(f"minio: {error.name} could not be removed: {error.message}")


async def _known(database: str, ids: set[str]) -> set[str]:
    """Those that there are images of."""
    connection = await asyncpg.connect(database)
    try:
        return {str(row["id"]) for row in await connection.fetch("SELECT id FROM images WHERE id::text = ANY($1)", list(ids))}
    finally:
        await connection.close()
