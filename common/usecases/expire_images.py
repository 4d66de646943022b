"""Delete images that were uploaded longer ago than an operator wants them kept.

Marks them as deleted, as their owners would; the loop of deletions removes what belongs to them. One that is not final yet stays
until it is.
"""

from datetime import timedelta

from common.ports import Ports
from common.telemetry import EXPIRED, about, log
from common.usecases.announce import announce

BATCH = 1_000


async def expire_images(ports: Ports, age: timedelta) -> int:
    """→ how many. Raises Unavailable where the database is away; what was marked until then is deleted all the same."""
    count = 0
    while expired := await ports.upkeep.expire(age, BATCH):
        for image in expired:
            with about(image):
                await announce(ports, image)
                log.info("image expired")
        EXPIRED.inc(len(expired))
        count += len(expired)
    return count
