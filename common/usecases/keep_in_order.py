"""What has to be done now and then, by one of any number of workers: the sweep, and deleting what was kept for long enough."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from common.errors import Unavailable
from common.ports import Ports
from common.telemetry import ROWS_WITHOUT_OBJECT, SWEEPS, log
from common.usecases.expire_images import expire_images
from common.usecases.sweep import sweep

EXPIRE_EVERY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepPolicy:
    """`keep_for`: None for ever."""

    sweep_every: timedelta
    grace: timedelta
    keep_for: timedelta | None


async def keep_in_order(ports: Ports, policy: UpkeepPolicy, pause: Callable[[float], Awaitable[bool]]) -> None:
    """One round of the loop: does what it is this worker's turn to do, which with the sweep's grace may take long. What an outage
    ends is done at the next turn."""
    try:
        if policy.keep_for is not None and await ports.upkeep.take_turn("expire", min(EXPIRE_EVERY, policy.keep_for)):
            await expire_images(ports, policy.keep_for)
        if await ports.upkeep.take_turn("sweep", policy.sweep_every):
            # Makes the buckets where nothing has ever been stored.
            await ports.blobs.check()
            found = await sweep(ports, policy.grace, pause)
            SWEEPS.labels("doubtful" if found.is_doubtful else "done").inc()
            if not found.is_doubtful:
                _tell(len(found.without_object), 2 * (policy.sweep_every + policy.grace))
    except Unavailable as error:
        SWEEPS.labels("unavailable").inc()
        log.warning("upkeep put off", service=error.service, reason=error.reason)


def _tell(without_object: int, good_for: timedelta) -> None:
    """The next sweep may be another worker's, of which this process learns nothing: then no number is better than an old one."""
    end = time.monotonic() + good_for.total_seconds()
    ROWS_WITHOUT_OBJECT.set_function(lambda: without_object if time.monotonic() < end else math.nan)
