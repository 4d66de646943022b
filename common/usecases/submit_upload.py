"""Take a picture in: after this returns, it ends as completed or failed, whatever crashes or is away meanwhile."""

import asyncio
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from uuid6 import uuid7

from common.errors import ImageProcessorError, Unavailable
from common.images import IdempotencyKey, Image, Principal, Priority
from common.ports import Bucket, Ports
from common.processing import Processing
from common.telemetry import PUBLISH_DEFERRED, REPLAYED, log
from common.tracing import span, traceparent
from common.usecases.send_job import send_job

# The gateway publishes at once; the dispatcher does only if that has not been confirmed after this time.
FIRST_DISPATCH = timedelta(seconds=5)
# For how long a row's id is kept from being used: longer than any statement can be under way.
REVOKED = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A checked upload in a local file: size in bytes, hash in hex, pixels of the upright picture."""

    path: Path
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    processing: Processing
    priority: Priority
    request_id: str
    idempotency_key: str | None = None

    @property
    def fingerprint(self) -> str:
        """Of everything that the client sent."""
        parts = (self.sha256, self.filename, self.processing.canonical, self.priority)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def submit_upload(ports: Ports, principal: Principal, upload: Upload, stale_after: timedelta) -> Image:
    """→ the image as `uploaded`. Order: object, row, message. Raises Unavailable where the object store or the database is away,
    and then leaves nothing behind; but where the database is lost in the middle of the commit and cannot be asked about it either,
    the image may be there all the same. Trying again with the same idempotency key finds it.

    With an idempotency key that the caller has used for the same upload: that one's image, and nothing new is stored. Raises
    IdempotencyMismatch where it was for another."""
    now = datetime.now(UTC)
    image = Image(
        id=uuid7(),
        owner=principal.subject,
        filename=upload.filename,
        content_type=upload.content_type,
        size_bytes=upload.size_bytes,
        sha256=upload.sha256,
        width=upload.width,
        height=upload.height,
        processing=upload.processing.canonical,
        priority=upload.priority,
        created_at=now,
        updated_at=now,
        request_id=upload.request_id,
        traceparent=traceparent(),
    )
    key = IdempotencyKey(text=upload.idempotency_key, fingerprint=upload.fingerprint) if upload.idempotency_key else None
    try:
        with span("store original", size_bytes=image.size_bytes):
            await ports.blobs.put(Bucket.RAW, image.raw_key, upload.path, image.content_type)
    except (ImageProcessorError, asyncio.CancelledError):
        await asyncio.shield(_remove_object(ports, image))
        raise
    with span("commit row", image_id=str(image.id)):
        accepted = await _add(ports, image, key)
    if accepted.id != image.id:
        REPLAYED.inc()
        await asyncio.shield(_remove_object(ports, image))
        return accepted
    await _publish(ports, image, stale_after)
    return image


async def _add(ports: Ports, image: Image, key: IdempotencyKey | None) -> Image:
    """Commits the row. Where the answer to that was lost, it is asked for: what was committed is accepted."""
    try:
        return await ports.images.add(image, FIRST_DISPATCH, key)
    except Unavailable:
        if await _is_committed(ports, image):
            return image
        raise
    except asyncio.CancelledError:
        await asyncio.shield(_is_committed(ports, image))
        raise
    except ImageProcessorError:
        await _remove_object(ports, image)
        raise


async def _is_committed(ports: Ports, image: Image) -> bool:
    """Where the row is not, it never will be, however late the statement still reaches the database; and the object is removed."""
    try:
        if await ports.images.revoke(image, REVOKED) is not None:
            return True
    except Unavailable as error:
        log.warning("upload in doubt", image_id=str(image.id), service=error.service, reason=error.reason)
        return False
    await _remove_object(ports, image)
    return False


async def _remove_object(ports: Ports, image: Image) -> None:
    try:
        await ports.blobs.delete(Bucket.RAW, image.raw_key)
    except Unavailable as error:
        log.warning("object left for the sweeper", image_id=str(image.id), service=error.service, reason=error.reason)


async def _publish(ports: Ports, image: Image, stale_after: timedelta) -> None:
    """A queue or database that is away now is no reason to refuse: the row is due in a few seconds all the same."""
    try:
        await send_job(ports, image, image.priority)
        await ports.images.mark_queued(image.id, image.attempts, image.priority, stale_after)
    except Unavailable as error:
        PUBLISH_DEFERRED.inc()
        log.warning("publish left to the dispatcher", image_id=str(image.id), service=error.service, reason=error.reason)
