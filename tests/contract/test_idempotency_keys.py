"""What ImageStore promises of idempotency keys, of every adapter and the fake: an owner's key is one image's, and no more."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from common.errors import IdempotencyMismatch
from common.images import IdempotencyKey, Image
from common.ports import ImageStore
from tests.builders import image
from tests.contract.image_stores import HOUR, PAST, RESULT, age_keys

KEY = IdempotencyKey(text="a key", fingerprint="1" * 64)
OTHER_UPLOAD = replace(KEY, fingerprint="2" * 64)
DAY = timedelta(hours=24)
MINUTE = timedelta(minutes=1)
AT_ONCE = 20


async def stored(images: ImageStore) -> list[Image]:
    return list(await images.page(owner=None, status=None, before=None, limit=100))


async def test_a_new_key_stores_the_image(images: ImageStore) -> None:
    new = image()
    assert await images.add(new, PAST, KEY) == new
    assert await stored(images) == [new]
    assert await images.take_due(10, HOUR) == [new]


async def test_a_key_again_is_answered_with_the_first_ones_image_as_it_is_now(images: ImageStore) -> None:
    first = image()
    await images.add(first, PAST, KEY)
    assert await images.add(image(), HOUR, KEY) == first
    held = await images.claim(first.id, HOUR)
    assert held is not None
    assert await images.add(image(), HOUR, KEY) == held
    done = await images.complete(first.id, held.attempts, RESULT)
    assert await images.add(image(), HOUR, KEY) == done
    assert await stored(images) == [done]


async def test_a_key_of_another_upload_is_refused_and_nothing_is_stored(images: ImageStore) -> None:
    first = await images.add(image(), HOUR, KEY)
    for _ in range(2):
        with pytest.raises(IdempotencyMismatch):
            await images.add(image(), PAST, OTHER_UPLOAD)
    # then the key is as it was
    assert await images.add(image(), PAST, KEY) == first
    assert await stored(images) == [first]
    assert await images.take_due(10, HOUR) == []


async def test_a_key_is_its_owners_and_to_the_letter(images: ImageStore) -> None:
    keys = [replace(KEY, text=text) for text in ("a key", "A key", "a key ", "é" * 255, "'; --", "0")]
    rows = [await images.add(image(owner=owner), HOUR, key) for owner in ("alice", "bob") for key in keys]
    assert len({row.id for row in rows}) == len(rows) == len(await stored(images))
    again = [await images.add(image(owner=owner), HOUR, key) for owner in ("alice", "bob") for key in keys]
    assert again == rows


async def test_without_a_key_the_same_upload_is_stored_again(images: ImageStore) -> None:
    rows = [await images.add(image(), HOUR) for _ in range(2)]
    assert await stored(images) == rows[::-1]


async def test_a_key_lives_for_a_day(images: ImageStore) -> None:
    first = await images.add(image(), HOUR, KEY)
    await age_keys(images, DAY - MINUTE)
    assert await images.add(image(), HOUR, KEY) == first
    # a replay does not make it live longer
    await age_keys(images, DAY + MINUTE)
    second = await images.add(image(), HOUR, OTHER_UPLOAD)
    assert second.id != first.id
    assert await images.add(image(), HOUR, OTHER_UPLOAD) == second
    await age_keys(images, DAY - MINUTE)
    assert await images.add(image(), HOUR, OTHER_UPLOAD) == second
    assert await stored(images) == [second, first]


async def test_the_deletion_of_the_first_image_leaves_a_key_that_is_anothers_by_now(images: ImageStore) -> None:
    first = await images.add(image(), HOUR, KEY)
    await age_keys(images, DAY + MINUTE)
    second = await images.add(image(), HOUR, KEY)
    await images.mark_deleted(first.id, None, HOUR)
    assert await images.add(image(), HOUR, KEY) == second


async def test_a_deletion_frees_the_images_key_at_once_and_no_other(images: ImageStore) -> None:
    first = await images.add(image(), HOUR, KEY)
    bobs = await images.add(image(owner="bob"), HOUR, KEY)
    await images.mark_deleted(first.id, "bob", HOUR)
    assert await images.add(image(), HOUR, KEY) == first

    await images.mark_deleted(first.id, "alice", HOUR)
    second = await images.add(image(), HOUR, OTHER_UPLOAD)
    assert second.id != first.id
    await images.remove(first.id)
    assert await images.add(image(), HOUR, OTHER_UPLOAD) == second
    assert await images.add(image(owner="bob"), HOUR, KEY) == bobs


async def test_of_concurrent_uploads_with_one_key_one_is_stored(images: ImageStore) -> None:
    # given as many connections
    await asyncio.gather(*(images.get(image().id) for _ in range(AT_ONCE)))
    for _ in range(5):
        before = await stored(images)
        await age_keys(images, DAY + MINUTE)
        answers = await asyncio.gather(*(images.add(image(), HOUR, KEY) for _ in range(AT_ONCE)))
        [new] = [row for row in await stored(images) if row not in before]
        assert answers == [new] * AT_ONCE


async def test_of_concurrent_uploads_with_one_key_others_than_the_first_are_refused(images: ImageStore) -> None:
    await asyncio.gather(*(images.get(image().id) for _ in range(AT_ONCE)))
    rows = [image(id=image().id, filename=f"{number}.jpg") for number in range(AT_ONCE)]
    answers = await asyncio.gather(
        *(images.add(row, HOUR, (KEY, OTHER_UPLOAD)[number % 2]) for number, row in enumerate(rows)), return_exceptions=True
    )
    [first] = await stored(images)
    same = rows.index(first) % 2
    assert answers[same::2] == [first] * (AT_ONCE // 2)
    assert [type(answer) for answer in answers[1 - same :: 2]] == [IdempotencyMismatch] * (AT_ONCE // 2)


async def test_uploads_that_race_the_deletion_of_the_keys_image_agree_on_the_next(images: ImageStore) -> None:
    first = await images.add(image(), HOUR, KEY)

    async def upload_until_it_is_another() -> list[Image]:
        answers: list[Image] = []
        while not answers or answers[-1] == first:
            answers.append(await images.add(image(), HOUR, KEY))
            await asyncio.sleep(0)  # the fake never makes anybody wait
        return answers

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        uploads = [group.create_task(upload_until_it_is_another()) for _ in range(AT_ONCE - 1)]
        group.create_task(images.mark_deleted(first.id, None, HOUR))
    # then each was answered with the first one's image until that was deleted, and then with one other
    [second] = await stored(images)
    assert {upload.result()[-1].id for upload in uploads} == {second.id}
