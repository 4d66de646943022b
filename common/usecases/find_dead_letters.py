"""Which dead letters, or failed images, an operator means."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from common.images import ImageStatus
from common.messages import DeadLetter, dead_letter_of
from common.ports import HeldLetter, Ports

BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Those of which all is true; what is left out is true of all. The age is since the image failed or the message was rejected,
    by the store's clock; where that is unknown it is neither older nor newer than anything. `limit`: so many at most."""

    reasons: frozenset[str] = frozenset()
    images: frozenset[UUID] = frozenset()
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    limit: int | None = None

    @property
    def is_everything(self) -> bool:
        return not (self.reasons or self.images or self.is_by_age)

    @property
    def is_by_age(self) -> bool:
        return self.older_than is not None or self.newer_than is not None

    def includes(self, letter: DeadLetter, now: datetime | None) -> bool:
        if self.reasons and letter.reason not in self.reasons:
            return False
        if self.images and letter.image_id not in self.images:
            return False
        if not self.is_by_age:
            return True
        if letter.died_at is None or now is None:
            return False
        age = now - letter.died_at
        return (self.older_than is None or age > self.older_than) and (self.newer_than is None or age < self.newer_than)


async def wanted_letters(ports: Ports, wanted: Wanted) -> AsyncGenerator[HeldLetter, None]:
    """In hand, oldest first; see DeadLetters. Raises Unavailable. Where the age matters the database is asked for its clock."""
    now = await ports.upkeep.now() if wanted.is_by_age else None
    found = 0
    async with aclosing(ports.dead_letters.walk()) as walk:
        async for held in walk:
            if not wanted.includes(held.letter, now):
                continue
            yield held
            found += 1
            if found == wanted.limit:
                return


async def failed_images(ports: Ports, wanted: Wanted) -> AsyncGenerator[DeadLetter, None]:
    """What the dead letters of the failed images would say, whether there are any or not; newest upload first."""
    now = await ports.upkeep.now() if wanted.is_by_age else None
    before: UUID | None = None
    found = 0
    while images := await ports.images.page(owner=None, status=ImageStatus.FAILED, before=before, limit=BATCH):
        for image in images:
            letter = dead_letter_of(image)
            if not wanted.includes(letter, now):
                continue
            yield letter
            found += 1
            if found == wanted.limit:
                return
        before = images[-1].id
