"""What the doctor makes of the addresses of the services."""

from typing import Any

import pytest

from cli.encryption import examine_encryption
from common.settings import Settings
from common.usecases.examine import Level

SAFE: dict[str, Any] = {
    "postgres_url": "postgresql://u:p@db.internal/d?sslmode=verify-full",
    "redis_url": "rediss://:p@cache.internal/0",
    "rabbitmq_url": "amqps://u:p@queue.internal/",
    "minio_endpoint": "https://objects.internal",
    "minio_access_key": "key",
    "minio_secret_key": "secret-key",
    "keycloak_url": "https://keys.internal",
}


def settings(**changed: Any) -> Settings:
    return Settings(_env_file=None, **{"environment": "production", **SAFE, **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {
            "postgres_url": "postgresql://u:p@localhost:5433/d",
            "redis_url": "redis://127.0.0.1:6380",
            "rabbitmq_url": "amqp://u:p@[::1]/",
        },
        {"postgres_url": "postgresql://u:p@/d?host=/run/postgresql"},
        {"minio_endpoint": "localhost:9000", "keycloak_url": "http://localhost:8080"},
        {"minio_endpoint": "elsewhere:9000", "storage_type": "local"},
    ],
)
async def test_tls_that_is_verified_and_this_machine_are_safe(changed: dict[str, Any]) -> None:
    assert (await examine_encryption(settings(**changed))).level is Level.OK


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"postgres_url": "postgresql://u:p@db.internal/d"}, "POSTGRES_URL (plain text)"),
        ({"postgres_url": "postgresql://u:p@localhost,db.internal:5433/d"}, "POSTGRES_URL (plain text)"),
        ({"postgres_url": "postgresql://u:p@db.internal/d?sslmode=prefer"}, "POSTGRES_URL (plain text)"),
        ({"postgres_url": "postgresql://u:p@db.internal/d?sslmode=require"}, "POSTGRES_URL (host name not verified)"),
        ({"redis_url": "redis://:p@cache.internal/0"}, "REDIS_URL (plain text)"),
        ({"redis_url": "rediss://:p@cache.internal/0?ssl_cert_reqs=none"}, "REDIS_URL (certificate not verified)"),
        ({"redis_url": "rediss://:p@cache.internal/0?ssl_check_hostname=0"}, "REDIS_URL (certificate not verified)"),
        ({"rabbitmq_url": "amqp://u:p@queue.internal/"}, "RABBITMQ_URL (plain text)"),
        ({"rabbitmq_url": "amqps://u:p@queue.internal/?no_verify_ssl=1"}, "RABBITMQ_URL (certificate not verified)"),
        ({"minio_endpoint": "objects.internal:9000"}, "MINIO_ENDPOINT (plain text)"),
        ({"keycloak_url": "http://keys.internal"}, "KEYCLOAK_URL (plain text)"),
    ],
)
async def test_what_could_be_read_on_the_way_is_named_and_worth_a_warning_in_production(changed: dict[str, Any], said: str) -> None:
    found = await examine_encryption(settings(**changed))
    in_development = await examine_encryption(settings(**changed, environment="development"))

    assert found.level is Level.WARNING
    assert said in found.detail
    assert "u:p@" not in found.detail
    assert "TLS_CA_FILE" in found.advice
    assert (in_development.level, in_development.detail) == (Level.OK, found.detail)
