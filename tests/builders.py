"""Domain values for tests, each with a sensible default for what the test does not care about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from uuid6 import uuid7

from common.images import AttemptError, Failure, FailureCode, Image, ImageStatus, Priority


def image(**changes: Any) -> Image:
    now = datetime.now(UTC).replace(microsecond=0)
    values: dict[str, Any] = {
        "id": uuid7(),
        "owner": "alice",
        "filename": "cat.jpg",
        "content_type": "image/jpeg",
        "size_bytes": 1234,
        "sha256": "0" * 64,
        "width": 1600,
        "height": 1200,
        "processing": "resize:800|grayscale",
        "priority": Priority.NORMAL,
        "created_at": now,
        "updated_at": now,
        "request_id": "request-1",
    }
    return Image(**(values | changes))


def failed_image(**changes: Any) -> Image:
    """After three attempts."""
    failure = Failure(code=FailureCode.MEMORY_LIMIT, detail="Too big – sorry.")
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    errors = {
        "first_error": AttemptError(detail="The object store was away.", at=at),
        "last_error": AttemptError(detail="Too big – sorry.", at=at + timedelta(minutes=1)),
    }
    return image(**({"status": ImageStatus.FAILED, "attempts": 3, "outages": 1, "failure": failure} | errors | changes))
