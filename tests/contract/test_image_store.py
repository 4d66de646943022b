"""What ImageStore promises of an image's life, of every adapter and the fake."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from uuid6 import uuid7

from common.images import Image, ImageStatus, Priority
from common.ports import ImageStore
from tests.builders import image
from tests.contract.image_stores import ERROR, FAILURE, FENCED, HOUR, PAST, RESULT, Write, added, claimed, completed, due, failed


async def test_what_was_added_is_read_back(images: ImageStore) -> None:
    new = image(
        filename='Käse 🧀 "日本".jpg',
        owner="o'brien",
        priority=Priority.HIGH,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        size_bytes=5_000_000_000,
        created_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
        updated_at=datetime(2026, 1, 2, 5, 4, 5, 100_000, tzinfo=timezone(timedelta(hours=2))),
    )
    await images.add(new, HOUR)
    read = await images.get(new.id)
    assert read == new
    assert read.created_at.tzinfo is not None


async def test_an_unknown_image_is_none(images: ImageStore) -> None:
    await added(images)
    assert await images.get(uuid7()) is None


async def test_a_confirmed_upload_is_queued(images: ImageStore) -> None:
    new = await added(images, PAST)
    queued = await images.mark_queued(new.id, 0, Priority.NORMAL, HOUR)
    assert queued is not None
    assert (queued.status, queued.version, queued.attempts) == (ImageStatus.QUEUED, 2, 0)
    assert await images.get(new.id) == queued
    assert await due(images) == []


async def test_a_message_sent_again_changes_nothing_that_a_reader_sees(images: ImageStore) -> None:
    new = await added(images)
    queued = await images.mark_queued(new.id, 0, Priority.NORMAL, HOUR)
    assert await images.mark_queued(new.id, 0, Priority.NORMAL, PAST) == queued
    assert await due(images) == [queued]


async def test_queueing_is_too_late_once_a_worker_has_claimed(images: ImageStore) -> None:
    held = await claimed(images)
    # what the gateway and the dispatcher know is from before the claim
    assert await images.mark_queued(held.id, 0, Priority.NORMAL, PAST) is None
    # and even the right number cannot take the row from the worker
    assert await images.mark_queued(held.id, held.attempts, Priority.NORMAL, PAST) is None
    assert await images.get(held.id) == held
    assert await due(images) == []


@pytest.mark.parametrize("queued", [False, True])
async def test_a_claim_begins_an_attempt(images: ImageStore, *, queued: bool) -> None:
    new = await added(images, PAST)
    if queued:
        await images.mark_queued(new.id, 0, Priority.NORMAL, PAST)
    held = await images.claim(new.id, HOUR)
    assert held is not None
    assert (held.status, held.attempts, held.version) == (ImageStatus.PROCESSING, 1, 3 if queued else 2)
    assert held.updated_at >= new.updated_at
    assert await images.get(new.id) == held
    assert await due(images) == []


async def test_a_lease_that_runs_cannot_be_claimed(images: ImageStore) -> None:
    held = await claimed(images, HOUR)
    assert await images.claim(held.id, HOUR) is None
    assert await images.get(held.id) == held


@pytest.mark.parametrize("lease", [timedelta(0), PAST])
async def test_a_lease_that_has_ended_can_be_claimed(images: ImageStore, lease: timedelta) -> None:
    held = await claimed(images, lease)
    again = await images.claim(held.id, HOUR)
    assert again is not None
    assert (again.attempts, again.version) == (held.attempts + 1, held.version + 1)


async def test_what_is_gone_or_final_cannot_be_claimed(images: ImageStore) -> None:
    assert await images.claim(uuid7(), HOUR) is None
    for final in (await completed(images), await failed(images, PAST)):
        assert await images.claim(final.id, HOUR) is None
        assert await images.get(final.id) == final


@pytest.mark.parametrize("lease_ended", [False, True])
async def test_of_concurrent_claims_one_wins(images: ImageStore, *, lease_ended: bool) -> None:
    start = await claimed(images, PAST) if lease_ended else await added(images)
    answers = await asyncio.gather(*(images.claim(start.id, HOUR) for _ in range(24)))
    winners = [answer for answer in answers if answer is not None]
    assert [winner.attempts for winner in winners] == [start.attempts + 1]
    assert await images.get(start.id) == winners[0]


async def test_a_renewed_lease_ends_later_and_no_reader_sees_it(images: ImageStore) -> None:
    held = await claimed(images, PAST)
    assert await images.renew(held.id, held.attempts, HOUR) is True
    assert await images.claim(held.id, HOUR) is None
    assert await images.get(held.id) == held


async def test_completion_is_final_and_settled(images: ImageStore) -> None:
    held = await claimed(images, PAST)
    done = await images.complete(held.id, held.attempts, RESULT)
    assert done is not None
    assert (done.status, done.result, done.failure, done.version) == (ImageStatus.COMPLETED, RESULT, None, held.version + 1)
    assert done.completed_at is not None
    assert done.completed_at >= held.updated_at
    assert await images.get(held.id) == done
    assert await images.make_all_due() == 0


@pytest.mark.parametrize("outage", [False, True])
async def test_a_retry_waits_for_its_delay(images: ImageStore, *, outage: bool) -> None:
    held = await claimed(images, PAST)
    queued = await images.retry(held.id, held.attempts, HOUR, ERROR, outage=outage)
    assert queued is not None
    assert (queued.status, queued.attempts, queued.outages) == (ImageStatus.QUEUED, 1, int(outage))
    assert queued.version == held.version + 1
    assert await images.get(held.id) == queued
    assert await due(images) == []


async def test_outages_are_counted_beside_attempts(images: ImageStore) -> None:
    new = await added(images)
    counted = []
    for outage in (True, False, True):
        held = await images.claim(new.id, HOUR)
        assert held is not None
        queued = await images.retry(new.id, held.attempts, PAST, ERROR, outage=outage)
        assert queued is not None
        counted.append((queued.attempts, queued.outages))
    assert counted == [(1, 1), (2, 1), (3, 2)]


async def test_a_failure_stays_due_until_it_is_settled(images: ImageStore) -> None:
    lost = await failed(images, PAST)
    assert (lost.status, lost.failure, lost.result, lost.completed_at) == (ImageStatus.FAILED, FAILURE, None, None)
    assert lost.version == 3
    assert await images.get(lost.id) == lost
    assert await due(images) == [lost]
    await images.settle(lost.id, lost.attempts)
    assert await due(images) == []
    assert await images.make_all_due() == 0
    assert await images.get(lost.id) == lost


async def test_a_failure_is_not_due_before_its_grace(images: ImageStore) -> None:
    lost = await failed(images, HOUR)
    assert await due(images) == []
    assert await images.make_all_due() == 1
    assert await due(images) == [lost]


async def test_only_final_rows_are_settled(images: ImageStore) -> None:
    new, held = await added(images, PAST), await claimed(images, PAST)
    for unfinished in (new, held):
        await images.settle(unfinished.id, unfinished.attempts)
    await images.settle(uuid7(), 1)
    assert {row.id for row in await due(images)} == {new.id, held.id}


fenced = pytest.mark.parametrize("write", FENCED.values(), ids=FENCED.keys())


@fenced
@pytest.mark.parametrize("off_by", [-1, 1])
async def test_a_write_with_another_attempts_number_changes_nothing(images: ImageStore, write: Write, off_by: int) -> None:
    first = await claimed(images, PAST)
    held = await images.claim(first.id, HOUR)
    assert held is not None
    assert not await write(images, held, held.attempts + off_by)
    assert await images.get(held.id) == held
    assert await due(images) == []


@fenced
@pytest.mark.parametrize("make", [completed, failed])
async def test_a_final_row_is_not_written(images: ImageStore, write: Write, make: Callable[[ImageStore], Awaitable[Image]]) -> None:
    final = await make(images)
    assert not await write(images, final, final.attempts)
    assert await images.get(final.id) == final
    assert await due(images) == []


@fenced
async def test_a_row_that_is_gone_is_not_written(images: ImageStore, write: Write) -> None:
    assert not await write(images, image(), 0)
    assert await images.make_all_due() == 0


@pytest.mark.parametrize("name", ["renew", "complete", "retry", "fail"])
async def test_a_worker_presumed_dead_may_write_until_another_claims(images: ImageStore, name: str) -> None:
    held = await claimed(images, PAST)
    [queued] = await images.take_due(1, HOUR)
    assert (queued.status, queued.attempts) == (ImageStatus.QUEUED, held.attempts)
    assert await FENCED[name](images, held, held.attempts)


async def test_a_retry_of_what_is_queued_already_changes_nothing_that_a_reader_sees(images: ImageStore) -> None:
    held = await claimed(images, PAST)
    [queued] = await images.take_due(1, HOUR)
    again = await images.retry(held.id, held.attempts, PAST, ERROR, outage=True)
    assert again is not None
    assert (again.version, again.updated_at, again.outages) == (queued.version, queued.updated_at, 1)


async def test_due_rows_come_oldest_due_first_and_as_many_as_asked_for(images: ImageStore) -> None:
    await added(images, HOUR)
    # given that neither the order of adding nor that of the ids is the order of what is due
    third, second, first = [await added(images, -timedelta(minutes=minutes)) for minutes in (1, 2, 3)]
    assert await images.take_due(2, HOUR) == [first, second]
    assert await images.take_due(2, HOUR) == [third]
    assert await images.take_due(2, HOUR) == []


async def test_a_row_taken_is_due_again_after_the_hold(images: ImageStore) -> None:
    new = await added(images, PAST)
    assert await images.take_due(1, -timedelta(minutes=1)) == [new]
    assert await images.take_due(1, HOUR) == [new]
    assert await images.take_due(1, HOUR) == []


async def test_taking_makes_only_ended_leases_queued(images: ImageStore) -> None:
    uploaded = await added(images, PAST)
    queued = await images.mark_queued((await added(images)).id, 0, Priority.NORMAL, PAST)
    lost = await failed(images, PAST)
    held = await claimed(images, PAST)
    taken = {row.id: row for row in await images.take_due(10, HOUR)}
    requeued = taken.pop(held.id)
    assert list(taken.values()) == [uploaded, queued, lost]
    assert (requeued.status, requeued.attempts, requeued.version) == (ImageStatus.QUEUED, 1, held.version + 1)
    assert requeued.updated_at >= held.updated_at
    assert await images.get(held.id) == requeued


async def test_concurrent_callers_never_take_the_same_row(images: ImageStore) -> None:
    everything = [(await added(images, PAST)).id for _ in range(60)]
    taken: list[Any] = []
    async with asyncio.timeout(60):
        while len(taken) < len(everything):
            for batch in await asyncio.gather(*(images.take_due(7, HOUR) for _ in range(6))):
                assert len(batch) <= 7
                taken += [row.id for row in batch]
    assert sorted(taken) == everything


async def test_all_that_is_not_settled_can_be_made_due(images: ImageStore) -> None:
    done = await completed(images)
    new, held, lost = await added(images), await claimed(images), await failed(images)
    assert await due(images) == []
    assert await images.make_all_due() == 3
    assert {row.id for row in await due(images)} == {new.id, held.id, lost.id}
    assert await images.get(done.id) == done


async def test_every_visible_change_has_the_next_version_and_its_time(images: ImageStore) -> None:
    new = await added(images)
    seen = [
        new,
        await images.mark_queued(new.id, 0, Priority.NORMAL, HOUR),
        await images.claim(new.id, PAST),
        *await images.take_due(1, HOUR),
    ]
    seen += [await images.claim(new.id, HOUR), await images.retry(new.id, 2, HOUR, ERROR, outage=False)]
    seen += [await images.claim(new.id, HOUR), await images.complete(new.id, 3, RESULT)]
    assert [(row.status.value, row.version) for row in seen if row] == [
        ("uploaded", 1),
        ("queued", 2),
        ("processing", 3),
        ("queued", 4),
        ("processing", 5),
        ("queued", 6),
        ("processing", 7),
        ("completed", 8),
    ]
    updates = [row.updated_at for row in seen if row]
    assert updates == sorted(set(updates))


async def test_many_at_once_do_not_hinder_each_other(images: ImageStore) -> None:
    async def life() -> Image | None:
        held = await claimed(images)
        await images.renew(held.id, held.attempts, HOUR)
        await images.get(held.id)
        return await images.complete(held.id, held.attempts, RESULT)

    lives = await asyncio.gather(*(life() for _ in range(40)))
    assert all(done is not None and done.status is ImageStatus.COMPLETED for done in lives)


async def test_a_migrated_store_is_ready(images: ImageStore) -> None:
    await images.check()


# ---- messages that were sent


async def sent(images: ImageStore, line: Priority = Priority.NORMAL, due_in: timedelta = PAST) -> Image:
    row = await images.mark_queued((await added(images)).id, 0, line, due_in)
    assert row is not None
    return row


async def test_what_waits_for_its_message_can_be_put_off(images: ImageStore) -> None:
    waiting, other = await sent(images), await sent(images)
    assert await images.put_off([waiting.id], HOUR, HOUR) == {waiting.id}
    assert await due(images) == [other]
    # and a reader sees nothing of it
    assert await images.get(waiting.id) == waiting


async def test_nothing_else_is_put_off(images: ImageStore) -> None:
    never_sent = await added(images, PAST)
    retried, lost = await sent(images), await sent(images)
    held = await images.claim(retried.id, HOUR)
    assert held is not None
    await images.retry(retried.id, held.attempts, PAST, ERROR, outage=True)
    assert await images.claim(lost.id, PAST) is not None
    rows = await due(images)
    assert {row.id for row in rows} == {never_sent.id, retried.id, lost.id}
    long_ago = await sent(images)
    assert await images.put_off([row.id for row in [*rows, long_ago]], HOUR, PAST) == set()
    assert await images.put_off([row.id for row in rows], HOUR, HOUR) == set()
    # until it is sent again, for the attempt that comes next
    assert await images.mark_queued(retried.id, 1, Priority.LOW, PAST) is not None
    assert await images.put_off([retried.id], HOUR, HOUR) == {retried.id}


async def test_what_is_made_due_has_no_message(images: ImageStore) -> None:
    waiting = await sent(images)
    assert await images.make_all_due() == 1
    assert await images.put_off([waiting.id], HOUR, HOUR) == set()
