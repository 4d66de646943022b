"""The queue message: a hint that an image's row wants work. It carries no state, so it can be lost or repeated.

Promises that what `encode` wrote, `decode` of the same or a later version reads, and one of an earlier version knows for what it
is, so that workers of both run side by side. Members beside `v` and `image_id` may be added without another version. Does not
promise that the image exists.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from common.errors import LaterMessage, UnreadableMessage
from common.images import AttemptError, Image

VERSION = 1
# Why a message died, where neither an image's failure nor the broker says it.
UNKNOWN = "unknown"
# Headers. The broker's own time stamp knows seconds only.
SENT_AT, TRACEPARENT = "x-sent-at", "traceparent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`request_id` travels as the correlation id beside the body, so that a picture's whole life can be found in the logs;
    `traceparent`, of the sender's span, as a header of that name."""

    image_id: UUID
    request_id: str
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What is known of a message among the dead letters; times in UTC.

    `reason` is the code of the image's failure; or of a message that was none of a failed image how it died, as the broker calls it
    (`rejected`, `delivery_limit`). `image_id` is None where this version cannot read the body."""

    image_id: UUID | None
    request_id: str | None
    reason: str
    detail: str
    attempts: int | None
    died_at: datetime | None
    first_error: AttemptError | None
    last_error: AttemptError | None
    headers: Mapping[str, Any]
    body: bytes


def read_dead_letter(body: bytes, request_id: str | None, headers: Mapping[str, Any]) -> DeadLetter:
    """Raises nothing: whatever is among the dead letters, an operator is to see it."""
    detail, image_id = "", None
    try:
        image_id = decode(body, request_id).image_id
    except (LaterMessage, UnreadableMessage) as error:
        detail = error.detail
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping) else {}
    attempts = headers.get("x-attempts")
    return DeadLetter(
        image_id=image_id,
        request_id=request_id,
        reason=_text(headers.get("x-failure-code")) or _text(death.get("reason")) or UNKNOWN,
        detail=_text(headers.get("x-failure-detail")) or detail,
        attempts=attempts if isinstance(attempts, int) else None,
        died_at=_time(headers.get("x-failed-at")) or _time(death.get("time")),
        first_error=_error(headers, "first"),
        last_error=_error(headers, "last"),
        headers=headers,
        body=body,
    )


def dead_letter_of(image: Image) -> DeadLetter:
    """What a failed image's would say."""
    job = Job(image_id=image.id, request_id=image.request_id)
    return read_dead_letter(encode(job), job.request_id, dead_letter_headers(image))


def job_headers(job: Job, sent_at: datetime) -> dict[str, str]:
    """Of what is only of interest on the way."""
    return {SENT_AT: sent_at.isoformat()} | ({TRACEPARENT: job.traceparent} if job.traceparent else {})


def read_sent_at(headers: Mapping[str, Any]) -> datetime | None:
    """By the sender's clock. Raises nothing, nor does the next one: nobody has to write what these read."""
    return _time(headers.get(SENT_AT))


def read_traceparent(headers: Mapping[str, Any]) -> str | None:
    return _text(headers.get(TRACEPARENT)) or None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> datetime | None:
    """A broker's time stamps are read as datetimes already."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(time, datetime):
            return None
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _error(headers: Mapping[str, Any], name: str) -> AttemptError | None:
    detail, at = _text(headers.get(f"x-{name}-error")), _time(headers.get(f"x-{name}-error-at"))
    return AttemptError(detail=detail, at=at) if detail and at else None


def dead_letter_headers(image: Image) -> dict[str, str | int]:
    """Why a failed image failed; times in RFC 3339."""
    if image.failure is None:
        raise ValueError("not a failed image")
    headers: dict[str, str | int] = {
        "x-failure-code": image.failure.code,
        "x-failure-detail": image.failure.detail,
        "x-attempts": image.tries,
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
