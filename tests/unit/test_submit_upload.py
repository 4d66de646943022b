"""Taking a picture in: what is accepted is safe, what is not leaves nothing behind."""

import asyncio
import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from common.errors import IdempotencyMismatch, ImageNotFound, Unavailable
from common.images import ImageStatus, Priority
from common.processing import parse
from common.usecases.delete_image import delete_image, finish_due_deletions
from common.usecases.get_image import get_image
from tests.world import ADMIN, ALICE, BOB, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def away(*_: Any, **__: Any) -> None:
    raise Unavailable("something", "away")


async def test_an_upload_is_stored_recorded_and_queued(world: World) -> None:
    image = await world.submit()

    assert (image.status, image.owner, image.priority) == (ImageStatus.UPLOADED, "alice", Priority.HIGH)
    stored = await world.images.get(image.id)
    assert stored is not None
    assert stored.status is ImageStatus.QUEUED
    assert list(world.blobs.objects.values()) == [b"a picture"]
    delivery = await anext(world.queue.deliveries(1))
    assert (delivery.priority, delivery.request_id) == (Priority.HIGH, "request-1")


@pytest.mark.parametrize(("port", "call"), [("blobs", "put"), ("images", "add")])
async def test_what_cannot_be_stored_or_recorded_leaves_nothing(
    world: World, port: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getattr(world, port), call, away)

    with pytest.raises(Unavailable):
        await world.submit()

    assert world.blobs.objects == {}


async def test_a_row_that_was_committed_after_all_is_accepted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a database whose answer to the commit is lost
    add = world.images.add

    async def commits_and_is_gone(*arguments: Any) -> None:
        await add(*arguments)
        raise Unavailable("database", "gone")

    monkeypatch.setattr(world.images, "add", commits_and_is_gone)

    image = await world.submit()

    processed = await world.process(image)
    assert processed
    assert processed.status is ImageStatus.COMPLETED


async def test_a_commit_that_comes_too_late_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a database that does not answer in time, and yet has the statement
    add, late = world.images.add, list[tuple[Any, ...]]()

    async def hangs(*arguments: Any) -> None:
        late.append(arguments)
        raise Unavailable("database", "no answer in 10 s")

    monkeypatch.setattr(world.images, "add", hangs)
    with pytest.raises(Unavailable):
        await world.submit()

    # when it carries it out at last
    with pytest.raises(AssertionError, match="twice"):
        await add(*late[0])

    # then nobody ever sees it
    assert world.blobs.objects == {}
    assert await world.images.page(owner=None, status=None, before=None, limit=10) == []
    world.let_pass(timedelta(minutes=11))
    await finish_due_deletions(world.ports)
    assert world.images.rows == {}


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = asyncio.Event()

    async def hang(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(world.images, "add", hang)
    submitting = asyncio.create_task(world.submit())
    await reached.wait()
    assert len(world.blobs.objects) == 1

    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting

    assert world.blobs.objects == {}


@pytest.mark.parametrize(("port", "call"), [("queue", "publish"), ("images", "mark_queued")])
async def test_a_publish_that_fails_is_no_reason_to_refuse(
    world: World, port: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getattr(world, port), call, away)

    image = await world.submit()

    # the dispatcher will find it
    assert await world.images.make_all_due() == 1
    assert image.status is ImageStatus.UPLOADED


async def test_who_may_see_an_image(world: World) -> None:
    image = await world.submit()

    for principal in (ALICE, ADMIN):
        # once from the rows and once from the cache
        for _ in range(2):
            assert (await get_image(world.ports, principal, image.id)).id == image.id
    with pytest.raises(ImageNotFound):
        await get_image(world.ports, BOB, image.id)


async def test_reads_go_on_without_the_cache(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await world.submit()
    monkeypatch.setattr(world.cache, "get", away)
    monkeypatch.setattr(world.cache, "put", away)

    assert (await get_image(world.ports, ALICE, image.id)).status is ImageStatus.QUEUED


# ---- With an idempotency key


@pytest.fixture
def keyed(world: World) -> World:
    world.upload = dataclasses.replace(world.upload, idempotency_key="a key")
    return world


def objects_of(world: World) -> list[str]:
    return [key for _, key in world.blobs.objects]


async def test_the_same_upload_again_is_answered_with_the_first_ones_image_as_it_is_now(keyed: World) -> None:
    first = await keyed.submit()

    for status in (ImageStatus.QUEUED, ImageStatus.COMPLETED):
        again = await keyed.submit()
        assert (again.id, again.status) == (first.id, status)
        await keyed.process(first)

    # then nothing new was stored, and the object of the second is gone again
    assert [key for key in objects_of(keyed) if "/" not in key] == [first.raw_key]
    assert list(keyed.images.rows) == [first.id]


async def test_one_message_is_sent_for_uploads_with_one_key(keyed: World) -> None:
    answers = await asyncio.gather(*(keyed.submit() for _ in range(5)))

    assert len({image.id for image in answers}) == 1
    assert objects_of(keyed) == [answers[0].raw_key]
    deliveries = keyed.queue.deliveries(10)
    await anext(deliveries)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(deliveries)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "1" * 64},
        {"filename": "dog.jpg"},
        {"priority": Priority.LOW},
        {"processing": parse("resize:801|grayscale")},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_key_of_another_upload_is_refused_and_leaves_nothing(keyed: World, change: dict[str, Any]) -> None:
    first = await keyed.submit()

    with pytest.raises(IdempotencyMismatch):
        await keyed.submit(dataclasses.replace(keyed.upload, **change))

    assert objects_of(keyed) == [first.raw_key]
    assert list(keyed.images.rows) == [first.id]
    assert (await keyed.submit()).id == first.id


async def test_the_same_processing_in_other_words_is_the_same_upload(keyed: World) -> None:
    first = await keyed.submit()

    in_other_words = dataclasses.replace(keyed.upload, processing=parse("resize:800|grayscale"), request_id="request-2")
    assert (await keyed.submit(in_other_words)).id == first.id


async def test_anothers_same_key_is_another(keyed: World) -> None:
    first = await keyed.submit()

    assert (await keyed.submit(principal=BOB)).id != first.id
    assert len(objects_of(keyed)) == 2


async def test_a_deletion_frees_the_key(keyed: World) -> None:
    first = await keyed.submit()
    await delete_image(keyed.ports, ALICE, first.id)

    second = await keyed.submit()

    assert second.id != first.id
    assert objects_of(keyed) == [second.raw_key]


async def test_without_the_object_store_the_same_upload_again_changes_nothing(
    keyed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await keyed.submit()
    monkeypatch.setattr(keyed.blobs, "put", away)
    with pytest.raises(Unavailable):
        await keyed.submit()
    monkeypatch.undo()

    assert (await keyed.submit()).id == first.id
    assert objects_of(keyed) == [first.raw_key]


async def test_a_second_object_that_cannot_be_taken_back_is_no_reason_to_refuse(
    keyed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await keyed.submit()
    monkeypatch.setattr(keyed.blobs, "delete", away)

    assert (await keyed.submit()).id == first.id

    # the sweeper takes it: no row names it
    assert len(objects_of(keyed)) == 2
    assert list(keyed.images.rows) == [first.id]
