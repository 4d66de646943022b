"""Carrying out a job: the row ends in its next state, whatever goes wrong on the way."""

import asyncio
import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from common.errors import PictureRefused, RenderInterrupted, Unavailable
from common.images import FailureCode, Image, ImageStatus, Priority, Result, RetryPolicy
from common.messages import Job
from common.ports import Bucket
from common.usecases import process_image as process
from common.usecases.dispatch_due import BATCH, HOLD, Missing, dispatch_due, dispatch_until_none_is_due
from common.usecases.get_image import get_image
from common.usecases.process_image import ProcessPolicy, process_image
from tests import world as worlds
from tests.builders import image
from tests.caches import known, permit_for
from tests.world import ALICE, DISPATCH, LEASE, RETRY, STALE


class World(worlds.World):
    """With one uploaded picture in it, that nobody has published yet."""

    image: Image

    @property
    def job(self) -> Job:
        return Job(image_id=self.image.id, request_id=self.image.request_id)

    async def process_it(self) -> Image | None:
        return await self.process(self.image)

    def dead(self) -> list[Any]:
        return list(self.queue.dead_letters)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.image = await world.image_in(ImageStatus.UPLOADED)
    # what the gateway published is lost
    await (await anext(world.queue.deliveries(1))).ack()
    return world


async def test_a_picture_is_rendered_stored_and_completed(world: World) -> None:
    image = await world.process_it()

    assert image is not None
    assert (image.status, image.attempts, image.failure) == (ImageStatus.COMPLETED, 1, None)
    assert image.result is not None
    assert image.result.key == f"{image.id}/1"
    assert world.blobs.objects[Bucket.PROCESSED, image.result.key] == world.renderer.content


async def test_the_cache_never_shows_the_state_before(world: World) -> None:
    permit = await permit_for(world.cache, world.image.id)
    await world.cache.put(world.image, permit)

    image = await world.process_it()

    assert image is not None
    assert await known(world.cache, image.id) == image
    await world.cache.put(world.image, permit)
    assert await known(world.cache, image.id) == image, "a slow reader put the old state back"


async def test_what_has_become_of_the_image_since_is_not_put_over(world: World) -> None:
    """A deletion between the completion and its announcement."""
    complete = world.images.complete

    async def complete_and_see_it_deleted(image_id: UUID, attempts: int, result: Result) -> Image | None:
        completed = await complete(image_id, attempts, result)
        await world.cache.invalidate(image_id, 100)
        return completed

    world.images.complete = complete_and_see_it_deleted  # type: ignore[method-assign]

    assert await world.process_it() is not None

    assert await known(world.cache, world.image.id) is None


async def test_a_job_done_twice_changes_nothing(world: World) -> None:
    first = await world.process_it()

    assert await world.process_it() == first
    assert world.renderer.calls == 1


async def test_a_picture_that_cannot_be_rendered_fails_at_once_with_a_dead_letter(world: World) -> None:
    world.renderer.error = PictureRefused(FailureCode.CORRUPT_IMAGE, "The file is damaged.")

    image = await world.process_it()

    assert image is not None
    assert image.status is ImageStatus.FAILED
    assert image.failure is not None
    assert (image.failure.code, image.failure.detail, image.attempts) == (FailureCode.CORRUPT_IMAGE, "The file is damaged.", 1)
    assert len(world.dead()) == 1
    assert await world.images.take_due(10, LEASE) == []


async def test_a_missing_upload_fails_at_once(world: World) -> None:
    await world.blobs.delete(Bucket.RAW, world.image.raw_key)

    image = await world.process_it()

    assert image is not None
    assert image.failure is not None
    assert image.failure.code is FailureCode.SOURCE_MISSING


async def test_an_upload_that_the_store_gives_back_as_another_is_not_rendered(world: World) -> None:
    content = world.blobs.objects[Bucket.RAW, world.image.raw_key]
    world.blobs.objects[Bucket.RAW, world.image.raw_key] = content[:-1]

    first = await world.process_it()

    assert first is not None
    assert first.status is ImageStatus.QUEUED
    assert world.renderer.calls == 0

    # where it is itself again, all is well; else it fails, and it is not the picture that is blamed
    world.blobs.objects[Bucket.RAW, world.image.raw_key] = b"another picture"
    second = await world.process_it()
    assert second is not None
    assert second.failure is not None
    assert second.failure.code is FailureCode.SOURCE_MISSING
    assert world.renderer.calls == 0


async def test_a_crash_of_the_renderer_costs_an_attempt_until_they_are_used_up(world: World) -> None:
    world.renderer.error = RenderInterrupted(FailureCode.TIME_LIMIT, "It took too long.")

    first = await world.process_it()
    second = await world.process_it()

    assert first is not None
    assert second is not None
    assert (first.status, second.status) == (ImageStatus.QUEUED, ImageStatus.FAILED)
    assert second.failure is not None
    assert (second.failure.code, second.attempts) == (FailureCode.TIME_LIMIT, 2)
    assert len(world.dead()) == 1


async def test_an_outage_does_not_use_up_the_pictures_own_attempts(world: World) -> None:
    world.renderer.error = Unavailable("object store", "away")

    for _ in range(2):
        image = await world.process_it()
        assert image is not None
        assert image.status is ImageStatus.QUEUED
    world.renderer.error = None
    image = await world.process_it()

    assert image is not None
    assert (image.status, image.attempts, image.outages) == (ImageStatus.COMPLETED, 3, 2)


async def test_an_outage_without_end_ends_too(world: World) -> None:
    world.renderer.error = Unavailable("object store", "away")

    for _ in range(RETRY.max_outages):
        image = await world.process_it()

    assert image is not None
    assert image.failure is not None
    assert image.failure.code is FailureCode.ATTEMPTS_EXHAUSTED


async def test_a_worker_presumed_dead_cannot_overwrite(world: World) -> None:
    # given a render during which the lease ends and another worker takes over
    async def taken_over() -> None:
        await world.images.make_all_due()
        assert await world.images.claim(world.image.id, LEASE) is not None

    world.renderer.meanwhile = taken_over

    # when
    image = await world.process_it()

    # then the row is the other's, and the late result is gone
    assert image is not None
    assert (image.status, image.attempts, image.result) == (ImageStatus.PROCESSING, 2, None)
    assert [key for bucket, key in world.blobs.objects if bucket is Bucket.PROCESSED] == []


async def test_a_cancelled_job_gives_the_image_back_at_once(world: World) -> None:
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    world.renderer.meanwhile = hang
    task = asyncio.create_task(world.process_it())
    await started.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    due = await world.images.take_due(10, LEASE)
    assert [(image.status, image.outages) for image in due] == [(ImageStatus.QUEUED, 1)]


async def test_the_lease_is_renewed_while_a_render_runs_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = asyncio.Event()
    renew = world.images.renew

    async def watched(*arguments: Any) -> bool:
        renewed.set()
        return await renew(*arguments)

    monkeypatch.setattr(world.images, "renew", watched)
    world.renderer.meanwhile = renewed.wait

    await process_image(world.ports, world.renderer, ProcessPolicy(lease=timedelta(seconds=0.03), retry=RETRY), world.job)

    image = await world.images.get(world.image.id)
    assert image is not None
    assert image.status is ImageStatus.COMPLETED


async def test_a_renewal_that_fails_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tries, renew, renewed = 0, world.images.renew, asyncio.Event()

    async def fails_at_first(*arguments: Any) -> bool:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Unavailable("database", "away")
        renewed.set()
        return await renew(*arguments)

    monkeypatch.setattr(world.images, "renew", fails_at_first)
    world.renderer.meanwhile = renewed.wait

    await process_image(world.ports, world.renderer, ProcessPolicy(lease=timedelta(seconds=0.03), retry=RETRY), world.job)

    assert (await get_image(world.ports, ALICE, world.image.id)).status is ImageStatus.COMPLETED


async def test_a_database_that_is_away_for_a_moment_costs_the_picture_no_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    outages, retry = 0, world.images.retry

    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("database", "away")

    async def away_for_a_moment(*arguments: Any, **more: Any) -> Image | None:
        nonlocal outages
        outages += 1
        if outages < 3:
            raise Unavailable("database", "away")
        return await retry(*arguments, **more)

    monkeypatch.setattr(process, "TELL_AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(world.images, "retry", away_for_a_moment)
    monkeypatch.setattr(world.images, "complete", away)
    # when
    patient = ProcessPolicy(lease=LEASE, retry=RETRY, patience=LEASE)
    await process_image(world.ports, world.renderer, patient, world.job)
    # then
    image = await world.images.get(world.image.id)
    assert image is not None
    assert (image.status, image.attempts, image.outages) == (ImageStatus.QUEUED, 1, 1)


async def test_a_dead_letter_that_could_not_be_sent_is_sent_by_the_dispatcher(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a failure while the broker is away
    world.renderer.error = PictureRefused(FailureCode.CORRUPT_IMAGE, "The file is damaged.")
    send = world.queue.publish_dead

    async def away(*_: Any) -> None:
        raise Unavailable("queue", "away")

    monkeypatch.setattr(world.queue, "publish_dead", away)
    image = await world.process_it()
    assert image is not None
    assert image.status is ImageStatus.FAILED
    assert world.dead() == []

    # when it is back
    monkeypatch.setattr(world.queue, "publish_dead", send)
    await world.images.make_all_due()
    await dispatch_due(world.ports, DISPATCH, Missing())

    # then, once
    assert len(world.dead()) == 1
    assert await world.images.make_all_due() == 0


async def test_the_dispatcher_publishes_what_is_due_and_marks_it_queued(world: World) -> None:
    await world.images.make_all_due()

    await dispatch_due(world.ports, DISPATCH, Missing())

    image = await world.images.get(world.image.id)
    assert image is not None
    assert image.status is ImageStatus.QUEUED
    assert await world.images.take_due(10, timedelta(0)) == []
    delivery = await anext(world.queue.deliveries(1))
    assert str(world.image.id) in delivery.body.decode()


async def test_a_queue_that_takes_nothing_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # given more than enough that is due before anything of high priority, and goes to a full queue
    normal = dataclasses.replace(world.upload, priority=Priority.NORMAL)
    for _ in range(BATCH // 2):
        await world.submit(normal)
    world.let_pass(timedelta(seconds=1))
    await world.submit()
    asked: list[Priority] = []

    async def full(job: Job, priority: Priority) -> None:
        asked.append(priority)
        if priority is Priority.NORMAL:
            raise Unavailable("queue", "full")

    monkeypatch.setattr(world.queue, "publish", full)
    await world.images.make_all_due()

    # when
    await dispatch_until_none_is_due(world.ports, DISPATCH)

    # then, and the full queue was not asked again and again
    assert await world.images.take_due(2 * BATCH, timedelta(0)) == []
    assert (asked.count(Priority.HIGH), asked.count(Priority.NORMAL)) == (2, 1)
    world.let_pass(HOLD)
    assert {image.priority for image in await world.images.take_due(2 * BATCH, timedelta(0))} == {Priority.NORMAL}


async def test_what_its_own_queue_never_takes_goes_another_way_after_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = world.queue.publish

    async def without_high(job: Job, priority: Priority) -> None:
        if priority is Priority.HIGH:
            raise Unavailable("queue", "it has no leader")
        await publish(job, priority)

    monkeypatch.setattr(world.queue, "publish", without_high)
    await world.images.make_all_due()
    await dispatch_until_none_is_due(world.ports, DISPATCH)
    assert sum(world.queue._waiting.lengths().values()) == 0

    row = world.images.rows[world.image.id]
    row.image = dataclasses.replace(row.image, updated_at=row.image.updated_at - STALE - timedelta(seconds=1))
    await world.images.make_all_due()
    await dispatch_until_none_is_due(world.ports, DISPATCH)

    delivery = await anext(world.queue.deliveries(1))
    assert (delivery.priority, str(world.image.id) in delivery.body.decode()) == (Priority.LOW, True)


async def test_a_picture_whose_workers_all_died_ends_as_failed(world: World) -> None:
    # given as many claims as there are attempts, none of which came to an end
    for _ in range(RETRY.max_attempts):
        assert await world.images.claim(world.image.id, timedelta(0)) is not None

    # when
    await dispatch_due(world.ports, DISPATCH, Missing())

    # then
    image = await world.images.get(world.image.id)
    assert image is not None
    assert image.failure is not None
    assert image.failure.code is FailureCode.ATTEMPTS_EXHAUSTED
    assert len(world.dead()) == 1


async def test_an_outage_while_dispatching_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.images.make_all_due()

    async def away(*_: Any) -> None:
        raise Unavailable("queue", "away")

    monkeypatch.setattr(world.queue, "publish", away)
    await dispatch_until_none_is_due(world.ports, DISPATCH)
    monkeypatch.undo()

    world.let_pass(HOLD)
    await dispatch_until_none_is_due(world.ports, DISPATCH)
    delivery = await anext(world.queue.deliveries(1))
    assert str(world.image.id) in delivery.body.decode()


@pytest.mark.parametrize("attempts", [1, 2, 10, 10_000])
def test_the_delay_grows_to_its_ceiling_and_no_further(attempts: int) -> None:
    policy = RetryPolicy(first_delay=timedelta(seconds=1), longest_delay=timedelta(minutes=5))
    ceiling = min(timedelta(minutes=5), timedelta(seconds=2 ** min(attempts - 1, 20)))

    delays = [policy.delay(image(attempts=attempts)) for _ in range(300)]

    assert timedelta(0) <= min(delays)
    assert ceiling * 0.8 < max(delays) <= ceiling
