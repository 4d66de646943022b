"""Remove what nothing refers to: idempotency keys whose time is over, and objects that no row names.

Both buckets are walked beside the rows, all in the order of their ids, in bounded memory. What no row names is looked at again
after a grace, which passes on this process's monotonic clock: no clock of any machine decides about deleting, and no upload takes
that long from its object to its row. An object is superfluous where there is no row, or where the row is final and names another.

Never removes a row. One whose object is gone is counted and logged: it is the store that is to be looked after then, since a wrong
mount or an empty disk looks just like that. For the same reason nothing is removed where the database does not know a large part of
what is stored: it may be the wrong one, or an old copy. A row that is not final ends by itself, as `source-missing`.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from common.errors import BlobNotFound
from common.images import Image
from common.ports import Bucket, Ports
from common.telemetry import KEYS_EXPIRED, SWEPT, about, log

BATCH = 1_000
# Removed in one run: more would only take more memory.
MOST = 100_000
# Fewer can be superfluous in any store, but no large part of it: two installations may have been given the same one.
FEW = 100
LARGE_PART = 0.1
_ATTEMPT = re.compile("[1-9][0-9]*")


@dataclass(slots=True)
class Findings:
    """`superfluous`: (bucket, key) of objects that no row names; `without_object`: ids of final rows whose objects are gone; at
    most MOST of each. `objects`: how many there are, of which no row names `unknown`, and `foreign` are none of ours by their keys.
    `is_doubtful`: so many are unknown that nothing was removed."""

    objects: int = 0
    unknown: int = 0
    foreign: int = 0
    is_doubtful: bool = False
    keys_expired: int = 0
    superfluous: list[tuple[Bucket, str]] = field(default_factory=list)
    without_object: list[UUID] = field(default_factory=list)


async def sweep(
    ports: Ports,
    grace: timedelta,
    pause: Callable[[float], Awaitable[bool]],
    *,
    dry_run: bool = False,
    however_many: bool = False,
) -> Findings:
    """`pause` waits so many seconds, and says whether to go on. → what was removed, or with `dry_run` would be; the superfluous
    objects are empty where it was not to go on. Raises Unavailable; what was removed until then was superfluous."""
    found = await _survey(ports)
    if not dry_run:
        while (expired := await ports.upkeep.forget_expired_keys(BATCH)) > 0:
            found.keys_expired += expired
        KEYS_EXPIRED.inc(found.keys_expired)
    if not however_many and found.unknown > max(FEW, LARGE_PART * (found.objects - found.foreign)):
        log.error("nothing swept: the database does not know many of the objects", unknown=found.unknown, objects=found.objects)
        found.is_doubtful = True
        return found
    candidates, found.superfluous = found.superfluous, []
    missing, found.without_object = found.without_object, []
    if (candidates or missing) and not await pause(grace.total_seconds()):
        return found
    for bucket, key in candidates:
        if not _is_superfluous(await ports.images.get(_owner(bucket, key)), bucket, key):
            continue
        if not dry_run:
            await ports.blobs.delete(bucket, key)
            SWEPT.labels(bucket).inc()
            log.info("superfluous object removed", bucket=bucket, key=key)
        found.superfluous.append((bucket, key))
    for image_id in missing:
        image = await ports.images.get(image_id)
        if image is not None and image.status.is_final and not await _is_whole(ports, image):
            # Where the store is the wrong one, it is all of them.
            if len(found.without_object) < FEW:
                with about(image):
                    log.error("an object of a final image is gone")
            found.without_object.append(image_id)
    return found


async def _survey(ports: Ports) -> Findings:
    found = Findings()
    async with aclosing(_Stored(ports, Bucket.RAW, found)) as raw, aclosing(_Stored(ports, Bucket.PROCESSED, found)) as processed:
        after: UUID | None = None
        while rows := await ports.upkeep.scan(after, BATCH):
            for row in rows:
                has_raw = row.raw_key in await raw.of(row.id)
                results = await processed.of(row.id)
                if row.deleted or not row.status.is_final:
                    continue
                for key in results:
                    if _is_superfluous(row, Bucket.PROCESSED, key):
                        processed.note(key)
                if not has_raw or (row.result is not None and row.result.key not in results):
                    found.without_object.append(row.id)
            after = rows[-1].id
            del found.without_object[MOST:]
        await raw.rest()
        await processed.rest()
    return found


class _Stored:
    """A bucket's keys, in order, to be gone through once. What lies between the ids asked for belongs to no row, and is noted."""

    def __init__(self, ports: Ports, bucket: Bucket, found: Findings) -> None:
        self._bucket = bucket
        self._found = found
        self._keys: AsyncGenerator[str, None] = ports.blobs.keys(bucket)
        self._next: str | None = ""

    async def aclose(self) -> None:
        await self._keys.aclose()

    async def of(self, image_id: UUID) -> list[str]:
        """To be asked for ids in ascending order."""
        keys, wanted = [], str(image_id)
        while (key := await self._peek()) is not None and key[: len(wanted)] <= wanted:
            self._next = ""
            if _id_in(self._bucket, key) == image_id:
                keys.append(key)
            else:
                self.note(key)
        return keys

    async def rest(self) -> None:
        while (key := await self._peek()) is not None:
            self._next = ""
            self.note(key)

    def note(self, key: str) -> None:
        if _id_in(self._bucket, key) is None:
            self._found.foreign += 1
            return
        self._found.unknown += 1
        if len(self._found.superfluous) < MOST:
            self._found.superfluous.append((self._bucket, key))

    async def _peek(self) -> str | None:
        if self._next == "":
            self._next = await anext(self._keys, None)
            if self._next is not None:
                self._found.objects += 1
        return self._next


def _id_in(bucket: Bucket, key: str) -> UUID | None:
    """Of the image that an object belongs to; None for one that no program of ours has stored."""
    name, slash, attempt = key.partition("/")
    if (bucket is Bucket.PROCESSED) != bool(slash) or (slash and not _ATTEMPT.fullmatch(attempt)):
        return None
    try:
        image_id = UUID(name)
    except ValueError:
        return None
    return image_id if str(image_id) == name else None


def _owner(bucket: Bucket, key: str) -> UUID:
    image_id = _id_in(bucket, key)
    if image_id is None:
        raise ValueError(f"not a key of ours: {key}")
    return image_id


def _is_superfluous(row: Image | None, bucket: Bucket, key: str) -> bool:
    if row is None:
        return True
    if bucket is Bucket.RAW or not row.status.is_final:
        return False
    return row.result is None or row.result.key != key


async def _is_whole(ports: Ports, image: Image) -> bool:
    objects = [(Bucket.RAW, image.raw_key)] + ([(Bucket.PROCESSED, image.result.key)] if image.result else [])
    try:
        for bucket, key in objects:
            async with ports.blobs.open(bucket, key):
                pass
    except BlobNotFound:
        return False
    return True
