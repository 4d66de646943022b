"""All fakes, with what a client, a worker and the dispatcher do to them, and a clock that stands still until it is turned."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from common.adapters.memory import MemoryDeadLetters, MemoryQueue, MemoryStatusCache, MemoryStatusNotifier
from common.errors import PictureRefused
from common.images import FailureCode, Image, ImageStatus, Principal, Priority, RetryPolicy
from common.messages import Job
from common.ports import Ports, Rendered
from common.processing import Processing, parse
from common.usecases.dispatch_due import DispatchPolicy
from common.usecases.process_image import ProcessPolicy, process_image
from common.usecases.submit_upload import FIRST_DISPATCH, Upload, submit_upload
from tests.caches import known
from tests.fakes import FakeBlobStore, FakeImageStore, FakeRenderer, FakeTokenVerifier

ALICE, BOB = Principal(subject="alice"), Principal(subject="bob")
ADMIN = Principal(subject="root", roles=frozenset({"admin"}))
STALE = timedelta(minutes=10)
LEASE = timedelta(seconds=30)
RETRY = RetryPolicy(max_attempts=2, max_outages=3, first_delay=timedelta(0))
DISPATCH = DispatchPolicy(stale_after=STALE, retry=RETRY)


class ScriptedRenderer(FakeRenderer):
    """Does `meanwhile` in the middle of each render; raises `error`, if any, at each."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.calls = 0

    async def render(self, source: Path, target: Path, processing: Processing) -> Rendered:
        self.calls += 1
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.error is not None:
            raise self.error
        return await super().render(source, target, processing)


class World:
    """`upload` is what alice sends."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC)
        self.images = FakeImageStore(lambda: self.now)
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

    def let_pass(self, time: timedelta) -> None:
        self.now += time

    async def submit(self, upload: Upload | None = None, ports: Ports | None = None, principal: Principal = ALICE) -> Image:
        return await submit_upload(ports or self.ports, principal, upload or self.upload, STALE)

    async def process(self, image: Image, ports: Ports | None = None, retry: RetryPolicy = RETRY) -> Image | None:
        """→ what became of it."""
        policy = ProcessPolicy(lease=LEASE, retry=retry)
        await process_image(ports or self.ports, self.renderer, policy, Job(image_id=image.id, request_id=image.request_id))
        return await self.images.get(image.id)

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
