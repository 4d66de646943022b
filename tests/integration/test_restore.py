"""docs/operations.md on restoring, carried out: PostgreSQL as it was at the backup, RabbitMQ and Redis empty, and a worker that
heals what came apart. The services are real; the objects are in a folder of the test's own, because it sweeps."""

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from prometheus_client import REGISTRY
from uuid6 import uuid7

from common.errors import ImageNotFound
from common.images import Failure, FailureCode, Image, ImageStatus, Priority
from common.ports import Bucket, Ports
from common.processing import parse
from common.settings import Settings, load
from common.usecases.delete_image import delete_image
from common.usecases.fetch_content import find_content, opened
from common.usecases.submit_upload import Upload, submit_upload
from common.wiring import migrate, open_ports
from tests.broker import Broker, open_broker
from tests.builders import image as built
from tests.databases import execute, postgres_database
from tests.pictures import photo_jpeg
from tests.polling import eventually
from tests.world import ADMIN, ALICE
from worker.app import run_worker

PICTURE = photo_jpeg(320, 240)
DAMAGED = PICTURE[: len(PICTURE) // 2]
# Leases, retries and redeliveries of before the backup are over before it is restored, as they would be an hour later.
SOON = timedelta(milliseconds=100)
PATIENCE = 60


class Installation:
    """What a gateway and a worker work on. Neither runs but inside `working`."""

    def __init__(self, folder: Path, settings: Settings, broker: Broker) -> None:
        self.folder = folder
        self.settings = settings
        self.broker = broker
        self.database = settings.postgres_url.get_secret_value()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Ports]:
        stop = asyncio.Event()
        async with open_ports(self.settings) as ports:
            worker = asyncio.create_task(run_worker(self.settings, ports, stop, with_health=False))
            yield ports
            stop.set()
            await worker

    async def upload(self, ports: Ports, content: bytes = PICTURE, key: str | None = None) -> Image:
        return await submit_upload(ports, ALICE, self._upload(content, key), SOON)

    async def upload_without_a_message(self, ports: Ports) -> Image:
        """By a gateway that died at that moment."""
        upload = self._upload(PICTURE, None)
        image = built(id=uuid7(), sha256=upload.sha256, size_bytes=upload.size_bytes, width=320, height=240)
        await ports.blobs.put(Bucket.RAW, image.raw_key, upload.path, image.content_type)
        return await ports.images.add(image, SOON)

    def _upload(self, content: bytes, key: str | None) -> Upload:
        path = self.folder / "upload"
        path.write_bytes(content)
        return Upload(
            path=path,
            filename="cat.jpg",
            content_type="image/jpeg",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            width=320,
            height=240,
            processing=parse(None),
            priority=Priority.NORMAL,
            request_id="request-1",
            idempotency_key=key,
        )

    def objects(self) -> set[str]:
        root = self.settings.storage_path
        return {str(path.relative_to(root)) for bucket in Bucket for path in (root / bucket).rglob("*") if path.is_file()}

    def back_up(self) -> Path:
        backup = self.folder / "images.dump"
        _run("pg_dump", "--format=custom", f"--file={backup}", self.database)
        return backup

    async def restore(self, backup: Path) -> None:
        """And loses all that RabbitMQ and Redis had."""
        name = urlsplit(self.database).path[1:]
        server = urlsplit(self.database)._replace(path="/postgres").geturl()
        await execute(server, f'DROP DATABASE "{name}"')
        await execute(server, f'CREATE DATABASE "{name}"')
        await asyncio.to_thread(_run, "pg_restore", "--exit-on-error", f"--dbname={self.database}", str(backup))
        await self.broker.ask("DELETE", "vhosts/{}")
        await self.broker.ask("PUT", "vhosts/{}")
        await self.flush()

    async def flush(self) -> None:
        async with redis.asyncio.Redis.from_url(self.settings.redis_url.get_secret_value()) as cache:
            await cache.flushdb()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "server version mismatch" in done.stderr and not os.environ.get("CI"):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr


@pytest.fixture
async def installation(
    tmp_path: Path, settings: Settings, postgres_url: str, rabbitmq_url: str, redis_url: str
) -> AsyncIterator[Installation]:
    if shutil.which("pg_dump") is None:
        message = "pg_dump is not there; install postgresql-client"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    async with postgres_database(postgres_url) as database, open_broker(rabbitmq_url) as broker:
        own = load(
            postgres_url=database,
            rabbitmq_url=broker.url,
            redis_url=urlsplit(redis_url)._replace(path="/13").geturl(),
            storage_type="local",
            storage_path=tmp_path / "objects",
            worker_processes=1,
            lease_seconds=1,
            stale_seconds=2,
            dispatch_interval_seconds=0.1,
            sweep_interval_seconds=1,
            sweep_grace_seconds=0.5,
        )
        await asyncio.to_thread(migrate, own)
        installation = Installation(tmp_path, own, broker)
        await installation.flush()
        yield installation
        await installation.flush()


async def final(ports: Ports, *images: Image) -> list[Image]:
    """Those of the images that there are, once all of them are final."""

    async def rows() -> list[Image]:
        found = [await ports.images.get(image.id) for image in images]
        return [image for image in found if image is not None]

    async def are_final() -> bool:
        return all(image.status.is_final for image in await rows())

    await eventually(are_final, "all images to be final", PATIENCE)
    return await rows()


async def content(ports: Ports, image: Image) -> bytes:
    async with opened(ports, await find_content(ports, ADMIN, image.id)) as blob:
        return b"".join([chunk async for chunk in blob.chunks])


def without_object() -> float | None:
    return REGISTRY.get_sample_value("image_processor_rows_without_object")


async def test_a_database_of_an_hour_ago_heals_itself(installation: Installation) -> None:
    # given: images in every state
    async with installation.working() as ports:
        completed, deleted_later = [await installation.upload(ports) for _ in range(2)]
        damaged = await installation.upload(ports, DAMAGED)
        await final(ports, completed, deleted_later, damaged)
    async with open_ports(installation.settings) as ports:
        uploaded = await installation.upload_without_a_message(ports)
        queued, queued_and_deleted_later = [await installation.upload(ports) for _ in range(2)]
        processing = await ports.images.claim((await installation.upload(ports)).id, SOON)
        retried = await ports.images.claim((await installation.upload(ports)).id, SOON)
        untold = await ports.images.claim((await installation.upload(ports)).id, SOON)
        assert processing is not None
        assert retried is not None
        assert untold is not None
        await ports.images.retry(retried.id, retried.attempts, SOON, "The object store was away.", outage=True)
        await ports.images.fail(untold.id, untold.attempts, Failure(code=FailureCode.TIME_LIMIT, detail="Slow."), SOON)
        half_deleted = await installation.upload(ports)
        await ports.images.mark_deleted(half_deleted.id, None, SOON)
    healing = [uploaded, queued, processing, retried]

    # when they are backed up, and life goes on
    backup = await asyncio.to_thread(installation.back_up)
    async with installation.working() as ports:
        await final(ports, *healing, queued_and_deleted_later, untold)
        for image in (deleted_later, queued_and_deleted_later):
            await delete_image(ports, ADMIN, image.id)
        later = [await installation.upload(ports), await installation.upload(ports, key="chosen after the backup")]
        await final(ports, *later)
    # and the backup is restored
    await installation.restore(backup)

    async with installation.working() as ports:
        # then every image of the backup is final, and right
        found = {image.id: image for image in await final(ports, completed, damaged, untold, *healing)}
        assert {found[image.id].status for image in (completed, *healing)} == {ImageStatus.COMPLETED}
        for image in (completed, *healing):
            result = found[image.id].result
            assert result is not None
            assert hashlib.sha256(await content(ports, image)).hexdigest() == result.sha256
        failures = [found[image.id].failure for image in (damaged, untold)]
        assert [failure.code for failure in failures if failure] == [FailureCode.CORRUPT_IMAGE, FailureCode.TIME_LIMIT]
        assert found[retried.id].attempts == 2

        # what was deleted since is back, without its objects: to be seen, and to be deleted again
        await final(ports, queued_and_deleted_later)
        ghost = await ports.images.get(queued_and_deleted_later.id)
        assert ghost is not None
        assert ghost.failure is not None
        assert ghost.failure.code is FailureCode.SOURCE_MISSING
        with pytest.raises(ImageNotFound):
            await content(ports, deleted_later)

        async def ghosts_are_counted() -> bool:
            return without_object() == 2

        await eventually(ghosts_are_counted, "the sweep to count the images without objects", PATIENCE)
        for image in (deleted_later, queued_and_deleted_later):
            await delete_image(ports, ADMIN, image.id)

        # what was uploaded after the backup is gone, its objects too; and what was being deleted is deleted
        assert [await ports.images.get(image.id) for image in later] == [None, None]
        again = await installation.upload(ports, key="chosen after the backup")
        assert again.id not in {image.id for image in later}
        await eventually(lambda: _nothing_superfluous(installation, ports), "the sweep to remove what no row names", PATIENCE)
        assert not any(str(image.id) in name for name in installation.objects() for image in (*later, half_deleted))

        # and nothing is left to do
        async def all_is_quiet() -> bool:
            backlog = await ports.upkeep.backlog()
            return not any(backlog.images.values()) and without_object() == 0

        await eventually(all_is_quiet, "everything to be settled", PATIENCE)
        assert (await ports.queue.depths())["dead"] == 2  # of what failed unsaid, and of what was deleted while it waited


async def _nothing_superfluous(installation: Installation, ports: Ports) -> bool:
    """The objects are those that rows name, and no others."""
    named: set[str] = set()
    for row in await ports.upkeep.scan(None, 100):
        named.add(f"{Bucket.RAW}/{row.raw_key}")
        if row.result is not None:
            named.add(f"{Bucket.PROCESSED}/{row.result.key}")
    return installation.objects() == named
