"""What MemoryStatusCache promises beyond the port: it does not grow."""

from common.adapters.memory import MemoryStatusCache
from tests.builders import image


async def test_it_forgets_what_was_written_longest_ago() -> None:
    cache = MemoryStatusCache(capacity=3)
    images = [image() for _ in range(4)]
    for put in images[:3]:
        await cache.put(put)
    await cache.put(images[0])

    await cache.put(images[3])

    kept = [put for put in images if await cache.get(put.id)]
    assert kept == [images[0], images[2], images[3]]


async def test_invalidations_do_not_make_it_grow_either() -> None:
    cache = MemoryStatusCache(capacity=3)
    kept = image()
    await cache.put(kept)

    for _ in range(3):
        await cache.invalidate(image().id, 1)

    assert await cache.get(kept.id) is None
