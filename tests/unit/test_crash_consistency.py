"""Whatever fails, stops or dies at whichever call to a port: once workers have done what is left to do, all promises are kept.

Each deed is swept over all of its calls; what it calls, in order, is written beside it. A deed with a failure inside, as of a
commit whose answer is lost, is there for the calls that tidy up after it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from uuid6 import uuid7

from common.errors import IdempotencyMismatch, ImageNotFound, RenderInterrupted, Unavailable
from common.images import FailureCode, Image, ImageStatus, RetryPolicy
from common.ports import BlobStore, Bucket, DeadLetters, ImageStore, JobQueue, Ports, StatusCache, StatusNotifier, Upkeep
from common.usecases.delete_image import delete_image, finish_due_deletions
from common.usecases.dispatch_due import DispatchPolicy, dispatch_until_none_is_due
from common.usecases.find_dead_letters import Wanted
from common.usecases.get_image import get_image
from common.usecases.keep_in_order import UpkeepPolicy, keep_in_order
from common.usecases.redrive import purge_letters, redrive_images, redrive_letters
from common.usecases.sweep import sweep
from tests.disturbed import Away, Disturbed, Dying, Failing, Killed, Stopped
from tests.promises import Promises
from tests.world import ALICE, LEASE, STALE, World

RETRY = RetryPolicy(max_attempts=3, max_outages=5, first_delay=timedelta(0))
DISPATCH = DispatchPolicy(stale_after=STALE, retry=RETRY)
OUTAGES: tuple[type[Disturbed], ...] = (Failing, Away)
ENDINGS = (*OUTAGES, Stopped, Dying)
EVERYTHING = Wanted()
# Longer ago than anything is due again, or kept from being swept.
LONG = timedelta(hours=1)


class Life(World):
    """`image`, where there is one: the one that the deed is about."""

    image: Image

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.promises = Promises(self, RETRY)

    async def send(self, content: bytes, ports: Ports | None = None, key: str | None = "a key") -> Image:
        image = await self.submit(self.upload_of(content, idempotency_key=key), ports)
        self.promises.accepted[image.id] = content
        return image

    async def given(self, content: bytes = b"good") -> None:
        """A picture that was accepted, and that a reader has looked at."""
        self.image = await self.send(content)
        await self.promises.read(self.image.id)

    async def do_it(self, ports: Ports) -> None:
        await self.process(self.image, ports, RETRY)

    async def given_a_failed_one(self) -> None:
        """… that would be rendered now."""
        await self.given()
        self.renderer.error = Unavailable("object store", "away for long")
        for _ in range(RETRY.max_outages):
            await self.do_it(self.ports)
        self.renderer.error = None
        await self.promises.until_quiet()


Do = Callable[[Life, Ports], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Deed:
    """`again`: what whoever did it does where it has not been done; None for the deed itself."""

    prepare: Callable[[Life], Awaitable[None]]
    do: Do
    calls: str
    again: Do | None = None


async def nothing(_: Life) -> None:
    pass


# ---- Uploads


async def upload(life: Life, ports: Ports) -> None:
    await life.send(b"good", ports)


async def upload_whose_object_is_refused(life: Life, ports: Ports) -> None:
    await life.send(b"good", Failing(ports, 1).ports)


async def upload_whose_row_is_refused(life: Life, ports: Ports) -> None:
    await life.send(b"good", Failing(ports, 2).ports)


async def upload_whose_commit_is_not_answered(life: Life, ports: Ports) -> None:
    await life.send(b"good", Failing(ports, 2, after=True).ports)


async def upload_of_another_with_its_key(life: Life, ports: Ports) -> None:
    await life.send(b"another", ports)


# ---- Jobs


async def a_bad_one(life: Life) -> None:
    await life.given(b"bad")


async def a_hard_one(life: Life) -> None:
    await life.given(b"hard")


async def a_hard_one_at_its_last_attempt(life: Life) -> None:
    await life.given(b"hard")
    for _ in range(RETRY.max_attempts - 1):
        await life.do_it(life.ports)


async def process(life: Life, ports: Ports) -> None:
    await life.do_it(ports)


async def process_without_the_store(life: Life, ports: Ports) -> None:
    await life.process(life.image, Failing(ports, 3).ports, RETRY)


async def process_until_told_to_stop(life: Life, ports: Ports) -> None:
    life.renderer.error = asyncio.CancelledError()
    try:
        await life.do_it(ports)
    except asyncio.CancelledError:
        pass
    finally:
        life.renderer.error = None


async def process_what_is_taken_over(life: Life, ports: Ports) -> None:
    async def take_over() -> None:
        life.renderer.meanwhile = None
        await life.images.make_all_due()
        await life.do_it(life.ports)

    await _process_while(life, ports, take_over)


async def process_what_is_deleted(life: Life, ports: Ports) -> None:
    await _process_while(life, ports, lambda: delete(life, life.ports))


async def process_without_end_what_is_deleted(life: Life, ports: Ports) -> None:
    async def delete_and_crash() -> None:
        await delete(life, life.ports)
        raise RenderInterrupted(FailureCode.MEMORY_LIMIT, "It took too much.")

    await _process_while(life, ports, delete_and_crash)


async def _process_while(life: Life, ports: Ports, meanwhile: Callable[[], Awaitable[object]]) -> None:
    life.renderer.meanwhile = meanwhile
    try:
        await life.do_it(ports)
    finally:
        life.renderer.meanwhile = None


# ---- What is due


async def an_unpublished_one(life: Life) -> None:
    life.image = await life.send(b"good", Failing(life.ports, 3).ports)
    await life.promises.read(life.image.id)
    life.let_pass(LEASE)


async def one_that_waits(life: Life) -> None:
    await life.given()
    life.let_pass(STALE)


async def one_whose_worker_died(life: Life) -> None:
    await life.given()
    await life.images.claim(life.image.id, LEASE)
    await life.promises.read(life.image.id)
    life.let_pass(LEASE)


async def one_whose_workers_all_died(life: Life) -> None:
    for _ in range(RETRY.max_attempts):
        if not life.images.rows:
            await life.given()
        await life.images.claim(life.image.id, LEASE)
        life.let_pass(LEASE)


async def one_without_its_dead_letter(life: Life) -> None:
    await life.given(b"bad")
    # at the dead letter
    await life.do_it(Failing(life.ports, 7).ports)
    assert not life.queue.dead_letters
    life.let_pass(LEASE)


async def dispatch(_: Life, ports: Ports) -> None:
    await dispatch_until_none_is_due(ports, DISPATCH)


# ---- Deletions


def one_in(status: ImageStatus) -> Callable[[Life], Awaitable[None]]:
    if status is ImageStatus.UPLOADED:
        return an_unpublished_one

    async def prepare(life: Life) -> None:
        life.upload = life.upload_of(b"good", idempotency_key="a key")
        life.image = await life.image_in(status)
        life.promises.accepted[life.image.id] = b"bad" if status is ImageStatus.FAILED else b"good"
        await life.promises.read(life.image.id)

    return prepare


async def one_that_nobody_has_read(life: Life) -> None:
    await one_in(ImageStatus.COMPLETED)(life)
    life.let_pass(LONG)


async def one_that_is_left_to_be_deleted(life: Life) -> None:
    await one_in(ImageStatus.COMPLETED)(life)
    life.promises.doomed.add(life.image.id)
    with pytest.raises(Unavailable):
        await delete_image(Away(life.ports, 2).ports, ALICE, life.image.id)
    life.let_pass(LEASE)


async def delete(life: Life, ports: Ports) -> None:
    life.promises.doomed.add(life.image.id)
    await delete_image(ports, ALICE, life.image.id)
    life.promises.deleted.add(life.image.id)


async def finish_deletions(_: Life, ports: Ports) -> None:
    await finish_due_deletions(ports)


# ---- Operators


async def one_that_failed(life: Life) -> None:
    await life.given_a_failed_one()


async def redrive(life: Life, ports: Ports) -> None:
    life.promises.is_redriven = True
    async for _ in redrive_letters(ports, EVERYTHING):
        pass


async def redrive_by_rows(life: Life, ports: Ports) -> None:
    life.promises.is_redriven = True
    async for _ in redrive_images(ports, EVERYTHING):
        pass


async def purge(life: Life, ports: Ports) -> None:
    async for _ in purge_letters(ports, EVERYTHING):
        pass


# ---- Upkeep


async def litter(life: Life) -> None:
    await one_in(ImageStatus.COMPLETED)(life)
    await life.blobs.put(Bucket.RAW, str(uuid7()), life.upload.path, "image/jpeg")
    await life.blobs.put(Bucket.PROCESSED, f"{life.image.id}/7", life.upload.path, "image/jpeg")


async def clean(_: Life, ports: Ports) -> None:
    async def at_once(_: float) -> bool:
        return True

    await sweep(ports, timedelta(0), at_once)


async def one_that_was_kept_for_long(life: Life) -> None:
    await one_in(ImageStatus.COMPLETED)(life)
    life.let_pass(timedelta(days=2))
    # another worker's turn
    await life.images.take_turn("sweep", timedelta(days=1))


async def expire(life: Life, ports: Ports) -> None:
    async def never(_: float) -> bool:
        raise AssertionError

    life.promises.doomed.add(life.image.id)
    await keep_in_order(ports, UpkeepPolicy(sweep_every=timedelta(days=1), grace=timedelta(0), keep_for=timedelta(days=1)), never)


async def read(life: Life, ports: Ports) -> None:
    await get_image(ports, ALICE, life.image.id)


CLAIMED = "images.claim cache.invalidate blobs.fetch"
COMPARED = "queue.depths upkeep.awaited images.put_off"
DIED = "images.fail cache.invalidate notifier.notify queue.publish_dead images.settle"
RETRIED = "images.retry cache.invalidate"
GONE = "cache.invalidate notifier.notify"
WALKED = f"{'blobs.keys ' * 5}upkeep.scan blobs.keys"
REMOVED = "images.get blobs.delete"

DEEDS = {
    "upload": Deed(nothing, upload, "blobs.put images.add queue.publish images.mark_queued"),
    "upload again": Deed(Life.given, upload, "blobs.put images.add blobs.delete"),
    "upload of another with its key": Deed(Life.given, upload_of_another_with_its_key, "blobs.put images.add blobs.delete"),
    "upload whose object is refused": Deed(nothing, upload_whose_object_is_refused, "blobs.delete"),
    "upload whose row is refused": Deed(nothing, upload_whose_row_is_refused, "blobs.put images.revoke blobs.delete"),
    "upload whose commit is not answered": Deed(
        nothing, upload_whose_commit_is_not_answered, "blobs.put images.add images.revoke queue.publish images.mark_queued"
    ),
    "process": Deed(Life.given, process, f"{CLAIMED} blobs.put images.complete cache.put notifier.notify"),
    "process a bad one": Deed(a_bad_one, process, f"{CLAIMED} {DIED}"),
    "process a hard one": Deed(a_hard_one, process, f"{CLAIMED} {RETRIED}"),
    "process a hard one for the last time": Deed(a_hard_one_at_its_last_attempt, process, f"{CLAIMED} {DIED}"),
    "process without the store": Deed(Life.given, process_without_the_store, f"images.claim cache.invalidate {RETRIED}"),
    "process until told to stop": Deed(Life.given, process_until_told_to_stop, f"{CLAIMED} {RETRIED}"),
    "process what is taken over": Deed(Life.given, process_what_is_taken_over, f"{CLAIMED} blobs.put images.complete blobs.delete"),
    "process what is deleted": Deed(
        Life.given, process_what_is_deleted, f"{CLAIMED} blobs.put images.complete blobs.delete", delete
    ),
    "process without end what is deleted": Deed(
        Life.given, process_without_end_what_is_deleted, f"{CLAIMED} images.retry images.get blobs.delete", delete
    ),
    "dispatch": Deed(an_unpublished_one, dispatch, "images.take_due queue.publish images.mark_queued cache.invalidate"),
    "dispatch after a lease": Deed(
        one_whose_worker_died,
        dispatch,
        f"images.take_due {COMPARED} cache.invalidate queue.publish images.mark_queued cache.invalidate",
    ),
    "dispatch what waits": Deed(one_that_waits, dispatch, f"images.take_due {COMPARED}"),
    "dispatch what is given up": Deed(one_whose_workers_all_died, dispatch, f"images.take_due {COMPARED} {DIED}"),
    "dispatch a dead letter": Deed(one_without_its_dead_letter, dispatch, "images.take_due queue.publish_dead images.settle"),
    **{
        f"delete a {status} one": Deed(
            one_in(status), delete, f"images.mark_deleted {GONE} {'blobs.delete ' * deletes}images.remove"
        )
        for status, deletes in zip(ImageStatus, (1, 1, 2, 2, 2), strict=True)
    },
    "finish deletions": Deed(
        one_that_is_left_to_be_deleted, finish_deletions, f"images.take_due {GONE} blobs.delete blobs.delete images.remove"
    ),
    "redrive": Deed(
        one_that_failed,
        redrive,
        "dead_letters.walk images.redrive cache.invalidate dead_letters.remove dead_letters.walk",
    ),
    "redrive by rows": Deed(one_that_failed, redrive_by_rows, "images.page images.redrive cache.invalidate images.page"),
    "purge": Deed(one_that_failed, purge, "dead_letters.walk dead_letters.remove dead_letters.walk"),
    "sweep": Deed(litter, clean, f"upkeep.scan {WALKED} upkeep.forget_expired_keys {REMOVED} {REMOVED}"),
    "expire": Deed(one_that_was_kept_for_long, expire, f"upkeep.take_turn upkeep.expire {GONE} upkeep.expire upkeep.take_turn"),
    "read": Deed(one_that_nobody_has_read, read, "cache.get images.get cache.put"),
}


async def end_of(life: Life, do: Do, ports: Ports) -> BaseException | None:
    try:
        await do(life, ports)
    except (Unavailable, IdempotencyMismatch, ImageNotFound, asyncio.CancelledError, Killed) as error:
        return error
    except BaseExceptionGroup as group:
        if rest := group.split(Killed)[1]:
            raise rest from None
        return Killed()
    return None


def summary(life: Life) -> tuple[object, ...]:
    rows = sorted((row.image for row in life.images.rows.values()), key=lambda image: image.id)
    return [row.status for row in rows], len(life.images.keys), len(life.blobs.objects)


def check_nothing_refused_is_there(life: Life, error: BaseException | None, disturbed: Disturbed) -> None:
    if not isinstance(error, Unavailable | IdempotencyMismatch):
        return
    # Neither the commit was answered, nor the question after it: as in a crash, nobody knows, and the upload's key tells.
    in_doubt = disturbed.at == "images.revoke" or (isinstance(disturbed, Away) and disturbed.at == "images.add")
    assert in_doubt or life.images.rows.keys() <= life.promises.accepted.keys(), disturbed.at


async def undisturbed(life: Life, deed: Deed) -> tuple[tuple[object, ...], int]:
    await deed.prepare(life)
    await end_of(life, deed.do, life.ports)
    await life.promises.until_quiet()
    await life.promises.check_settled()
    return summary(life), len(life.queue.dead_letters)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", DEEDS)
async def test_all_promises_are_kept(tmp_path: Path, name: str, ending: type[Disturbed], *, after: bool) -> None:
    deed = DEEDS[name]
    expected, letters = await undisturbed(Life(tmp_path), deed)
    names: list[str] = []
    for call in count(1):
        life = Life(tmp_path)
        await deed.prepare(life)
        disturbed = ending(life.ports, call, after=after)  # type: ignore[call-arg]  # each ending knows what it does
        error = await end_of(life, deed.do, disturbed.ports)
        if disturbed.at is None:
            break
        names.append(disturbed.at)
        twice = disturbed.at == ("queue.publish_dead" if after else "images.settle")

        await life.promises.until_quiet()
        await life.promises.check_settled()
        check_nothing_refused_is_there(life, error, disturbed)

        # when whoever did it does it again, if they have to
        life.let_pass(LONG)
        await end_of(life, deed.again or deed.do, life.ports)
        await life.promises.until_quiet()
        await life.promises.check_settled()
        assert summary(life) == expected, disturbed.at
        assert len(life.queue.dead_letters) == letters + twice, disturbed.at
    assert names == deed.calls.split()


PORTS: dict[str, type] = {
    "images": ImageStore,
    "upkeep": Upkeep,
    "blobs": BlobStore,
    "queue": JobQueue,
    "dead_letters": DeadLetters,
    "cache": StatusCache,
    "notifier": StatusNotifier,
}
ONLY_LOOK = {
    *("images.check", "blobs.check", "queue.check", "cache.check"),
    *("upkeep.backlog", "upkeep.now", "blobs.open", "blobs.link", "notifier.subscribe"),
}
# The job goes on whatever becomes of the first, see test_process_image.py; the other is done at a start, before anything else.
APART = {"images.renew", "images.make_all_due"}


def test_no_call_is_forgotten() -> None:
    swept = {call for deed in DEEDS.values() for call in deed.calls.split()}
    promised = {f"{name}.{method}" for name, port in PORTS.items() for method in vars(port) if not method.startswith("_")}
    assert promised - swept == ONLY_LOOK | APART
