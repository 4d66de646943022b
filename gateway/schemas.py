"""What is said over HTTP, as JSON: the image resource, its status, problems. Names and shapes are the contract's."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, PlainSerializer

from common.images import FailureCode, Image, ImageStatus, Priority

IMAGES = "/api/v1/images"


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(_rfc3339, when_used="json")]


class ImageFailure(BaseModel):
    code: FailureCode
    detail: str

    @classmethod
    def of(cls, image: Image) -> Self | None:
        return cls(code=image.failure.code, detail=image.failure.detail) if image.failure else None


class ImageResult(BaseModel):
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    download_url: str

    @classmethod
    def of(cls, image: Image, link: str | None) -> Self | None:
        if image.result is None:
            return None
        return cls(
            content_type=image.result.content_type,
            size_bytes=image.result.size_bytes,
            sha256=image.result.sha256,
            width=image.result.width,
            height=image.result.height,
            download_url=link or f"{address(image)}/content",
        )


class Links(BaseModel):
    self_: str = Field(serialization_alias="self")
    status: str
    content: str
    original: str


class ImageResource(BaseModel):
    """`width` and `height` are of the upright picture, in pixels."""

    id: UUID
    status: ImageStatus
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    processing: str
    priority: Priority
    attempts: int
    error: ImageFailure | None
    result: ImageResult | None
    created_at: Time
    updated_at: Time
    completed_at: Time | None
    links: Links

    @classmethod
    def of(cls, image: Image, link: str | None = None) -> Self:
        """`link`: a presigned URL of the result, where there is one."""
        own = address(image)
        return cls(
            id=image.id,
            status=image.status,
            filename=image.filename,
            content_type=image.content_type,
            size_bytes=image.size_bytes,
            sha256=image.sha256,
            width=image.width,
            height=image.height,
            processing=image.processing,
            priority=image.priority,
            attempts=image.tries,
            error=ImageFailure.of(image),
            result=ImageResult.of(image, link),
            created_at=image.created_at,
            updated_at=image.updated_at,
            completed_at=image.completed_at,
            links=Links(self_=own, status=f"{own}/status", content=f"{own}/content", original=f"{own}/original"),
        )


class ImagePage(BaseModel):
    """`next_cursor` is null at the end."""

    items: list[ImageResource]
    next_cursor: str | None


class Deleted(BaseModel):
    message: Literal["Image deleted successfully"] = "Image deleted successfully"


class StatusResource(BaseModel):
    id: UUID
    status: ImageStatus
    attempts: int
    error: ImageFailure | None
    updated_at: Time

    @classmethod
    def of(cls, image: Image) -> Self:
        return cls(
            id=image.id,
            status=image.status,
            attempts=image.tries,
            error=ImageFailure.of(image),
            updated_at=image.updated_at,
        )


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class ReadinessReport(BaseModel):
    """For each dependency "ok", "unavailable" (away, or too slow), "full" (it takes nothing: memory or disk has run low),
    "misconfigured", "not migrated" or "failing" (the log says more). degraded: uploads and reads go on without it."""

    status: Literal["ok", "degraded", "unavailable"]
    checks: dict[str, str]


class FieldError(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457. `detail` says what to do about it; `errors` are there where single fields are at fault."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[FieldError] | None = None


def address(image: Image) -> str:
    return f"{IMAGES}/{image.id}"
