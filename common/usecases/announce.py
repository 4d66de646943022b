"""Tell readers that an image has changed: caches forget what they had, and whoever waits for a final state wakes."""

from common.errors import Unavailable
from common.images import Image
from common.ports import Ports
from common.telemetry import CACHE_LOST_INVALIDATIONS, LOST_NOTIFICATIONS, log


async def announce(ports: Ports, image: Image, permit: str | None = None) -> str | None:
    """To be called after every change that a reader can see. → the cache's permit, None where it is away: then the short life of
    its entries covers for it, and waiting readers look for themselves.

    `permit`: of the announcement before this change, by whoever made both. With it the cache need not forget: it is given the
    image, and refuses it if anything else has been announced between the two."""
    try:
        if permit is None:
            permit = await ports.cache.invalidate(image.id, image.version)
        else:
            await ports.cache.put(image, permit)
    except Unavailable as error:
        permit = None
        CACHE_LOST_INVALIDATIONS.inc()
        log.debug("cache not invalidated", reason=error.reason)
    if image.status.is_final or image.deleted:
        try:
            await ports.notifier.notify(image.id)
        except Unavailable as error:
            LOST_NOTIFICATIONS.inc()
            log.debug("waiting readers not notified", reason=error.reason)
    return permit
