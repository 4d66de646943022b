"""A process with a render pool that is kept busy, as a worker's is: HOW PROCESSES SECONDS PICTURE FOLDER prints what it counted.

- `pool`: the pool renders; each child process always has another picture queued;
- `carry`: the same, but the children only read the picture and write a file as large as the result;
- `call`: as `carry`, one picture after the other: what a render waits for besides its child's work;
- `alone`: as many processes that share nothing render in a loop of their own: as much as the machine gives;
- `stream`: renders SECONDS pictures, the JPEG files beside PICTURE in turn, and looks at the memory of all processes after each.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count, cycle
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import uvloop

from bench.processes import cpu_seconds, rss_bytes, tree
from common import processing
from common.formats import Limits
from common.ports import Rendered
from common.settings import load
from worker.child import RenderFunction, keep_freed_memory
from worker.imaging import render_file
from worker.pool import RenderPool

STEPS = processing.parse("resize:800|grayscale")
LIMITS = load().limits
# Of the default steps' result on a photo.
RESULT = bytes(range(256)) * 140
START_SECONDS = 60


def carry(source: Path, target: Path, text: str, _: Limits) -> Rendered:
    source.read_bytes()
    target.write_bytes(RESULT)
    return Rendered(content_type=text, size_bytes=len(RESULT), sha256="0" * 64, width=1, height=1)


async def keep_busy(pool: RenderPool, in_flight: int, sources: Iterable[tuple[Path, Path]], seen: Callable[[], None]) -> None:
    """Until there are no more pairs of source and target. Calls `seen` after each."""
    pairs = iter(sources)

    async def ask() -> None:
        for source, target in pairs:
            await pool.render(source, target, STEPS)
            target.unlink()
            seen()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(ask())


async def for_a_while(
    render: RenderFunction, processes: int, in_flight: int, seconds: float, picture: Path, folder: Path
) -> dict[str, float]:
    done: list[float] = []

    def pairs(until: float) -> Iterable[tuple[Path, Path]]:
        for number in count():
            yield picture, folder / f"result-{number}"
            if time.monotonic() > until:
                return

    async with RenderPool(load(worker_processes=processes), render) as pool:
        # All children started, and warm.
        await keep_busy(pool, in_flight, [(picture, folder / f"first-{number}") for number in range(processes * 8)], lambda: None)
        began, all_before, mine_before = time.monotonic(), cpu_seconds(os.getpid()), time.process_time()
        await keep_busy(pool, in_flight, pairs(began + seconds), lambda: done.append(time.monotonic()))
        mine, everyone = time.process_time() - mine_before, cpu_seconds(os.getpid()) - all_before
    # Those of the end, when there is nothing queued any more, do not count.
    in_time = [at for at in done if at <= began + seconds] or done
    return {
        "per_second": len(in_time) / (in_time[-1] - began),
        "parent_cpu_ms": 1000 * mine / len(done),
        "children_cpu_ms": 1000 * (everyone - mine) / len(done),
    }


async def stream(processes: int, pictures: int, sources: Iterator[Path], folder: Path) -> dict[str, Any]:
    """→ the memory of this process and all its children after each picture, and how many processes that was in all."""
    pairs = [(next(sources), folder / f"result-{number}") for number in range(pictures)]
    memory: list[int] = []
    seen: set[int] = set()

    def look() -> None:
        memory.append(rss_bytes(os.getpid()))
        seen.update(tree(os.getpid()))

    async with RenderPool(load(worker_processes=processes)) as pool:
        began = time.monotonic()
        await keep_busy(pool, processes * 2, pairs, look)
        seconds = time.monotonic() - began
    return {"rss_bytes": memory, "processes": len(seen), "per_second": pictures / seconds}


def alone(number: int, seconds: float, picture: Path, folder: Path, ready: Barrier, answers: "Queue[tuple[float, float]]") -> None:
    keep_freed_memory()
    target = folder / f"result-{number}"
    for _ in range(4):
        render_file(picture, target, STEPS.canonical, LIMITS)
    ready.wait(START_SECONDS)
    began, cpu_before, done = time.monotonic(), time.process_time(), 0
    while time.monotonic() < began + seconds:
        render_file(picture, target, STEPS.canonical, LIMITS)
        done += 1
    answers.put((done / (time.monotonic() - began), 1000 * (time.process_time() - cpu_before) / done))
    target.unlink()


def all_alone(processes: int, seconds: float, picture: Path, folder: Path) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=alone, args=(number, seconds, picture, folder, ready, answers), daemon=True)
        for number in range(processes)
    ]
    for each in started:
        each.start()
    found = [answers.get(timeout=START_SECONDS + seconds) for _ in started]
    for each in started:
        each.join()
    return {"per_second": sum(rate for rate, _ in found), "children_cpu_ms": sum(cpu for _, cpu in found) / processes}


def main(how: str, processes: int, amount: float, picture: Path, folder: Path) -> object:
    match how:
        case "alone":
            return all_alone(processes, amount, picture, folder)
        case "stream":
            return uvloop.run(stream(processes, round(amount), cycle(sorted(picture.parent.glob("*.jpg"))), folder))
        case "call":
            return uvloop.run(for_a_while(carry, processes, 1, amount, picture, folder))
        case "carry":
            return uvloop.run(for_a_while(carry, processes, processes * 2, amount, picture, folder))
    return uvloop.run(for_a_while(render_file, processes, processes * 2, amount, picture, folder))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))))  # noqa: T201
