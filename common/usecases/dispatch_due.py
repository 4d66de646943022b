"""Put what is due on the queue: what nobody published, what the broker lost, what waits for a retry, what a dead worker held.

Any number of workers do this at once; no two get the same row. Promises nothing about when: the caller loops.

A row whose message was sent and that nobody has claimed for long either waits behind others, or its message is lost. Their number
tells which: where a line holds as many messages as there are rows that should have one in it, none is missing, and the rows are
only put off; else as many are sent again as are missing, oldest first. So a backlog gets no second messages, however long it lasts,
but for as many as workers have in hand, which no queue counts. Messages of no such row (second ones, or those of deleted
images) hide that as many others are lost until workers have taken them: so whatever the queues hold, what was sent very long ago is
sent again.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from common.errors import Unavailable
from common.images import Failure, FailureCode, Image, ImageStatus, Priority, RetryPolicy
from common.ports import Ports
from common.telemetry import DISPATCHED, about, log
from common.tracing import span
from common.usecases.announce import announce
from common.usecases.process_image import fail_image, send_dead_letter
from common.usecases.send_job import send_job

BATCH = 100
# A row that was taken but could not be published is due again after this time.
HOLD = timedelta(seconds=10)
# Of `stale_after`: how long what is known of the queues is good, and after how long a message is sent again in any case.
LOOK_AGAIN, SEND_AGAIN = 0.05, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchPolicy:
    stale_after: timedelta
    retry: RetryPolicy


class Missing:
    """How many messages each line should hold and does not, less what was sent again since that was looked up. To be kept from
    round to round: counting takes the longer the more there is."""

    def __init__(self) -> None:
        self._lines: dict[Priority, int] | None = None
        self._good_until = 0.0

    async def look(self, ports: Ports, good_for: timedelta) -> None:
        now = time.monotonic()
        if now < self._good_until:
            return
        self._good_until = now + good_for.total_seconds()
        try:
            # In this order: what is claimed in between is missed by neither.
            depths = await ports.queue.depths()
        except Unavailable as error:
            log.debug("queues not compared with the rows", reason=error.reason)
            self._lines = None
            return
        awaited = await ports.upkeep.awaited()
        self._lines = {line: awaited[line] - depths[line] for line in Priority}

    def take(self, line: Priority) -> bool:
        """Whether one is to be sent again; then there is one less. True where nobody knows."""
        if self._lines is None:
            return True
        self._lines[line] -= 1
        return self._lines[line] >= 0


async def dispatch_due(ports: Ports, policy: DispatchPolicy, missing: Missing) -> bool:
    """→ whether there may be more. What could not be dispatched is due again soon, behind what else is due. Raises Unavailable
    where the database is away."""
    taken = await ports.images.take_due(BATCH, HOLD)
    waiting = await _put_off(ports, policy, missing, [image for image in taken if image.status is ImageStatus.QUEUED])
    due = [image for image in taken if image.id not in waiting]
    # One queue that is full, or too slow, holds up none of the others.
    closed: set[Priority] = set()
    for image in due:
        with about(image), span("dispatch", parent=image.traceparent):
            for line in _lines(image, policy):
                if line in closed:
                    continue
                try:
                    await _dispatch(ports, policy, image, line)
                    break
                except Unavailable as error:
                    DISPATCHED.labels("unavailable").inc()
                    log.warning("dispatching put off", service=error.service, reason=error.reason, priority=line)
                    closed.add(line)
    return len(taken) == BATCH and not closed


async def _put_off(ports: Ports, policy: DispatchPolicy, missing: Missing, queued: list[Image]) -> set[UUID]:
    """Those whose messages are in the queues."""
    if not queued:
        return set()
    await missing.look(ports, policy.stale_after * LOOK_AGAIN)
    present = [image.id for image in queued if not missing.take(image.priority)]
    if not present:
        return set()
    put_off = await ports.images.put_off(present, policy.stale_after, policy.stale_after * SEND_AGAIN)
    DISPATCHED.labels("put-off").inc(len(put_off))
    return put_off


def _lines(image: Image, policy: DispatchPolicy) -> list[Priority]:
    """The queues that its message may go to. For one that nobody has touched for long, any of them: its own may have been lost to
    the broker itself, as a quorum queue without a leader is. What is to be done is in the row."""
    others = [line for line in reversed(Priority) if line is not image.priority]
    return [image.priority, *(others if datetime.now(UTC) - image.updated_at > policy.stale_after else [])]


async def _dispatch(ports: Ports, policy: DispatchPolicy, image: Image, line: Priority) -> None:
    if image.status.is_final:
        if image.failure is not None:
            await send_dead_letter(ports, image)
        DISPATCHED.labels("dead-letter").inc()
        return
    if policy.retry.gives_up(image, outage=False):
        detail = f"Processing was tried {image.tries} times, and each time the worker stopped in the middle of it."
        await fail_image(ports, image, Failure(code=FailureCode.ATTEMPTS_EXHAUSTED, detail=detail))
        DISPATCHED.labels("given-up").inc()
        return
    if image.attempts:
        await announce(ports, image)
    await send_job(ports, image, line)
    queued = await ports.images.mark_queued(image.id, image.attempts, line, policy.stale_after)
    if queued is not None:
        await announce(ports, queued)
    DISPATCHED.labels("published").inc()
    log.info("image dispatched", attempts=image.attempts)


async def dispatch_until_none_is_due(ports: Ports, policy: DispatchPolicy, missing: Missing | None = None) -> None:
    """One round of the loop. `missing`: what the rounds before have found."""
    missing = missing or Missing()
    try:
        while await dispatch_due(ports, policy, missing):
            pass
    except Unavailable as error:
        DISPATCHED.labels("unavailable").inc()
        log.warning("dispatching put off", service=error.service, reason=error.reason)
