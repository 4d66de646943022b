"""The consuming loop: takes deliveries while there is room, and settles each exactly once. The only place that acks.

Promises that when `consume` returns, everything it took is settled or with the broker again; and that messages of a later version
keep nobody from what this one can read: while they are held for a moment, so that they do not go round at full speed, they take no
room.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime
from functools import partial

import structlog

from common.errors import Unavailable
from common.messages import Job, decode
from common.ports import Delivery, JobSource
from common.telemetry import DELIVERIES, log
from common.tracing import record, span
from worker.outcome import Outcome, outcome_of

Handle = Callable[[Job], Awaitable[None]]
# After an outage the next message waits this long, because it would most likely meet the same outage; and one of a later version
# goes on to others after it, so that nobody is kept busy with it.
PAUSE_SECONDS = 1.0


async def consume(source: JobSource, handle: Handle, capacity: int, stop: asyncio.Event, shutdown_seconds: float) -> None:
    """Runs up to `capacity` jobs at once until `stop` is set; then takes no more, lets what runs finish for `shutdown_seconds`,
    cancels the rest and hands it back."""
    running: set[asyncio.Task[None]] = set()
    room = asyncio.Semaphore(capacity)

    async def take() -> None:
        async with aclosing(source.deliveries(capacity)) as deliveries:
            await room.acquire()
            async for delivery in deliveries:
                place = ExitStack()
                place.callback(room.release)
                task = asyncio.create_task(_settle(delivery, handle, place))
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(partial(_leave, place))
                await room.acquire()

    taking = asyncio.create_task(take())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([taking, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (taking, stopping):
            task.cancel()
        await asyncio.wait([taking, stopping])
        if running:
            log.info("stopping: finishing what runs", jobs=len(running), limit_seconds=shutdown_seconds)
            await asyncio.wait(running, timeout=shutdown_seconds)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if not taking.cancelled():
        taking.result()


def _leave(place: ExitStack, task: asyncio.Task[None]) -> None:
    place.close()


def _record_wait(delivery: Delivery) -> None:
    """Clocks differ: nothing was taken up before it was sent."""
    if delivery.sent_at is not None:
        now = datetime.now(UTC)
        record("wait in queue", min(delivery.sent_at, now), now, delivery.traceparent, priority=delivery.priority)


async def _settle(delivery: Delivery, handle: Handle, place: ExitStack) -> None:
    """`place`: to be closed as soon as another delivery may be taken up in place of this one."""
    error: Exception | None = None
    with structlog.contextvars.bound_contextvars(request_id=delivery.request_id):
        try:
            job = decode(delivery.body, delivery.request_id)
            _record_wait(delivery)
            with (
                structlog.contextvars.bound_contextvars(image_id=str(job.image_id)),
                span("process", "consumer", delivery.traceparent, image_id=str(job.image_id), request_id=job.request_id),
            ):
                await handle(job)
        except asyncio.CancelledError:
            await asyncio.shield(delivery.hand_back())
            DELIVERIES.labels(Outcome.HAND_BACK).inc()
            raise
        except Exception as caught:  # noqa: BLE001 - whatever it is, the message must be settled; outcome.py says how
            error = caught
        outcome = outcome_of(error)
        if isinstance(error, Unavailable):
            log.warning("message handed back", service=error.service, reason=error.reason)
            await asyncio.sleep(PAUSE_SECONDS)
        elif outcome is Outcome.DEFER:
            log.info("message of a later version deferred", detail=str(error))
            place.close()
            await asyncio.sleep(PAUSE_SECONDS)
        elif error is not None:
            log.error("message not processed", outcome=outcome, exc_info=error)
        DELIVERIES.labels(outcome).inc()
        match outcome:
            case Outcome.ACK:
                await delivery.ack()
            case Outcome.HAND_BACK:
                await delivery.hand_back()
            case Outcome.DEFER:
                await delivery.defer()
            case Outcome.REJECT:
                await delivery.reject()
