"""The queue message: a hint that an image's row wants work. It carries no state, so it can be lost or repeated.

Promises that what `encode` wrote, `decode` of the same or a later version reads, and one of an earlier version knows for what it
is, so that workers of both run side by side. Members beside `v` and `image_id` may be added without another version. Does not
promise that the image exists.
"""

import json
from dataclasses import dataclass
from uuid import UUID

from common.errors import LaterMessage, UnreadableMessage
from common.images import Image

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`request_id` travels as the correlation id beside the body, so that a picture's whole life can be found in the logs."""

    image_id: UUID
    request_id: str


def dead_letter_headers(image: Image) -> dict[str, str | int]:
    """Why a failed image failed; times in RFC 3339."""
    if image.failure is None:
        raise ValueError("not a failed image")
    headers: dict[str, str | int] = {
        "x-failure-code": image.failure.code,
        "x-failure-detail": image.failure.detail,
        "x-attempts": image.attempts,
        "x-failed-at": image.updated_at.isoformat(),
    }
    for name, error in (("first", image.first_error), ("last", image.last_error)):
        if error is not None:
            headers |= {f"x-{name}-error": error.detail, f"x-{name}-error-at": error.at.isoformat()}
    return headers


def encode(job: Job) -> bytes:
    return json.dumps({"v": VERSION, "image_id": str(job.image_id)}).encode()


def decode(body: bytes, request_id: str | None) -> Job:
    """Raises LaterMessage, or UnreadableMessage, whose detail says what is wrong with the body."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    version = content.get("v") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:  # a bool is an int, and no version
        raise UnreadableMessage("The body is not a JSON object with a version v and an image_id.")
    if version > VERSION:
        raise LaterMessage(f"The message has version {version}; this program reads up to version {VERSION}.")
    try:
        return Job(image_id=UUID(content["image_id"]), request_id=request_id or "")
    except (KeyError, ValueError, AttributeError, TypeError):
        raise UnreadableMessage("image_id is not there, or is not a UUID.") from None
