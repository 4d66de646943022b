"""What so many images a second need, from what one costs: cores of each part, network, disk, and how long images wait for a worker.

Cores are the rate times the measured CPU time, which holds as long as a part can be given that many: PARTS says which cannot, and
so which saturates first. Waits are of one line before all processes of all workers: images come at random moments (Poisson), and a
job takes the measured CPU time on average, exponentially distributed; simulated image by image, with a seed. It knows nothing of
priorities, of retries, of machines that share their cores, or of a network's delays.
"""

import heapq
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.results import show, write_results

# CPU ms an image of 640×480, by `scripts/bench pipeline` (docs/performance.md). Where there are other results, they take its place.
DEFAULT_CPU_MS = {"gateway": 5.4, "worker": 8.7, "postgres": 1.4, "rabbitmq": 1.1, "redis": 0.4, "minio": 4.4}
# Assumed, not measured: an upload, its result, and what the database writes to its log for an image.
UPLOAD_BYTES, RESULT_BYTES, WAL_BYTES = 300_000, 60_000, 6_000
# The cores that one of it can be given, and why: assumptions, too. None: as many as are added.
PARTS: dict[str, tuple[int | None, str]] = {
    "gateway": (None, "more of them"),
    "worker": (None, "more of them"),
    "postgres": (32, "one primary"),
    "rabbitmq": (3, "a queue is one process: three lines"),
    "redis": (1, "one thread"),
    "minio": (None, "more servers"),
}
LOADS = (0.6, 0.8, 0.9, 0.95)
Seconds = Callable[[random.Random], float]


@dataclass(frozen=True)
class Waits:
    """Seconds from when an image comes to when a process takes it."""

    mean: float
    p50: float
    p99: float


def costs(pipeline: Path, picture: str) -> tuple[dict[str, float], str]:
    """CPU ms an image by part, and where they are from."""
    if not pipeline.exists():
        return DEFAULT_CPU_MS, "the defaults in bench/simulation.py"
    found = json.loads(pipeline.read_text(encoding="utf-8"))
    for row in found["rows"]:
        if row["picture"] == picture and row["contender"].startswith("ours"):
            return {part: row["cpu_ms_by_process"][part] for part in PARTS}, f"`scripts/bench pipeline` of {found['at'][:10]}"
    raise ValueError(f"{pipeline} has no row of ours for {picture}")


def waits(rate: float, servers: int, service: Seconds, count: int, seed: int) -> Waits:
    """Of `count` customers of M/G/c, first come first served, after as many as a tenth of them have warmed it up.

    Each takes the server that is free first: Kiefer and Wolfowitz, "On the theory of queues with many servers", 1955.
    """
    dice = random.Random(seed)  # noqa: S311 - a simulation is to be repeated
    free_at, now, waited = [0.0] * servers, 0.0, []
    for number in range(count + count // 10):
        now += dice.expovariate(rate)
        begins = max(now, free_at[0])
        heapq.heapreplace(free_at, begins + service(dice))
        if number >= count // 10:
            waited.append(begins - now)
    waited.sort()
    return Waits(sum(waited) / count, waited[count // 2], waited[count * 99 // 100])


def needs(rate: float, cpu_ms: dict[str, float]) -> dict[str, Any]:
    """Cores by part, and MB a second."""
    cores = {part: rate * cpu_ms[part] / 1000 for part in PARTS}
    return {
        "rate": rate,
        "cores": cores,
        "beyond_one": [part for part, (limit, _) in PARTS.items() if limit is not None and cores[part] > limit],
        # In and to the store, from there to the worker, and the result back.
        "network_mb": rate * (3 * UPLOAD_BYTES + RESULT_BYTES) / 1e6,
        "disk_mb": rate * (UPLOAD_BYTES + RESULT_BYTES + WAL_BYTES) / 1e6,
    }


def saturation(cpu_ms: dict[str, float]) -> list[tuple[str, float]]:
    """Parts that cannot be given any number of cores, with the rate at which they have no more: the first to saturate first."""
    found = [(part, limit * 1000 / cpu_ms[part]) for part, (limit, _) in PARTS.items() if limit is not None and cpu_ms[part] > 0]
    return sorted(found, key=lambda pair: pair[1])


def run(out: Path, rates: list[float], picture: str, seed: int, *, count: int = 100_000) -> None:
    console = Console()
    cpu_ms, source = costs(out / "pipeline.json", picture)
    each = ", ".join(f"{part} {cost:.1f}" for part, cost in cpu_ms.items())
    rows, table = [], _table("images a second", *PARTS, "network MB/s", "disk MB/s", "more than one of it can be given")
    for rate in rates:
        need = needs(rate, cpu_ms)
        cores = [f"{need['cores'][part]:.2f}" for part in PARTS]
        table.add_row(
            f"{rate:g}", *cores, f"{need['network_mb']:.1f}", f"{need['disk_mb']:.1f}", ", ".join(need["beyond_one"]) or "-"
        )
        rows += [need | row for row in _waiting(rate, cpu_ms["worker"] / 1000, seed, count)]
    first = ", ".join(f"{part} at {rate:,.0f}/s ({PARTS[part][1]})" for part, rate in saturation(cpu_ms))
    waiting = _table("images a second", "worker processes", "busy", "wait p50 ms", "wait p99 ms")
    for row in rows:
        waiting.add_row(
            f"{row['rate']:g}", str(row["processes"]), row["busy"], f"{row['wait_p50_ms']:.1f}", f"{row['wait_p99_ms']:.1f}"
        )
    show(
        console,
        out,
        "simulation",
        [f"CPU ms an image: {each}, from {source}; seed {seed}", table, f"Saturate first: {first}", waiting],
    )
    console.print(f"Written: {write_results(out, 'simulation', rows, x='rate', y='wait_p99_ms', by='load')}")


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _waiting(rate: float, seconds: float, seed: int, count: int) -> list[dict[str, Any]]:
    rows = []
    for processes, load in {math.ceil(rate * seconds / load): load for load in LOADS}.items():
        busy = rate * seconds / processes
        found = waits(rate, processes, lambda dice: dice.expovariate(1 / seconds), count, seed)
        times = {"wait_p50_ms": found.p50 * 1000, "wait_p99_ms": found.p99 * 1000}
        rows.append({"load": f"{load:.0%}", "processes": processes, "busy": f"{busy:.0%}"} | times)
    return rows
