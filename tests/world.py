"""All fakes, with what a client, a worker and the dispatcher do to them, and a clock that stands still until it is turned."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from common.adapters.memory import MemoryDeadLetters, MemoryQueue, MemoryStatusCache, MemoryStatusNotifier
from common.errors import PictureRefused, RenderInterrupted
from common.images import FailureCode, IdempotencyKey, Image, ImageStatus, Principal, Priority, RetryPolicy
from common.messages import Job, decode
from common.ports import Ports, Rendered
from common.processing import Processing, parse
from common.usecases.dispatch_due import DispatchPolicy
from common.usecases.process_image import ProcessPolicy, process_image
from common.usecases.submit_upload import FIRST_DISPATCH, Upload, submit_upload
from tests.caches import known
from tests.fakes import FakeBlobStore, FakeImageStore, FakeRenderer, FakeTokenVerifier, Row

ALICE, BOB = Principal(subject="alice"), Principal(subject="bob")
ADMIN = Principal(subject="root", roles=frozenset({"admin"}))
STALE = timedelta(minutes=10)
LEASE = timedelta(seconds=30)
RETRY = RetryPolicy(max_attempts=2, max_outages=3, first_delay=timedelta(0))
DISPATCH = DispatchPolicy(stale_after=STALE, retry=RETRY)


class RecordedImageStore(FakeImageStore):
    """`history`: all that each row has been, in order."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self.history: dict[UUID, list[Image]] = defaultdict(list)

    async def add(self, image: Image, due_in: timedelta, key: IdempotencyKey | None = None) -> Image:
        added = await super().add(image, due_in, key)
        if added.id == image.id:
            self.history[image.id].append(added)
        return added

    def _change(self, row: Row, due_in: timedelta | None, **changes: Any) -> Image:
        if row.image.status is ImageStatus.PROCESSING is changes.get("status"):
            assert self._is_due(row), "taken from a worker whose lease runs"
        changed = super()._change(row, due_in, **changes)
        self.history[changed.id].append(changed)
        return changed


def rendered(content: bytes) -> bytes:
    return b"rendered " + content


class ScriptedRenderer(FakeRenderer):
    """Does `meanwhile` in the middle of each render; raises `error`, if any, at each. An upload that begins with "bad" is refused
    each time, and one that begins with "hard" interrupts each of its renders."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.calls = 0

    async def render(self, source: Path, target: Path, processing: Processing) -> Rendered:
        self.calls += 1
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.error is not None:
            raise self.error
        content = source.read_bytes()
        if content.startswith(b"bad"):
            raise PictureRefused(FailureCode.CORRUPT_IMAGE, "The file is damaged.")
        if content.startswith(b"hard"):
            raise RenderInterrupted(FailureCode.MEMORY_LIMIT, "It took too much.")
        self.content = rendered(content)
        return await super().render(source, target, processing)


class World:
    """`upload` is what alice sends."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC)
        self.folder = folder
        self.images = RecordedImageStore(lambda: self.now)
        self.blobs, self.queue, self.notifier = FakeBlobStore(), MemoryQueue(), MemoryStatusNotifier()
        self.cache = MemoryStatusCache(lambda: self.now.timestamp())
        self.renderer = ScriptedRenderer()
        self.ports = Ports(
            images=self.images,
            upkeep=self.images,
            blobs=self.blobs,
            queue=self.queue,
            jobs=self.queue,
            dead_letters=MemoryDeadLetters(self.queue),
            cache=self.cache,
            notifier=self.notifier,
            tokens=FakeTokenVerifier({}),
        )
        path = folder / "upload"
        content = b"a picture"
        path.write_bytes(content)
        self.upload = Upload(
            path=path,
            filename="cat.jpg",
            content_type="image/jpeg",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            width=1600,
            height=1200,
            processing=parse(None),
            priority=Priority.HIGH,
            request_id="request-1",
        )

    def upload_of(self, content: bytes, **changes: Any) -> Upload:
        path = self.folder / content.decode()
        path.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        return dataclasses.replace(self.upload, path=path, size_bytes=len(content), sha256=sha256, **changes)

    def let_pass(self, time: timedelta) -> None:
        self.now += time

    async def submit(self, upload: Upload | None = None, ports: Ports | None = None, principal: Principal = ALICE) -> Image:
        return await submit_upload(ports or self.ports, principal, upload or self.upload, STALE)

    async def process(self, image: Image, ports: Ports | None = None, retry: RetryPolicy = RETRY) -> Image | None:
        """→ what became of it."""
        policy = ProcessPolicy(lease=LEASE, retry=retry)
        await process_image(ports or self.ports, self.renderer, policy, Job(image_id=image.id, request_id=image.request_id))
        return await self.images.get(image.id)

    async def work(self, retry: RetryPolicy = RETRY) -> None:
        """A worker carries out every message that there is."""
        async with aclosing(self.queue.deliveries(1)) as deliveries:
            while await self.waiting():
                delivery = await anext(deliveries)
                job = decode(delivery.body, delivery.request_id)
                await process_image(self.ports, self.renderer, ProcessPolicy(lease=LEASE, retry=retry), job)
                await delivery.ack()

    async def waiting(self) -> int:
        """How many messages there are."""
        depths = await self.queue.depths()
        return sum(depths.values()) - depths["dead"]

    async def image_in(self, status: ImageStatus) -> Image:
        """One of alice's that came to be in that state as images do."""
        image = await self.submit()
        if status is ImageStatus.UPLOADED:
            # nobody has published it yet
            row = self.images.rows[image.id]
            row.image, row.due = image, self.now + FIRST_DISPATCH
        elif status is ImageStatus.PROCESSING:
            await self.images.claim(image.id, LEASE)
        elif status is ImageStatus.COMPLETED:
            await self.process(image)
        elif status is ImageStatus.FAILED:
            self.renderer.error = PictureRefused(FailureCode.CORRUPT_IMAGE, "The file is damaged.")
            await self.process(image)
            self.renderer.error = None
        found = self.images.rows[image.id].image
        assert found.status is status
        return found

    async def remains(self, image: Image) -> list[str]:
        """What there still is of an image."""
        found = ["row"] if image.id in self.images.rows else []
        found += [f"key {text}" for (_, text), key in self.images.keys.items() if key.image_id == image.id]
        found += [f"{bucket}/{key}" for bucket, key in self.blobs.objects if key.startswith(str(image.id))]
        return found + (["cache"] if await known(self.cache, image.id) else [])
