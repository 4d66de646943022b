"""The ImageStore: a method is one statement in its own transaction, or a few in one.

The clock is PostgreSQL's, or this process's for SQLite.
Does not make or change the table: see migrate.py.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Executable,
    Update,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from common.adapters.sql.engine import connected, open_engine
from common.adapters.sql.migrate import current_revision, head_revision
from common.adapters.sql.rows import IMAGES, KEYS, NOT_COMPLETED, UtcDateTime, new_row, to_image
from common.errors import IdempotencyMismatch, NotMigrated
from common.images import Failure, IdempotencyKey, Image, ImageStatus, Result

_C = IMAGES.c
# How long an idempotency key is its upload's.
KEY_LIFE = timedelta(hours=24)
_FINAL = (ImageStatus.COMPLETED, ImageStatus.FAILED)


class SqlImageStore:
    """`url` is `postgresql://…` or `sqlite:///PATH`; `time_limit_seconds` is that of one call, connecting included."""

    def __init__(self, url: str, pool_size: int, time_limit_seconds: float) -> None:
        self._engine = open_engine(url, pool_size, time_limit_seconds)
        self._time_limit_seconds = time_limit_seconds
        self._has_clock = self._engine.dialect.name == "postgresql"

    async def close(self) -> None:
        await self._engine.dispose()

    async def add(self, image: Image, due_in: timedelta, key: IdempotencyKey | None = None) -> Image:
        row = insert(IMAGES).values(**new_row(image), dispatch_after=self._after(due_in))
        if key is None:
            await self._execute(row)
            return image
        async with self._transaction() as connection:
            if (await connection.execute(self._taking(key, image))).one_or_none() is not None:
                await connection.execute(row)
                return image
            # The statement above has locked the key, so that its image is there: no deletion gets past that.
            used = select(KEYS.c.fingerprint, IMAGES).join(IMAGES, _C.id == KEYS.c.image_id)
            found = await connection.execute(used.where(KEYS.c.owner == image.owner, KEYS.c.key == key.text))
            first = found.mappings().one()
        if first["fingerprint"] != key.fingerprint:
            raise IdempotencyMismatch("The Idempotency-Key was used for another upload; choose a new one for this.")
        return to_image(first)

    async def get(self, image_id: UUID) -> Image | None:
        row = (await self._execute(select(IMAGES).where(_C.id == image_id, ~_C.deleted))).mappings().one_or_none()
        return to_image(row) if row is not None else None

    async def page(self, *, owner: str | None, status: ImageStatus | None, before: UUID | None, limit: int) -> Sequence[Image]:
        wanted = select(IMAGES).where(~_C.deleted).order_by(_C.id.desc()).limit(limit)
        if owner is not None:
            wanted = wanted.where(_C.owner == owner)
        if status is not None:
            wanted = wanted.where(_C.status == status)
        if status not in (None, ImageStatus.COMPLETED):
            wanted = wanted.where(NOT_COMPLETED)
        if before is not None:
            wanted = wanted.where(_C.id < before)
        return [to_image(row) for row in (await self._execute(wanted)).mappings()]

    async def mark_queued(self, image_id: UUID, attempts: int, due_in: timedelta) -> Image | None:
        return await self._changed(
            _fenced(image_id, attempts)
            .where(_C.status.in_((ImageStatus.UPLOADED, ImageStatus.QUEUED)))
            .values(**self._queued_where(_C.status == ImageStatus.UPLOADED), dispatch_after=self._after(due_in))
        )

    async def claim(self, image_id: UUID, lease: timedelta) -> Image | None:
        lease_ended = (_C.status == ImageStatus.PROCESSING) & (_C.dispatch_after <= self._now())
        return await self._changed(
            update(IMAGES)
            .where(_C.id == image_id, ~_C.deleted, or_(_C.status.in_((ImageStatus.UPLOADED, ImageStatus.QUEUED)), lease_ended))
            .values(**self._now_in(ImageStatus.PROCESSING), attempts=_C.attempts + 1, dispatch_after=self._after(lease))
        )

    async def renew(self, image_id: UUID, attempts: int, lease: timedelta) -> bool:
        return await self._changed(_fenced(image_id, attempts).values(dispatch_after=self._after(lease))) is not None

    async def complete(self, image_id: UUID, attempts: int, result: Result) -> Image | None:
        completed = self._now_in(ImageStatus.COMPLETED)
        return await self._changed(
            _fenced(image_id, attempts).values(
                **completed,
                completed_at=completed["updated_at"],
                dispatch_after=None,
                result_key=result.key,
                result_content_type=result.content_type,
                result_size_bytes=result.size_bytes,
                result_sha256=result.sha256,
                result_width=result.width,
                result_height=result.height,
            )
        )

    async def retry(self, image_id: UUID, attempts: int, due_in: timedelta, *, outage: bool) -> Image | None:
        return await self._changed(
            _fenced(image_id, attempts).values(
                **self._queued_where(_C.status != ImageStatus.QUEUED),
                outages=_C.outages + int(outage),
                dispatch_after=self._after(due_in),
            )
        )

    async def fail(self, image_id: UUID, attempts: int, failure: Failure, due_in: timedelta) -> Image | None:
        return await self._changed(
            _fenced(image_id, attempts).values(
                **self._now_in(ImageStatus.FAILED),
                dispatch_after=self._after(due_in),
                failure_code=failure.code,
                failure_detail=failure.detail,
            )
        )

    async def settle(self, image_id: UUID) -> None:
        await self._execute(update(IMAGES).where(_C.id == image_id, ~_C.deleted, _C.status.in_(_FINAL)).values(dispatch_after=None))

    async def mark_deleted(self, image_id: UUID, owner: str | None, due_in: timedelta) -> Image | None:
        marked = update(IMAGES).where(_C.id == image_id, ~_C.deleted)
        if owner is not None:
            marked = marked.where(_C.owner == owner)
        marked = marked.values(deleted=True, version=_C.version + 1, updated_at=self._now(), dispatch_after=self._after(due_in))
        async with self._transaction() as connection:
            row = (await connection.execute(marked.returning(IMAGES))).mappings().one_or_none()
            if row is None:
                return None
            await connection.execute(delete(KEYS).where(KEYS.c.image_id == image_id))
        return to_image(row)

    async def remove(self, image_id: UUID) -> None:
        await self._execute(delete(IMAGES).where(_C.id == image_id, _C.deleted))

    async def take_due(self, limit: int, hold: timedelta, *, deleted: bool = False) -> list[Image]:
        # A CTE, because PostgreSQL may carry out a subquery more than once, and each time lock `limit` other rows.
        due = (
            select(_C.id)
            .where(_C.dispatch_after <= self._now(), _C.deleted if deleted else ~_C.deleted)
            .order_by(_C.dispatch_after, _C.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        taken = await self._execute(
            update(IMAGES)
            .where(_C.id.in_(select(due.c.id)))
            .values(
                **self._queued_where(_C.status == ImageStatus.PROCESSING),
                # RETURNING has neither an order nor, in SQLite, any way to name the old value.
                last_due=_C.dispatch_after,
                dispatch_after=self._after(hold),
            )
            .returning(IMAGES)
        )
        return [to_image(row) for row in sorted(taken.mappings(), key=lambda row: (row["last_due"], row["id"]))]

    async def make_all_due(self) -> int:
        changed = await self._execute(update(IMAGES).where(_C.dispatch_after.is_not(None)).values(dispatch_after=self._now()))
        return changed.rowcount

    async def check(self) -> None:
        async with connected(self._engine, self._time_limit_seconds) as connection:
            found = await connection.run_sync(current_revision)
        if found != (need := head_revision()):
            raise NotMigrated(
                f"The database is not migrated (found {found or 'nothing'}, need {need}); run: image-processor migrate"
            )

    def _taking(self, key: IdempotencyKey, image: Image) -> Executable:
        """Returns a row where the key was free, or was used too long ago; waits for whoever is using it at this moment."""
        insert_key = postgresql.insert if self._has_clock else sqlite.insert
        values = {"fingerprint": key.fingerprint, "image_id": image.id, "created_at": self._now()}
        return (
            insert_key(KEYS)
            .values(owner=image.owner, key=key.text, **values)
            .on_conflict_do_update(
                index_elements=[KEYS.c.owner, KEYS.c.key], set_=values, where=KEYS.c.created_at <= self._after(-KEY_LIFE)
            )
            .returning(KEYS.c.image_id)
        )

    async def _changed(self, statement: Update) -> Image | None:
        row = (await self._execute(statement.returning(IMAGES))).mappings().one_or_none()
        return to_image(row) if row is not None else None

    async def _execute(self, statement: Executable) -> CursorResult[Any]:
        async with connected(self._engine, self._time_limit_seconds) as connection:
            return await connection.execute(statement)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """For several statements. The first one has to write: SQLite then waits for the lock, where else it would fail."""
        async with connected(self._engine, self._time_limit_seconds) as connection:
            await connection.execution_options(isolation_level="READ COMMITTED" if self._has_clock else "SERIALIZABLE")
            async with connection.begin():
                yield connection

    def _after(self, duration: timedelta) -> ColumnElement[datetime]:
        if self._has_clock:
            return func.now() + literal(duration)
        return literal(datetime.now(UTC) + duration, UtcDateTime())

    def _now(self) -> ColumnElement[datetime]:
        return self._after(timedelta(0))

    def _now_in(self, status: ImageStatus) -> dict[str, Any]:
        return {"status": status, "version": _C.version + 1, "updated_at": self._now()}

    def _queued_where(self, visible: ColumnElement[bool]) -> dict[str, Any]:
        """→ `queued` for the rows of which a reader sees that; nothing for the others."""
        return {
            "status": case((visible, literal(ImageStatus.QUEUED, _C.status.type)), else_=_C.status),
            "version": _C.version + case((visible, 1), else_=0),
            "updated_at": case((visible, self._now()), else_=_C.updated_at),
        }


def _fenced(image_id: UUID, attempts: int) -> Update:
    return update(IMAGES).where(_C.id == image_id, _C.attempts == attempts, _C.status.not_in(_FINAL), ~_C.deleted)
