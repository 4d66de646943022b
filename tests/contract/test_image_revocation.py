"""What ImageStore promises whoever asks what became of an `add` that ended without an answer, of every adapter and the fake."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from common.images import IdempotencyKey, Image
from common.ports import ImageStore
from tests.builders import image
from tests.contract.image_stores import HOUR, PAST, Make, claimed, completed, due, in_every_state
from tests.fakes import FakeImageStore

KEY = IdempotencyKey(text="a key", fingerprint="1")
ROUNDS = 50
NO_TIME = timedelta(0)


async def add_too_late(images: ImageStore, new: Image, key: IdempotencyKey | None = None) -> bool:
    """→ whether the row was stored. What is raised is nobody's concern: whoever asked has gone."""
    with suppress(Exception):
        return (await images.add(new, PAST, key)).id == new.id
    return False


@in_every_state
async def test_what_was_stored_is_answered_with_and_left_as_it_is(images: ImageStore, make: Make) -> None:
    row = await make(images)
    assert await images.revoke(row, PAST) == row
    assert await images.get(row.id) == row
    assert await due(images) == []
    assert await due(images, deleted=True) == []


async def test_what_was_not_stored_never_will_be(images: ImageStore) -> None:
    new = image()
    assert await images.revoke(new, HOUR) is None
    assert not await add_too_late(images, new)
    assert await images.get(new.id) is None
    assert list(await images.page(owner=None, status=None, before=None, limit=10)) == []
    assert await due(images) == []
    assert await images.claim(new.id, HOUR) is None


async def test_its_mark_is_due_as_a_deletion_after_its_time_and_then_removed(images: ImageStore) -> None:
    new, other = image(), image()
    await images.revoke(new, HOUR)
    assert await due(images, deleted=True) == []
    await images.revoke(other, PAST)
    [marked] = await due(images, deleted=True)
    assert (marked.id, marked.deleted, marked.attempts) == (other.id, True, 0)
    await images.remove(other.id)
    assert await due(images, deleted=True) == []


async def test_it_may_be_asked_again(images: ImageStore) -> None:
    new = image()
    for _ in range(3):
        assert await images.revoke(new, PAST) is None
    assert [row.id for row in await due(images, deleted=True)] == [new.id]
    held = await claimed(images)
    for _ in range(3):
        assert await images.revoke(held, PAST) == held


async def test_a_deleted_image_is_answered_as_not_there(images: ImageStore) -> None:
    row = await completed(images)
    deleted = await images.mark_deleted(row.id, None, PAST)
    assert await images.revoke(row, HOUR) is None
    assert await due(images, deleted=True) == [deleted]


async def test_an_upload_that_is_too_late_does_not_take_its_key(images: ImageStore) -> None:
    if isinstance(images, FakeImageStore):
        pytest.skip("the fake has no transactions to undo")
    new = image()
    await images.revoke(new, HOUR)
    assert not await add_too_late(images, new, KEY)
    other = image()
    assert (await images.add(other, HOUR, KEY)).id == other.id


@pytest.fixture
async def with_connections(images: ImageStore) -> ImageStore:
    await asyncio.gather(*(images.get(image().id) for _ in range(20)))
    return images


@pytest.mark.parametrize("with_key", [False, True])
async def test_an_answer_that_races_its_upload_is_true_for_ever(with_connections: ImageStore, *, with_key: bool) -> None:
    images = with_connections

    async def race(number: int) -> bool:
        new = image()
        key = IdempotencyKey(text=str(number), fingerprint="1") if with_key else None
        adding = asyncio.create_task(add_too_late(images, new, key))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        found = await images.revoke(new, NO_TIME)
        is_stored = await adding
        assert (found is not None) is is_stored
        assert await images.get(new.id) == found
        return is_stored

    await asyncio.gather(*(race(number) for number in range(ROUNDS)))
