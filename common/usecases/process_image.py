"""Carry out one job: claim the row, render the picture, store the result, complete the row.

Promises that on return the row is in its next state, or somebody else's. Where it raises, the row's lease ends by itself and the
dispatcher sends the job again. Doing a job twice is harmless: the claim refuses, or the fence does.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from common import processing
from common.errors import BlobNotFound, PictureRefused, RenderInterrupted, Unavailable
from common.images import Failure, FailureCode, Image, Result, RetryPolicy
from common.messages import Job
from common.ports import Bucket, Ports, Renderer
from common.telemetry import (
    ATTEMPTS,
    DEAD_LETTERS,
    IN_PROGRESS,
    LEASES_LOST,
    PROCESS_SECONDS,
    PROCESSED,
    QUEUE_SECONDS,
    RETRIES,
    TURNAROUND_SECONDS,
    log,
)
from common.tracing import record, span
from common.usecases.announce import announce

# A failed image's dead letter is sent at once; the dispatcher does only if that has not been confirmed after this time.
DEAD_LETTER_GRACE = timedelta(seconds=10)
# How an attempt ended is told to a database that is away again and again, with this pause.
TELL_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPolicy:
    """`patience`: for how long a database that is away is waited for, so that an outage is told from a worker that fell silent."""

    lease: timedelta
    retry: RetryPolicy
    patience: timedelta = timedelta(0)


async def process_image(ports: Ports, renderer: Renderer, policy: ProcessPolicy, job: Job) -> None:
    """Raises Unavailable where the database is away, so that not even the retry could be written down."""
    with span("claim"):
        image = await ports.images.claim(job.image_id, policy.lease)
    if image is None:
        PROCESSED.labels("not-claimed").inc()
        log.info("job not claimed: the image is gone, final or in other hands")
        return
    if image.attempts == 1:
        QUEUE_SECONDS.labels(image.priority).observe(_age_seconds(image))
    permit = await announce(ports, image)
    try:
        with IN_PROGRESS.track_inprogress():
            async with _lease_kept(ports, image, policy.lease):
                await _attempt(ports, renderer, image, permit)
    except PictureRefused as error:
        await fail_image(ports, image, Failure(code=error.failure_code, detail=error.detail), error.detail)
    except BlobNotFound:
        missing = Failure(code=FailureCode.SOURCE_MISSING, detail="The uploaded file is gone from the store.")
        await fail_image(ports, image, missing, missing.detail)
    except RenderInterrupted as error:
        failure = Failure(code=error.failure_code, detail=error.detail)
        await _retry_or_fail(ports, image, policy.retry, failure, error.detail, error.failure_code, outage=False)
    except Unavailable as error:
        log.warning("attempt ended by an outage", service=error.service, reason=error.reason)
        failure = Failure(code=FailureCode.ATTEMPTS_EXHAUSTED, detail=f"The {error.service} was away each time this was tried.")
        detail, reason = f"The {error.service} was away.", error.service
        tell = partial(_retry_or_fail, ports, image, policy.retry, failure, detail, reason, outage=True)
        await _until_told(tell, policy.patience.total_seconds())
    except asyncio.CancelledError:
        await asyncio.shield(_give_back(ports, image))
        raise


async def _attempt(ports: Ports, renderer: Renderer, image: Image, permit: str | None) -> None:
    """`permit`: the cache's, from before the completion, so that its readers need not ask the rows."""
    # A cancelled render's child may still write for a moment; what that leaves goes with the process's other temporary files.
    with tempfile.TemporaryDirectory(prefix="image-", ignore_cleanup_errors=True) as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        with _stage("fetch"):
            await ports.blobs.fetch(Bucket.RAW, image.raw_key, source)
            await asyncio.to_thread(_check_intact, image, source)
        with _stage("render"):
            rendered = await renderer.render(source, target, processing.parse(image.processing))
            for step in rendered.steps:
                record(step.name, step.since, step.until, busy_ms=step.busy_ms)
        with _stage("put"):
            await ports.blobs.put(Bucket.PROCESSED, image.result_key, target, rendered.content_type)
    result = Result(
        key=image.result_key,
        content_type=rendered.content_type,
        size_bytes=rendered.size_bytes,
        sha256=rendered.sha256,
        width=rendered.width,
        height=rendered.height,
    )
    with _stage("complete"):
        completed = await ports.images.complete(image.id, image.attempts, result)
    if completed is None:
        PROCESSED.labels("fenced").inc()
        log.warning("result dropped: the image is gone or was taken over", attempt=image.attempts)
        await ports.blobs.delete(Bucket.PROCESSED, image.result_key)
        return
    PROCESSED.labels("completed").inc()
    _record_final(completed)
    await announce(ports, completed, permit)
    log.info("image completed", attempt=image.attempts, width=result.width, height=result.height, size_bytes=result.size_bytes)


@contextmanager
def _stage(name: str) -> Iterator[None]:
    with PROCESS_SECONDS.labels(name).time(), span(name):
        yield


def _check_intact(image: Image, source: Path) -> None:
    """What is not what was uploaded is no fault of the picture's, and its result would be another picture's."""
    with source.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != image.sha256:
            raise RenderInterrupted(FailureCode.SOURCE_MISSING, "The object store gives back other bytes than were uploaded.")


async def fail_image(ports: Ports, image: Image, failure: Failure, error: str | None = None) -> None:
    """→ `failed`, and its job to the dead letters. The row stays due until that is confirmed. `error`: how an attempt that was
    under way ended."""
    failed = await ports.images.fail(image.id, image.attempts, failure, DEAD_LETTER_GRACE, error)
    if failed is None:
        PROCESSED.labels("fenced").inc()
        await _drop_result_of_deleted(ports, image)
        return
    PROCESSED.labels(failure.code).inc()
    _record_final(failed)
    await announce(ports, failed)
    log.warning("image failed", code=failure.code, detail=failure.detail, attempt=image.attempts)
    try:
        await send_dead_letter(ports, failed)
    except Unavailable as error:
        log.warning("dead letter left to the dispatcher", service=error.service, reason=error.reason)


def _record_final(image: Image) -> None:
    ATTEMPTS.labels(image.status).observe(image.tries)
    # One that was sent again is as old as its first failure, which has been counted.
    if not image.forgiven:
        TURNAROUND_SECONDS.labels(image.status).observe(_age_seconds(image))


def _age_seconds(image: Image) -> float:
    """At its last change. The upload's time is the gateway's clock and the change's the database's."""
    return max(0.0, (image.updated_at - image.created_at).total_seconds())


async def send_dead_letter(ports: Ports, image: Image) -> None:
    """Of a failed image. Raises Unavailable where the queue is away; then nothing is settled."""
    await ports.queue.publish_dead(image)
    await ports.images.settle(image.id, image.attempts)
    if image.failure is not None:
        DEAD_LETTERS.labels(image.failure.code).inc()


async def _retry_or_fail(
    ports: Ports, image: Image, retry: RetryPolicy, failure: Failure, error: str, reason: str, *, outage: bool
) -> None:
    """`error`: how this attempt ended, and `reason` in a word; `failure`: what becomes of the image where it was the last one."""
    if retry.gives_up(image, outage=outage):
        await fail_image(ports, image, failure, error)
        return
    delay = retry.delay(image)
    queued = await ports.images.retry(image.id, image.attempts, delay, error, outage=outage)
    PROCESSED.labels("retried" if queued else "fenced").inc()
    if queued is None:
        await _drop_result_of_deleted(ports, image)
        return
    RETRIES.labels(reason).inc()
    await announce(ports, queued)
    log.warning("image will be retried", after_seconds=round(delay.total_seconds(), 3), detail=error, attempt=image.attempts)


async def _until_told(tell: Callable[[], Awaitable[None]], patience_seconds: float) -> None:
    """Who has taken the image over meanwhile has the fence."""
    now = asyncio.get_running_loop().time
    give_up_at = now() + patience_seconds
    while True:
        try:
            await tell()
            return
        except Unavailable:
            if now() + TELL_AGAIN_SECONDS > give_up_at:
                raise
        await asyncio.sleep(TELL_AGAIN_SECONDS)


async def _give_back(ports: Ports, image: Image) -> None:
    """This worker is stopping: the next one may have the image at once, and the picture is not to blame."""
    try:
        error = "The worker was told to stop in the middle of it."
        queued = await ports.images.retry(image.id, image.attempts, timedelta(0), error, outage=True)
        if queued is None:
            await _drop_result_of_deleted(ports, image)
        else:
            await announce(ports, queued)
    except Unavailable as away:
        log.warning("lease left to end by itself", service=away.service, reason=away.reason)


async def _drop_result_of_deleted(ports: Ports, image: Image) -> None:
    """For an attempt that ended between storing its result and naming it. Where there is a row, that may name the result after all
    (the answer to the completion was lost), and knows every attempt's key when it is deleted."""
    try:
        if await ports.images.get(image.id) is None:
            await ports.blobs.delete(Bucket.PROCESSED, image.result_key)
    except Unavailable as error:
        log.warning("result left for the sweeper", service=error.service, reason=error.reason)


@asynccontextmanager
async def _lease_kept(ports: Ports, image: Image, lease: timedelta) -> AsyncIterator[None]:
    """Renews the lease three times in its length while the body runs. Losing it does not stop the body: the fence does."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(lease.total_seconds() / 3)
            try:
                if not await ports.images.renew(image.id, image.attempts, lease):
                    LEASES_LOST.inc()
                    log.warning("lease lost", attempt=image.attempts)
                    return
            except Unavailable as error:
                log.warning("lease not renewed", reason=error.reason)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
