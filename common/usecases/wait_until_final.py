"""Read an image's state, waiting for a while until it is final. Woken, not polling; polling only where nobody can wake."""

import asyncio
from uuid import UUID

from common.errors import Unavailable
from common.images import Image, Principal
from common.ports import Ports
from common.telemetry import WAITS, log
from common.usecases.get_image import get_image

POLL_SECONDS = 1.0


async def wait_until_final(ports: Ports, principal: Principal, image_id: UUID, seconds: float) -> Image:
    """→ the image as soon as it is final, or after that time as it is then. Raises ImageNotFound at once, or when it is deleted."""
    image = await get_image(ports, principal, image_id)
    if image.status.is_final or seconds <= 0:
        return image
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        return await _woken(ports, principal, image_id, deadline)
    except Unavailable as error:
        log.debug("waiting by polling", reason=error.reason)
        return await _polled(ports, principal, image_id, deadline)


async def _woken(ports: Ports, principal: Principal, image_id: UUID, deadline: float) -> Image:
    async with ports.notifier.subscribe(image_id) as subscription:
        # What happened before this moment nobody tells.
        image = await get_image(ports, principal, image_id)
        while not image.status.is_final:
            is_notified = await subscription.notified(_left(deadline))
            image = await get_image(ports, principal, image_id)
            if not is_notified:
                break
    WAITS.labels("woken" if image.status.is_final else "over").inc()
    return image


async def _polled(ports: Ports, principal: Principal, image_id: UUID, deadline: float) -> Image:
    image = await get_image(ports, principal, image_id)
    while not image.status.is_final and _left(deadline) > 0:
        await asyncio.sleep(min(POLL_SECONDS, _left(deadline)))
        image = await get_image(ports, principal, image_id)
    WAITS.labels("polled").inc()
    return image


def _left(deadline: float) -> float:
    return max(0.0, deadline - asyncio.get_running_loop().time())
