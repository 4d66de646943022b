"""`image-processor doctor` on the real services, on an embedded folder, and where something is wrong."""

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from common.settings import Settings
from tests.broker import open_broker
from tests.databases import execute
from tests.e2e.conftest import migrate, own_services
from tests.e2e.stack import PROGRAM, Stack, free_port


def doctor(environment: dict[str, str], *arguments: str) -> tuple[int, dict[str, dict[str, Any]], str]:
    """→ the exit status, what was found by what was examined, and everything that was said."""
    ended = subprocess.run(
        [PROGRAM, "doctor", "--json", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    return ended.returncode, {each["what"]: each for each in found}, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def migrated_environment(settings: Settings) -> Iterator[dict[str, str]]:
    """Of its own: what other tests leave with the dead letters is worth a warning."""
    with own_services(settings) as environment:
        migrate(environment)
        yield environment


def levels(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {what: each["level"] for what, each in found.items() if each["level"] != "ok"}


def test_on_the_real_services_all_is_well(migrated_environment: dict[str, str]) -> None:
    status, found, said = doctor(migrated_environment)

    assert (status, levels(found)) == (0, {}), said
    assert set(found) == {
        *("database", "clock", "object store", "queue", "cache", "identity provider", "backlog", "issuer", "client"),
        "encryption",
    }


@pytest.mark.parametrize(
    ("variable", "value", "failed"),
    [
        ("POSTGRES_URL", "postgresql://u:not-to-be-told@127.0.0.1:{port}/d", {"database", "clock", "backlog"}),
        ("REDIS_URL", "redis://:not-to-be-told@127.0.0.1:{port}/0", {"cache"}),
        ("RABBITMQ_URL", "amqp://u:not-to-be-told@127.0.0.1:{port}/", {"queue"}),
        ("MINIO_ENDPOINT", "127.0.0.1:{port}", {"object store"}),
        ("MINIO_SECRET_KEY", "not-to-be-told", {"object store"}),
        ("KEYCLOAK_URL", "http://127.0.0.1:{port}", {"identity provider", "issuer", "client"}),
        ("KEYCLOAK_REALM", "Unknown", {"identity provider", "issuer", "client"}),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_told(
    migrated_environment: dict[str, str], variable: str, value: str, failed: set[str]
) -> None:
    status, found, said = doctor(migrated_environment | {variable: value.format(port=free_port())})

    assert status == 1
    assert levels(found) == dict.fromkeys(failed, "failed")
    assert all(found[what]["advice"] for what in failed)
    assert "not-to-be-told" not in said
    assert "Traceback" not in said


def test_a_database_account_without_rights_on_the_tables(migrated_environment: dict[str, str], settings: Settings) -> None:
    url, role = migrated_environment["POSTGRES_URL"], f"doctor_{uuid4().hex[:12]}"
    asyncio.run(execute(url, f"CREATE ROLE {role} LOGIN PASSWORD 'not-to-be-told'"))
    try:
        parts = urlsplit(url)
        stranger = parts._replace(netloc=f"{role}:not-to-be-told@{parts.hostname}:{parts.port or 5432}").geturl()

        status, found, said = doctor(migrated_environment | {"POSTGRES_URL": stranger})
    finally:
        asyncio.run(execute(url, f"DROP ROLE {role}"))

    assert status == 1
    assert levels(found) == {"database": "failed", "backlog": "failed"}
    assert "permission denied" in found["database"]["detail"]
    assert "rights" in found["database"]["advice"]
    assert "Traceback" not in said
    assert "not-to-be-told" not in said


def test_a_queue_that_is_not_as_it_must_be(migrated_environment: dict[str, str], settings: Settings) -> None:
    async def examined() -> tuple[int, dict[str, dict[str, Any]], str]:
        async with open_broker(settings.rabbitmq_url.get_secret_value()) as broker:
            classic = {"durable": True, "arguments": {"x-queue-type": "classic"}}
            await broker.ask("PUT", "queues/{}/images.low", json=classic)
            return await asyncio.to_thread(doctor, migrated_environment | {"RABBITMQ_URL": broker.url})

    status, found, _ = asyncio.run(examined())

    assert (status, levels(found)) == (1, {"queue": "failed"})
    assert "the queue images.low is already there and is not as this program declares it" in found["queue"]["detail"]
    assert "Delete it" in found["queue"]["detail"]


def test_services_that_take_connections_and_say_nothing(migrated_environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        nowhere = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = {
            "POSTGRES_URL": f"postgresql://u:p@{nowhere}/d",
            "REDIS_URL": f"redis://{nowhere}/0",
            "RABBITMQ_URL": f"amqp://u:p@{nowhere}/",
            "MINIO_ENDPOINT": nowhere,
            "KEYCLOAK_URL": f"http://{nowhere}",
        }

        status, found, _ = doctor(migrated_environment | environment)

    assert status == 1
    assert set(levels(found).values()) == {"failed"}
    assert set(levels(found)) == set(found) - {"encryption"}
    assert max(each["seconds"] for each in found.values()) < 20


def test_a_database_that_is_not_migrated(service_environment: dict[str, str]) -> None:
    postgres = service_environment["POSTGRES_URL"].rpartition("/")[0] + "/postgres"

    status, found, _ = doctor(service_environment | {"POSTGRES_URL": postgres})

    assert status == 1
    assert found["database"]["advice"] == "Run: image-processor migrate"


def test_an_issuer_that_is_not_the_one_in_tokens_is_a_warning(migrated_environment: dict[str, str]) -> None:
    status, found, _ = doctor(migrated_environment | {"KEYCLOAK_PUBLIC_URL": "https://keys.example.com"})

    assert (status, levels(found)) == (0, {"issuer": "warning"})
    assert "https://keys.example.com" in found["issuer"]["detail"]


def test_a_client_that_the_realm_does_not_have_is_a_warning(migrated_environment: dict[str, str]) -> None:
    status, found, _ = doctor(migrated_environment | {"KEYCLOAK_CLIENT_ID": "nobody"})

    assert (status, levels(found)) == (0, {"client": "warning"})
    assert "nobody" in found["client"]["detail"]
    assert "KEYCLOAK_CLIENT_ID" in found["client"]["advice"]


def test_an_embedded_folder(own_stack: Stack) -> None:
    if not own_stack.embedded:
        pytest.skip("the real services have their own tests")

    status, found, said = doctor({}, "--data", str(own_stack.folder / "data"))

    assert (status, levels(found)) == (0, {}), said
    assert not {"issuer", "client", "encryption"} & set(found)


def test_a_folder_that_is_none_is_refused_with_a_line(tmp_path: Path) -> None:
    status, _, said = doctor({}, "--data", str(tmp_path))

    assert status == 2
    assert said.strip() == f"image-processor: --data: {tmp_path} holds no data of the embedded mode"
    assert list(tmp_path.iterdir()) == []
