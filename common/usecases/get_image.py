"""Read an image's state: from the cache, else from the rows."""

from uuid import UUID

from common.errors import ImageNotFound, Unavailable
from common.images import Image, Principal
from common.ports import Miss, Ports
from common.telemetry import CACHE_READS, log


async def get_image(ports: Ports, principal: Principal, image_id: UUID) -> Image:
    """Raises ImageNotFound for an unknown image and for another's alike: neither the words nor the work done for it tell which."""
    cached = await _cached(ports, image_id)
    if isinstance(cached, Image) and principal.may_see(cached):
        return cached
    image = await ports.images.get(image_id)
    if image is None or not principal.may_see(image):
        raise ImageNotFound("There is no image with this id.")
    if isinstance(cached, Miss):
        await _remember(ports, image, cached.permit)
    return image


async def _cached(ports: Ports, image_id: UUID) -> Image | Miss | None:
    """None where the cache is away."""
    try:
        cached = await ports.cache.get(image_id)
    except Unavailable as error:
        CACHE_READS.labels("unavailable").inc()
        log.debug("cache not read", reason=error.reason)
        return None
    CACHE_READS.labels("miss" if isinstance(cached, Miss) else "hit").inc()
    return cached


async def _remember(ports: Ports, image: Image, permit: str) -> None:
    try:
        await ports.cache.put(image, permit)
    except Unavailable as error:
        log.debug("cache not written", reason=error.reason)
