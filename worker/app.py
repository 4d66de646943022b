"""The worker: consumes jobs, renders them in child processes, and dispatches what is due.

Promises that after `stop` is set it takes nothing new, finishes what runs within the limit, hands the rest back and returns.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from common.images import RetryPolicy
from common.messages import Job
from common.ports import Ports
from common.serving import listen, serve
from common.settings import Settings
from common.telemetry import log
from common.usecases.delete_image import finish_due_deletions
from common.usecases.dispatch_due import DispatchPolicy, Missing, dispatch_until_none_is_due
from common.usecases.keep_in_order import UpkeepPolicy, keep_in_order
from common.usecases.measure import measure
from common.usecases.process_image import ProcessPolicy, process_image
from common.usecases.wait_for_database import sleep_or_stop, wait_for_database
from worker.consume import consume
from worker.health import create_health_app
from worker.pool import RenderPool

# How often a worker asks whether it is its turn with what is done now and then.
LONGEST_TICK_SECONDS = 30.0


async def run_worker(settings: Settings, ports: Ports, stop: asyncio.Event, *, with_health: bool = True) -> None:
    """Raises NotMigrated; waits for a database that is away. `with_health=False` where a gateway in the same process answers."""
    drained = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        if with_health:
            listener = listen(settings.worker_host, settings.worker_port, "WORKER_PORT")
            tasks.create_task(serve(create_health_app(ports), listener, drained, 1))
        try:
            # Probes are answered meanwhile: a worker that waits is alive, and not to be restarted for it.
            await wait_for_database(ports, stop)
            if not stop.is_set():
                await _work(settings, ports, stop)
        finally:
            drained.set()
    log.info("worker stopped")


async def _work(settings: Settings, ports: Ports, stop: asyncio.Event) -> None:
    async with RenderPool(settings) as renderer, asyncio.TaskGroup() as tasks:
        policy = DispatchPolicy(stale_after=timedelta(seconds=settings.stale_seconds), retry=retry_policy(settings))
        dispatch = partial(dispatch_until_none_is_due, ports, policy, Missing())
        tasks.create_task(_repeat(stop, settings.dispatch_interval_seconds, dispatch))
        # On its own: an object store that is away holds up deletions, and nothing else.
        tasks.create_task(_repeat(stop, settings.dispatch_interval_seconds, lambda: finish_due_deletions(ports)))
        tasks.create_task(_repeat(stop, settings.measure_interval_seconds, lambda: measure(ports)))
        upkeep, pause = upkeep_policy(settings), partial(_pause, stop)
        often = min(LONGEST_TICK_SECONDS, settings.sweep_interval_seconds / 2)
        in_order = tasks.create_task(_repeat(stop, often, lambda: keep_in_order(ports, upkeep, pause)))
        try:
            await _consume(settings, ports, renderer, stop)
        finally:
            stop.set()
            # A sweep may take longer than a worker has to stop. It may end anywhere, as it may by a crash.
            in_order.cancel()


async def _consume(settings: Settings, ports: Ports, renderer: RenderPool, stop: asyncio.Event) -> None:
    lease = timedelta(seconds=settings.lease_seconds)
    policy = ProcessPolicy(lease=lease, retry=retry_policy(settings), patience=lease)
    # One more than can be rendered at once: while it is fetched or stored, no core waits.
    capacity = settings.worker_processes + 1

    async def handle(job: Job) -> None:
        await process_image(ports, renderer, policy, job)

    log.info("worker started", processes=settings.worker_processes, capacity=capacity)
    await consume(ports.jobs, handle, capacity, stop, settings.shutdown_seconds)


async def _repeat(stop: asyncio.Event, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while not stop.is_set():
        await work()
        # Jitter, so that many workers do not ask at the same moment.
        await sleep_or_stop(stop, seconds * random.uniform(0.5, 1.5))  # noqa: S311 - guards nothing


async def _pause(stop: asyncio.Event, seconds: float) -> bool:
    await sleep_or_stop(stop, seconds)
    return not stop.is_set()


def upkeep_policy(settings: Settings) -> UpkeepPolicy:
    return UpkeepPolicy(
        sweep_every=timedelta(seconds=settings.sweep_interval_seconds),
        grace=timedelta(seconds=settings.sweep_grace_seconds),
        keep_for=timedelta(days=settings.retention_days) if settings.retention_days else None,
    )


def retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(max_attempts=settings.max_attempts, max_outages=settings.max_outages)
