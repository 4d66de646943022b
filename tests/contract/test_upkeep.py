"""What Upkeep promises, of every adapter and the fake."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from uuid6 import uuid7

from common.images import IdempotencyKey, Image, ImageStatus, Priority
from common.ports import ImageStore, Upkeep
from tests.builders import image
from tests.contract.image_stores import EVERY_STATE, FAILURE, HOUR, PAST, added, age_keys, claimed, completed, due, failed, queued

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
NO_TIME = timedelta(0)
AT_ONCE = 20
# As far as the clocks of this process and of a database on the same machine, and the time of a test, may be apart.
ABOUT = 60.0


def id_of(time: datetime) -> UUID:
    """One that an upload had at that time: RFC 9562, 5.7."""
    random = uuid4().int & ((1 << 62) - 1)
    return UUID(int=int(time.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | random)


async def uploaded(images: ImageStore, make: Callable[..., Awaitable[Image]], age: timedelta) -> Image:
    time = datetime.now(UTC) - age
    return await make(images, id=id_of(time), created_at=time, updated_at=time)


# ---- expire


async def test_final_images_that_are_old_enough_are_marked_as_deleted(images: ImageStore, upkeep: Upkeep) -> None:
    old = [await uploaded(images, make, 2 * DAY) for make in (completed, failed)]
    young = await uploaded(images, completed, DAY - MINUTE)

    expired = await upkeep.expire(DAY, 10)

    assert {row.id for row in expired} == {row.id for row in old}
    assert [(row.deleted, row.version) for row in expired] == [(True, row.version + 1) for row in old]
    assert [await images.get(row.id) for row in old] == [None, None]
    assert await images.get(young.id) == young
    # and is due as such at once
    assert {row.id for row in await due(images, deleted=True)} == {row.id for row in old}
    assert await upkeep.expire(DAY, 10) == []


@pytest.mark.parametrize("status", [status for status in ImageStatus if not status.is_final])
async def test_what_is_not_final_is_kept_however_old_it_is(images: ImageStore, upkeep: Upkeep, status: ImageStatus) -> None:
    row = await uploaded(images, EVERY_STATE[status], 400 * DAY)
    assert await upkeep.expire(DAY, 10) == []
    assert await images.get(row.id) == row


async def test_neither_of_two_clocks_alone_makes_an_image_old(images: ImageStore, upkeep: Upkeep) -> None:
    # given one whose time was a gateway's that was behind, by this process's clock and by the store's
    long_ago, now = datetime.now(UTC) - 2 * DAY, datetime.now(UTC)
    rows = [
        await completed(images, id=id_of(now), created_at=long_ago),
        await completed(images, id=id_of(long_ago), created_at=now),
    ]
    assert await upkeep.expire(DAY, 10) == []
    assert [await images.get(row.id) for row in rows] == rows


async def test_the_oldest_expire_first_and_as_many_as_asked_for(images: ImageStore, upkeep: Upkeep) -> None:
    rows = {days: await uploaded(images, completed, days * DAY) for days in (3, 5, 2, 4)}
    assert {row.id for row in await upkeep.expire(DAY, 3)} == {rows[days].id for days in (5, 4, 3)}
    assert [row.id for row in await upkeep.expire(DAY, 3)] == [rows[2].id]


async def test_an_expired_images_key_is_free_and_no_others(images: ImageStore, upkeep: Upkeep) -> None:
    long_ago = datetime.now(UTC) - 2 * DAY
    old, other = (IdempotencyKey(text=text, fingerprint="1") for text in ("old", "other"))
    first = await images.add(image(id=id_of(long_ago), created_at=long_ago), HOUR, old)
    second = await images.add(image(), HOUR, other)
    held = await images.claim(first.id, HOUR)
    assert held
    await images.fail(first.id, held.attempts, FAILURE, NO_TIME)
    assert [row.id for row in await upkeep.expire(DAY, 10)] == [first.id]

    new = image()
    assert (await images.add(new, HOUR, old)).id == new.id
    assert (await images.add(image(), HOUR, other)).id == second.id


async def test_one_that_two_expire_or_its_owner_deletes_at_the_same_time_is_deleted_once(
    images: ImageStore, upkeep: Upkeep
) -> None:
    rows = [await uploaded(images, completed, 2 * DAY) for _ in range(AT_ONCE)]
    by_owner = [images.mark_deleted(row.id, row.owner, NO_TIME) for row in rows[::2]]
    batches, deleted = await asyncio.gather(asyncio.gather(*(upkeep.expire(DAY, 7) for _ in range(6))), asyncio.gather(*by_owner))
    while batch := await upkeep.expire(DAY, 7):
        batches.append(batch)
    once = [row.id for batch in batches for row in batch] + [row.id for row in deleted if row]
    assert sorted(once) == sorted(row.id for row in rows)
    assert all(len(batch) <= 7 for batch in batches)


async def test_one_that_is_sent_again_as_it_expires_is_either(images: ImageStore, upkeep: Upkeep) -> None:
    rows = [await uploaded(images, failed, 2 * DAY) for _ in range(AT_ONCE)]
    expired, again = await asyncio.gather(upkeep.expire(DAY, 100), asyncio.gather(*(images.redrive(row.id) for row in rows)))
    sent = {row.id for row in again if row}
    assert sent | {row.id for row in expired} == {row.id for row in rows}
    # what was sent again and then expired would be final and queued at once
    assert not sent & {row.id for row in expired}
    assert {row.id for row in await images.page(owner=None, status=ImageStatus.QUEUED, before=None, limit=100)} == sent


# ---- scan


async def test_a_scan_goes_through_every_row_in_the_order_of_ids(images: ImageStore, upkeep: Upkeep) -> None:
    rows = [await make(images) for make in EVERY_STATE.values() for _ in range(3)]
    deleted = await images.mark_deleted(rows[4].id, None, HOUR)
    assert deleted
    rows[4] = deleted

    seen: list[Image] = []
    while batch := await upkeep.scan(seen[-1].id if seen else None, 4):
        assert len(batch) <= 4
        seen += batch

    assert seen == sorted(rows, key=lambda row: str(row.id))


async def test_a_scan_goes_on_after_a_row_that_is_gone(images: ImageStore, upkeep: Upkeep) -> None:
    first, second = await added(images), await added(images)
    await images.mark_deleted(first.id, None, HOUR)
    await images.remove(first.id)
    assert list(await upkeep.scan(first.id, 10)) == [second]
    assert list(await upkeep.scan(second.id, 10)) == []


# ---- forget_expired_keys


async def test_keys_are_forgotten_when_their_day_is_over(images: ImageStore, upkeep: Upkeep) -> None:
    for number in range(5):
        await images.add(image(), HOUR, IdempotencyKey(text=f"old {number}", fingerprint="1"))
    await age_keys(images, DAY + MINUTE)
    young = IdempotencyKey(text="young", fingerprint="1")
    first = await images.add(image(), HOUR, young)

    assert [await upkeep.forget_expired_keys(2) for _ in range(4)] == [2, 2, 1, 0]

    assert await images.add(image(), HOUR, young) == first
    await age_keys(images, DAY - MINUTE)
    assert await upkeep.forget_expired_keys(10) == 0


async def test_a_key_that_is_used_anew_as_it_is_forgotten_is_not_lost(images: ImageStore, upkeep: Upkeep) -> None:
    keys = [IdempotencyKey(text=str(number), fingerprint="1") for number in range(AT_ONCE // 2)]
    for _ in range(5):
        for key in keys:
            await images.add(image(), HOUR, key)
        await age_keys(images, DAY + MINUTE)
        used = asyncio.gather(*(images.add(image(), HOUR, key) for key in keys))
        forgetting = asyncio.gather(*(upkeep.forget_expired_keys(3) for _ in range(5)))
        anew, _ = await asyncio.gather(used, forgetting)
        assert [await images.add(image(), HOUR, key) for key in keys] == anew


# ---- take_turn


async def test_a_turn_is_for_who_asks_first_and_comes_again(upkeep: Upkeep) -> None:
    assert [await upkeep.take_turn("sweep", HOUR) for _ in range(3)] == [True, False, False]
    # each chore has its own
    assert await upkeep.take_turn("expire", HOUR)


async def test_it_is_a_turn_again_when_its_time_is_over(upkeep: Upkeep) -> None:
    every = timedelta(milliseconds=100)
    assert await upkeep.take_turn("sweep", every)
    async with asyncio.timeout(10):
        while not await upkeep.take_turn("sweep", every):  # noqa: ASYNC110 - the store's clock cannot be awaited
            await asyncio.sleep(0.01)


async def test_of_any_number_who_ask_at_once_one_has_the_turn(images: ImageStore, upkeep: Upkeep) -> None:
    await asyncio.gather(*(images.get(uuid7()) for _ in range(AT_ONCE)))  # given as many connections
    for chore in map(str, range(5)):
        answers = await asyncio.gather(*(upkeep.take_turn(chore, HOUR) for _ in range(AT_ONCE)))
        assert answers.count(True) == 1


async def test_a_turn_that_was_put_off_for_far_longer_comes_at_once(upkeep: Upkeep) -> None:
    """The clock was a year ahead for a moment, or the chore is to be done more often from now on."""
    assert await upkeep.take_turn("sweep", 365 * DAY)
    assert [await upkeep.take_turn("sweep", HOUR) for _ in range(3)] == [True, False, False]


# ---- backlog, now


async def test_the_backlog_of_nothing(images: ImageStore, upkeep: Upkeep) -> None:
    await completed(images)
    settled = await failed(images)
    await images.settle(settled.id, settled.attempts)
    nothing = dict.fromkeys((ImageStatus.UPLOADED, ImageStatus.QUEUED, ImageStatus.PROCESSING), 0)
    found = await upkeep.backlog()
    assert (found.images, found.oldest_seconds, found.overdue_seconds) == (nothing, nothing, 0.0)


async def test_the_backlog_is_what_is_not_final(images: ImageStore, upkeep: Upkeep) -> None:
    for make, days in ((added, 2), (added, 7), (queued, 3), (claimed, 4), (claimed, 5), (claimed, 6), (completed, 8), (failed, 9)):
        await uploaded(images, make, days * DAY)
    await images.mark_deleted((await uploaded(images, queued, 10 * DAY)).id, None, PAST)

    found = await upkeep.backlog()

    assert found.images == {ImageStatus.UPLOADED: 2, ImageStatus.QUEUED: 1, ImageStatus.PROCESSING: 3}
    assert {status: round(seconds / DAY.total_seconds()) for status, seconds in found.oldest_seconds.items()} == {
        ImageStatus.UPLOADED: 7,
        ImageStatus.QUEUED: 3,
        ImageStatus.PROCESSING: 6,
    }
    assert found.overdue_seconds == 0


async def test_what_is_overdue_is_told_by_the_row_that_is_so_for_longest(images: ImageStore, upkeep: Upkeep) -> None:
    for due_in in (HOUR, -HOUR, -2 * HOUR):
        await added(images, due_in)
    assert (await upkeep.backlog()).overdue_seconds == pytest.approx(7200, abs=ABOUT)
    # a failed image whose dead letter is not safe is, too
    await failed(images, -3 * HOUR)
    assert (await upkeep.backlog()).overdue_seconds == pytest.approx(3 * 3600, abs=ABOUT)


async def test_the_stores_clock(upkeep: Upkeep) -> None:
    assert abs(await upkeep.now() - datetime.now(UTC)).total_seconds() < ABOUT


# ---- messages that are awaited


async def test_each_row_that_nobody_has_claimed_awaits_a_message_where_it_was_put(images: ImageStore, upkeep: Upkeep) -> None:
    assert await upkeep.awaited() == dict.fromkeys(Priority, 0)
    for make in EVERY_STATE.values():
        await make(images)
    rows = [await added(images, priority=Priority.HIGH) for _ in range(4)]
    for row in rows:
        await images.mark_queued(row.id, 0, Priority.LOW, HOUR)
    # the one that `queued` makes, and those that were put in another line than their own
    assert await upkeep.awaited() == {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 4}
    held = await images.claim(rows[0].id, HOUR)
    assert held is not None
    await images.retry(held.id, held.attempts, HOUR, "away", outage=True)
    await images.claim(rows[1].id, HOUR)
    await images.mark_deleted(rows[2].id, None, HOUR)
    assert (await upkeep.awaited())[Priority.LOW] == 1
