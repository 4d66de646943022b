"""The domain: an image, its life, and who may see it. Pure values and functions, no I/O, no clock."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class ImageStatus(StrEnum):
    """uploaded (safe, not yet confirmed by the broker) → queued → processing → completed | failed."""

    UPLOADED = "uploaded"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self in (ImageStatus.COMPLETED, ImageStatus.FAILED)


FINAL = tuple(status for status in ImageStatus if status.is_final)


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class FailureCode(StrEnum):
    """`error.code` of a failed image; part of the HTTP contract."""

    CORRUPT_IMAGE = "corrupt-image"
    LIMIT_EXCEEDED = "limit-exceeded"
    TIME_LIMIT = "time-limit"
    MEMORY_LIMIT = "memory-limit"
    ATTEMPTS_EXHAUSTED = "attempts-exhausted"
    SOURCE_MISSING = "source-missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    code: FailureCode
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptError:
    """Why an attempt did not end well, for operators, and when it ended (UTC)."""

    detail: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The processed picture: `key` in the processed bucket, sizes in bytes and pixels."""

    key: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One row. `width` and `height` are of the upright picture, in pixels; times are UTC.

    `attempts` counts claims and is the fence: a worker's writes carry the number its claim returned. It never goes back; sending a
    failed image again counts as one, too.
    `forgiven` is how many of them count no more, because an operator has sent the image again since. Of the others `outages` ended
    because a service was away, which does not use up the picture's own attempts; `first_error` and `last_error` say how they ended.
    `traceparent` is of the upload's trace, with which all that is done for the image goes on (W3C Trace Context); None without one.
    `version` grows with every change that a reader can see. `deleted`: no reader finds it; what is left of it is being removed.
    """

    id: UUID
    owner: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    processing: str
    priority: Priority
    created_at: datetime
    updated_at: datetime
    request_id: str
    traceparent: str | None = None
    status: ImageStatus = ImageStatus.UPLOADED
    attempts: int = 0
    forgiven: int = 0
    outages: int = 0
    first_error: AttemptError | None = None
    last_error: AttemptError | None = None
    version: int = 1
    failure: Failure | None = None
    result: Result | None = None
    completed_at: datetime | None = None
    deleted: bool = False

    @property
    def tries(self) -> int:
        """How many attempts it has had since it was uploaded or last sent again: what readers are shown as its attempts."""
        return self.attempts - self.forgiven

    @property
    def raw_key(self) -> str:
        """The upload's key in the raw bucket."""
        return str(self.id)

    @property
    def result_key(self) -> str:
        """The key this attempt's result is stored under. It carries the fence, so that no late writer overwrites another."""
        return f"{self.id}/{self.attempts}"

    @property
    def result_keys(self) -> list[str]:
        """Every key that an attempt so far can have stored a result under."""
        return [f"{self.id}/{attempt}" for attempt in range(1, self.attempts + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """`text` as the caller chose it; `fingerprint` is the same for the same upload and for no other."""

    text: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a valid token speaks for: its `sub` and realm roles."""

    subject: str
    roles: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    def may_see(self, image: Image) -> bool:
        return self.is_admin or image.owner == self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a picture is tried, and when next. An outage uses up `max_outages`, everything else `max_attempts`."""

    max_attempts: int = 5
    max_outages: int = 200
    first_delay: timedelta = timedelta(seconds=1)
    longest_delay: timedelta = timedelta(minutes=5)

    def gives_up(self, image: Image, *, outage: bool) -> bool:
        """Whether the attempt that `image` has just had was its last; `outage` where that one ended because a service was away."""
        outages = image.outages + outage
        return image.tries - outages >= self.max_attempts or outages >= self.max_outages

    def delay(self, image: Image) -> timedelta:
        """How long after the attempt that `image` has just had the next one begins.

        Exponential backoff with full jitter: uniform between 0 and min(longest, first · 2ⁿ⁻¹).

        Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        factor: int = 2 ** min(max(image.tries - 1, 0), 30)
        ceiling = min(self.longest_delay, self.first_delay * factor)
        return ceiling * random.random()  # noqa: S311 - spreads load, guards nothing
