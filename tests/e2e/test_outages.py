"""A service that is away is met at its own address by nobody: what must go on goes on, what cannot says 503."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.settings import Settings
from tests.e2e.stack import PROGRAM, Stack, free_port
from tests.pictures import photo_jpeg


@pytest.fixture
def stack_without(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Stack]:
    """A gateway whose setting (the test's parameter) points at a closed port; no worker."""
    environment: dict[str, str] = request.getfixturevalue("migrated_environment")
    address = {
        "RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:{}/",
        "REDIS_URL": "redis://127.0.0.1:{}/0",
        "POSTGRES_URL": "postgresql://a:b@127.0.0.1:{}/c",
        "MINIO_ENDPOINT": "127.0.0.1:{}",
    }[request.param].format(free_port())
    stack = Stack(tmp_path, environment | {request.param: address, "SERVICE_TIMEOUT_SECONDS": "3"}, settings.issuer)
    try:
        stack.start_gateway()
        yield stack
    finally:
        stack.close()


@pytest.mark.parametrize("stack_without", ["RABBITMQ_URL", "REDIS_URL"], indirect=True)
def test_without_broker_or_cache_uploads_and_reads_go_on(stack_without: Stack) -> None:
    user = stack_without.as_user()

    accepted = stack_without.upload(user, photo_jpeg(64, 48))

    assert accepted.status_code == 202, accepted.text
    assert stack_without.http.get(accepted.json()["links"]["self"], headers=user).status_code == 200
    ready = stack_without.http.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")


@pytest.mark.parametrize("stack_without", ["RABBITMQ_URL"], indirect=True)
def test_what_was_uploaded_while_the_broker_was_away_is_done_later(
    stack_without: Stack, migrated_environment: dict[str, str]
) -> None:
    # given
    user = stack_without.as_user()
    image_id = stack_without.upload(user, photo_jpeg(64, 48)).json()["id"]

    # when a worker comes that reaches the broker
    stack_without.environment["RABBITMQ_URL"] = migrated_environment["RABBITMQ_URL"]
    stack_without.start_worker()

    # then
    assert stack_without.final(user, image_id)["status"] == "completed"


@pytest.mark.parametrize("stack_without", ["POSTGRES_URL", "MINIO_ENDPOINT"], indirect=True)
def test_without_database_or_object_store_it_is_503_and_says_when_to_come_again(stack_without: Stack) -> None:
    answer = stack_without.upload(stack_without.as_user(), photo_jpeg(64, 48))

    assert (answer.status_code, answer.json()["type"]) == (503, "urn:image-processor:problem:unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert stack_without.http.get("/health/ready").status_code == 503


@pytest.mark.parametrize("program", ["gateway", "worker"])
def test_an_unmigrated_database_is_refused_with_a_line_that_says_so(
    program: str, service_environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    postgres = settings.postgres_url.get_secret_value().rsplit("/", 1)[0] + "/postgres"
    environment = service_environment | {"POSTGRES_URL": postgres, "GATEWAY_PORT": str(free_port()), "WORKER_PORT": "0"}

    ended = subprocess.run(
        [PROGRAM, program], env=os.environ | environment, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )

    assert ended.returncode == 1
    assert "image-processor migrate" in ended.stderr
    assert "Traceback" not in ended.stderr
