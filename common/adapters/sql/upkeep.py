"""What keeps the tables in order and says how they are doing. See Upkeep in ports.py."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, or_, select, tuple_, type_coerce, update

from common.adapters.sql.database import Database, marked_deleted
from common.adapters.sql.rows import AWAITED, IMAGES, KEY_LIFE, KEYS, NOT_COMPLETED, TURNS, UtcDateTime, to_image
from common.images import FINAL, Image, ImageStatus, Priority
from common.ports import Backlog

_C = IMAGES.c
_UNSETTLED = (ImageStatus.UPLOADED, ImageStatus.QUEUED, ImageStatus.PROCESSING)


class SqlUpkeep:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def expire(self, age: timedelta, limit: int) -> list[Image]:
        # Ids are in the order of their times, so that the oldest are the first of the primary key's index.
        oldest = (
            select(_C.id)
            .where(
                _C.id < _first_id_of(datetime.now(UTC) - age),
                _C.created_at < self._database.after(-age),
                _C.status.in_(FINAL),
                ~_C.deleted,
            )
            .order_by(_C.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("oldest")
        )
        marked = update(IMAGES).where(_C.id.in_(select(oldest.c.id))).values(**marked_deleted(self._database, timedelta(0)))
        async with self._database.transaction() as connection:
            expired = [to_image(row) for row in (await connection.execute(marked.returning(IMAGES))).mappings()]
            await connection.execute(delete(KEYS).where(KEYS.c.image_id.in_([image.id for image in expired])))
        return expired

    async def scan(self, after: UUID | None, limit: int) -> Sequence[Image]:
        rows = select(IMAGES).order_by(_C.id).limit(limit)
        if after is not None:
            rows = rows.where(_C.id > after)
        return [to_image(row) for row in (await self._database.execute(rows)).mappings()]

    async def forget_expired_keys(self, limit: int) -> int:
        # Locked, because somebody may be taking one of them at this moment.
        expired = (
            select(KEYS.c.owner, KEYS.c.key)
            .where(KEYS.c.created_at <= self._database.after(-KEY_LIFE))
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("expired")
        )
        forgotten = delete(KEYS).where(tuple_(KEYS.c.owner, KEYS.c.key).in_(select(expired.c.owner, expired.c.key)))
        # Python's sqlite3 counts no rows of a statement that begins with a CTE.
        return len((await self._database.execute(forgotten.returning(KEYS.c.image_id))).all())

    async def take_turn(self, chore: str, every: timedelta) -> bool:
        next_at = {"next_at": self._database.after(every)}
        # One farther off is from before the clock was set back, or before the chore was to be done more often. (Twice, because who
        # has waited here for another to come first has a clock that is behind that one's.)
        is_over = or_(TURNS.c.next_at <= self._database.now(), TURNS.c.next_at > self._database.after(2 * every))
        taking = (
            self._database.insert(TURNS)
            .values(chore=chore, **next_at)
            .on_conflict_do_update(index_elements=[TURNS.c.chore], set_=next_at, where=is_over)
            .returning(TURNS.c.chore)
        )
        return (await self._database.execute(taking)).one_or_none() is not None

    async def backlog(self) -> Backlog:
        columns: list[ColumnElement[Any]] = [self._clock()]
        for status in _UNSETTLED:
            # Written so that both come from the index of what is not completed: ids are in the order of their times.
            waiting = select(_C.created_at).where(_C.status == status, NOT_COMPLETED, ~_C.deleted)
            columns.append(waiting.with_only_columns(func.count()).scalar_subquery().label(f"{status}_count"))
            columns.append(waiting.order_by(_C.id).limit(1).scalar_subquery().label(f"{status}_oldest"))
        due = select(func.min(_C.dispatch_after)).where(_C.dispatch_after <= self._database.now(), ~_C.deleted)
        columns.append(due.scalar_subquery().label("due"))
        found = (await self._database.execute(select(*columns))).mappings().one()

        def seconds_since(name: str) -> float:
            return max(0.0, (found["now"] - found[name]).total_seconds()) if found[name] else 0.0

        return Backlog(
            images={status: found[f"{status}_count"] for status in _UNSETTLED},
            oldest_seconds={status: seconds_since(f"{status}_oldest") for status in _UNSETTLED},
            overdue_seconds=seconds_since("due"),
        )

    async def awaited(self) -> dict[Priority, int]:
        counted = select(_C.sent_to, func.count().label("messages")).where(AWAITED, NOT_COMPLETED).group_by(_C.sent_to)
        found = {row.sent_to: row.messages for row in await self._database.execute(counted)}
        return {line: found.get(line, 0) for line in Priority}

    async def now(self) -> datetime:
        now: datetime = (await self._database.execute(select(self._clock()))).scalar_one()
        return now

    def _clock(self) -> ColumnElement[datetime]:
        return type_coerce(self._database.now(), UtcDateTime()).label("now")


def _first_id_of(time: datetime) -> UUID:
    """The smallest UUIDv7 of that moment: 48 bits of milliseconds before everything else (RFC 9562, 5.7)."""
    return UUID(int=max(0, int(time.timestamp() * 1000)) << 80)
