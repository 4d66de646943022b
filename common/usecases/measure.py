"""Say how the whole system is doing: what waits, for how long, and where. The same from whichever worker is asked."""

import math

from common.errors import Unavailable
from common.images import Priority
from common.ports import Ports
from common.telemetry import BACKLOG, DISPATCH_LAG_SECONDS, OLDEST_SECONDS, QUEUE_DEPTH, UNSETTLED, log

QUEUES = [*Priority, "dead"]


async def measure(ports: Ports) -> None:
    """One round of the loop. What is away cannot be measured: NaN, so that no old number passes for a new one."""
    try:
        backlog = await ports.upkeep.backlog()
    except Unavailable as error:
        log.debug("backlog not measured", reason=error.reason)
        DISPATCH_LAG_SECONDS.set(math.nan)
        for status in UNSETTLED:
            BACKLOG.labels(status).set(math.nan)
            OLDEST_SECONDS.labels(status).set(math.nan)
    else:
        DISPATCH_LAG_SECONDS.set(backlog.overdue_seconds)
        for status in UNSETTLED:
            BACKLOG.labels(status).set(backlog.images[status])
            OLDEST_SECONDS.labels(status).set(backlog.oldest_seconds[status])
    try:
        depths = await ports.queue.depths()
    except Unavailable as error:
        log.debug("queues not measured", reason=error.reason)
        depths = {}
    for queue in QUEUES:
        QUEUE_DEPTH.labels(queue).set(depths.get(queue, math.nan))
