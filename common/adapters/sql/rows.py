"""The table of images, and how a row becomes an Image and back. Private to this package; migrations/ makes the table."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Dialect, Index, RowMapping, Table, Text, TypeDecorator, false, text
from sqlmodel import Field, SQLModel

from common.images import AttemptError, Failure, FailureCode, Image, ImageStatus, Priority, Result

Row = RowMapping | Mapping[str, Any]

# What `images_status` holds: not the status that most rows have. SQLite looks there only for a query that says the same.
NOT_COMPLETED = text("status <> 'completed'")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, to the microsecond. SQLite knows no time zones: there the column holds UTC, as text that sorts."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None else None


class ImageRow(SQLModel, table=True):
    """`deleted`: seen by nobody, and there only until what belongs to it is removed. `dispatch_after`: from when the row is due;
    null once it is settled. `last_due`: what that was before it was last taken. `sent_to`: the line that its message was last put
    in, at `sent_at`, when there had been so many attempts as `sent_attempts` says."""

    __tablename__ = "images"
    __table_args__ = (
        CheckConstraint("status IN ('uploaded', 'queued', 'processing', 'completed', 'failed')", name="images_status"),
        CheckConstraint("priority IN ('high', 'normal', 'low')", name="images_priority"),
        CheckConstraint("size_bytes > 0 AND width > 0 AND height > 0", name="images_size"),
        CheckConstraint("attempts >= 0 AND outages >= 0 AND version >= 1", name="images_counts"),
        CheckConstraint("(status = 'failed') = (failure_code IS NOT NULL)", name="images_failure"),
        CheckConstraint("(status = 'completed') = (result_key IS NOT NULL)", name="images_result"),
        # No accepted image may be forgotten.
        CheckConstraint("dispatch_after IS NOT NULL OR status IN ('completed', 'failed')", name="images_unsettled_is_due"),
        CheckConstraint("dispatch_after IS NOT NULL OR NOT deleted", name="images_deleted_is_due"),
        Index(
            "images_due",
            "dispatch_after",
            "id",
            postgresql_where=text("dispatch_after IS NOT NULL"),
            sqlite_where=text("dispatch_after IS NOT NULL"),
        ),
        Index("images_owner", "owner", "id"),
        Index("images_status", "status", "id", postgresql_where=NOT_COMPLETED, sqlite_where=NOT_COMPLETED),
    )

    id: UUID = Field(primary_key=True)
    owner: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text)
    filename: str = Field(sa_type=Text)
    content_type: str = Field(sa_type=Text)
    size_bytes: int = Field(sa_type=BigInteger)
    sha256: str = Field(sa_type=Text)
    width: int
    height: int
    processing: str = Field(sa_type=Text)
    priority: str = Field(sa_type=Text)
    attempts: int
    outages: int
    version: int
    failure_code: str | None = Field(sa_type=Text)
    failure_detail: str | None = Field(sa_type=Text)
    result_key: str | None = Field(sa_type=Text)
    result_content_type: str | None = Field(sa_type=Text)
    result_size_bytes: int | None = Field(sa_type=BigInteger)
    result_sha256: str | None = Field(sa_type=Text)
    result_width: int | None
    result_height: int | None
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    completed_at: datetime | None = Field(sa_type=UtcDateTime)
    dispatch_after: datetime | None = Field(sa_type=UtcDateTime)
    last_due: datetime | None = Field(sa_type=UtcDateTime)
    request_id: str = Field(sa_type=Text)
    deleted: bool = Field(sa_column_kwargs={"server_default": false()})
    forgiven: int = Field(sa_column_kwargs={"server_default": text("0")})
    first_error: str | None = Field(sa_type=Text)
    first_error_at: datetime | None = Field(sa_type=UtcDateTime)
    last_error: str | None = Field(sa_type=Text)
    last_error_at: datetime | None = Field(sa_type=UtcDateTime)
    sent_attempts: int | None
    sent_to: str | None = Field(sa_type=Text)
    sent_at: datetime | None = Field(sa_type=UtcDateTime)
    traceparent: str | None = Field(sa_type=Text)


class IdempotencyKeyRow(SQLModel, table=True):
    """A key that an owner has used, for what upload (by its fingerprint), and the image that came of it."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idempotency_keys_image", "image_id"), Index("idempotency_keys_age", "created_at"))

    owner: str = Field(sa_type=Text, primary_key=True)
    key: str = Field(sa_type=Text, primary_key=True)
    fingerprint: str = Field(sa_type=Text)
    image_id: UUID
    created_at: datetime = Field(sa_type=UtcDateTime)


class TurnRow(SQLModel, table=True):
    """From when it is somebody's turn to do a chore again."""

    __tablename__ = "turns"

    chore: str = Field(sa_type=Text, primary_key=True)
    next_at: datetime = Field(sa_type=UtcDateTime)


# How long an idempotency key is its upload's.
KEY_LIFE = timedelta(hours=24)

METADATA = SQLModel.metadata
IMAGES: Table = METADATA.tables["images"]
KEYS: Table = METADATA.tables["idempotency_keys"]
TURNS: Table = METADATA.tables["turns"]

# Its message was put in a line, and nobody has claimed the row since, which would be one attempt more.
AWAITED = (IMAGES.c.status == ImageStatus.QUEUED) & (IMAGES.c.sent_attempts == IMAGES.c.attempts) & ~IMAGES.c.deleted


def new_row(image: Image) -> dict[str, Any]:
    """The columns of an image that nothing has happened to yet, but for when it is due."""
    return {
        "id": image.id,
        "owner": image.owner,
        "status": ImageStatus.UPLOADED,
        "filename": image.filename,
        "content_type": image.content_type,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
        "width": image.width,
        "height": image.height,
        "processing": image.processing,
        "priority": image.priority,
        "attempts": 0,
        "outages": 0,
        "version": 1,
        "created_at": image.created_at,
        "updated_at": image.updated_at,
        "request_id": image.request_id,
        "traceparent": image.traceparent,
        "deleted": False,
        "forgiven": 0,
    }


def to_image(row: Row) -> Image:
    failure = result = None
    if row["failure_code"] is not None:
        failure = Failure(code=FailureCode(row["failure_code"]), detail=row["failure_detail"])
    if row["result_key"] is not None:
        result = Result(
            key=row["result_key"],
            content_type=row["result_content_type"],
            size_bytes=row["result_size_bytes"],
            sha256=row["result_sha256"],
            width=row["result_width"],
            height=row["result_height"],
        )
    first_error, last_error = (
        AttemptError(detail=row[f"{name}_error"], at=row[f"{name}_error_at"]) if row[f"{name}_error"] is not None else None
        for name in ("first", "last")
    )
    return Image(
        id=row["id"],
        owner=row["owner"],
        filename=row["filename"],
        content_type=row["content_type"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        width=row["width"],
        height=row["height"],
        processing=row["processing"],
        priority=Priority(row["priority"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        request_id=row["request_id"],
        traceparent=row["traceparent"],
        status=ImageStatus(row["status"]),
        attempts=row["attempts"],
        forgiven=row["forgiven"],
        outages=row["outages"],
        first_error=first_error,
        last_error=last_error,
        version=row["version"],
        failure=failure,
        result=result,
        completed_at=row["completed_at"],
        deleted=row["deleted"],
    )
