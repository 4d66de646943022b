"""The queue message: a hint that an image's row wants work. It carries no state, so it can be lost or repeated.

Promises that what `encode` wrote, `decode` of the same or a later version reads. Does not promise that the image exists.
"""

import json
from dataclasses import dataclass
from uuid import UUID

from common.errors import UnreadableMessage

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`request_id` travels as the correlation id beside the body, so that a picture's whole life can be found in the logs."""

    image_id: UUID
    request_id: str


def encode(job: Job) -> bytes:
    return json.dumps({"v": VERSION, "image_id": str(job.image_id)}).encode()


def decode(body: bytes, request_id: str | None) -> Job:
    """Raises UnreadableMessage, whose detail says what is wrong with the body."""
    try:
        content = json.loads(body)
        version, image_id = content["v"], content["image_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UnreadableMessage("The body is not a JSON object with v and image_id.") from None
    if version != VERSION:
        raise UnreadableMessage(f"The message has version {version!r}; this program reads version {VERSION}.")
    try:
        return Job(image_id=UUID(image_id), request_id=request_id or "")
    except (ValueError, AttributeError, TypeError):
        raise UnreadableMessage("image_id is not a UUID.") from None
