"""One stack a session for each way of running, each on names of its own: database, vhost and cache are made and dropped again."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest

from common.settings import Settings
from tests.conftest import require_services
from tests.e2e.stack import PROGRAM, Stack


def management(settings: Settings, method: str, path: str, **body: Any) -> None:
    """RabbitMQ's own API."""
    parts = urlsplit(settings.rabbitmq_url.get_secret_value())
    address = os.environ.get("RABBITMQ_MANAGEMENT_URL", f"http://{parts.hostname}:15672")
    answer = httpx.request(
        method, f"{address}/api/{path}", auth=(parts.username or "guest", parts.password or "guest"), json=body, timeout=30
    )
    assert answer.is_success, answer.text


def _sql(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.fixture(scope="session")
def service_environment(settings: Settings) -> Iterator[dict[str, str]]:
    """For this session alone."""
    with own_services(settings) as environment:
        yield environment


@contextmanager
def own_services(settings: Settings) -> Iterator[dict[str, str]]:
    """→ where a database and a vhost are that nobody else uses, and the cache's last database."""
    postgres, rabbitmq = settings.postgres_url.get_secret_value(), settings.rabbitmq_url.get_secret_value()
    redis = settings.redis_url.get_secret_value()
    require_services(settings)
    name = f"e2e_{uuid4().hex[:12]}"
    environment = {
        "POSTGRES_URL": urlunsplit(urlsplit(postgres)._replace(path=f"/{name}")),
        "RABBITMQ_URL": urlunsplit(urlsplit(rabbitmq)._replace(path=f"/{name}")),
        "REDIS_URL": urlunsplit(urlsplit(redis)._replace(path="/15")),
    }
    _sql(postgres, f"CREATE DATABASE {name}")
    management(settings, "PUT", f"vhosts/{name}")
    try:
        yield environment
    finally:
        management(settings, "DELETE", f"vhosts/{name}")
        _sql(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def migrated_environment(service_environment: dict[str, str]) -> dict[str, str]:
    migrate(service_environment)
    return service_environment


def migrate(environment: dict[str, str]) -> None:
    subprocess.run([PROGRAM, "migrate"], env=os.environ | environment, check=True, timeout=60)


@pytest.fixture(scope="session", params=["embedded", "services"])
def stack(request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The running service, once for each way of running it."""
    yield from _running(request, settings, tmp_path_factory.mktemp(f"stack-{request.param}"), workers=2)


@pytest.fixture(params=["embedded", "services"])
def own_stack(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Stack]:
    """The same for tests that kill and restart it."""
    yield from _running(request, settings, tmp_path, workers=1)


def _running(request: pytest.FixtureRequest, settings: Settings, folder: Path, workers: int) -> Iterator[Stack]:
    if request.param == "embedded":
        stack = Stack(folder, {}, None)
    else:
        stack = Stack(folder, request.getfixturevalue("migrated_environment"), settings.issuer)
    try:
        stack.start(workers)
        yield stack
    finally:
        stack.close()
