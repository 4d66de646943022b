"""Small stand-ins that keep the ports' promises in memory, for tests without services. The contract suites hold them to it."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from common.adapters.sql.store import LEASE_ENDED
from common.errors import BlobNotFound, IdempotencyMismatch, Unauthorized
from common.images import AttemptError, Failure, IdempotencyKey, Image, ImageStatus, Principal, Priority, Result
from common.ports import Backlog, Blob, Bucket, Rendered
from common.processing import Processing

CHUNK_BYTES = 65_536
KEY_LIFE = timedelta(hours=24)


@dataclass(slots=True)
class Row:
    image: Image
    due: datetime | None
    sent_to: Priority | None = None
    sent_at: datetime | None = None
    sent_attempts: int | None = None

    @property
    def is_awaited(self) -> bool:
        is_queued = self.image.status is ImageStatus.QUEUED and not self.image.deleted
        return is_queued and self.sent_attempts == self.image.attempts


@dataclass(frozen=True, slots=True)
class _Key:
    fingerprint: str
    image_id: UUID
    at: datetime


class FakeImageStore:
    """An Upkeep, too. `rows` is what is stored, and `keys` by owner and text; `due` of a row is None once it is settled."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self.rows: dict[UUID, Row] = {}
        self.keys: dict[tuple[str, str], _Key] = {}
        self.turns: dict[str, datetime] = {}

    async def add(self, image: Image, due_in: timedelta, key: IdempotencyKey | None = None) -> Image:
        if image.id in self.rows:
            raise AssertionError(f"{image.id} was added twice")
        if key is not None:
            used = self.keys.get((image.owner, key.text))
            if used is not None and self._clock() - used.at < KEY_LIFE:
                if used.fingerprint != key.fingerprint:
                    raise IdempotencyMismatch("The Idempotency-Key was used for another upload.")
                return self.rows[used.image_id].image
            self.keys[image.owner, key.text] = _Key(key.fingerprint, image.id, self._clock())
        self.rows[image.id] = Row(image, self._clock() + due_in)
        return image

    async def get(self, image_id: UUID) -> Image | None:
        row = self._seen(image_id)
        return row.image if row else None

    async def page(self, *, owner: str | None, status: ImageStatus | None, before: UUID | None, limit: int) -> Sequence[Image]:
        found = [
            row.image
            for row in self.rows.values()
            if not row.image.deleted
            and owner in (None, row.image.owner)
            and status in (None, row.image.status)
            and (before is None or row.image.id < before)
        ]
        return sorted(found, key=lambda image: image.id, reverse=True)[:limit]

    async def mark_queued(self, image_id: UUID, attempts: int, line: Priority, due_in: timedelta) -> Image | None:
        row = self._fenced(image_id, attempts)
        if row is None or row.image.status is ImageStatus.PROCESSING:
            return None
        queued = self._queue(row, due_in)
        row.sent_to, row.sent_at, row.sent_attempts = line, self._clock(), attempts
        return queued

    async def put_off(self, image_ids: Collection[UUID], due_in: timedelta, sent_within: timedelta) -> set[UUID]:
        since, put_off = self._clock() - sent_within, set()
        for image_id in image_ids:
            row = self.rows.get(image_id)
            if row and row.is_awaited and row.sent_at and row.sent_at > since:
                row.due = self._clock() + due_in
                put_off.add(image_id)
        return put_off

    async def claim(self, image_id: UUID, lease: timedelta) -> Image | None:
        row = self._seen(image_id)
        if row is None or row.image.status.is_final or (row.image.status is ImageStatus.PROCESSING and not self._is_due(row)):
            return None
        if row.image.status is ImageStatus.PROCESSING:
            self._remember(row, LEASE_ENDED)
        return self._change(row, lease, status=ImageStatus.PROCESSING, attempts=row.image.attempts + 1)

    async def renew(self, image_id: UUID, attempts: int, lease: timedelta) -> bool:
        row = self._fenced(image_id, attempts)
        if row is None:
            return False
        row.due = self._clock() + lease
        return True

    async def complete(self, image_id: UUID, attempts: int, result: Result) -> Image | None:
        row = self._fenced(image_id, attempts)
        if row is None:
            return None
        return self._change(row, None, status=ImageStatus.COMPLETED, result=result, completed_at=self._clock())

    async def retry(self, image_id: UUID, attempts: int, due_in: timedelta, error: str, *, outage: bool) -> Image | None:
        row = self._fenced(image_id, attempts)
        if row is None:
            return None
        self._remember(row, error)
        row.image = replace(row.image, outages=row.image.outages + outage)
        return self._queue(row, due_in)

    async def fail(
        self, image_id: UUID, attempts: int, failure: Failure, due_in: timedelta, error: str | None = None
    ) -> Image | None:
        row = self._fenced(image_id, attempts)
        if row is None:
            return None
        if error is not None:
            self._remember(row, error)
        return self._change(row, due_in, status=ImageStatus.FAILED, failure=failure)

    async def redrive(self, image_id: UUID) -> Image | None:
        row = self._seen(image_id)
        if row is None or row.image.status is not ImageStatus.FAILED:
            return None
        anew: dict[str, Any] = {"failure": None, "outages": 0, "first_error": None, "last_error": None}
        attempts = row.image.attempts + 1
        return self._change(row, timedelta(0), status=ImageStatus.QUEUED, attempts=attempts, forgiven=attempts, **anew)

    async def settle(self, image_id: UUID, attempts: int) -> None:
        row = self._seen(image_id)
        if row and row.image.status.is_final and row.image.attempts == attempts:
            row.due = None

    async def revoke(self, image: Image, due_in: timedelta) -> Image | None:
        if image.id not in self.rows:
            self.rows[image.id] = Row(replace(image, deleted=True), self._clock() + due_in)
        return await self.get(image.id)

    async def mark_deleted(self, image_id: UUID, owner: str | None, due_in: timedelta) -> Image | None:
        row = self.rows.get(image_id)
        if row is None or row.image.deleted or owner not in (None, row.image.owner):
            return None
        self.keys = {name: key for name, key in self.keys.items() if key.image_id != image_id}
        return self._change(row, due_in, deleted=True)

    async def remove(self, image_id: UUID) -> None:
        row = self.rows.get(image_id)
        if row and row.image.deleted:
            del self.rows[image_id]

    async def take_due(self, limit: int, hold: timedelta, *, deleted: bool = False) -> list[Image]:
        rows = [row for row in self.rows.values() if row.image.deleted is deleted]
        due = sorted((row.due, row.image.id) for row in rows if row.due and self._is_due(row))
        taken = [self.rows[image_id] for _, image_id in due[:limit]]
        due_again = self._clock() + hold
        for row in taken:
            if row.image.status is ImageStatus.PROCESSING:
                self._remember(row, LEASE_ENDED)
                self._queue(row, hold)
            row.due = due_again
        return [row.image for row in taken]

    async def make_all_due(self) -> int:
        unsettled = [row for row in self.rows.values() if row.due]
        now = self._clock()
        for row in unsettled:
            row.due, row.sent_attempts = now, None
        return len(unsettled)

    async def expire(self, age: timedelta, limit: int) -> list[Image]:
        before = self._clock() - age
        old = [
            row
            for row in self.rows.values()
            if row.image.status.is_final
            and not row.image.deleted
            and row.image.created_at < before
            # a UUIDv7's first 48 bits are its time
            and row.image.id.int >> 80 < before.timestamp() * 1000
        ]
        expired = sorted(old, key=lambda row: row.image.id)[:limit]
        return [image for row in expired if (image := await self.mark_deleted(row.image.id, None, timedelta(0)))]

    async def scan(self, after: UUID | None, limit: int) -> Sequence[Image]:
        rows = sorted((row.image for row in self.rows.values()), key=lambda image: image.id)
        return [image for image in rows if after is None or image.id > after][:limit]

    async def forget_expired_keys(self, limit: int) -> int:
        expired = [name for name, key in self.keys.items() if self._clock() - key.at >= KEY_LIFE][:limit]
        for name in expired:
            del self.keys[name]
        return len(expired)

    async def take_turn(self, chore: str, every: timedelta) -> bool:
        if chore in self.turns and self._clock() < self.turns[chore] <= self._clock() + 2 * every:
            return False
        self.turns[chore] = self._clock() + every
        return True

    async def backlog(self) -> Backlog:
        waiting = [row for row in self.rows.values() if not (row.image.deleted or row.image.status.is_final)]
        now, unsettled = self._clock(), [status for status in ImageStatus if not status.is_final]

        def oldest(status: ImageStatus) -> float:
            ages = ((now - row.image.created_at).total_seconds() for row in waiting if row.image.status is status)
            return max(0.0, *ages, 0.0)

        due = [row.due for row in self.rows.values() if row.due and not row.image.deleted and self._is_due(row)]
        return Backlog(
            images={status: sum(row.image.status is status for row in waiting) for status in unsettled},
            oldest_seconds={status: oldest(status) for status in unsettled},
            overdue_seconds=(now - min(due)).total_seconds() if due else 0.0,
        )

    async def awaited(self) -> dict[Priority, int]:
        lines = [row.sent_to for row in self.rows.values() if row.is_awaited]
        return {line: lines.count(line) for line in Priority}

    async def now(self) -> datetime:
        return self._clock()

    async def check(self) -> None:
        pass

    def _remember(self, row: Row, error: str) -> None:
        ended = AttemptError(detail=error, at=self._clock())
        row.image = replace(row.image, first_error=row.image.first_error or ended, last_error=ended)

    def _fenced(self, image_id: UUID, attempts: int) -> Row | None:
        row = self._seen(image_id)
        return row if row and row.image.attempts == attempts and not row.image.status.is_final else None

    def _seen(self, image_id: UUID) -> Row | None:
        row = self.rows.get(image_id)
        return row if row and not row.image.deleted else None

    def _is_due(self, row: Row) -> bool:
        return row.due is not None and row.due <= self._clock()

    def _queue(self, row: Row, due_in: timedelta) -> Image:
        if row.image.status is not ImageStatus.QUEUED:
            return self._change(row, due_in, status=ImageStatus.QUEUED)
        row.due = self._clock() + due_in
        return row.image

    def _change(self, row: Row, due_in: timedelta | None, **changes: Any) -> Image:
        row.image = replace(row.image, version=row.image.version + 1, updated_at=self._clock(), **changes)
        row.due = None if due_in is None else self._clock() + due_in
        return row.image


class FakeBlobStore:
    """`objects` is what is stored. `links`: where presigned links lead; None for a store that makes none."""

    def __init__(self, links: str | None = None) -> None:
        self.links = links
        self.objects: dict[tuple[Bucket, str], bytes] = {}

    async def put(self, bucket: Bucket, key: str, source: Path, content_type: str) -> None:
        self.objects[bucket, key] = source.read_bytes()

    async def fetch(self, bucket: Bucket, key: str, target: Path) -> None:
        target.write_bytes(self._content(bucket, key))

    @asynccontextmanager
    async def open(self, bucket: Bucket, key: str, part: range | None = None) -> AsyncIterator[Blob]:
        content = self._content(bucket, key)
        if part:
            content = content[part.start : part.stop]

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(content), CHUNK_BYTES):
                yield content[start : start + CHUNK_BYTES]

        yield Blob(size_bytes=len(content), chunks=chunks())

    async def keys(self, bucket: Bucket) -> AsyncGenerator[str, None]:
        for key in sorted(key for place, key in self.objects if place is bucket):
            yield key

    async def delete(self, bucket: Bucket, key: str) -> None:
        self.objects.pop((bucket, key), None)

    def link(self, bucket: Bucket, key: str, content_type: str, disposition: str) -> str | None:
        return self.links and f"{self.links}/{bucket}/{key}?{urlencode({'type': content_type, 'disposition': disposition})}"

    async def check(self) -> None:
        pass

    def _content(self, bucket: Bucket, key: str) -> bytes:
        try:
            return self.objects[bucket, key]
        except KeyError:
            raise BlobNotFound(f"{bucket} has no {key}") from None


class FakeRenderer:
    """Writes `content` and calls it a JPEG of 800 × 600; the first renders raise `errors` instead, one each."""

    def __init__(self, *errors: Exception, content: bytes = b"rendered") -> None:
        self._errors = list(errors)
        self.content = content

    async def render(self, source: Path, target: Path, processing: Processing) -> Rendered:
        if self._errors:
            raise self._errors.pop(0)
        target.write_bytes(self.content)
        sha256 = hashlib.sha256(self.content).hexdigest()
        return Rendered(content_type="image/jpeg", size_bytes=len(self.content), sha256=sha256, width=800, height=600)


class FakeTokenVerifier:
    """Knows the tokens it is given."""

    def __init__(self, principals: dict[str, Principal]) -> None:
        self.principals = principals

    async def verify(self, token: str) -> Principal:
        try:
            return self.principals[token]
        except KeyError:
            raise Unauthorized("The token is not known.") from None

    async def check(self) -> None:
        pass
