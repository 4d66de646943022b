"""The sweep on real stores: PostgreSQL with MinIO, and SQLite with files."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from uuid6 import uuid7

from common.adapters.files import FileBlobStore
from common.adapters.minio import MinioBlobStore
from common.adapters.sql import SqlUpkeep
from common.errors import PictureRefused, Unavailable
from common.images import FailureCode, Image, ImageStatus
from common.ports import Blob, BlobStore, Bucket, Ports
from common.settings import Settings
from common.usecases.delete_image import delete_image, finish_due_deletions
from common.usecases.expire_images import expire_images
from common.usecases.sweep import Findings, sweep
from tests.contract.sockets import free_port
from tests.databases import execute, opened
from tests.world import ALICE, World

NO_TIME = timedelta(0)
# Longer than an upload takes here.
GRACE = timedelta(seconds=1)
CLIENTS = 6


class OwnBuckets(MinioBlobStore):
    """In buckets of this test's own: others' objects would all be superfluous."""

    def __init__(self, settings: Settings, endpoint: str) -> None:
        keys = (settings.minio_access_key.get_secret_value(), settings.minio_secret_key.get_secret_value())
        super().__init__(endpoint, *keys, settings.minio_region, 20)
        self._name = f"test-{uuid4().hex[:16]}"

    def _own(self, bucket: Bucket) -> Bucket:
        return cast(Bucket, f"{self._name}-{bucket}")

    async def put(self, bucket: Bucket, key: str, source: Path, content_type: str) -> None:
        await super().put(self._own(bucket), key, source, content_type)

    async def fetch(self, bucket: Bucket, key: str, target: Path) -> None:
        await super().fetch(self._own(bucket), key, target)

    @asynccontextmanager
    async def open(self, bucket: Bucket, key: str, part: range | None = None) -> AsyncIterator[Blob]:
        async with super().open(self._own(bucket), key, part) as blob:
            yield blob

    async def delete(self, bucket: Bucket, key: str) -> None:
        await super().delete(self._own(bucket), key)

    def keys(self, bucket: Bucket) -> AsyncGenerator[str, None]:
        return super().keys(self._own(bucket))

    async def check(self) -> None:
        for bucket in Bucket:
            await asyncio.to_thread(self._make, self._own(bucket))

    async def remove(self) -> None:
        """Once they are empty."""
        for bucket in Bucket:
            await asyncio.to_thread(self._client.remove_bucket, self._own(bucket))


@dataclass
class Installation:
    """What alice and a worker do to it."""

    world: World
    ports: Ports

    async def upload(self) -> Image:
        return await self.world.submit(ports=self.ports)

    async def image_in(self, status: ImageStatus) -> Image:
        image = await self.upload()
        if status is ImageStatus.PROCESSING:
            await self.ports.images.claim(image.id, timedelta(hours=1))
        elif status.is_final:
            self.world.renderer.error = PictureRefused(FailureCode.CORRUPT_IMAGE, "no") if status is ImageStatus.FAILED else None
            await self.world.process(image, self.ports)
            self.world.renderer.error = None
        return await self.now(image)

    async def now(self, image: Image) -> Image:
        found = await self.ports.images.get(image.id)
        assert found is not None
        return found

    async def litter(self, bucket: Bucket, key: str) -> tuple[Bucket, str]:
        await self.ports.blobs.put(bucket, key, self.world.upload.path, "image/jpeg")
        return bucket, key

    async def left(self) -> set[tuple[Bucket, str]]:
        return {(bucket, key) for bucket in Bucket async for key in self.ports.blobs.keys(bucket)}

    async def swept(self, grace: timedelta = NO_TIME) -> Findings:
        async def pause(seconds: float) -> bool:
            await asyncio.sleep(seconds)
            return True

        return await sweep(self.ports, grace, pause)


@pytest.fixture(params=["database", "sqlite_url"], ids=["postgres-minio", "sqlite-files"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def installation(url: str, settings: Settings, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Installation]:
    world = World(tmp_path)
    async with AsyncExitStack() as stack:
        blobs: BlobStore
        if url.startswith("sqlite"):
            blobs = FileBlobStore(tmp_path / "blobs")
        else:
            await execute(url, "TRUNCATE images, idempotency_keys, turns")
            blobs = OwnBuckets(settings, request.getfixturevalue("minio_endpoint"))
            stack.push_async_callback(blobs.close)
            stack.push_async_callback(blobs.remove)
        await blobs.check()
        images = await stack.enter_async_context(opened(url, 8, 20))
        installation = Installation(world, replace(world.ports, images=images, upkeep=SqlUpkeep(images), blobs=blobs))
        yield installation
        for bucket, key in await installation.left():
            await blobs.delete(bucket, key)


async def test_what_no_row_names_goes_and_everything_else_stays(installation: Installation) -> None:
    # given images in every state, one that was deleted, and what crashes have left between them
    images = [await installation.image_in(status) for status in ImageStatus]
    deleted = await installation.image_in(ImageStatus.COMPLETED)
    await delete_image(installation.ports, ALICE, deleted.id)
    mine = await installation.left()
    assert len(mine) == len(images) + 1
    foreign = await installation.litter(Bucket.RAW, f"notes-of-{uuid7()}")
    stray = {
        await installation.litter(Bucket.RAW, str(uuid7())),
        await installation.litter(Bucket.RAW, str(deleted.id)),
        await installation.litter(Bucket.PROCESSED, f"{uuid7()}/1"),
        *[await installation.litter(Bucket.PROCESSED, f"{row.id}/9") for row in images if row.status.is_final],
    }

    found = await installation.swept()

    assert set(found.superfluous) == stray
    assert (found.foreign, found.without_object, found.is_doubtful) == (1, [], False)
    assert await installation.left() == mine | {foreign}
    assert (await installation.swept()).superfluous == []


async def test_a_final_image_whose_object_is_gone_is_told_and_stays(installation: Installation) -> None:
    done = await installation.image_in(ImageStatus.COMPLETED)
    whole = await installation.image_in(ImageStatus.COMPLETED)
    await installation.ports.blobs.delete(Bucket.PROCESSED, done.result_key)

    found = await installation.swept()

    assert found.without_object == [done.id]
    assert [await installation.now(row) for row in (done, whole)] == [done, whole]


async def test_sweeping_on_and_on_takes_nothing_from_clients_and_workers(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sweepers over uploads, renders and deletions without end, and what was swept was nobody's."""
    add = installation.ports.images.add

    async def add_slowly(*arguments: Any) -> Image:
        await asyncio.sleep(0.2)
        return await add(*arguments)

    monkeypatch.setattr(installation.ports.images, "add", add_slowly)
    stop = asyncio.Event()
    kept: list[Image] = []
    strays = [await installation.litter(Bucket.RAW, str(uuid7())) for _ in range(20)]

    async def client(number: int) -> None:
        while not stop.is_set():
            image = await installation.upload()
            await installation.world.process(image, installation.ports)
            if len(kept) % 3 == number % 3:
                await delete_image(installation.ports, ALICE, image.id)
            else:
                kept.append(image)

    async def sweeper() -> None:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            await installation.swept(GRACE)

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(client(number)) for number in range(CLIENTS)]
        await asyncio.gather(sweeper(), sweeper())
        stop.set()
        await asyncio.gather(*clients)

    await finish_due_deletions(installation.ports)
    left = await installation.left()
    assert not left & set(strays)
    assert len(kept) > CLIENTS
    expected = {place for row in kept for place in ((Bucket.RAW, row.raw_key), (Bucket.PROCESSED, f"{row.id}/1"))}
    assert left == expected
    found = await installation.swept()
    assert (found.superfluous, found.without_object) == ([], [])


async def test_a_database_that_went_away_during_the_grace_costs_nothing(installation: Installation) -> None:
    stray = await installation.litter(Bucket.RAW, str(uuid7()))
    async with opened(f"postgresql://u:p@127.0.0.1:{free_port()}/d") as away:
        # given that the rows could still be gone through
        with pytest.raises(Unavailable):
            await replace(installation, ports=replace(installation.ports, images=away)).swept()
    assert stray in await installation.left()


async def test_what_was_kept_for_long_enough_is_gone_with_all_that_belongs_to_it(installation: Installation) -> None:
    images = [await installation.image_in(status) for status in ImageStatus]
    # nobody can set a database's clock: they are as old as this test
    assert await expire_images(installation.ports, timedelta(hours=1)) == 0

    assert await expire_images(installation.ports, NO_TIME) == 2
    await finish_due_deletions(installation.ports)

    left = {key.partition("/")[0] for _, key in await installation.left()}
    assert left == {str(row.id) for row in images if not row.status.is_final}
    assert [row.id for row in await installation.ports.upkeep.scan(None, 10)] == [
        row.id for row in images if not row.status.is_final
    ]
