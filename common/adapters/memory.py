"""In-process adapters for the embedded mode. What they hold is gone with the process; the rows bring it back."""

import time
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from common.adapters.freshness import INVALIDATED_SECONDS, lifetime_seconds
from common.images import Image


class _Entry(NamedTuple):
    """`image` is None after an invalidation."""

    version: int
    image: Image | None
    expires_at: float


class MemoryStatusCache:
    """Keeps `capacity` entries and forgets the one written longest ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = 10_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._entries: dict[UUID, _Entry] = {}

    async def get(self, image_id: UUID) -> Image | None:
        entry = self._known(image_id)
        return entry.image if entry else None

    async def put(self, image: Image) -> None:
        self._write(image.id, _Entry(image.version, image, self._clock() + lifetime_seconds(image)))

    async def invalidate(self, image_id: UUID, version: int) -> None:
        self._write(image_id, _Entry(version, None, self._clock() + INVALIDATED_SECONDS))

    async def check(self) -> None:
        return

    def _known(self, image_id: UUID) -> _Entry | None:
        entry = self._entries.get(image_id)
        return entry if entry and self._clock() < entry.expires_at else None

    def _write(self, image_id: UUID, entry: _Entry) -> None:
        known = self._known(image_id)
        if known and known.version > entry.version:
            return
        self._entries.pop(image_id, None)
        self._entries[image_id] = entry
        if len(self._entries) > self._capacity:
            del self._entries[next(iter(self._entries))]
