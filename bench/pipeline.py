"""What an image costs the whole system, and how long it takes, on the real services; beside the same job done with Celery.

The systems take turns, each with one and with two workers of one picture at a time. In a turn clients keep a number of images under
way for a while; the CPU time that each process used meanwhile, divided by the images, is what one costs. What the services use when
nobody asks anything of them is measured before each start of a system, and the median of that is taken off: one look at them would
make a moment in which others used them a part of every figure.

Times are a client's: from the first byte of its upload to the answer that says `completed`. Idle: one image at a time. Under load:
at 70 % of the rate that the turns came to, at random moments. Clients run on the same machine and take their share of its cores, so
that images per second are of this machine with its clients; their CPU time is not counted.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench import installed, processes
from bench.results import show, write_results
from bench.services import server_processes
from bench.systems import Clients, Starting, System, celery, ours
from common.settings import load
from tests.pictures import jpeg, photo

PROCESSES = ("gateway", "worker", "postgres", "rabbitmq", "redis", "minio", "keycloak")
IN_FLIGHT = 8
LOAD = 0.7


@dataclass(frozen=True)
class Effort:
    rounds: int
    turn_seconds: float
    idle_seconds: float


FULL, QUICK = Effort(2, 5, 2), Effort(1, 1, 1)


@dataclass(frozen=True)
class Turn:
    """CPU seconds by process."""

    used: dict[str, float]
    seconds: float
    images: int


@dataclass
class Measured:
    """Of one contender on one picture. Times in seconds."""

    turns: list[Turn] = field(default_factory=list)
    idle_seconds: list[float] = field(default_factory=list)
    loaded_seconds: list[float] = field(default_factory=list)

    def cpu_ms(self, idle: dict[str, float], *names: str) -> float:
        """An image. `idle`: CPU seconds a second, by service."""

        def of(turn: Turn) -> float:
            own = (max(0.0, turn.used[name] - idle.get(name, 0.0) * turn.seconds) for name in names)
            return sum(own) * 1000 / turn.images

        return statistics.median(of(turn) for turn in self.turns)

    @property
    def rate(self) -> float:
        return statistics.median(turn.images / turn.seconds for turn in self.turns)


@dataclass(frozen=True)
class Contender:
    name: str
    workers: int
    start: Callable[[Path, int], Starting]

    @property
    def title(self) -> str:
        return f"{self.name}, {self.workers} worker{'s' if self.workers > 1 else ''}"


def run(out: Path, *, quick: bool) -> None:
    console, effort = Console(), QUICK if quick else FULL
    contenders = [Contender("ours", 1, ours), Contender("ours", 2, ours)]
    if installed.CELERY.is_installed:
        contenders += [Contender("celery", 1, celery), Contender("celery", 2, celery)]
    else:
        console.print("celery is not installed; scripts/bench peers installs it", style="dim")
    if quick:
        contenders = [contender for contender in contenders if contender.workers == 1]
    sizes = {"640x480": (640, 480)} if quick else {"640x480": (640, 480), "1920x1280": (1920, 1280), "12mp": (4000, 3000)}
    pictures = {name: jpeg(photo(*size)) for name, size in sizes.items()}
    found, idle = _take_turns(console, contenders, pictures, effort)
    rows = [_row(contender, picture, found[contender.title, picture], idle) for contender in contenders for picture in pictures]
    show(console, out, "pipeline", [_table(picture, [row for row in rows if row["picture"] == picture]) for picture in pictures])
    console.print(f"Written: {write_results(out, 'pipeline', rows, x='picture', y='cpu_ms', by='contender')}")


def _take_turns(
    console: Console, contenders: list[Contender], pictures: dict[str, bytes], effort: Effort
) -> tuple[dict[tuple[str, str], Measured], dict[str, float]]:
    """→ what was measured; and what the services use when idle, in CPU seconds a second."""
    found = {(contender.title, picture): Measured() for contender in contenders for picture in pictures}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        task, idle = progress.add_task("", total=effort.rounds * len(found)), []
        for turn in range(effort.rounds):
            for contender in contenders:
                progress.update(task, description="idle services")
                idle.append(_idle_cpu(effort.idle_seconds))
                progress.update(task, description=f"starting {contender.title}")
                with ExitStack() as stack:
                    logs = Path(folder, f"{contender.title}-{turn}")
                    logs.mkdir()
                    system = stack.enter_context(contender.start(logs, contender.workers))
                    for picture, content in pictures.items():
                        progress.update(task, description=f"{contender.title} {picture}")
                        measured = found[contender.title, picture]
                        asyncio.run(_measure(system, content, effort, measured))
                        if turn == effort.rounds - 1:
                            asyncio.run(_time(system, content, effort, measured))
                        progress.advance(task)
    return found, {name: statistics.median(look[name] for look in idle) for name in idle[0]}


def _idle_cpu(seconds: float) -> dict[str, float]:
    """CPU seconds a second, by service."""
    servers = server_processes(load())
    before, began = {name: processes.cpu_seconds(pid) for name, pid in servers.items()}, time.monotonic()
    time.sleep(seconds)
    after, passed = {name: processes.cpu_seconds(pid) for name, pid in servers.items()}, time.monotonic() - began
    return {name: (after[name] - before[name]) / passed for name in servers}


async def _measure(system: System, picture: bytes, effort: Effort, measured: Measured) -> None:
    async with system.clients() as clients:
        # What is loaded, connected and cached with the first ones does not count.
        await asyncio.gather(*(_one(clients, picture) for _ in range(IN_FLIGHT)))
        before, began = system.cpu_seconds(), time.monotonic()
        images = sum(
            await asyncio.gather(*(_one_after_another(clients, picture, began + effort.turn_seconds) for _ in range(IN_FLIGHT)))
        )
        passed, after = time.monotonic() - began, system.cpu_seconds()
    measured.turns.append(Turn({name: after[name] - before[name] for name in PROCESSES}, passed, images))


async def _one_after_another(clients: Clients, picture: bytes, until: float) -> int:
    """→ how many."""
    count = 0
    while time.monotonic() < until:
        await _one(clients, picture)
        count += 1
    return count


async def _time(system: System, picture: bytes, effort: Effort, measured: Measured) -> None:
    dice = random.Random(1)  # noqa: S311 - guards nothing
    async with system.clients() as clients:
        await _one(clients, picture)
        until = time.monotonic() + effort.turn_seconds
        while time.monotonic() < until:
            measured.idle_seconds.append(await _one(clients, picture))
        until, sent = time.monotonic() + effort.turn_seconds, []
        while time.monotonic() < until:
            sent.append(asyncio.create_task(_one(clients, picture)))
            await asyncio.sleep(dice.expovariate(LOAD * measured.rate))
        measured.loaded_seconds += await asyncio.gather(*sent)


async def _one(clients: Clients, picture: bytes) -> float:
    """→ from upload to completed."""
    began = time.monotonic()
    await clients.completed(await clients.upload(picture))
    return time.monotonic() - began


def _row(contender: Contender, picture: str, measured: Measured, idle: dict[str, float]) -> dict[str, Any]:
    times = {
        f"{how}_{share}_ms": _percentile(seconds, percent) * 1000
        for how, seconds in (("idle", measured.idle_seconds), ("loaded", measured.loaded_seconds))
        for share, percent in (("p50", 50), ("p99", 99))
    }
    return {
        "picture": picture,
        "contender": contender.title,
        "images_per_second": measured.rate,
        "cpu_ms": measured.cpu_ms(idle, *PROCESSES),
        "cpu_ms_by_process": {name: measured.cpu_ms(idle, name) for name in PROCESSES},
        "images_per_cpu_second": 1000 / measured.cpu_ms(idle, *PROCESSES),
        "images_per_worker_cpu_second": 1000 / measured.cpu_ms(idle, "worker"),
        **times,
        "idle_images": len(measured.idle_seconds),
        "loaded_images": len(measured.loaded_seconds),
    }


def _percentile(seconds: list[float], percent: int) -> float:
    """The smallest of which so many percent are no longer."""
    return sorted(seconds)[-(-len(seconds) * percent // 100) - 1]


LINES = {
    "CPU ms an image: all": "cpu_ms",
    "images a CPU second": "images_per_cpu_second",
    "images a CPU second of the workers": "images_per_worker_cpu_second",
    "images a second": "images_per_second",
    "upload to completed, idle: p50 ms": "idle_p50_ms",
    "upload to completed, idle: p99 ms": "idle_p99_ms",
    "upload to completed, under load: p50 ms": "loaded_p50_ms",
    "upload to completed, under load: p99 ms": "loaded_p99_ms",
}


def _table(picture: str, rows: list[dict[str, Any]]) -> Table:
    """A column a contender, because there is more to say of each than there are of them."""
    table = Table("", title=picture, title_justify="left")
    for row in rows:
        table.add_column(row["contender"], justify="right")
    for name in PROCESSES:
        table.add_row(f"CPU ms an image: {name}", *(f"{row['cpu_ms_by_process'][name]:.1f}" for row in rows))
    for line, column in LINES.items():
        table.add_row(line, *(f"{row[column]:.1f}" for row in rows))
    return table
