"""What probes and metrics say while a service is away, full or silent: the right word, in time, however many ask."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.samples import GOOD, make_samples
from tests.chaos.servers import Servers
from tests.chaos.system import Program, System, running_system
from tests.polling import wait_until

PROBERS = 10
# The limit of the answer, and what a busy machine adds to it.
BOUND_SECONDS = 3 + 3
# What readiness calls them, and what it comes to without them.
SERVICES = {
    "postgres": ("database", "unavailable"),
    "minio": ("object_store", "unavailable"),
    "rabbitmq": ("queue", "degraded"),
    "redis": ("cache", "degraded"),
}


@pytest.fixture
def measuring(tmp_path: Path, servers: Servers, keycloak_url: str) -> Iterator[System]:
    """One that measures all the time."""
    with running_system(tmp_path, servers, MEASURE_INTERVAL_SECONDS="0.3") as system:
        yield system


def ready(program: Program) -> dict[str, Any]:
    """→ what is said, with the HTTP status as `http`."""
    answer = httpx.get(f"{program.url}/health/ready", timeout=30, trust_env=False)
    said: dict[str, Any] = answer.json()
    return said | {"http": answer.status_code}


def wait_for(program: Program, status: str, what: str) -> None:
    wait_until(lambda: ready(program)["status"] == status, what, 40)


def probe(program: Program, count: int = 2 * PROBERS) -> list[float]:
    """Many at once, again and again. → how long each took."""

    def once(_: int) -> float:
        started = time.monotonic()
        ready(program)
        return time.monotonic() - started

    with ThreadPoolExecutor(PROBERS) as pool:
        return list(pool.map(once, range(count)))


@pytest.mark.parametrize("kind", ["gateway", "worker"])
def test_services_that_have_gone_silent(system: System, kind: str) -> None:
    program = system.gateways[0] if kind == "gateway" else system.workers[0]
    wait_for(program, "ok", "all to be well")
    for service, (name, status) in SERVICES.items():
        # given
        system.proxies[service].freeze()
        wait_for(program, status, f"{name} to be missed")
        # when
        seconds = probe(program)
        said = ready(program)
        # then
        assert max(seconds) < BOUND_SECONDS
        assert said["http"] == (503 if status == "unavailable" else 200)
        assert said["checks"][name] == "unavailable"
        assert {other for other, word in said["checks"].items() if word != "ok"} <= {name, "consumer"}
        assert httpx.get(f"{program.url}/health", timeout=5, trust_env=False).status_code == 200
        # and when it speaks again
        system.proxies[service].heal()
        wait_for(program, "ok", "all to be well again")
    system.accept(make_samples(1)[GOOD][0])
    system.audit(within_seconds=40)


def test_a_broker_without_room_is_full_and_uploads_go_on(system: System) -> None:
    picture = make_samples(1)[GOOD][0]
    system.servers.rabbitmq.ctl("set_disk_free_limit", "1000000GB")
    try:

        def queue() -> str:
            system.accept(picture)  # the broker tells only those that send
            return str(ready(system.gateways[0])["checks"]["queue"])

        wait_until(lambda: queue() == "full", "the alarm to be told", 30)
        said = ready(system.gateways[0])
        assert (said["status"], said["http"]) == ("degraded", 200)
    finally:
        system.servers.rabbitmq.ctl("set_disk_free_limit", "50MB")

    wait_for(system.gateways[0], "ok", "the alarm to be over")
    system.audit(within_seconds=60)


def test_what_is_measured_is_nan_while_it_cannot_be(measuring: System) -> None:
    worker = measuring.workers[0]

    def lag() -> float:
        return measuring.metric(worker, "image_processor_dispatch_lag_seconds")

    def waiting() -> float:
        return measuring.metric(worker, "image_processor_queue_depth", queue="dead")

    wait_until(lambda: (lag(), waiting()) == (0, 0), "everything to be measured")
    measuring.proxies["postgres"].cut()
    wait_until(lambda: math.isnan(lag()), "the database to be missed")
    assert waiting() == 0
    measuring.proxies["postgres"].heal()
    measuring.proxies["rabbitmq"].cut()
    wait_until(lambda: math.isnan(waiting()) and lag() == 0, "the queue to be missed")
    measuring.proxies["rabbitmq"].heal()
    wait_until(lambda: (lag(), waiting()) == (0, 0), "everything to be measured again")
    assert math.isnan(measuring.metric(measuring.gateways[0], "image_processor_dispatch_lag_seconds"))
