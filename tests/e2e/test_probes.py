"""What probes are told by a program whose services are not there yet."""

from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Process, free_port
from tests.polling import wait_until


@pytest.mark.parametrize("program", ["gateway", "worker"])
def test_a_program_that_waits_for_its_database_is_alive_and_not_ready(program: str, tmp_path: Path) -> None:
    # given
    port = free_port()
    nowhere = f"127.0.0.1:{free_port()}"
    environment = {
        f"{program.upper()}_PORT": str(port),
        "POSTGRES_URL": f"postgresql://nobody:secret@{nowhere}/none",
        "RABBITMQ_URL": f"amqp://nobody:secret@{nowhere}/",
        "REDIS_URL": f"redis://{nowhere}/0",
        "MINIO_ENDPOINT": nowhere,
        "KEYCLOAK_URL": f"http://{nowhere}",
    }
    process = Process([program], environment, tmp_path / "log")

    def live() -> httpx.Response | None:
        assert process.is_running(), process.log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False)
        except httpx.TransportError:
            return None

    try:
        # when
        alive = wait_until(live, "the program to answer")
        ready = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10, trust_env=False)
        # then
        assert alive.status_code == 200
        assert ready.status_code == 503
        assert ready.json()["status"] == "unavailable"
        assert set(ready.json()["checks"].values()) == {"unavailable"}
        assert nowhere not in ready.text
        # and it stops when it is told to
        assert process.stop() == 0
        assert "secret" not in process.log.read_text()
    finally:
        process.kill()
