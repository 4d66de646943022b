"""Waiting for a final state: woken at once without polling, and polling only where nobody can wake."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from common.errors import ImageNotFound, PictureRefused, Unavailable
from common.images import FailureCode, Image, ImageStatus, Principal
from common.ports import Ports, Subscription
from common.usecases import wait_until_final as module
from common.usecases.delete_image import delete_image
from common.usecases.wait_until_final import wait_until_final
from tests.disturbed import Disturbed, Watched
from tests.polling import eventually
from tests.world import ADMIN, ALICE, BOB, World

LONG = 60.0
# A wait that was to last LONG and is over within this was woken.
AT_ONCE = 10.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def wait(world: World, image: Image, seconds: float = LONG, ports: Ports | None = None, who: Principal = ALICE) -> Image:
    async with asyncio.timeout(AT_ONCE):
        return await wait_until_final(ports or world.ports, who, image.id, seconds)


@asynccontextmanager
async def waiting(world: World, image: Image, ports: Ports | None = None) -> AsyncIterator[asyncio.Task[Image]]:
    """Somebody waits, and does nothing else any more."""
    task = asyncio.create_task(wait(world, image, ports=ports))

    async def is_subscribed() -> bool:
        await asyncio.sleep(0)
        return bool(world.notifier.waiting)

    await eventually(is_subscribed, "a subscription")
    for _ in range(10):
        await asyncio.sleep(0)
    yield task


def reads(watched: Disturbed) -> tuple[int, int]:
    """How often the cache was read, and how often the rows."""
    return watched.calls.count("cache.get"), watched.calls.count("images.get")


async def away(*_: Any, **__: Any) -> Any:
    raise Unavailable("something", "away")


class LostNotifier:
    """Cannot be subscribed to, or is lost once `lost` is set; tells nobody of anything."""

    def __init__(self, *, from_the_start: bool) -> None:
        self._from_the_start = from_the_start
        self.subscribed = asyncio.Event()
        self.lost = asyncio.Event()

    async def notify(self, image_id: UUID) -> None:
        raise Unavailable("notifier", "away")

    @asynccontextmanager
    async def subscribe(self, image_id: UUID) -> AsyncIterator[Subscription]:
        if self._from_the_start:
            raise Unavailable("notifier", "away")
        self.subscribed.set()
        yield self

    async def notified(self, seconds: float) -> bool:
        await self.lost.wait()
        raise Unavailable("notifier", "lost")


async def test_what_is_final_is_answered_at_once_with_one_read(world: World) -> None:
    of_cache, of_rows = ["cache.get"], ["cache.get", "images.get", "cache.put"]
    for status, calls in ((ImageStatus.COMPLETED, of_cache), (ImageStatus.FAILED, of_rows)):
        image, watched = await world.image_in(status), Watched(world.ports)
        assert await wait(world, image, ports=watched.ports) == image
        assert watched.calls == calls


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_time_is_one_read(world: World, seconds: float) -> None:
    image = await world.image_in(ImageStatus.PROCESSING)
    watched = Watched(world.ports)
    assert await wait(world, image, seconds, watched.ports) == image
    assert watched.calls == ["cache.get", "images.get", "cache.put"]


@pytest.mark.parametrize("status", [ImageStatus.COMPLETED, ImageStatus.FAILED])
async def test_a_final_state_wakes_at_once_and_nobody_polled(world: World, status: ImageStatus) -> None:
    image = await world.submit()
    if status is ImageStatus.FAILED:
        world.renderer.error = PictureRefused(FailureCode.CORRUPT_IMAGE, "The file is damaged.")
    watched = Watched(world.ports)
    async with waiting(world, image, watched.ports) as waiter:
        await world.process(image)
        found = await waiter
    assert found.status is status
    # one before the subscription, one after it, one when woken
    assert reads(watched)[0] <= 3
    assert reads(watched)[1] <= 2
    assert not world.notifier.waiting


async def test_a_deletion_wakes_at_once(world: World) -> None:
    image = await world.submit()
    async with waiting(world, image) as waiter:
        await delete_image(world.ports, ALICE, image.id)
        with pytest.raises(ImageNotFound):
            await waiter
    assert not world.notifier.waiting


async def test_a_deletion_in_the_middle_of_the_render_wakes_at_once(world: World) -> None:
    image = await world.submit()
    async with waiting(world, image) as waiter:
        world.renderer.meanwhile = lambda: delete_image(world.ports, ADMIN, image.id)
        await world.process(image)
        with pytest.raises(ImageNotFound):
            await waiter


async def test_many_wait_for_one_image_and_all_are_woken(world: World) -> None:
    image, other = await world.submit(), await world.submit()
    watched = Watched(world.ports)
    waiters = [asyncio.create_task(wait(world, image, ports=watched.ports)) for _ in range(50)]
    async with waiting(world, other) as another:
        await world.process(image)
        assert {found.status for found in await asyncio.gather(*waiters)} == {ImageStatus.COMPLETED}
        assert not another.done()
        another.cancel()
        await asyncio.wait([another])
    # the rows are read once for the first state, and the cache has it for the others; the last one was put by the worker
    assert reads(watched)[1] == 1
    assert not world.notifier.waiting


BEFORE_IT_SLEEPS = ["cache.get", "images.get", "cache.put", "notifier.subscribe", "cache.get"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", range(1, len(BEFORE_IT_SLEEPS) + 1), ids=lambda call: f"{call}-{BEFORE_IT_SLEEPS[call - 1]}")
@pytest.mark.parametrize("is_deleted", [False, True], ids=["completed", "deleted"])
async def test_a_change_at_any_moment_is_not_missed(world: World, call: int, *, is_deleted: bool, after: bool) -> None:
    image = await world.submit()

    async def change() -> None:
        await (delete_image(world.ports, ALICE, image.id) if is_deleted else world.process(image))

    disturbed = Disturbed(world.ports, call, change, after=after)
    try:
        found = await wait(world, image, ports=disturbed.ports)
    except ImageNotFound:
        assert is_deleted
    else:
        assert not is_deleted
        assert found.status is ImageStatus.COMPLETED
    assert disturbed.at == BEFORE_IT_SLEEPS[call - 1]
    assert reads(disturbed)[0] <= 3
    assert not world.notifier.waiting


async def test_after_that_time_it_is_answered_as_it_is_then(world: World) -> None:
    image = await world.image_in(ImageStatus.PROCESSING)
    begin = time.monotonic()
    assert await wait(world, image, 0.05) == image
    assert 0.04 < time.monotonic() - begin < AT_ONCE
    assert not world.notifier.waiting


async def test_a_final_state_that_nobody_told_of_is_found_when_the_time_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await world.submit()
    # given a worker that is killed before it tells anybody
    monkeypatch.setattr(world.notifier, "notify", away)
    waiter = asyncio.create_task(wait(world, image, 0.1))
    await asyncio.sleep(0)
    await world.process(image)
    assert (await waiter).status is ImageStatus.COMPLETED


async def test_being_woken_for_nothing_is_no_reason_to_answer(world: World) -> None:
    image = await world.submit()
    async with waiting(world, image) as waiter:
        await world.notifier.notify(image.id)
        await asyncio.wait([waiter], timeout=0.02)
        assert not waiter.done()
        await world.process(image)
        assert (await waiter).status is ImageStatus.COMPLETED


async def test_nobody_waits_for_anothers_or_unknown_image(world: World) -> None:
    image = await world.submit()
    watched = Watched(world.ports)
    with pytest.raises(ImageNotFound):
        await wait(world, image, ports=watched.ports, who=BOB)
    assert "notifier.subscribe" not in watched.calls
    assert (await wait(world, image, 0, who=ADMIN)).id == image.id


async def test_a_wait_that_is_cancelled_leaves_no_subscription(world: World) -> None:
    image = await world.submit()
    async with waiting(world, image) as waiter:
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert not world.notifier.waiting


async def test_without_the_cache_it_is_woken_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await world.submit()
    monkeypatch.setattr(world.cache, "get", away)
    monkeypatch.setattr(world.cache, "put", away)
    watched = Watched(world.ports)
    async with waiting(world, image, watched.ports) as waiter:
        await world.process(image)
        assert (await waiter).status is ImageStatus.COMPLETED
    assert reads(watched)[1] == 3


async def test_without_a_notifier_it_polls_once_in_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    image = await world.image_in(ImageStatus.PROCESSING)
    watched = Watched(replace(world.ports, notifier=LostNotifier(from_the_start=True)))
    assert await wait(world, image, 0.1, watched.ports) == image
    # one before it tries to be woken, one when it cannot, one each interval, and of the rows only what the cache does not have
    assert 3 <= reads(watched)[0] <= 2 + 5
    assert reads(watched)[1] == 1


@pytest.mark.parametrize("from_the_start", [True, False], ids=["from the start", "in the middle"])
async def test_without_a_notifier_the_final_state_is_found_by_polling(
    world: World, monkeypatch: pytest.MonkeyPatch, *, from_the_start: bool
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    image = await world.submit()
    notifier = LostNotifier(from_the_start=from_the_start)
    waiter = asyncio.create_task(wait(world, image, ports=replace(world.ports, notifier=notifier)))
    if not from_the_start:
        await notifier.subscribed.wait()
        notifier.lost.set()
    await asyncio.wait([waiter], timeout=0.03)
    assert not waiter.done()
    await world.process(image)
    assert (await waiter).status is ImageStatus.COMPLETED


async def test_what_happened_while_the_notifier_was_lost_is_found_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", LONG)
    image = await world.submit()
    notifier = LostNotifier(from_the_start=False)
    waiter = asyncio.create_task(wait(world, image, ports=replace(world.ports, notifier=notifier)))
    await notifier.subscribed.wait()
    await world.process(image)
    notifier.lost.set()
    assert (await waiter).status is ImageStatus.COMPLETED


async def test_without_the_database_it_is_unavailable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await world.submit()
    async with waiting(world, image) as waiter:
        monkeypatch.setattr(world.images, "get", away)
        monkeypatch.setattr(world.cache, "get", away)
        await world.notifier.notify(image.id)
        with pytest.raises(Unavailable):
            await waiter
    assert not world.notifier.waiting
