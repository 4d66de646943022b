"""What MemoryStatusCache promises beyond the port: it does not grow."""

from common.adapters.memory import MemoryStatusCache
from tests.builders import image
from tests.caches import known, remember


async def test_it_forgets_what_was_written_longest_ago() -> None:
    cache = MemoryStatusCache(capacity=3)
    images = [image() for _ in range(4)]
    for put in images[:3]:
        await remember(cache, put)
    await remember(cache, images[3])

    assert list(cache._entries) == [put.id for put in images[1:]]


async def test_invalidations_do_not_make_it_grow_either() -> None:
    cache = MemoryStatusCache(capacity=3)
    kept = image()
    await remember(cache, kept)

    for _ in range(3):
        await cache.invalidate(image().id, 1)

    assert await known(cache, kept.id) is None
