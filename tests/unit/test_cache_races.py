"""Readers through the cache never see a status go backwards, however their steps and a worker's fall between each other.

A reader asks the cache, else reads the row and puts it, and then answers. A worker commits the next version and then invalidates;
or it has invalidated before, and puts what it commits with the permit of that.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from common.adapters.memory import MemoryStatusCache
from common.images import Image
from common.ports import Miss, StatusCache
from tests.builders import image
from tests.caches import known, permit_for

Step = Callable[[], Awaitable[None]]


class Race:
    """`row` is what is committed; `answers` says, for each reader, when it asked, when it answered, and which version."""

    def __init__(self, cache: StatusCache) -> None:
        self.cache = cache
        self.row = replace(image(), version=3)
        self.now = 0
        self.answers: list[tuple[int, int, int]] = []

    def reader(self) -> list[Step]:
        asked, permit, found = 0, "", self.row

        async def ask() -> None:
            nonlocal asked, permit, found
            asked = self.now
            answer = await self.cache.get(self.row.id)
            if isinstance(answer, Miss):
                permit = answer.permit
            else:
                self.answers.append((asked, self.now, answer.version))

        async def read() -> None:
            nonlocal found
            found = self.row

        async def put() -> None:
            if permit:
                await self.cache.put(found, permit)
                self.answers.append((asked, self.now, found.version))

        return [ask, read, put]

    def late_reader(self) -> list[Step]:
        """Whose steps nothing comes between."""

        async def ask() -> None:
            for step in self.reader():
                await step()

        return [ask]

    def worker(self) -> list[Step]:
        async def commit() -> None:
            self.row = replace(self.row, version=self.row.version + 1)

        async def invalidate() -> None:
            await self.cache.invalidate(self.row.id, self.row.version)

        return [commit, invalidate]

    def telling_worker(self) -> list[Step]:
        permit, committed = "", self.row

        async def invalidate() -> None:
            nonlocal permit
            permit = await self.cache.invalidate(self.row.id, self.row.version)

        async def commit() -> None:
            nonlocal committed
            self.row = committed = replace(self.row, version=self.row.version + 1)

        async def put() -> None:
            await self.cache.put(committed, permit)

        return [invalidate, commit, put]

    def went_backwards(self) -> bool:
        return any(
            later_asked > answered and later < version
            for _, answered, version in self.answers
            for later_asked, _, later in self.answers
        )


def interleavings(*lengths: int) -> Iterator[list[int]]:
    """Every order of so many steps of each, by whose they are."""
    if not any(lengths):
        yield []
    for who, length in enumerate(lengths):
        if length:
            for rest in interleavings(*(left - (one == who) for one, left in enumerate(lengths))):
                yield [who, *rest]


async def races_that_go_backwards(cache: Callable[[], StatusCache], *, forgets: bool) -> int:
    """Two slow readers, one that is quick, a worker; and a cache that at some moment loses everything."""
    count = 0
    for order in interleavings(3, 3, 1, 2, *([1] if forgets else [])):
        race = Race(cache())

        async def forget(race: Race = race) -> None:
            # of all, that is
            race.cache._entries.clear()  # type: ignore[attr-defined]  # the memory cache's

        steps = [iter(each) for each in (race.reader(), race.reader(), race.late_reader(), race.worker(), [forget])]
        for who in order:
            race.now += 1
            await next(steps[who])()
        race.now += 1
        for step in race.late_reader():
            await step()
        count += race.went_backwards()
    return count


@pytest.mark.parametrize("forgets", [False, True])
async def test_no_order_of_steps_shows_a_status_going_backwards(*, forgets: bool) -> None:
    assert await races_that_go_backwards(MemoryStatusCache, forgets=forgets) == 0


@pytest.mark.parametrize("others", ["readers", "worker", "forgetting"])
async def test_nor_does_a_worker_that_puts_what_it_commits(others: str) -> None:
    count = backwards = stale = 0
    lengths = {"readers": (3, 1, 3, 3), "worker": (3, 1, 3, 2), "forgetting": (3, 1, 3, 1)}[others]
    for order in interleavings(*lengths):
        race = Race(MemoryStatusCache())

        async def forget(race: Race = race) -> None:
            race.cache._entries.clear()  # type: ignore[attr-defined]  # the memory cache's

        other: dict[str, list[Step]] = {"readers": race.reader(), "worker": race.worker(), "forgetting": [forget]}
        steps = [iter(each) for each in (race.reader(), race.late_reader(), race.telling_worker(), other[others])]
        for who in order:
            race.now += 1
            await next(steps[who])()
        race.now += 1
        for step in race.late_reader():
            await step()
        count += 1
        backwards += race.went_backwards()
        # whatever came before, who asks when all is done is told what is committed
        stale += race.answers[-1][2] != race.row.version
    assert count
    assert (backwards, stale) == (0, 0)


async def test_it_takes_the_versions() -> None:
    class WithoutVersions(MemoryStatusCache):
        async def put(self, image: Image, permit: str) -> None:
            entry = self._known(image.id)
            if entry is not None and (entry.image is not None or entry.permit == permit):
                self._write(image.id, entry._replace(image=image, version=image.version))

    assert await races_that_go_backwards(WithoutVersions, forgets=False) > 0


async def test_it_takes_the_permits() -> None:
    class WithoutPermits(MemoryStatusCache):
        async def put(self, image: Image, permit: str) -> None:
            await super().put(image, await permit_for(self, image.id) if await known(self, image.id) is None else permit)

    assert await races_that_go_backwards(WithoutPermits, forgets=True) > 0
