"""Stream the processed picture, or the bytes as uploaded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from common.errors import BlobNotFound, ImageNotFound, ProcessingFailed, ResultNotReady
from common.images import Image, ImageStatus, Principal
from common.ports import Blob, Bucket, Ports
from common.usecases.get_image import get_image


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    image: Image
    content_type: str
    sha256: str
    blob: Blob


@asynccontextmanager
async def open_content(ports: Ports, principal: Principal, image_id: UUID) -> AsyncIterator[Content]:
    """Raises ImageNotFound, ResultNotReady until the image is final, ProcessingFailed if it failed."""
    image = await get_image(ports, principal, image_id)
    if image.status is ImageStatus.FAILED and image.failure is not None:
        raise ProcessingFailed(f"Processing failed ({image.failure.code}): {image.failure.detail}")
    if image.result is None:
        raise ResultNotReady(f"The image is {image.status}; ask again in a second.")
    async with _open(ports, image, Bucket.PROCESSED, image.result.key, image.result.content_type, image.result.sha256) as content:
        yield content


@asynccontextmanager
async def open_original(ports: Ports, principal: Principal, image_id: UUID) -> AsyncIterator[Content]:
    """Raises ImageNotFound."""
    image = await get_image(ports, principal, image_id)
    async with _open(ports, image, Bucket.RAW, image.raw_key, image.content_type, image.sha256) as content:
        yield content


@asynccontextmanager
async def _open(ports: Ports, image: Image, bucket: Bucket, key: str, content_type: str, sha256: str) -> AsyncIterator[Content]:
    try:
        async with ports.blobs.open(bucket, key) as blob:
            yield Content(image=image, content_type=content_type, sha256=sha256, blob=blob)
    except BlobNotFound:
        raise ImageNotFound("The object store no longer has this image's bytes.") from None
