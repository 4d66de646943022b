"""What ImageStore promises of deletion, of every adapter and the fake: from the mark on, nobody finds the row or writes to it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from uuid6 import uuid7

from common.images import Image, ImageStatus
from common.ports import ImageStore
from tests.contract.image_stores import (
    EVERY_STATE,
    FENCED,
    HOUR,
    PAST,
    Make,
    Write,
    added,
    completed,
    due,
    failed,
    in_every_state,
)

ROUNDS = 12


async def marked(images: ImageStore, row: Image) -> Image:
    deleted = await images.mark_deleted(row.id, row.owner, PAST)
    assert deleted is not None
    return deleted


async def listed(images: ImageStore) -> list[Image]:
    return list(await images.page(owner=None, status=None, before=None, limit=100))


@in_every_state
async def test_no_reader_finds_a_deleted_image(images: ImageStore, make: Make) -> None:
    row, other = await make(images), await make(images)
    deleted = await marked(images, row)
    # what is told of it is as it was, and a change that a reader sees
    assert (deleted.id, deleted.status, deleted.attempts, deleted.result) == (row.id, row.status, row.attempts, row.result)
    assert (deleted.deleted, deleted.version) == (True, row.version + 1)
    assert deleted.updated_at >= row.updated_at
    assert await images.get(row.id) is None
    assert await listed(images) == [other]


@in_every_state
async def test_a_deleted_row_is_due_as_such_and_no_longer_as_a_job(images: ImageStore, make: Make) -> None:
    row = await make(images)
    await images.make_all_due()
    await images.mark_deleted(row.id, None, HOUR)
    assert await due(images, deleted=True) == []
    assert await images.make_all_due() == 1
    assert await due(images) == []
    [found] = await images.take_due(10, HOUR, deleted=True)
    assert (found.id, found.deleted) == (row.id, True)
    # and after the hold again, until it is removed
    assert await due(images, deleted=True) == []
    await images.make_all_due()
    assert [row.id for row in await due(images, deleted=True)] == [row.id]


async def test_jobs_are_not_taken_with_deletions(images: ImageStore) -> None:
    job, deleted = await added(images, PAST), await marked(images, await added(images, PAST))
    assert await due(images) == [job]
    assert await due(images, deleted=True) == [deleted]


async def test_due_deletions_come_oldest_due_first_and_as_many_as_asked_for(images: ImageStore) -> None:
    rows = [await added(images) for _ in range(3)]
    for hours, row in zip((1, 3, 2), rows, strict=True):
        await images.mark_deleted(row.id, None, PAST * hours)
    assert [row.id for row in await images.take_due(2, HOUR, deleted=True)] == [rows[1].id, rows[2].id]
    assert [row.id for row in await images.take_due(2, HOUR, deleted=True)] == [rows[0].id]


@in_every_state
@pytest.mark.parametrize("write", FENCED.values(), ids=FENCED.keys())
async def test_nothing_is_written_to_a_deleted_row(images: ImageStore, make: Make, write: Write) -> None:
    deleted = await marked(images, await make(images))
    assert not await write(images, deleted, deleted.attempts)
    # a claim would succeed: the lease has ended
    assert await images.claim(deleted.id, HOUR) is None
    await images.settle(deleted.id, deleted.attempts)
    [found] = await due(images, deleted=True)
    assert (found.attempts, found.outages, found.result, found.failure) == (
        deleted.attempts,
        deleted.outages,
        deleted.result,
        deleted.failure,
    )


@in_every_state
async def test_nobody_deletes_what_is_anothers_or_unknown_or_deleted(images: ImageStore, make: Make) -> None:
    row = await make(images, owner="alice")
    assert await images.mark_deleted(row.id, "bob", PAST) is None
    assert await images.mark_deleted(uuid7(), "alice", PAST) is None
    assert await images.mark_deleted(uuid7(), None, PAST) is None
    assert await images.get(row.id) == row
    assert await due(images, deleted=True) == []

    deleted = await marked(images, row)
    assert await images.mark_deleted(row.id, "alice", HOUR) is None
    assert await images.mark_deleted(row.id, None, HOUR) is None
    assert [found.id for found in await due(images, deleted=True)] == [deleted.id]


async def test_without_an_owner_anybodys_is_deleted(images: ImageStore) -> None:
    row = await added(images, owner="alice")
    assert await images.mark_deleted(row.id, None, PAST) is not None
    assert await images.get(row.id) is None


@in_every_state
async def test_only_what_is_marked_is_removed(images: ImageStore, make: Make) -> None:
    row, other = await make(images), await make(images)
    await images.remove(row.id)
    await images.remove(uuid7())
    assert await images.get(row.id) == row

    await marked(images, row)
    await marked(images, other)
    for _ in range(2):
        await images.remove(row.id)
    assert [found.id for found in await due(images, deleted=True)] == [other.id]
    assert await images.mark_deleted(row.id, row.owner, PAST) is None


async def test_of_concurrent_deletions_one_succeeds(images: ImageStore) -> None:
    row = await added(images)
    answers = await asyncio.gather(*(images.mark_deleted(row.id, "alice", PAST) for _ in range(20)))
    [deleted] = [answer for answer in answers if answer is not None]
    assert await due(images, deleted=True) == [deleted]


RACES: dict[str, tuple[ImageStatus, Write]] = {
    "claim": (ImageStatus.QUEUED, lambda images, row, _: images.claim(row.id, HOUR)),
    "mark_queued": (ImageStatus.UPLOADED, FENCED["mark_queued"]),
    **{name: (ImageStatus.PROCESSING, FENCED[name]) for name in ("renew", "complete", "retry", "fail")},
}


@pytest.mark.parametrize(("status", "write"), RACES.values(), ids=RACES.keys())
async def test_a_write_that_races_a_deletion_comes_before_it_or_not_at_all(
    images: ImageStore, status: ImageStatus, write: Write
) -> None:
    rows = [await EVERY_STATE[status](images) for _ in range(ROUNDS)]

    async def race(row: Image, number: int) -> None:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: write(images, row, row.attempts),
            lambda: images.mark_deleted(row.id, row.owner, HOUR),
        ]
        order = (0, 1) if number % 2 else (1, 0)
        answers = dict(zip(order, await asyncio.gather(*(calls[place]() for place in order)), strict=True))
        deleted = answers[1]
        assert isinstance(deleted, Image)
        assert await images.get(row.id) is None
        if isinstance(answers[0], Image):
            assert deleted.version == answers[0].version + 1
            assert (deleted.status, deleted.attempts) == (answers[0].status, answers[0].attempts)
        elif not answers[0]:
            assert (deleted.status, deleted.attempts, deleted.version) == (row.status, row.attempts, row.version + 1)

    await asyncio.gather(*(race(row, number) for number, row in enumerate(rows)))
    # then all are left to be removed
    await images.make_all_due()
    assert {row.id for row in await due(images, deleted=True)} == {row.id for row in rows}
    assert await due(images) == []


@pytest.mark.parametrize("make", [completed, failed])
async def test_settling_while_it_is_deleted_does_not_make_it_forgotten(images: ImageStore, make: Make) -> None:
    rows = [await make(images) for _ in range(ROUNDS)]
    await asyncio.gather(
        *(images.settle(row.id, row.attempts) for row in rows), *(images.mark_deleted(row.id, None, PAST) for row in rows)
    )
    assert {row.id for row in await due(images, deleted=True)} == {row.id for row in rows}


async def test_a_row_taken_for_dispatch_while_it_is_deleted_is_not_lost(images: ImageStore) -> None:
    rows = [await added(images, PAST) for _ in range(ROUNDS)]
    await asyncio.gather(*(call for row in rows for call in (images.take_due(1, HOUR), images.mark_deleted(row.id, None, PAST))))
    assert {row.id for row in await due(images, deleted=True)} == {row.id for row in rows}
