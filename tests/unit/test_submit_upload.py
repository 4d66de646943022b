"""Taking a picture in: what is accepted is safe, what is not leaves nothing behind."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from common.adapters.memory import MemoryQueue, MemoryStatusCache, MemoryStatusNotifier
from common.errors import ImageNotFound, Unavailable
from common.images import Image, ImageStatus, Principal, Priority
from common.ports import Ports
from common.processing import parse
from common.usecases.get_image import get_image
from common.usecases.submit_upload import Upload, submit_upload
from tests.fakes import FakeBlobStore, FakeImageStore, FakeTokenVerifier

ALICE, BOB = Principal(subject="alice"), Principal(subject="bob")
ADMIN = Principal(subject="root", roles=frozenset({"admin"}))
STALE = timedelta(minutes=10)


class World:
    def __init__(self, folder: Path) -> None:
        self.images, self.blobs, self.queue, self.cache = FakeImageStore(), FakeBlobStore(), MemoryQueue(), MemoryStatusCache()
        self.ports = Ports(
            images=self.images,
            blobs=self.blobs,
            queue=self.queue,
            jobs=self.queue,
            cache=self.cache,
            notifier=MemoryStatusNotifier(),
            tokens=FakeTokenVerifier({}),
        )
        path = folder / "upload"
        path.write_bytes(b"a picture")
        self.upload = Upload(
            path=path,
            filename="cat.jpg",
            content_type="image/jpeg",
            size_bytes=9,
            sha256="0" * 64,
            width=1600,
            height=1200,
            processing=parse(None),
            priority=Priority.HIGH,
            request_id="request-1",
        )

    async def submit(self) -> Image:
        return await submit_upload(self.ports, ALICE, self.upload, STALE)


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


async def test_a_row_that_was_committed_after_all_keeps_its_object(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a database whose answer to the commit is lost
    add = world.images.add

    async def commits_and_is_gone(*arguments: Any) -> None:
        await add(*arguments)
        raise Unavailable("database", "gone")

    monkeypatch.setattr(world.images, "add", commits_and_is_gone)

    with pytest.raises(Unavailable):
        await world.submit()

    assert len(world.blobs.objects) == 1


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
