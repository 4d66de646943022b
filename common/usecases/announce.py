"""Tell readers that an image has changed: caches forget what they had, and whoever waits for a final state wakes."""

from common.errors import Unavailable
from common.images import Image
from common.ports import Ports
from common.telemetry import CACHE_LOST_INVALIDATIONS, LOST_NOTIFICATIONS, log


async def announce(ports: Ports, image: Image) -> bool:
    """To be called after every change that a reader can see. → whether the cache knows; where it does not, the short life of its
    entries covers for it, and waiting readers look for themselves."""
    is_known = True
    try:
        await ports.cache.invalidate(image.id, image.version)
    except Unavailable as error:
        is_known = False
        CACHE_LOST_INVALIDATIONS.inc()
        log.debug("cache not invalidated", reason=error.reason)
    if image.status.is_final or image.deleted:
        try:
            await ports.notifier.notify(image.id)
        except Unavailable as error:
            LOST_NOTIFICATIONS.inc()
            log.debug("waiting readers not notified", reason=error.reason)
    return is_known
