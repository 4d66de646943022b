"""What is promised of every image, held against all that is in a World: by a client that remembers each answer, by a reader that
remembers what it saw, and by the rows' history."""

from collections import Counter
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

from common.errors import ImageNotFound
from common.images import FailureCode, Image, ImageStatus, RetryPolicy
from common.messages import decode
from common.ports import Bucket
from common.usecases.delete_image import finish_due_deletions
from common.usecases.dispatch_due import DispatchPolicy, dispatch_until_none_is_due
from common.usecases.get_image import get_image
from common.usecases.sweep import sweep
from tests.caches import known
from tests.world import ADMIN, STALE, World, rendered

UPLOADED, QUEUED, PROCESSING, COMPLETED, FAILED = ImageStatus
# The last is the operator's: sent again.
TRANSITIONS = {
    (UPLOADED, QUEUED),
    (UPLOADED, PROCESSING),
    (QUEUED, PROCESSING),
    (PROCESSING, QUEUED),
    (PROCESSING, PROCESSING),
    *((status, final) for status in (QUEUED, PROCESSING) for final in (COMPLETED, FAILED)),
    (FAILED, QUEUED),
}
# Longer than a lease, a hold, or any entry of the cache that may change by itself.
STEP = timedelta(seconds=31)


class Promises:
    """`accepted`, with what was uploaded, and `deleted` were answered so; `doomed` may be deleted or not. An operator may have sent
    any image again where `is_redriven`. A good picture may fail only where so many of its attempts ended without its fault as
    `retry` allows."""

    def __init__(self, world: World, retry: RetryPolicy) -> None:
        self.world = world
        self.retry = retry
        self.accepted: dict[UUID, bytes] = {}
        self.deleted: set[UUID] = set()
        self.doomed: set[UUID] = set()
        self.is_redriven = False
        self._shown: dict[UUID, Image] = {}

    async def read(self, image_id: UUID) -> Image | None:
        """Through the cache. Nobody who asks later is shown less."""
        try:
            image = await get_image(self.world.ports, ADMIN, image_id)
        except ImageNotFound:
            assert image_id in self.deleted | self.doomed or image_id not in self.accepted, "an accepted image is gone"
            return None
        assert image_id not in self.deleted
        before = self._shown.get(image_id)
        assert before is None or image.version > before.version or image == before, f"{before} and then {image}"
        self._shown[image_id] = image
        return image

    def check_history(self) -> None:
        for states in self.world.images.history.values():
            for before, after in pairwise(states):
                assert after.version == before.version + 1
                if after.deleted:
                    continue
                assert not before.deleted
                assert (before.status, after.status) in TRANSITIONS
                assert after.attempts == before.attempts + (after.status is PROCESSING or before.status.is_final)
                if after.status is COMPLETED:
                    assert after.result
                    assert after.result.key == after.result_key, "completed by a worker that had lost it"
                if before.status.is_final:
                    assert after.forgiven == after.attempts
                    assert self.is_redriven

    async def until_quiet(self) -> None:
        """Time passes, and what workers do is done, until nothing is left to do; readers look at everything all the time."""
        for _ in range(4 * STALE // STEP):
            self.world.let_pass(STEP)
            await finish_due_deletions(self.world.ports)
            await dispatch_until_none_is_due(self.world.ports, DispatchPolicy(stale_after=STALE, retry=self.retry))
            await self.check_readers_see_the_rows()
            await self.world.work(self.retry)
            await self.check_readers_see_the_rows()
            self.check_history()
            if not any(row.due for row in self.world.images.rows.values()):
                return
        raise AssertionError(f"not settled: {self.world.images.rows}")

    async def check_readers_see_the_rows(self) -> None:
        for image_id in list(self.world.images.history):
            row = await self.world.images.get(image_id)
            assert await known(self.world.cache, image_id) in (None, row)
            assert await self.read(image_id) == row

    async def check_settled(self) -> None:
        """Once it is quiet."""
        world = self.world
        assert await world.waiting() == 0
        for row in world.images.rows.values():
            assert row.image.status.is_final
            assert not row.image.deleted
        for image_id, content in self.accepted.items():
            if image_id in world.images.rows:
                self._check_final(world.images.rows[image_id].image, content)
            else:
                assert image_id in self.deleted | self.doomed
        for image_id in self.deleted | (world.images.history.keys() - world.images.rows.keys()):
            assert image_id not in world.images.rows
            assert not await known(world.cache, image_id)
        assert all(key.image_id in world.images.rows for key in world.images.keys.values()), "a key is stuck"
        await self._check_objects()

    def _check_final(self, image: Image, content: bytes) -> None:
        assert image.status.is_final
        if content.startswith(b"bad"):
            assert image.failure
            assert image.failure.code in (FailureCode.CORRUPT_IMAGE, FailureCode.ATTEMPTS_EXHAUSTED)
        elif content.startswith(b"hard"):
            assert image.failure
            assert image.failure.code in (FailureCode.MEMORY_LIMIT, FailureCode.ATTEMPTS_EXHAUSTED)
        elif image.failure:
            # of a good picture
            assert image.failure.code is FailureCode.ATTEMPTS_EXHAUSTED
            assert image.attempts - image.forgiven >= min(self.retry.max_attempts, self.retry.max_outages)
        else:
            assert image.result
            assert self.world.blobs.objects[Bucket.PROCESSED, image.result.key] == rendered(content)
            assert self.world.blobs.objects[Bucket.RAW, image.raw_key] == content

    async def _check_objects(self) -> None:
        rows = [row.image for row in self.world.images.rows.values()]
        named = {(Bucket.RAW, image.raw_key) for image in rows}
        named |= {(Bucket.PROCESSED, image.result.key) for image in rows if image.result}
        assert named <= self.world.blobs.objects.keys(), "an object is gone"

        async def at_once(_: float) -> bool:
            return True

        await sweep(self.world.ports, timedelta(0), at_once)
        assert self.world.blobs.objects.keys() == named

    def letters(self) -> Counter[UUID]:
        """How many dead letters each image has."""
        return Counter(decode(letter.body, None).image_id for letter in self.world.queue.dead_letters)
