"""The gateway over fakes, asked as a client would ask it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx

from common.adapters.memory import MemoryDeadLetters, MemoryQueue, MemoryStatusCache, MemoryStatusNotifier
from common.errors import Unavailable
from common.images import Failure, FailureCode, Image, Principal, Result
from common.ports import Bucket, Ports
from common.settings import Settings
from gateway.app import create_app
from tests.fakes import FakeBlobStore, FakeImageStore, FakeTokenVerifier
from tests.pictures import photo_jpeg

ALICE = {"Authorization": "Bearer alice-token"}
BOB = {"Authorization": "Bearer bob-token"}
ADMIN = {"Authorization": "Bearer admin-token"}
PICTURE = photo_jpeg(64, 48)
RESULT = bytes(range(256)) * 1024
MOMENT = timedelta(seconds=1)
# Where an image is read.
RESOURCES = ("/api/v1/images/{}", "/api/v1/images/{}/status", "/status/{}")
CONTENTS = ("/api/v1/images/{}/content", "/image/{}")
ORIGINAL = "/api/v1/images/{}/original"


async def away(*_: Any, **__: Any) -> Any:
    raise Unavailable("something", "connection refused by 10.0.0.7:5432")


class World:
    """`alice`, `bob` and an admin, whose tokens are their names with `-token`."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(_env_file=None, **settings)
        self.images, self.blobs, self.queue, self.cache = FakeImageStore(), FakeBlobStore(), MemoryQueue(), MemoryStatusCache()
        self.tokens = FakeTokenVerifier(
            {
                "alice-token": Principal(subject="alice", roles=frozenset({"user"})),
                "bob-token": Principal(subject="bob", roles=frozenset({"user"})),
                "admin-token": Principal(subject="root", roles=frozenset({"user", "admin"})),
            }
        )
        self.notifier = MemoryStatusNotifier()
        self.ports = Ports(
            images=self.images,
            upkeep=self.images,
            blobs=self.blobs,
            queue=self.queue,
            jobs=self.queue,
            dead_letters=MemoryDeadLetters(self.queue),
            cache=self.cache,
            notifier=self.notifier,
            tokens=self.tokens,
        )
        self.app = create_app(self.settings, self.ports)
        self.http: httpx.AsyncClient

    async def upload(self, content: bytes = PICTURE, name: str = "cat.jpg", field: str = "image", **form: str) -> httpx.Response:
        return await self.http.post("/api/v1/upload", headers=ALICE, files={field: (name, content)}, data=form)

    async def get(self, path: str, image_id: UUID | str = "", method: str = "GET", **headers: str) -> httpx.Response:
        """As alice; `{}` in the path is the image."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.request(method, path.format(image_id), headers=ALICE | named)

    async def uploaded(self, **how: Any) -> UUID:
        answer = await self.upload(**how)
        assert answer.status_code == 202, answer.text
        return UUID(answer.json()["id"])

    async def completed(self, **how: Any) -> UUID:
        """An image whose result is RESULT, said to be a JPEG."""
        image_id = await self.uploaded(**how)
        await self.complete(image_id)
        return image_id

    async def complete(self, image_id: UUID) -> None:
        image = await self._claimed(image_id)
        self.blobs.objects[Bucket.PROCESSED, image.result_key] = RESULT
        result = Result(
            key=image.result_key, content_type="image/jpeg", size_bytes=len(RESULT), sha256="a" * 64, width=800, height=600
        )
        await self._known(await self.images.complete(image_id, image.attempts, result))

    async def failed(self) -> UUID:
        image_id = await self.uploaded()
        image = await self._claimed(image_id)
        failure = Failure(code=FailureCode.CORRUPT_IMAGE, detail="The JPEG is cut off.")
        await self._known(await self.images.fail(image_id, image.attempts, failure, MOMENT))
        return image_id

    async def _claimed(self, image_id: UUID) -> Image:
        image = await self.images.claim(image_id, MOMENT)
        assert image is not None
        return image

    async def _known(self, image: Image | None) -> None:
        assert image is not None
        await self.cache.invalidate(image.id, image.version)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[World]:
    world = World(**settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url="http://gateway") as http:
        world.http = http
        yield world


def slug(answer: httpx.Response) -> tuple[int, str]:
    """Status and slug of a problem, which has to be a whole one."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    return answer.status_code, problem["type"].removeprefix("urn:image-processor:problem:")
