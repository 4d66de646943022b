"""How much sooner a backlog is done by several workers, as containers of docker-compose.prod.yml: `--scale worker=1` to 4.

A stack of its own, built and started for it and gone afterwards. In a turn the workers are running and connected, and are paused
while the backlog is uploaded; the time is from the moment that they go on to the completion of the last image, by the database's
clock. Numbers of workers take turns. All containers share this machine's cores, and a worker may use one of them; how much of the
cores the workers got says whether something else was at work here, too.
"""

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.results import show, write_results
from bench.running import stopped_by_signals
from bench.services import NotRunning
from tests.compose.engine import ProductionStack, engine_answers
from tests.pictures import jpeg, photo
from tests.polling import wait_until


@dataclass(frozen=True)
class Effort:
    rounds: int
    workers: Sequence[int]
    images: int


FULL, QUICK = Effort(3, (1, 2, 3, 4), 60), Effort(1, (1, 2), 8)
# What takes a worker some time, and the parts that all of them share little.
PICTURE, PROCESSING = (2400, 1600), "resize:1600|format:webp"
DONE_SECONDS = 600


@dataclass(frozen=True)
class Turn:
    """`cpu_seconds`: of all workers."""

    seconds: float
    cpu_seconds: float


def run(out: Path, *, quick: bool) -> None:
    """Raises NotRunning without a Docker engine."""
    if not engine_answers():
        raise NotRunning("no Docker engine with docker compose answers")
    console, effort = Console(), QUICK if quick else FULL
    with stopped_by_signals():
        stack = ProductionStack()
        try:
            console.print("building and starting a production stack of its own; that takes some minutes", style="dim")
            stack.up("--build")
            rows = measure(stack, effort, console)
        finally:
            stack.close()
    show(console, out, "workers", [_table(rows)])
    console.print(f"Written: {write_results(out, 'workers', rows, x='workers', y='images_per_second', by='stack')}")


def measure(stack: ProductionStack, effort: Effort, console: Console) -> list[dict[str, Any]]:
    """→ a row a number of workers. Leaves the last of them running."""
    picture, turns = jpeg(photo(*PICTURE)), {count: list[Turn]() for count in effort.workers}
    with Progress(console=console) as progress:
        task = progress.add_task("", total=effort.rounds * len(turns))
        for _ in range(effort.rounds):
            for count in effort.workers:
                progress.update(task, description=f"{count} worker{'s' if count > 1 else ''}")
                stack.up("--no-recreate", "--scale", f"worker={count}")
                # What is loaded, connected and cached with the first ones does not count.
                _take_turn(stack, [picture] * 4 * count)
                turns[count].append(_take_turn(stack, [picture] * effort.images))
                progress.advance(task)
    return [_row(count, effort.images, turns) for count in effort.workers]


def _take_turn(stack: ProductionStack, pictures: list[bytes]) -> Turn:
    user, workers = stack.as_user(), stack.containers("worker")
    used = sum(map(stack.cpu_seconds, workers))
    stack.compose("pause", "worker")
    try:
        ids = stack.upload(user, pictures, processing=PROCESSING)
    finally:
        began = time.time()
        stack.compose("unpause", "worker")
    # Seldom: who asks takes a part of the cores.
    time.sleep(len(ids) / 20)
    images = stack.wait_for(user, ids, DONE_SECONDS)
    if failed := [image for image in images if image["status"] != "completed"]:
        raise RuntimeError(f"{len(failed)} of {len(images)} images failed: {failed[0]}")
    # Who is paused answers no health check, and is taken for ill until the next one.
    wait_until(lambda: all(_is_healthy(stack, worker) for worker in workers), "healthy workers", DONE_SECONDS)
    seconds = max(datetime.fromisoformat(image["completed_at"]).timestamp() for image in images) - began
    return Turn(seconds, sum(map(stack.cpu_seconds, workers)) - used)


def _is_healthy(stack: ProductionStack, container: str) -> bool:
    return bool(stack.inspect(container)["State"]["Health"]["Status"] == "healthy")


def _row(count: int, images: int, turns: dict[int, list[Turn]]) -> dict[str, Any]:
    median = {number: statistics.median(turn.seconds for turn in found) for number, found in turns.items()}
    return {
        "stack": "docker-compose.prod.yml",
        "workers": count,
        "images": images,
        "seconds": median[count],
        "seconds_by_round": [turn.seconds for turn in turns[count]],
        "cores_used": statistics.median(turn.cpu_seconds / turn.seconds for turn in turns[count]),
        "images_per_second": images / median[count],
        "times_one": median[min(median)] / median[count],
        "cores": os.cpu_count(),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    cores, images = rows[0]["cores"], rows[0]["images"]
    table = Table(
        title=f"A backlog of {images} pictures of {PICTURE[0]}×{PICTURE[1]}, by {PROCESSING}",
        caption=f"Medians of {len(rows[0]['seconds_by_round'])} turns on {cores} cores, which all containers share; each worker "
        f"may use one. So from {cores} workers on there is little more to be had here.",
    )
    for name in ("workers", "seconds", "images a second", "times one worker", "cores that the workers used"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = f"{row['seconds']:.1f}", f"{row['images_per_second']:.1f}", f"{row['times_one']:.2f}", f"{row['cores_used']:.2f}"
        table.add_row(str(row["workers"]), *figures)
    return table
