"""The ImageStore: a method is one statement in its own transaction, or a few in one.

The clock is PostgreSQL's, or this process's for SQLite. What is executed for every image is put together once: doing that takes
longer than all else that executing it takes of this process.
Does not make or change the table: see migrate.py.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Executable,
    Integer,
    Update,
    bindparam,
    case,
    delete,
    insert,
    literal,
    or_,
    select,
    text,
    true,
    update,
)

from common.adapters.sql.database import Database, marked_deleted
from common.adapters.sql.migrate import current_revision, head_revision
from common.adapters.sql.prepared import PreparedStatement
from common.adapters.sql.rows import AWAITED, IMAGES, KEY_LIFE, KEYS, NOT_COMPLETED, new_row, to_image
from common.errors import IdempotencyMismatch, NotMigrated, Unavailable
from common.images import FINAL, Failure, IdempotencyKey, Image, ImageStatus, Priority, Result

_C = IMAGES.c
# Parameters of statements that are made once.
_ID, _ATTEMPT = bindparam("of_image", type_=_C.id.type), bindparam("of_attempt", type_=_C.attempts.type)
LEASE_ENDED = "The worker fell silent in the middle of it."


class SqlImageStore(Database):
    def __init__(self, url: str, pool_size: int, time_limit_seconds: float, ca_file: Path | None = None) -> None:
        super().__init__(url, pool_size, time_limit_seconds, ca_file)
        self._add = self.prepared(insert(IMAGES).values(dispatch_after=self.due()))
        self._get = self.prepared(select(IMAGES).where(_C.id == _ID, ~_C.deleted))
        self._mark_queued = self.prepared(self._marking_queued().returning(IMAGES))
        self._take_due = {deleted: self._taking_due(deleted=deleted) for deleted in (False, True)}
        self._claim = self.prepared(self._claiming().returning(IMAGES))
        self._complete = self.prepared(self._completing().returning(IMAGES))

    async def add(self, image: Image, due_in: timedelta, key: IdempotencyKey | None = None) -> Image:
        row = new_row(image) | {"due_in": self.due_in(due_in)}
        if key is None:
            await self.one(self._add, row)
            return image
        async with self.transaction() as connection:
            if (await connection.execute(self._taking(key, image))).one_or_none() is not None:
                await connection.execute(self._add.statement, row)
                return image
            # The statement above has locked the key, so that its image is there: no deletion gets past that.
            used = select(KEYS.c.fingerprint, IMAGES).join(IMAGES, _C.id == KEYS.c.image_id)
            found = await connection.execute(used.where(KEYS.c.owner == image.owner, KEYS.c.key == key.text))
            first = found.mappings().one()
        if first["fingerprint"] != key.fingerprint:
            raise IdempotencyMismatch("The Idempotency-Key was used for another upload; choose a new one for this.")
        return to_image(first)

    async def get(self, image_id: UUID) -> Image | None:
        return await self._image(self._get, {"of_image": image_id})

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
        return [to_image(row) for row in (await self.execute(wanted)).mappings()]

    async def mark_queued(self, image_id: UUID, attempts: int, line: Priority, due_in: timedelta) -> Image | None:
        of_attempt = {"of_image": image_id, "of_attempt": attempts}
        return await self._image(self._mark_queued, of_attempt | {"sent_to": line, "due_in": self.due_in(due_in)})

    async def put_off(self, image_ids: Collection[UUID], due_in: timedelta, sent_within: timedelta) -> set[UUID]:
        waiting = update(IMAGES).where(_C.id.in_(image_ids), AWAITED, _C.sent_at > self.after(-sent_within))
        put_off = await self.execute(waiting.values(dispatch_after=self.after(due_in)).returning(_C.id))
        return set(put_off.scalars())

    async def claim(self, image_id: UUID, lease: timedelta) -> Image | None:
        return await self._image(self._claim, {"of_image": image_id, "due_in": self.due_in(lease)})

    async def renew(self, image_id: UUID, attempts: int, lease: timedelta) -> bool:
        return await self._changed(_fenced(image_id, attempts).values(dispatch_after=self.after(lease))) is not None

    async def complete(self, image_id: UUID, attempts: int, result: Result) -> Image | None:
        return await self._image(
            self._complete,
            {
                "of_image": image_id,
                "of_attempt": attempts,
                "result_key": result.key,
                "result_content_type": result.content_type,
                "result_size_bytes": result.size_bytes,
                "result_sha256": result.sha256,
                "result_width": result.width,
                "result_height": result.height,
            },
        )

    async def retry(self, image_id: UUID, attempts: int, due_in: timedelta, error: str, *, outage: bool) -> Image | None:
        return await self._changed(
            _fenced(image_id, attempts).values(
                **self._queued_where(_C.status != ImageStatus.QUEUED),
                **self._error_where(true(), error),
                outages=_C.outages + int(outage),
                dispatch_after=self.after(due_in),
            )
        )

    async def fail(
        self, image_id: UUID, attempts: int, failure: Failure, due_in: timedelta, error: str | None = None
    ) -> Image | None:
        return await self._changed(
            _fenced(image_id, attempts).values(
                **self._now_in(ImageStatus.FAILED),
                **(self._error_where(true(), error) if error is not None else {}),
                dispatch_after=self.after(due_in),
                failure_code=failure.code,
                failure_detail=failure.detail,
            )
        )

    async def redrive(self, image_id: UUID) -> Image | None:
        return await self._changed(
            update(IMAGES)
            .where(_C.id == image_id, ~_C.deleted, _C.status == ImageStatus.FAILED)
            .values(
                **self._now_in(ImageStatus.QUEUED),
                dispatch_after=self.now(),
                failure_code=None,
                failure_detail=None,
                # One more than there were, so that whoever had the last attempt has lost its fence.
                attempts=_C.attempts + 1,
                forgiven=_C.attempts + 1,
                outages=0,
                first_error=None,
                first_error_at=None,
                last_error=None,
                last_error_at=None,
            )
        )

    async def settle(self, image_id: UUID, attempts: int) -> None:
        final = (_C.id == image_id) & (_C.attempts == attempts) & _C.status.in_(FINAL) & ~_C.deleted
        await self.execute(update(IMAGES).where(final).values(dispatch_after=None))

    async def revoke(self, image: Image, due_in: timedelta) -> Image | None:
        marked = new_row(image) | {"deleted": True, "dispatch_after": self.after(due_in)}
        # Waits for an insert of the same id that is under way.
        await self.execute(self.insert(IMAGES).values(marked).on_conflict_do_nothing(index_elements=[_C.id]))
        return await self.get(image.id)

    async def mark_deleted(self, image_id: UUID, owner: str | None, due_in: timedelta) -> Image | None:
        marked = update(IMAGES).where(_C.id == image_id, ~_C.deleted)
        if owner is not None:
            marked = marked.where(_C.owner == owner)
        marked = marked.values(**marked_deleted(self, due_in))
        async with self.transaction() as connection:
            row = (await connection.execute(marked.returning(IMAGES))).mappings().one_or_none()
            if row is None:
                return None
            await connection.execute(delete(KEYS).where(KEYS.c.image_id == image_id))
        return to_image(row)

    async def remove(self, image_id: UUID) -> None:
        await self.execute(delete(IMAGES).where(_C.id == image_id, _C.deleted))

    async def take_due(self, limit: int, hold: timedelta, *, deleted: bool = False) -> list[Image]:
        taken = await self.execute(self._take_due[deleted], {"at_most": limit, "due_in": self.due_in(hold)})
        return [to_image(row) for row in sorted(taken.mappings(), key=lambda row: (row["last_due"], row["id"]))]

    async def make_all_due(self) -> int:
        unsettled = update(IMAGES).where(_C.dispatch_after.is_not(None))
        return (await self.execute(unsettled.values(dispatch_after=self.now(), sent_attempts=None))).rowcount

    async def check(self) -> None:
        async with self.connected() as connection:
            found = await connection.run_sync(current_revision)
            is_read_only = self._has_clock and (await connection.scalar(text("SHOW transaction_read_only"))) == "on"
        need = head_revision()
        # With a later revision this program still works: see migrations/script.py.mako.
        if found is None or found < need:
            raise NotMigrated(
                f"The database is not migrated (found {found or 'nothing'}, need {need}); run: image-processor migrate"
            )
        if is_read_only:
            raise Unavailable("database", "it is read-only: a standby, or set to be so")

    def _taking(self, key: IdempotencyKey, image: Image) -> Executable:
        """Returns a row where the key was free, or was used too long ago; waits for whoever is using it at this moment."""
        values = {"fingerprint": key.fingerprint, "image_id": image.id, "created_at": self.now()}
        return (
            self.insert(KEYS)
            .values(owner=image.owner, key=key.text, **values)
            .on_conflict_do_update(
                index_elements=[KEYS.c.owner, KEYS.c.key], set_=values, where=KEYS.c.created_at <= self.after(-KEY_LIFE)
            )
            .returning(KEYS.c.image_id)
        )

    def _marking_queued(self) -> Update:
        """Its parameter `sent_to` gives that column."""
        return (
            _fenced(_ID, _ATTEMPT)
            .where(or_(_C.status == ImageStatus.UPLOADED, _C.status == ImageStatus.QUEUED))
            .values(
                **self._queued_where(_C.status == ImageStatus.UPLOADED),
                dispatch_after=self.due(),
                sent_attempts=_C.attempts,
                sent_at=self.now(),
            )
        )

    def _taking_due(self, *, deleted: bool) -> Executable:
        # A CTE, because PostgreSQL may carry out a subquery more than once, and each time lock other rows.
        due = (
            select(_C.id)
            .where(_C.dispatch_after <= self.now(), _C.deleted if deleted else ~_C.deleted)
            .order_by(_C.dispatch_after, _C.id)
            .limit(bindparam("at_most", type_=Integer))
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        return (
            update(IMAGES)
            .where(_C.id.in_(select(due.c.id)))
            .values(
                **self._queued_where(_C.status == ImageStatus.PROCESSING),
                **self._error_where(_C.status == ImageStatus.PROCESSING, LEASE_ENDED),
                # RETURNING has neither an order nor, in SQLite, any way to name the old value.
                last_due=_C.dispatch_after,
                dispatch_after=self.due(),
            )
            .returning(IMAGES)
        )

    def _claiming(self) -> Update:
        lease_ended = (_C.status == ImageStatus.PROCESSING) & (_C.dispatch_after <= self.now())
        return (
            update(IMAGES)
            .where(_C.id == _ID, ~_C.deleted, or_(_C.status == ImageStatus.UPLOADED, _C.status == ImageStatus.QUEUED, lease_ended))
            .values(
                **self._now_in(ImageStatus.PROCESSING),
                **self._error_where(_C.status == ImageStatus.PROCESSING, LEASE_ENDED),
                attempts=_C.attempts + 1,
                dispatch_after=self.due(),
            )
        )

    def _completing(self) -> Update:
        """Its parameters give the columns of the result."""
        completed = self._now_in(ImageStatus.COMPLETED)
        return _fenced(_ID, _ATTEMPT).values(**completed, completed_at=completed["updated_at"], dispatch_after=None)

    async def _changed(self, statement: Update) -> Image | None:
        row = (await self.execute(statement.returning(IMAGES))).mappings().one_or_none()
        return to_image(row) if row is not None else None

    async def _image(self, statement: PreparedStatement, parameters: dict[str, Any]) -> Image | None:
        row = await self.one(statement, parameters)
        return to_image(row) if row is not None else None

    def _now_in(self, status: ImageStatus) -> dict[str, Any]:
        return {"status": status, "version": _C.version + 1, "updated_at": self.now()}

    def _error_where(self, ended: ColumnElement[bool], error: str) -> dict[str, Any]:
        """Remembers how the attempt ended, in the rows where it did."""
        is_first = ended & _C.first_error.is_(None)
        now = self.now()
        return {
            "first_error": case((is_first, error), else_=_C.first_error),
            "first_error_at": case((is_first, now), else_=_C.first_error_at),
            "last_error": case((ended, error), else_=_C.last_error),
            "last_error_at": case((ended, now), else_=_C.last_error_at),
        }

    def _queued_where(self, visible: ColumnElement[bool]) -> dict[str, Any]:
        """→ `queued` for the rows of which a reader sees that; nothing for the others."""
        return {
            "status": case((visible, literal(ImageStatus.QUEUED, _C.status.type)), else_=_C.status),
            "version": _C.version + case((visible, 1), else_=0),
            "updated_at": case((visible, self.now()), else_=_C.updated_at),
        }


def _fenced(image_id: UUID | BindParameter[UUID], attempts: int | BindParameter[int]) -> Update:
    is_final = or_(*(_C.status == status for status in FINAL))
    return update(IMAGES).where(_C.id == image_id, _C.attempts == attempts, ~is_final, ~_C.deleted)
