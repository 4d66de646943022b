"""In-process adapters for the embedded mode. What they hold is gone with the process; the rows bring it back."""

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from common.adapters.freshness import INVALIDATED_SECONDS, PERMITTED_SECONDS, lifetime_seconds
from common.adapters.priorities import PriorityBuffer
from common.adapters.waiting import Waiting
from common.errors import Unavailable
from common.images import Image, Priority
from common.messages import DeadLetter, Job, dead_letter_headers, encode, read_dead_letter
from common.ports import Delivery, HeldLetter, Miss, Subscription


class _Entry(NamedTuple):
    """`image` is None after an invalidation, and where nothing was ever known; then there may be a permit."""

    version: int
    image: Image | None
    expires_at: float
    permit: str | None = None


class MemoryStatusCache:
    """Keeps `capacity` entries and forgets the one written longest ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = 10_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._entries: dict[UUID, _Entry] = {}

    async def get(self, image_id: UUID) -> Image | Miss:
        known = self._known(image_id)
        if known is not None and known.image is not None:
            return known.image
        permit = (known.permit if known else None) or secrets.token_hex(8)
        expires_at = max(known.expires_at if known else 0.0, self._clock() + PERMITTED_SECONDS)
        self._write(image_id, _Entry(known.version if known else 0, None, expires_at, permit))
        return Miss(permit)

    async def put(self, image: Image, permit: str) -> None:
        known = self._known(image.id)
        if known is not None and (known.version > image.version or known.image == image):
            return
        if known is not None and (known.image is not None or known.permit == permit):
            self._write(image.id, _Entry(image.version, image, self._clock() + lifetime_seconds(image)))
        else:
            permit_of_others = known.permit if known else None
            self._write(image.id, _Entry(image.version, None, self._clock() + INVALIDATED_SECONDS, permit_of_others))

    async def invalidate(self, image_id: UUID, version: int) -> str:
        known, permit = self._known(image_id), secrets.token_hex(8)
        if known is None or known.version <= version:
            self._write(image_id, _Entry(version, None, self._clock() + INVALIDATED_SECONDS, permit))
        return permit

    async def check(self) -> None:
        return

    def _known(self, image_id: UUID) -> _Entry | None:
        entry = self._entries.get(image_id)
        return entry if entry and self._clock() < entry.expires_at else None

    def _write(self, image_id: UUID, entry: _Entry) -> None:
        self._entries.pop(image_id, None)
        self._entries[image_id] = entry
        if len(self._entries) > self._capacity:
            del self._entries[next(iter(self._entries))]


class MemoryStatusNotifier:
    def __init__(self) -> None:
        self.waiting = Waiting()

    async def notify(self, image_id: UUID) -> None:
        self.waiting.notify(image_id)

    @asynccontextmanager
    async def subscribe(self, image_id: UUID) -> AsyncIterator[Subscription]:
        with self.waiting.subscription(image_id) as subscription:
            yield subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMessage:
    body: bytes
    request_id: str
    priority: Priority
    sent_at: datetime
    traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuriedMessage:
    """`headers` are empty for a message that was rejected."""

    body: bytes
    request_id: str
    headers: dict[str, str | int]


class MemoryQueue:
    """A JobQueue and a JobSource. What is handed back goes to the end of its line. Keeps the latest 1,000 dead letters."""

    def __init__(self) -> None:
        self._waiting: PriorityBuffer[MemoryMessage] = PriorityBuffer()
        self._changed = asyncio.Event()
        self._receivers = 0
        self.dead_letters: deque[BuriedMessage] = deque(maxlen=1_000)

    async def publish(self, job: Job, priority: Priority) -> None:
        self._put(
            MemoryMessage(
                body=encode(job),
                request_id=job.request_id,
                priority=priority,
                sent_at=datetime.now(UTC),
                traceparent=job.traceparent,
            )
        )

    async def publish_dead(self, image: Image) -> None:
        job = Job(image_id=image.id, request_id=image.request_id)
        self.dead_letters.append(BuriedMessage(body=encode(job), request_id=job.request_id, headers=dead_letter_headers(image)))

    async def depths(self) -> dict[str, int]:
        return self._waiting.lengths() | {"dead": len(self.dead_letters)}

    async def check(self) -> None:
        return

    @property
    def is_receiving(self) -> bool:
        return self._receivers > 0

    async def deliveries(self, capacity: int) -> AsyncGenerator[Delivery, None]:
        unsettled: Counter[Priority] = Counter()

        def has_room(priority: Priority) -> bool:
            return unsettled[priority] < capacity

        def settled(message: MemoryMessage) -> None:
            unsettled[message.priority] -= 1
            self._changed.set()

        self._receivers += 1
        try:
            while True:
                message = self._waiting.take(has_room)
                if message is None:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                unsettled[message.priority] += 1
                yield MemoryDelivery(message, settled, self._put, self._bury)
        finally:
            self._receivers -= 1

    def _put(self, message: MemoryMessage) -> None:
        self._waiting.put(message.priority, message)
        self._changed.set()

    def _bury(self, message: MemoryMessage) -> None:
        self.dead_letters.append(BuriedMessage(body=message.body, request_id=message.request_id, headers={}))


class MemoryDelivery:
    def __init__(
        self,
        message: MemoryMessage,
        settled: Callable[[MemoryMessage], None],
        put_back: Callable[[MemoryMessage], None],
        bury: Callable[[MemoryMessage], None],
    ) -> None:
        self._message = message
        self._settled = settled
        self._put_back = put_back
        self._bury = bury

    @property
    def body(self) -> bytes:
        return self._message.body

    @property
    def request_id(self) -> str | None:
        return self._message.request_id

    @property
    def priority(self) -> Priority:
        return self._message.priority

    @property
    def sent_at(self) -> datetime | None:
        return self._message.sent_at

    @property
    def traceparent(self) -> str | None:
        return self._message.traceparent

    async def ack(self) -> None:
        self._settled(self._message)

    async def hand_back(self) -> None:
        self._settled(self._message)
        self._put_back(self._message)

    async def defer(self) -> None:
        """Nobody else is there: it goes round."""
        await self.hand_back()

    async def reject(self) -> None:
        self._settled(self._message)
        self._bury(self._message)


class MemoryDeadLetters:
    """The DeadLetters of a MemoryQueue."""

    def __init__(self, queue: MemoryQueue, patience_seconds: float = 10) -> None:
        """`patience_seconds`: for how long a walk waits for the end of another."""
        self._queue = queue
        self._patience = patience_seconds
        self._turn = asyncio.Lock()

    async def walk(self) -> AsyncGenerator[HeldLetter, None]:
        try:
            async with asyncio.timeout(self._patience):
                await self._turn.acquire()
        except TimeoutError:
            raise Unavailable("queue", "somebody else is looking through the dead letters") from None
        try:
            for message in list(self._queue.dead_letters):
                yield MemoryHeldLetter(message, self._queue)
        finally:
            self._turn.release()


class MemoryHeldLetter:
    def __init__(self, message: BuriedMessage, queue: MemoryQueue) -> None:
        self._message = message
        self._queue = queue

    @property
    def letter(self) -> DeadLetter:
        return read_dead_letter(self._message.body, self._message.request_id, self._message.headers)

    async def remove(self) -> None:
        # Not there where it made room for later ones.
        with suppress(ValueError):
            self._queue.dead_letters.remove(self._message)
