"""Deleting an image: nothing of it survives, in whatever state it was, whatever was at work on it, and whatever fails meanwhile."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from uuid6 import uuid7

from common.errors import ImageNotFound, Unavailable
from common.images import Image, ImageStatus, Principal
from common.ports import Bucket, Ports
from common.usecases.delete_image import BATCH, GRACE, delete_image, finish_due_deletions
from common.usecases.dispatch_due import dispatch_until_none_is_due
from common.usecases.get_image import get_image
from tests.caches import permit_for
from tests.disturbed import Disturbed, Failing, Killed
from tests.world import ADMIN, ALICE, BOB, DISPATCH, RETRY, World

before_or_after = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
in_every_state = pytest.mark.parametrize("status", ImageStatus)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.upload = dataclasses.replace(world.upload, idempotency_key="a key")
    return world


async def delete(world: World, image: Image, principal: Principal = ALICE, ports: Ports | None = None) -> None:
    await delete_image(ports or world.ports, principal, image.id)


async def assert_not_found(world: World, image: Image) -> None:
    for principal in (ALICE, ADMIN):
        with pytest.raises(ImageNotFound):
            await get_image(world.ports, principal, image.id)
        with pytest.raises(ImageNotFound):
            await delete(world, image, principal)


async def finish_later(world: World) -> None:
    """What workers do when the time has come."""
    world.let_pass(GRACE)
    await finish_due_deletions(world.ports)
    await dispatch_until_none_is_due(world.ports, DISPATCH)


async def away(*_: Any, **__: Any) -> Any:
    raise Unavailable("something", "away")


@in_every_state
@pytest.mark.parametrize("principal", [ALICE, ADMIN], ids=["owner", "admin"])
async def test_nothing_survives_a_deletion(world: World, status: ImageStatus, principal: Principal) -> None:
    image = await world.image_in(status)
    other = await world.submit(dataclasses.replace(world.upload, idempotency_key="another"))
    await get_image(world.ports, ALICE, image.id)
    assert {"row", "key a key", f"raw-images/{image.id}", "cache"} <= set(await world.remains(image))

    await delete(world, image, principal)

    assert await world.remains(image) == []
    await assert_not_found(world, image)
    assert set(await world.remains(other)) == {"row", "key another", f"raw-images/{other.id}"}
    # and its key can be used again
    assert (await world.submit()).id != image.id


async def test_the_results_of_all_attempts_are_deleted(world: World) -> None:
    image = await world.submit()
    for _ in range(2):
        claimed = await world.images.claim(image.id, timedelta(0))
        assert claimed is not None
        await world.blobs.put(Bucket.PROCESSED, claimed.result_key, world.upload.path, "image/jpeg")

    await delete(world, image)

    assert await world.remains(image) == []


@in_every_state
async def test_anothers_image_is_not_found_and_not_touched(world: World, status: ImageStatus) -> None:
    image = await world.image_in(status)
    remains = await world.remains(image)

    with pytest.raises(ImageNotFound):
        await delete(world, image, BOB)

    assert await world.remains(image) == remains
    assert await world.images.get(image.id) == image


async def test_an_unknown_image_is_not_found(world: World) -> None:
    with pytest.raises(ImageNotFound):
        await delete_image(world.ports, ADMIN, uuid7())


async def test_of_two_at_once_one_deletes(world: World) -> None:
    image = await world.image_in(ImageStatus.COMPLETED)

    answers = await asyncio.gather(delete(world, image), delete(world, image, ADMIN), return_exceptions=True)

    assert sorted(type(answer).__name__ for answer in answers) == ["ImageNotFound", "NoneType"]
    assert await world.remains(image) == []


async def test_a_reader_that_read_the_row_before_does_not_bring_it_back(world: World) -> None:
    image = await world.image_in(ImageStatus.QUEUED)

    permit = await permit_for(world.cache, image.id)

    await delete(world, image)
    await world.cache.put(image, permit)

    await assert_not_found(world, image)


# ---- While a worker has it


async def swept_over_worker(
    world: World, *, after: bool, what: Callable[[Image], Awaitable[object]], ending: tuple[type[BaseException], ...] = ()
) -> list[str]:
    """Processes one image after the other and does `what` at the first call to a port, the second, … → the calls' names."""
    names: list[str] = []
    for call in count(1):
        image = await world.submit(dataclasses.replace(world.upload, idempotency_key=f"key {call}"))
        await get_image(world.ports, ALICE, image.id)
        disturbed = Disturbed(world.ports, call, lambda image=image: what(image), after=after)  # type: ignore[misc]  # cannot be inferred
        with suppress(*ending):
            await world.process(image, disturbed.ports)
        if disturbed.at is None:
            return names
        names.append(disturbed.at)
        await check_gone(world, image, disturbed.at)
    raise AssertionError


async def check_gone(world: World, image: Image, at: str) -> None:
    await finish_later(world)
    assert await world.remains(image) == [], at
    await assert_not_found(world, image)
    assert list(world.queue.dead_letters) == []


WORKERS_CALLS = ["images.claim", "cache.invalidate", "blobs.fetch", "blobs.put", "images.complete"]
AFTERWARDS = ["cache.put", "notifier.notify"]


@before_or_after
async def test_nothing_survives_whatever_a_worker_was_doing(world: World, *, after: bool) -> None:
    names = await swept_over_worker(world, after=after, what=lambda image: delete(world, image))
    assert names == [*WORKERS_CALLS, *AFTERWARDS]


async def test_nothing_survives_a_deletion_during_the_render(world: World) -> None:
    image = await world.submit()
    world.renderer.meanwhile = lambda: delete(world, image)

    assert await world.process(image) is None

    assert world.renderer.calls == 1
    assert await world.remains(image) == []


@before_or_after
async def test_nothing_survives_where_the_worker_is_stopped_at_that_moment(world: World, *, after: bool) -> None:
    async def delete_and_stop(image: Image) -> None:
        await delete(world, image)
        raise asyncio.CancelledError

    names = await swept_over_worker(world, after=after, what=delete_and_stop, ending=(asyncio.CancelledError,))
    assert names == [*WORKERS_CALLS, *AFTERWARDS]


async def stop() -> None:
    raise asyncio.CancelledError


@before_or_after
@pytest.mark.parametrize(
    ("disturb", "ending", "max_outages"),
    [(Failing, Unavailable, 3), (Failing, Unavailable, 1), (partial(Disturbed, what=stop), asyncio.CancelledError, 3)],
    ids=["an outage", "the last outage", "a stop"],
)
async def test_nothing_survives_where_more_goes_wrong_after_a_deletion_during_the_render(
    world: World, disturb: Callable[..., Disturbed], ending: type[BaseException], max_outages: int, *, after: bool
) -> None:
    names = []
    for call in count(1):
        image = await world.submit(dataclasses.replace(world.upload, idempotency_key=f"key {call}"))
        world.renderer.meanwhile = lambda image=image: delete(world, image)
        disturbed = disturb(world.ports, call, after=after)
        with suppress(ending):
            await world.process(image, disturbed.ports, dataclasses.replace(RETRY, max_outages=max_outages))
        if disturbed.at is None:
            break
        names.append(disturbed.at)
        if await world.images.get(image.id) is not None:
            # it came to no render, and so to no deletion
            assert disturbed.at in ("images.claim", "cache.invalidate", "blobs.fetch")
            await delete(world, image)
        await finish_later(world)
        assert await world.remains(image) == [], disturbed.at
        await assert_not_found(world, image)
    assert names == [*WORKERS_CALLS, "blobs.delete"]


async def test_a_worker_killed_with_an_unnamed_result_leaves_that_object_and_no_more(world: World) -> None:
    """The sweeper's part."""
    image = await world.submit()
    world.renderer.meanwhile = lambda: delete(world, image)

    async def die() -> None:
        raise Killed

    disturbed = Disturbed(world.ports, WORKERS_CALLS.index("blobs.put") + 1, die, after=True)
    with pytest.raises(Killed):
        await world.process(image, disturbed.ports)

    await finish_later(world)
    assert disturbed.at == "blobs.put"
    assert await world.remains(image) == [f"processed-images/{image.id}/1"]


# ---- While something is away


async def test_without_the_object_store_it_is_unavailable_and_not_found_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await world.image_in(ImageStatus.COMPLETED)
    await get_image(world.ports, ALICE, image.id)
    monkeypatch.setattr(world.blobs, "delete", away)
    with pytest.raises(Unavailable):
        await delete(world, image)
    await assert_not_found(world, image)

    # for as long as that lasts, it stays so
    await finish_later(world)
    assert await world.remains(image) == ["row", f"raw-images/{image.id}", f"processed-images/{image.id}/1"]

    monkeypatch.undo()
    await finish_later(world)
    assert await world.remains(image) == []


async def test_without_the_cache_the_row_stays_marked_until_that_has_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await world.image_in(ImageStatus.COMPLETED)
    await get_image(world.ports, ALICE, image.id)
    for call in ("get", "put", "invalidate"):
        monkeypatch.setattr(world.cache, call, away)
    await delete(world, image)
    # then nobody finds it, and again is a second time
    await assert_not_found(world, image)
    await finish_later(world)

    monkeypatch.undo()
    assert await world.remains(image) == ["row", "cache"]
    await finish_later(world)
    assert await world.remains(image) == []


async def test_what_cannot_be_deleted_holds_up_no_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # given more due deletions than fit into a batch, older than the job, and no object store
    asked = []

    async def away_again(*what: Any) -> None:
        asked.append(what)
        await away()

    monkeypatch.setattr(world.blobs, "delete", away_again)
    for number in range(3 * BATCH):
        image = await world.submit(dataclasses.replace(world.upload, idempotency_key=f"key {number}"))
        with pytest.raises(Unavailable):
            await delete(world, image)
    job = await world.image_in(ImageStatus.UPLOADED)
    world.let_pass(GRACE)

    await dispatch_until_none_is_due(world.ports, DISPATCH)

    assert (await get_image(world.ports, ALICE, job.id)).status is ImageStatus.QUEUED
    # and a round of deletions asks the store for no more than a batch, at once
    asked.clear()
    await finish_due_deletions(world.ports)
    assert len(asked) == BATCH


async def test_a_deletion_that_fails_again_and_again_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # given many due deletions, of which the first batch cannot be done
    images = []
    with monkeypatch.context() as outage:
        outage.setattr(world.blobs, "delete", away)
        for number in range(3 * BATCH):
            images.append(await world.submit(dataclasses.replace(world.upload, idempotency_key=f"key {number}")))
            with pytest.raises(Unavailable):
                await delete(world, images[-1])
    stuck, others = images[:BATCH], images[BATCH:]
    delete_object = world.blobs.delete

    async def fails_for_some(bucket: Bucket, key: str) -> None:
        if any(key == image.raw_key for image in stuck):
            raise Unavailable("object store", "away for this one")
        await delete_object(bucket, key)

    monkeypatch.setattr(world.blobs, "delete", fails_for_some)
    world.let_pass(GRACE)

    # when it is looked after twice: the first round ends with the batch that failed
    for _ in range(2):
        await finish_due_deletions(world.ports)

    assert [await world.remains(image) for image in others] == [[]] * len(others)
    assert [(await world.remains(image))[:1] for image in stuck] == [["row"]] * len(stuck)


async def test_without_the_database_the_loop_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.images, "take_due", away)

    await finish_due_deletions(world.ports)
