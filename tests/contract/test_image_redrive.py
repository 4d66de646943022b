"""What ImageStore promises of attempts' errors and of images that are sent again, of every adapter and the fake."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from uuid6 import uuid7

from common.adapters.sql.store import LEASE_ENDED
from common.images import AttemptError, Image, ImageStatus
from common.ports import ImageStore
from tests.contract.image_stores import (
    ERROR,
    EVERY_STATE,
    FAILURE,
    FENCED,
    HOUR,
    PAST,
    RESULT,
    Make,
    Write,
    added,
    claimed,
    completed,
    due,
    failed,
)

AT_ONCE = 20
# Between this process's clock and a database's on the same machine.
ABOUT = timedelta(minutes=1)


def errors(row: Image | None) -> tuple[str | None, str | None]:
    assert row is not None
    first, last = (error.detail if error is not None else None for error in (row.first_error, row.last_error))
    return first, last


async def again(images: ImageStore, row: Image) -> Image:
    held = await images.claim(row.id, HOUR)
    assert held is not None
    return held


async def failed_after_outages(images: ImageStore) -> Image:
    """Two outages, and then a picture that cannot be read."""
    held = await claimed(images)
    for error in ("The first.", "The second."):
        queued = await images.retry(held.id, held.attempts, PAST, error, outage=True)
        assert queued is not None
        held = await again(images, queued)
    lost = await images.fail(held.id, held.attempts, FAILURE, HOUR, "The third.")
    assert lost is not None
    return lost


# ---- errors


async def test_a_new_image_has_no_errors(images: ImageStore) -> None:
    new = await added(images)
    assert errors(await again(images, new)) == (None, None)
    assert errors(await completed(images)) == (None, None)


@pytest.mark.parametrize("outage", [False, True])
async def test_a_retry_remembers_the_first_error_and_the_last(images: ImageStore, *, outage: bool) -> None:
    held = await claimed(images)
    seen: list[AttemptError] = []
    for number, error in enumerate(("The first.", "The second.", "The third."), 1):
        queued = await images.retry(held.id, number, PAST, error, outage=outage)
        assert queued is not None
        assert await images.get(held.id) == queued
        assert errors(queued) == ("The first.", error)
        assert queued.last_error is not None
        seen.append(queued.last_error)
        assert queued.first_error == seen[0]
        held = await again(images, held)
    assert [error.at for error in seen] == sorted({error.at for error in seen})
    assert all(abs(error.at - datetime.now(UTC)) < ABOUT for error in seen)
    # and a good end forgets nothing
    assert errors(await images.complete(held.id, held.attempts, RESULT)) == ("The first.", "The third.")


async def test_a_failure_remembers_how_its_attempt_ended(images: ImageStore) -> None:
    held = await claimed(images)
    only = await images.fail(held.id, held.attempts, FAILURE, HOUR, ERROR)
    assert errors(only) == (ERROR, ERROR)
    assert only is not None
    assert only.first_error == only.last_error
    assert await images.get(held.id) == only

    held = await claimed(images)
    await images.retry(held.id, held.attempts, PAST, "The first.", outage=False)
    held = await again(images, held)
    assert errors(await images.fail(held.id, held.attempts, FAILURE, HOUR, "The second.")) == ("The first.", "The second.")


async def test_a_failure_without_an_attempt_leaves_what_is_remembered(images: ImageStore) -> None:
    new = await added(images)
    assert errors(await images.fail(new.id, 0, FAILURE, HOUR)) == (None, None)

    held = await claimed(images)
    await images.retry(held.id, held.attempts, PAST, ERROR, outage=False)
    assert errors(await images.fail(held.id, held.attempts, FAILURE, HOUR)) == (ERROR, ERROR)


async def test_a_claim_after_a_lease_remembers_that_it_ended(images: ImageStore) -> None:
    held = await claimed(images, PAST)
    assert errors(await again(images, held)) == (LEASE_ENDED, LEASE_ENDED)


async def test_taking_after_a_lease_remembers_that_it_ended(images: ImageStore) -> None:
    held = await claimed(images, HOUR)
    await images.retry(held.id, held.attempts, PAST, ERROR, outage=False)
    held = await images.claim(held.id, PAST) or held
    [taken] = await images.take_due(10, PAST)
    assert errors(taken) == (ERROR, LEASE_ENDED)
    assert await images.get(held.id) == taken
    # once: it is queued now
    assert await images.take_due(10, PAST) == [taken]


async def test_what_is_refused_remembers_nothing(images: ImageStore) -> None:
    held = await claimed(images)
    assert await images.retry(held.id, held.attempts + 1, PAST, ERROR, outage=False) is None
    assert await images.fail(held.id, held.attempts - 1, FAILURE, PAST, ERROR) is None
    assert await images.claim(held.id, HOUR) is None
    assert await images.get(held.id) == held
    done = await completed(images)
    assert await images.retry(done.id, done.attempts, PAST, ERROR, outage=False) is None
    assert await images.get(done.id) == done


# ---- redrive


async def test_a_failed_image_is_sent_again_as_if_it_had_not_been_tried(images: ImageStore) -> None:
    lost = await failed_after_outages(images)
    assert (lost.attempts, lost.outages, errors(lost)) == (3, 2, ("The first.", "The third."))
    await images.settle(lost.id, lost.attempts)

    sent = await images.redrive(lost.id)

    assert sent is not None
    assert (sent.status, sent.failure, sent.version) == (ImageStatus.QUEUED, None, lost.version + 1)
    # the fence goes on
    assert (sent.attempts, sent.forgiven, sent.outages, errors(sent)) == (4, 4, 0, (None, None))
    assert sent.updated_at >= lost.updated_at
    assert await images.get(lost.id) == sent
    assert await due(images) == [sent]
    held = await again(images, sent)
    assert (held.attempts, held.forgiven) == (5, 4)
    assert held.result_keys[-1] == held.result_key


@pytest.mark.parametrize("status", [status for status in ImageStatus if status is not ImageStatus.FAILED])
async def test_only_a_failed_image_is_sent_again(images: ImageStore, status: ImageStatus) -> None:
    row = await EVERY_STATE[status](images)
    assert await images.redrive(row.id) is None
    assert await images.get(row.id) == row


async def test_what_is_gone_or_deleted_is_not_sent_again(images: ImageStore) -> None:
    assert await images.redrive(uuid7()) is None
    lost = await failed(images)
    deleted = await images.mark_deleted(lost.id, None, PAST)
    assert await images.redrive(lost.id) is None
    assert await due(images) == []
    assert await due(images, deleted=True) == [deleted]


@pytest.mark.parametrize("write", [FENCED[name] for name in ("renew", "complete", "retry", "fail")])
async def test_a_worker_of_an_attempt_before_it_writes_nothing(images: ImageStore, write: Write) -> None:
    lost = await failed_after_outages(images)
    await images.redrive(lost.id)
    # at once, as it may have stood still since before the image failed
    sent = await images.get(lost.id)
    assert sent is not None
    assert not await write(images, sent, lost.attempts)
    assert await images.get(lost.id) == sent
    # nor when somebody else has the image
    held = await again(images, sent)
    assert not await write(images, held, lost.attempts)
    assert await images.get(lost.id) == held


async def test_a_dead_letter_that_is_confirmed_late_does_not_settle_what_was_sent_again(images: ImageStore) -> None:
    lost = await failed(images, PAST)
    sent = await images.redrive(lost.id)
    await images.settle(lost.id, lost.attempts)
    assert await due(images) == [sent]


async def test_of_concurrent_redrives_one_succeeds(images: ImageStore) -> None:
    lost = await failed(images)
    answers = await asyncio.gather(*(images.redrive(lost.id) for _ in range(AT_ONCE)))
    [sent] = [answer for answer in answers if answer is not None]
    assert sent.version == lost.version + 1
    assert await images.get(lost.id) == sent


async def test_it_may_fail_and_be_sent_again_any_number_of_times(images: ImageStore) -> None:
    row = await failed(images)
    for attempts in range(2, 10, 2):
        sent = await images.redrive(row.id)
        assert sent is not None
        assert (sent.attempts, sent.forgiven) == (attempts, attempts)
        held = await again(images, sent)
        lost = await images.fail(held.id, held.attempts, FAILURE, HOUR, str(attempts))
        assert errors(lost) == (str(attempts), str(attempts))
    # until it does not
    await images.redrive(row.id)
    held = await again(images, row)
    done = await images.complete(held.id, held.attempts, RESULT)
    assert done is not None
    assert (done.status, done.failure) == (ImageStatus.COMPLETED, None)


@pytest.mark.parametrize("make", [failed])
async def test_one_that_is_deleted_as_it_is_sent_again_is_gone(images: ImageStore, make: Make) -> None:
    rows = [await make(images) for _ in range(AT_ONCE)]
    both = ((images.redrive(row.id), images.mark_deleted(row.id, row.owner, PAST)) for row in rows)
    await asyncio.gather(*(call for calls in both for call in calls))
    assert {row.id for row in await due(images, deleted=True)} == {row.id for row in rows}
    assert await due(images) == []


async def test_a_dead_letter_that_is_confirmed_late_settles_no_later_failure(images: ImageStore) -> None:
    # given an image that failed, was sent again, and failed again
    first = await failed(images)
    await images.redrive(first.id)
    again = await images.claim(first.id, HOUR)
    assert again is not None
    await images.fail(again.id, again.attempts, FAILURE, PAST)

    await images.settle(first.id, first.attempts)

    # whose own letter is still to be sent
    assert [row.id for row in await due(images)] == [first.id]
