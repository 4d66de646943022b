"""Where the real services are, for tests that need them. A missing service skips locally and fails in CI.

The addresses are the settings' own defaults, so the same environment variables point the tests elsewhere.
"""

import logging
import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import structlog

from common.settings import Settings, load


def log_errors_only(*_: object) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


@pytest.fixture(autouse=True)
def logging_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program sets up its logging for good. Where a test calls one in this process, that would be every later test's, too."""
    monkeypatch.setattr("cli.dead.configure_logging", log_errors_only)
    yield
    structlog.reset_defaults()


def require(name: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError as error:
        message = f"{name} does not answer on {host}:{port} ({error}); start it with scripts/services up"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def require_url(name: str, url: str, default_port: int) -> None:
    parts = urlsplit(url if "://" in url else f"//{url}")
    require(name, parts.hostname or "localhost", parts.port or default_port)


def require_services(settings: Settings) -> None:
    """All of them."""
    for name, url, port in (
        ("PostgreSQL", settings.postgres_url.get_secret_value(), 5432),
        ("RabbitMQ", settings.rabbitmq_url.get_secret_value(), 5672),
        ("Redis", settings.redis_url.get_secret_value(), 6379),
        ("MinIO", settings.minio_endpoint, 9000),
        ("Keycloak", settings.keycloak_url, 8080),
    ):
        require_url(name, url, port)


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load()


@pytest.fixture
def postgres_url(settings: Settings) -> str:
    url = settings.postgres_url.get_secret_value()
    require_url("PostgreSQL", url, 5432)
    return url


@pytest.fixture
def redis_url(settings: Settings) -> str:
    url = settings.redis_url.get_secret_value()
    require_url("Redis", url, 6379)
    return url


@pytest.fixture
def rabbitmq_url(settings: Settings) -> str:
    url = settings.rabbitmq_url.get_secret_value()
    require_url("RabbitMQ", url, 5672)
    return url


@pytest.fixture
def minio_endpoint(settings: Settings) -> str:
    require_url("MinIO", settings.minio_endpoint, 9000)
    return settings.minio_endpoint


@pytest.fixture
def keycloak_url(settings: Settings) -> str:
    require_url("Keycloak", settings.keycloak_url, 8080)
    return settings.keycloak_url
