"""Clocks of programs that step, and a Keycloak that is away: neither costs an image anything, nor a caller whose token is known."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.chaos.moody import SLOW, with_mood
from tests.chaos.proxy import Proxy
from tests.chaos.samples import GOOD, make_samples, rendered
from tests.chaos.servers import Servers
from tests.chaos.stepping import stepping
from tests.chaos.system import Program, System, running_system
from tests.polling import wait_until

SAMPLES = make_samples(6)[GOOD]
# More than any lease here. (Of more than a quarter of an hour an object store that speaks S3 refuses the signatures.)
STEP_SECONDS = 240


@pytest.fixture
def idle_system(tmp_path: Path, servers: Servers, keycloak_url: str) -> Iterator[System]:
    """A gateway and no worker yet."""
    with running_system(tmp_path, servers, workers=0) as system:
        yield system


def test_clocks_that_step_take_no_lease_away_and_send_nothing_again(idle_system: System) -> None:
    system = idle_system
    ahead, behind = (system.start_worker(stepping(seconds)) for seconds in (STEP_SECONDS, -STEP_SECONDS))
    slow = rendered("slow", GOOD, with_mood(SLOW), "")
    for worker in (ahead, behind):
        worker.send(signal.SIGUSR2)

    # when two of them take longer than a lease, and the others wait behind them
    for sample in (slow, slow, *SAMPLES[:4]):
        system.accept(sample)

    wait_until(lambda: all(in_progress(system, worker) for worker in (ahead, behind)), "both to be at work", 30)
    for worker in (ahead, behind):
        worker.send(signal.SIGUSR2)

    # then
    system.audit(within_seconds=40)
    assert {row.attempts for row in system.inventory.rows().values()} == {1}
    assert clock_of(ahead) - clock_of(behind) > timedelta(seconds=3 * STEP_SECONDS)
    assert sum(system.metric(worker, "image_processor_leases_lost_total") for worker in (ahead, behind)) == 0


def clock_of(worker: Program) -> datetime:
    """By its log."""
    last = [line for line in worker.log.read_text().splitlines() if line.startswith("{")][-1]
    return datetime.fromisoformat(json.loads(last)["timestamp"])


def in_progress(system: System, worker: Program) -> float:
    return system.metric(worker, "image_processor_in_progress")


@pytest.mark.parametrize("what", [Proxy.cut, Proxy.freeze, Proxy.answer_503], ids=["cut", "frozen", "503"])
def test_keycloak_away_for_longer_than_its_keys_are_fresh(system: System, what: Callable[[Proxy], None]) -> None:
    gateway = system.gateways[0]
    system.accept(SAMPLES[0])
    what(system.proxies["keycloak"])
    wait_until(lambda: _fetches_after_a_request(system, "failed") >= 2, "the keys to be asked for in vain", 30)

    # whoever has a token notices nothing
    for sample in SAMPLES[:4]:
        started = time.monotonic()
        system.accept(sample)
        assert time.monotonic() - started < 2
    ready = httpx.get(f"{gateway.url}/health/ready", trust_env=False, timeout=20)
    assert ready.status_code == 200

    fetched = _fetches_after_a_request(system, "ok")
    system.proxies["keycloak"].heal()
    wait_until(lambda: _fetches_after_a_request(system, "ok") > fetched, "the keys to be fetched again", 30)
    system.audit(within_seconds=30)


def _fetches_after_a_request(system: System, result: str) -> float:
    """Keys are asked for when a token is to be judged with them."""
    assert system.read("/api/v1/images").status_code == 200
    return system.metric(system.gateways[0], "image_processor_jwks_fetches_total", result=result)
