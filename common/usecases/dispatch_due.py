"""Put what is due on the queue: what nobody published, what the broker lost, what waits for a retry, what a dead worker held.

Any number of workers do this at once; no two get the same row. Promises nothing about when: the caller loops.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from common.errors import Unavailable
from common.images import Failure, FailureCode, Image, Priority, RetryPolicy
from common.messages import Job
from common.ports import Ports
from common.telemetry import DISPATCHED, log
from common.usecases.announce import announce
from common.usecases.process_image import fail_image, send_dead_letter

BATCH = 100
# A row that was taken but could not be published is due again after this time.
HOLD = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchPolicy:
    stale_after: timedelta
    retry: RetryPolicy


async def dispatch_due(ports: Ports, policy: DispatchPolicy) -> bool:
    """→ whether there may be more. What could not be dispatched is due again soon, behind what else is due. Raises Unavailable
    where the database is away."""
    due = await ports.images.take_due(BATCH, HOLD)
    # One queue that is full, or too slow, holds up none of the others.
    closed: set[Priority] = set()
    for image in due:
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
    return len(due) == BATCH and not closed


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
    await ports.queue.publish(Job(image_id=image.id, request_id=image.request_id), line)
    queued = await ports.images.mark_queued(image.id, image.attempts, policy.stale_after)
    if queued is not None:
        await announce(ports, queued)
    DISPATCHED.labels("published").inc()
    log.info("image dispatched", image_id=str(image.id), request_id=image.request_id, attempts=image.attempts)


async def dispatch_until_none_is_due(ports: Ports, policy: DispatchPolicy) -> None:
    """One round of the loop."""
    try:
        while await dispatch_due(ports, policy):
            pass
    except Unavailable as error:
        DISPATCHED.labels("unavailable").inc()
        log.warning("dispatching put off", service=error.service, reason=error.reason)
