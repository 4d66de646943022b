"""What readers do with a status cache."""

from uuid import UUID

from common.images import Image
from common.ports import Miss, StatusCache


async def known(cache: StatusCache, image_id: UUID) -> Image | None:
    found = await cache.get(image_id)
    return None if isinstance(found, Miss) else found


async def permit_for(cache: StatusCache, image_id: UUID) -> str:
    """Of a reader that misses."""
    found = await cache.get(image_id)
    assert isinstance(found, Miss)
    return found.permit


async def remember(cache: StatusCache, image: Image) -> None:
    """As a reader that misses and finds this row."""
    found = await cache.get(image.id)
    if isinstance(found, Miss):
        await cache.put(image, found.permit)
