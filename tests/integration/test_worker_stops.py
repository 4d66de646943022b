"""A worker that is told to stop does so in its time, whatever it is in the middle of."""

import asyncio
from datetime import timedelta
from pathlib import Path

from common.settings import load
from tests.world import World
from worker.app import run_worker


async def test_in_the_middle_of_a_sweep(tmp_path: Path) -> None:
    # given a database that takes its time for the next of very many rows
    world = World(tmp_path)
    in_the_middle = asyncio.Event()

    async def slow(*_: object) -> None:
        in_the_middle.set()
        await asyncio.sleep(timedelta(days=1).total_seconds())

    world.images.scan = slow  # type: ignore[method-assign, assignment]  # it never answers
    settings = load(worker_processes=1, dispatch_interval_seconds=0.1)
    stop = asyncio.Event()
    working = asyncio.create_task(run_worker(settings, world.ports, stop, with_health=False))
    async with asyncio.timeout(20):
        await in_the_middle.wait()

    stop.set()

    async with asyncio.timeout(20):
        await working
