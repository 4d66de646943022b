"""Find the processed picture, or the bytes as uploaded, for streaming."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from common.errors import BlobNotFound, ImageNotFound, ProcessingFailed, ResultNotReady
from common.images import Image, Principal
from common.ports import Blob, Bucket, Ports
from common.usecases.get_image import get_image


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is known of the bytes without asking the object store; `key` in `bucket` is where they are."""

    image: Image
    content_type: str
    size_bytes: int
    sha256: str
    bucket: Bucket
    key: str


async def find_content(ports: Ports, principal: Principal, image_id: UUID) -> Content:
    """Raises ImageNotFound, ResultNotReady until the image is final, ProcessingFailed if it failed."""
    return content_of(await get_image(ports, principal, image_id))


def content_of(image: Image) -> Content:
    """Raises ResultNotReady or ProcessingFailed."""
    if image.failure is not None:
        raise ProcessingFailed(f"Processing failed ({image.failure.code}): {image.failure.detail}")
    result = image.result
    if result is None:
        raise ResultNotReady(f"The image is {image.status}; ask again in a second.")
    return Content(
        image=image,
        content_type=result.content_type,
        size_bytes=result.size_bytes,
        sha256=result.sha256,
        bucket=Bucket.PROCESSED,
        key=result.key,
    )


async def find_original(ports: Ports, principal: Principal, image_id: UUID) -> Content:
    """Raises ImageNotFound."""
    image = await get_image(ports, principal, image_id)
    return Content(
        image=image,
        content_type=image.content_type,
        size_bytes=image.size_bytes,
        sha256=image.sha256,
        bucket=Bucket.RAW,
        key=image.raw_key,
    )


@asynccontextmanager
async def opened(ports: Ports, content: Content, part: range | None = None) -> AsyncIterator[Blob]:
    """Raises ImageNotFound where the bytes are gone: the image was deleted a moment ago."""
    try:
        async with ports.blobs.open(content.bucket, content.key, part) as blob:
            yield blob
    except BlobNotFound:
        raise ImageNotFound("There is no image with this id.") from None
