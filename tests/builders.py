"""Domain values for tests, each with a sensible default for what the test does not care about."""

from datetime import UTC, datetime
from typing import Any

from uuid6 import uuid7

from common.images import Image, Priority


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
