"""Every port and what it promises, on one page. Adapters keep these promises and do not repeat them.

All raise `Unavailable` where the technology behind them does not answer in time, and nothing of any SDK.
`check()` answers when the technology can do its work now and raises `Unavailable` (or `NotMigrated`) when it cannot, or
`WrongConfiguration` where only an operator can change that.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from uuid import UUID

from common.images import Failure, IdempotencyKey, Image, ImageStatus, Principal, Priority, Result
from common.messages import DeadLetter, Job
from common.processing import Processing


class ImageStore(Protocol):
    """The rows: the one truth. Each method is one atomic statement.

    The store owns the clock, so that workers whose clocks differ agree on what is due: times are given as durations from now.
    Every row that is not settled has a moment from which somebody should put it on the queue (again): *due*.
    A write that takes `attempts` is fenced: it happens only while the row exists, has that number and is not final;
    else the answer is None (or False), and nothing was changed. Each visible change adds 1 to the version.
    A row that is marked as deleted is found by `take_due` and `remove` alone.
    """

    async def add(self, image: Image, due_in: timedelta, key: IdempotencyKey | None = None) -> Image:
        """Commits the row as `uploaded`, and says so: it has survived a crash of anybody once this returns. `image` sets its times.

        A key belongs to its owner for 24 hours, or until the image is deleted. Where one is in use, nothing is stored and the
        image it was first used for is returned, as it is now; of concurrent calls one stores. Raises IdempotencyMismatch where
        that was another upload."""

    async def get(self, image_id: UUID) -> Image | None: ...

    async def page(self, *, owner: str | None, status: ImageStatus | None, before: UUID | None, limit: int) -> Sequence[Image]:
        """Up to `limit` images, the newest (by id) first, older than `before`; of all owners or in every state where None."""

    async def mark_queued(self, image_id: UUID, attempts: int, line: Priority, due_in: timedelta) -> Image | None:
        """The broker has the message, in that line: `uploaded` or `queued` → `queued`. None where a worker was faster."""

    async def put_off(self, image_ids: Collection[UUID], due_in: timedelta, sent_within: timedelta) -> set[UUID]:
        """Those of them whose messages were put in a line no longer ago than that, and that nobody has claimed since, are due only
        after `due_in`. → which. Changes nothing that a reader sees."""

    async def claim(self, image_id: UUID, lease: timedelta) -> Image | None:
        """→ `processing`, attempts + 1, due when the lease ends. None where the image is gone, final, or its lease still runs.
        Of any number of concurrent claims one at most succeeds."""

    async def renew(self, image_id: UUID, attempts: int, lease: timedelta) -> bool:
        """Makes the lease end later; changes nothing that a reader sees. False where the fence was lost."""

    async def complete(self, image_id: UUID, attempts: int, result: Result) -> Image | None:
        """→ `completed`: settled."""

    async def retry(self, image_id: UUID, attempts: int, due_in: timedelta, error: str, *, outage: bool) -> Image | None:
        """→ `queued`, due after the delay; remembers how the attempt ended, and counts an outage as one."""

    async def fail(
        self, image_id: UUID, attempts: int, failure: Failure, due_in: timedelta, error: str | None = None
    ) -> Image | None:
        """→ `failed`; remembers how the attempt ended, where one was under way. Settled only by `settle`, once the dead letter is
        safe: until then the row stays due."""

    async def redrive(self, image_id: UUID) -> Image | None:
        """`failed` → `queued`, due now, with all its attempts before it. The fence goes on by one, so that no former
        worker can write any more. None where it is not failed."""

    async def settle(self, image_id: UUID, attempts: int) -> None:
        """A row that is final since that attempt is never due again. One that was sent again meanwhile is."""

    async def revoke(self, image: Image, due_in: timedelta) -> Image | None:
        """For an `add` that ended without an answer. Where it has stored the row, the answer is that row. Where it has not,
        it never will: a row of that id is stored that is marked as deleted, and due then."""

    async def mark_deleted(self, image_id: UUID, owner: str | None, due_in: timedelta) -> Image | None:
        """No reader finds the image from now on, no worker's write succeeds, and its idempotency key is free. The row itself stays,
        due, until it is removed. None where there is no row, it is marked already, or it is not of that owner (None: anybody's).
        Of concurrent calls one succeeds."""

    async def remove(self, image_id: UUID) -> None:
        """Drops a row that is marked as deleted."""

    async def take_due(self, limit: int, hold: timedelta, *, deleted: bool = False) -> list[Image]:
        """Up to `limit` due rows, oldest due first, each made due again only after `hold`; those in `processing` (their lease has
        ended, which is remembered as their attempt's error) become `queued`. Either those that are marked as deleted or the others.
        Of concurrent callers no two get the same row."""

    async def make_all_due(self) -> int:
        """All rows that are not settled are due now, as if none had a message; for a process that knows it is the only one, and
        that its queue is empty. → how many."""

    async def check(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is not final yet: how many by status, and how long ago the oldest of each was uploaded, in seconds.
    `overdue_seconds`: for how long somebody should have put the most overdue row on the queue; 0 where none is due."""

    images: dict[ImageStatus, int]
    oldest_seconds: dict[ImageStatus, float]
    overdue_seconds: float


class Upkeep(Protocol):
    """What keeps the rows in order, and says how they are doing. Each method is one atomic statement, too."""

    async def expire(self, age: timedelta, limit: int) -> list[Image]:
        """Marks as deleted up to `limit` final images, oldest first, that were uploaded longer ago than that by the store's clock
        and by this process's own; due now. → what they are."""

    async def scan(self, after: UUID | None, limit: int) -> Sequence[Image]:
        """Up to `limit` rows in the order of their ids, those marked as deleted too."""

    async def forget_expired_keys(self, limit: int) -> int:
        """Drops up to `limit` idempotency keys whose time is over. → how many."""

    async def take_turn(self, chore: str, every: timedelta) -> bool:
        """True once in that time, for whoever asks first: so that of any number of workers one does the chore. A turn that is more
        than twice that away, by a clock that was wrong or for a chore that was rarer, comes at once."""

    async def backlog(self) -> Backlog: ...

    async def awaited(self) -> dict[Priority, int]:
        """How many messages there are in each line, if none is lost: of rows that nobody has claimed since theirs was put there."""

    async def now(self) -> datetime:
        """The store's clock."""


class Bucket(StrEnum):
    RAW = "raw-images"
    PROCESSED = "processed-images"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """An object, or a part of one, being read: how many bytes, and the bytes as chunks of at most 64 KiB or so."""

    size_bytes: int
    chunks: AsyncIterator[bytes]


LINK_SECONDS = 15 * 60


class BlobStore(Protocol):
    """Objects by bucket and key. An object is there wholly or not at all, and has survived a crash once `put` returns."""

    async def put(self, bucket: Bucket, key: str, source: Path, content_type: str) -> None:
        """Stores the file's bytes; replaces what was there."""

    async def fetch(self, bucket: Bucket, key: str, target: Path) -> None:
        """Writes the object's bytes to the file. Raises BlobNotFound."""

    def open(self, bucket: Bucket, key: str, part: range | None = None) -> AbstractAsyncContextManager[Blob]:
        """For streaming: memory stays small whatever the size. Entering raises BlobNotFound.

        `part`: only these bytes, of which there is one at least and all are within the object; no others are read."""

    async def delete(self, bucket: Bucket, key: str) -> None:
        """The object is gone; no error where it was not there."""

    def keys(self, bucket: Bucket) -> AsyncGenerator[str, None]:
        """Every key, in the order of their bytes. What is stored or deleted meanwhile may be there or not."""

    def link(self, bucket: Bucket, key: str, content_type: str, disposition: str) -> str | None:
        """A presigned URL for whoever has it, good for LINK_SECONDS, which answers with that type and Content-Disposition. Signing
        asks nobody. None where the store cannot be reached by clients."""

    async def check(self) -> None: ...


class JobQueue(Protocol):
    """Sends. Returning means that the broker has the message safely in a queue; otherwise Unavailable is raised in bounded time."""

    async def publish(self, job: Job, priority: Priority) -> None: ...

    async def publish_dead(self, image: Image) -> None:
        """Puts a failed image's job with the dead letters, where headers say why: `x-failure-code`, `x-failure-detail`,
        `x-attempts`, `x-failed-at`, and of the attempts that went before `x-first-error`, `x-first-error-at`, `x-last-error`,
        `x-last-error-at`."""

    async def depths(self) -> dict[str, int]:
        """How many messages wait in each queue, without those that a worker has in hand: `high`, `normal`, `low`, `dead`."""

    async def check(self) -> None: ...


class Delivery(Protocol):
    """One message in hand. Exactly one of the four is called, once; if none is, the broker delivers it again.

    After the connection was lost all four do nothing: the broker has given the message to somebody else already.
    """

    @property
    def body(self) -> bytes: ...
    @property
    def request_id(self) -> str | None: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def sent_at(self) -> datetime | None:
        """By the sender's clock; None where the sender did not say."""

    @property
    def traceparent(self) -> str | None:
        """The span in which it was sent, if any."""

    async def ack(self) -> None:
        """Done: the message is gone."""

    async def hand_back(self) -> None:
        """Not taken: somebody else may have it, and it does not count as a failed delivery where the broker tells them apart."""

    async def defer(self) -> None:
        """Only a later program can read it: goes to the end of its line, so that it never comes between this one and what this one
        can read, and does not count as a delivery. One that has gone round so often that there is no such program goes to the dead
        letters."""

    async def reject(self) -> None:
        """Cannot be read: goes to the dead letters."""


class JobSource(Protocol):
    """Receives."""

    @property
    def is_receiving(self) -> bool:
        """Whether deliveries can arrive now: they are being iterated, and nothing is in between."""

    def deliveries(self, capacity: int) -> AsyncGenerator[Delivery, None]:
        """Deliveries without end, at most `capacity` unsettled ones of each priority at a time, high before normal before low,
        without starving low. Connects again by itself after an outage or a cancelled consumer, for as long as it is iterated.
        Closing the iterator stops the flow: what was received but not yielded is handed back, what was yielded can still be
        settled."""


class HeldLetter(Protocol):
    @property
    def letter(self) -> DeadLetter: ...

    async def remove(self) -> None:
        """Gone for good, once the walk it is of has come to its end without an error."""


class DeadLetters(Protocol):
    """Looks through the dead letters, for operators."""

    def walk(self) -> AsyncGenerator[HeldLetter, None]:
        """Every dead letter that there is at the beginning, once, oldest first, in small memory however many there are; none that
        comes while it goes on. What was not removed is in its place again when the iterator is closed, or this process ends however
        it ends. (Of more than a thousand a process that is killed may leave a thousand out of their order.)

        One walk at a time, because what one has in hand no other sees: another waits a moment for its end, then raises Unavailable.
        Half an hour is the longest that the broker lets a walk take; then it raises Unavailable, too."""


@dataclass(frozen=True, slots=True)
class Miss:
    """The cache knows nothing. `permit`: what lets its reader put what it reads from the rows *after* having it."""

    permit: str


class StatusCache(Protocol):
    """A copy of rows for readers, which may lose entries at any time but never shows a version older than one it was told of.

    Everybody who misses at a time gets the same permit. It is void as soon as the image is invalidated, or the cache forgets it: so
    a reader that stood still, for however long, cannot put back what has changed since, whatever the cache has lost meanwhile. And
    of those who hold the same permit none can put an older version over a newer one; so, as a reader puts what it has read before
    it answers, nobody who asks later is answered with less. (Source of the idea: leases in Nishtala et al., "Scaling Memcache at
    Facebook", NSDI 2013, section 3.2.1.)

    Where an invalidation is lost because the cache is away, a process that has noticed believes nothing from before once it is
    back; to one that has not, an entry that was there shows until it expires."""

    async def get(self, image_id: UUID) -> Image | Miss: ...

    async def put(self, image: Image, permit: str) -> None:
        """Where a newer version is known, nothing happens. Where the permit is void, older ones are refused from now on all the
        same: the reader is about to show this one."""

    async def invalidate(self, image_id: UUID, version: int) -> str:
        """Forgets the entry and, for a while, refuses any older than `version`. → a permit, as after a miss: for what is read from
        the rows after this, or comes of a change that is made after it."""

    async def check(self) -> None: ...


class Subscription(Protocol):
    async def notified(self, seconds: float) -> bool:
        """True as soon as there is a notification since the last call (or since the subscription began), False when the time is
        over. Raises Unavailable as soon as one may have been missed."""


class StatusNotifier(Protocol):
    """Wakes those who wait for an image's final state, in whatever process they wait. Carries no state itself."""

    async def notify(self, image_id: UUID) -> None:
        """Reaches every subscription that there is now; nobody later."""

    def subscribe(self, image_id: UUID) -> AbstractAsyncContextManager[Subscription]:
        """Once entered, no later notification is missed without the subscription saying so. Many may wait for one image."""


class RateLimiter(Protocol):
    async def admit(self, caller: str) -> None:
        """Counts a request. Raises RateLimited."""


class TokenVerifier(Protocol):
    async def verify(self, token: str) -> Principal:
        """Raises Unauthorized, whose detail says what is wrong with the token, or Unavailable where no keys were ever had."""

    async def check(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderStep:
    """What a renderer was at between two times, in UTC; for `busy_ms` of that, because steps take turns at frames."""

    name: str
    since: datetime
    until: datetime
    busy_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What a renderer wrote: format, size in bytes, hash in hex, pixels. `steps`: what it took, for traces."""

    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    steps: tuple[RenderStep, ...] = field(default=(), compare=False)


class Renderer(Protocol):
    """The only door to code that touches pixels."""

    async def render(self, source: Path, target: Path, processing: Processing) -> Rendered:
        """Reads one file, writes the other. Raises PictureRefused or RenderInterrupted; other renders go on unharmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What `common.wiring.open_ports` opens. Nothing connects before its first use."""

    images: ImageStore
    upkeep: Upkeep
    blobs: BlobStore
    queue: JobQueue
    jobs: JobSource
    dead_letters: DeadLetters
    cache: StatusCache
    notifier: StatusNotifier
    tokens: TokenVerifier
    limiter: RateLimiter | None = None


@dataclass(frozen=True, slots=True)
class AccountKeys:
    name: str
    secret: str = field(repr=False)


class Accounts(Protocol):
    """What a service knows the programs by, made by its administrator."""

    async def make(self) -> str:
        """The programs' account is there, with its secret, may do what they do and nothing else, whatever it could before. Safe to
        repeat, and beside other accounts of theirs. → what it may do now. Raises WrongConfiguration where the administrator's right
        does not do."""

    def uses(self, name: str) -> bool:
        """Whether that is the programs' account, by the settings, or an administrator's."""

    async def remove(self, name: str) -> bool:
        """An account that is not in use is gone. False where there is none."""
