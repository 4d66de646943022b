"""The simulation of queues gives what is known of them."""

import random
from math import factorial
from pathlib import Path

import pytest

from bench.simulation import DEFAULT_CPU_MS, Seconds, costs, needs, saturation, waits

COUNT = 200_000


def erlang_c_wait(rate: float, servers: int, seconds: float) -> float:
    """The mean wait of M/M/c. Source: L. Kleinrock, "Queueing Systems", volume 1, 1975, section 3.5."""
    offered = rate * seconds
    busy = offered / servers
    last = offered**servers / factorial(servers) / (1 - busy)
    all_busy = last / (sum(offered**k / factorial(k) for k in range(servers)) + last)
    return all_busy * seconds / (servers * (1 - busy))


def exponential(dice: random.Random) -> float:
    return dice.expovariate(1)


def constant(_: random.Random) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("rate", "servers", "service", "known"),
    [
        (0.7, 1, exponential, erlang_c_wait(0.7, 1, 1)),
        (3.2, 4, exponential, erlang_c_wait(3.2, 4, 1)),
        (17.0, 20, exponential, erlang_c_wait(17, 20, 1)),
        # M/D/1 waits half as long as M/M/1: Pollaczek and Khinchine
        (0.7, 1, constant, erlang_c_wait(0.7, 1, 1) / 2),
    ],
    ids=["M/M/1", "M/M/4", "M/M/20", "M/D/1"],
)
def test_the_mean_wait_is_the_known_one_within_five_percent(rate: float, servers: int, service: Seconds, known: float) -> None:
    assert waits(rate, servers, service, COUNT, seed=1).mean == pytest.approx(known, rel=0.05)


def test_of_one_queue_the_99th_percentile_is_the_known_one_within_five_percent() -> None:
    # P(wait > t) = ρ · exp(-(1 - ρ) t) for M/M/1
    found = waits(0.7, 1, exponential, COUNT, seed=1)
    assert found.p99 == pytest.approx(14.16, rel=0.05)


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    first, again, other = (waits(0.7, 1, exponential, 1000, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_what_a_rate_needs_and_what_has_no_more_to_give() -> None:
    cpu_ms = {"gateway": 20.0, "worker": 20.4, "postgres": 2.3, "rabbitmq": 1.7, "redis": 1.5, "minio": 2.4}
    need = needs(1000, cpu_ms)
    assert need["cores"]["postgres"] == pytest.approx(2.3)
    assert need["beyond_one"] == ["redis"]
    assert [part for part, _ in saturation(cpu_ms)] == ["redis", "rabbitmq", "postgres"]


def test_a_results_file_takes_the_place_of_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.json"
    assert costs(path, "12mp")[0] == DEFAULT_CPU_MS
    used = '{"gateway": 1, "worker": 2, "postgres": 3, "rabbitmq": 4, "redis": 5, "minio": 6, "keycloak": 7}'
    row = f'{{"picture": "12mp", "contender": "ours, 1 worker", "cpu_ms_by_process": {used}}}'
    path.write_text(f'{{"at": "today", "rows": [{row}]}}', encoding="utf-8")
    assert costs(path, "12mp")[0] == {"gateway": 1, "worker": 2, "postgres": 3, "rabbitmq": 4, "redis": 5, "minio": 6}
    with pytest.raises(ValueError, match="640x480"):
        costs(path, "640x480")
