"""The ImageStore: a method is one statement in its own transaction. The clock is PostgreSQL's, or this process's for SQLite.

Does not make or change the table: see migrate.py.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, Executable, Update, case, func, insert, literal, or_, select, update

from common.adapters.sql.engine import connected, open_engine
from common.adapters.sql.migrate import current_revision, head_revision
from common.adapters.sql.rows import IMAGES, UtcDateTime, new_row, to_image
from common.errors import NotMigrated
from common.images import Failure, Image, ImageStatus, Result

_C = IMAGES.c
_FINAL = (ImageStatus.COMPLETED, ImageStatus.FAILED)


class SqlImageStore:
    """`url` is `postgresql://…` or `sqlite:///PATH`; `time_limit_seconds` is that of one call, connecting included."""

    def __init__(self, url: str, pool_size: int, time_limit_seconds: float) -> None:
        self._engine = open_engine(url, pool_size, time_limit_seconds)
        self._time_limit_seconds = time_limit_seconds
        self._has_clock = self._engine.dialect.name == "postgresql"

    async def close(self) -> None:
        await self._engine.dispose()

    async def add(self, image: Image, due_in: timedelta) -> None:
        await self._execute(insert(IMAGES).values(**new_row(image), dispatch_after=self._after(due_in)))

    async def get(self, image_id: UUID) -> Image | None:
        row = (await self._execute(select(IMAGES).where(_C.id == image_id))).mappings().one_or_none()
        return to_image(row) if row is not None else None

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
            .where(_C.id == image_id, or_(_C.status.in_((ImageStatus.UPLOADED, ImageStatus.QUEUED)), lease_ended))
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
        await self._execute(update(IMAGES).where(_C.id == image_id, _C.status.in_(_FINAL)).values(dispatch_after=None))

    async def take_due(self, limit: int, hold: timedelta) -> list[Image]:
        # A CTE, because PostgreSQL may carry out a subquery more than once, and each time lock `limit` other rows.
        due = (
            select(_C.id)
            .where(_C.dispatch_after <= self._now())
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

    async def _changed(self, statement: Update) -> Image | None:
        row = (await self._execute(statement.returning(IMAGES))).mappings().one_or_none()
        return to_image(row) if row is not None else None

    async def _execute(self, statement: Executable) -> CursorResult[Any]:
        async with connected(self._engine, self._time_limit_seconds) as connection:
            return await connection.execute(statement)

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
    return update(IMAGES).where(_C.id == image_id, _C.attempts == attempts, _C.status.not_in(_FINAL))
