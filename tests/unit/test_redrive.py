"""Dead letters are found by what is asked for, and sent again once, whatever crashes and however often it is repeated."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from common.adapters.memory import BuriedMessage
from common.errors import PictureRefused, Unavailable
from common.images import FailureCode, Image, ImageStatus
from common.messages import UNKNOWN, dead_letter_headers
from common.ports import Ports
from common.usecases.delete_image import delete_image
from common.usecases.dispatch_due import dispatch_until_none_is_due
from common.usecases.find_dead_letters import BATCH, Wanted, failed_images, wanted_letters
from common.usecases.redrive import Fate, purge_letters, redrive_images, redrive_letters
from tests.caches import known, remember
from tests.disturbed import Failing, Watched
from tests.world import ALICE, DISPATCH, World

EVERYTHING = Wanted()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def failed(world: World, code: FailureCode = FailureCode.CORRUPT_IMAGE) -> Image:
    image = await world.submit()
    world.renderer.error = PictureRefused(code, "Not to be had.")
    processed = await world.process(image)
    world.renderer.error = None
    assert processed is not None
    return processed


async def redriven(
    ports: Ports, wanted: Wanted = EVERYTHING, *, rows: bool = False, dry_run: bool = False
) -> list[tuple[UUID | None, Fate]]:
    by = redrive_images if rows else redrive_letters
    async with aclosing(by(ports, wanted, dry_run=dry_run)) as done:
        return [(one.letter.image_id, one.fate) async for one in done]


async def letters(world: World, wanted: Wanted = EVERYTHING) -> list[UUID | None]:
    async with aclosing(wanted_letters(world.ports, wanted)) as found:
        return [held.letter.image_id async for held in found]


async def purged(world: World, wanted: Wanted = EVERYTHING, *, dry_run: bool = False) -> list[UUID | None]:
    async with aclosing(purge_letters(world.ports, wanted, dry_run=dry_run)) as done:
        return [letter.image_id async for letter in done]


async def done_by_worker(world: World, image: Image) -> Image | None:
    """What the dispatcher and a worker make of it."""
    await dispatch_until_none_is_due(world.ports, DISPATCH)
    return await world.process(image)


# ---- Redriving


async def test_a_redriven_image_goes_through_everything_again(world: World) -> None:
    # given
    image = await failed(world)
    # when
    assert await redriven(world.ports) == [(image.id, Fate.SENT)]
    # then
    row = world.images.rows[image.id]
    assert (row.image.status, row.image.failure, row.due) == (ImageStatus.QUEUED, None, world.now)
    assert (row.image.attempts, row.image.forgiven) == (2, 2)
    assert await letters(world) == []
    completed = await done_by_worker(world, image)
    assert completed is not None
    assert (completed.status, completed.attempts) == (ImageStatus.COMPLETED, 3)


async def test_readers_see_that_it_is_queued_again(world: World) -> None:
    image = await failed(world)
    await remember(world.cache, image)

    await redriven(world.ports)

    assert await known(world.cache, image.id) is None


async def test_one_that_fails_again_has_one_letter_again(world: World) -> None:
    image = await failed(world)

    await redriven(world.ports)
    world.renderer.error = PictureRefused(FailureCode.CORRUPT_IMAGE, "Still not.")
    await done_by_worker(world, image)

    assert await letters(world) == [image.id]


async def test_repeating_it_harms_nothing(world: World) -> None:
    # given
    image = await failed(world)
    await redriven(world.ports)
    sent = world.images.rows[image.id].image
    # when
    assert await redriven(world.ports) == []
    assert await redriven(world.ports, rows=True) == []
    # then
    assert world.images.rows[image.id].image == sent


@pytest.mark.parametrize("state", ["queued", "completed", "deleted"])
async def test_the_letter_of_an_image_that_is_not_failed_any_more_is_only_removed(world: World, state: str) -> None:
    # given
    image = await failed(world)
    await redriven(world.ports)
    await world.queue.publish_dead(image)
    if state == "completed":
        await done_by_worker(world, image)
    elif state == "deleted":
        await delete_image(world.ports, ALICE, image.id)
    before = world.images.rows.get(image.id)
    # when
    assert await redriven(world.ports) == [(image.id, Fate.NOT_FAILED)]
    # then
    assert world.images.rows.get(image.id) == before
    assert await letters(world) == []


async def test_an_image_with_two_letters_is_sent_once_though_it_fails_meanwhile(world: World) -> None:
    # given
    image = await failed(world)
    await world.queue.publish_dead(image)
    fates = []
    # when
    async with aclosing(redrive_letters(world.ports, EVERYTHING)) as done:
        async for one in done:
            fates.append(one.fate)
            world.renderer.error = PictureRefused(FailureCode.CORRUPT_IMAGE, "Still not.")
            await done_by_worker(world, image)
    # then
    assert fates == [Fate.SENT, Fate.NOT_FAILED]
    assert world.renderer.calls == 2  # once before, and once again
    assert await letters(world) == [image.id]


@pytest.mark.parametrize("body", [b"nonsense", b'{"v": 2}'])
async def test_what_cannot_be_read_is_left_and_said(world: World, body: bytes) -> None:
    # given
    world.queue.dead_letters.append(BuriedMessage(body=body, request_id="r", headers={}))
    image = await failed(world)
    # when
    assert await redriven(world.ports) == [(None, Fate.UNREADABLE), (image.id, Fate.SENT)]
    # then
    assert await letters(world) == [None]


async def test_a_dry_run_says_the_same_and_does_nothing(world: World) -> None:
    # given
    first, second = await failed(world), await failed(world)
    await world.images.redrive(second.id)
    world.queue.dead_letters.append(BuriedMessage(body=b"nonsense", request_id="r", headers={}))
    rows = {image_id: replace(row) for image_id, row in world.images.rows.items()}
    # when
    planned = await redriven(world.ports, dry_run=True)
    # then
    assert {image_id: replace(row) for image_id, row in world.images.rows.items()} == rows
    assert await letters(world) == [first.id, second.id, None]
    assert await redriven(world.ports) == planned == [(first.id, Fate.SENT), (second.id, Fate.NOT_FAILED), (None, Fate.UNREADABLE)]


async def test_of_two_operators_at_once_one_sends_each_image(world: World) -> None:
    # given
    images = [await failed(world) for _ in range(5)]
    # when
    both = await asyncio.gather(redriven(world.ports), redriven(world.ports))
    # then
    sent = [image_id for fates in both for image_id, fate in fates if fate is Fate.SENT]
    assert sorted(map(str, sent)) == sorted(str(image.id) for image in images)
    assert all(row.image.forgiven == 2 for row in world.images.rows.values())
    assert await letters(world) == []


async def _calls(tmp_path: Path) -> list[str]:
    tmp_path.mkdir()
    world = World(tmp_path)
    for _ in range(2):
        await failed(world)
    watched = Watched(world.ports)
    await redriven(watched.ports)
    return watched.calls


@pytest.mark.parametrize("after", [False, True])
async def test_what_fails_anywhere_can_be_done_again(tmp_path: Path, after: bool) -> None:
    calls = await _calls(tmp_path / "calls")
    assert calls.count("images.redrive") == 2
    for number in range(1, len(calls) + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        world = World(folder)
        images = [await failed(world) for _ in range(2)]
        failing = Failing(world.ports, number, after=after)
        # when
        try:
            await redriven(failing.ports)
        except Unavailable:
            assert failing.at == calls[number - 1]
            assert failing.at in ("images.redrive", "dead_letters.walk", "dead_letters.remove"), "no reason to stop"
        # then nothing is lost: each image is sent, or has its letter
        found = await letters(world)
        for image in images:
            assert image.id in found or world.images.rows[image.id].image.status is ImageStatus.QUEUED
        # and doing it again does the rest
        await redriven(world.ports)
        assert await letters(world) == []
        for image in images:
            row = world.images.rows[image.id].image
            assert (row.status, row.forgiven, row.version) == (ImageStatus.QUEUED, 2, image.version + 1)


# ---- By the rows


async def test_by_the_rows_no_letter_is_needed(world: World) -> None:
    # given more than are read at a time, and none of them has a letter any more
    images = [await failed(world) for _ in range(BATCH + 3)]
    await world.image_in(ImageStatus.COMPLETED)
    await purged(world)
    # when
    fates = await redriven(world.ports, rows=True)
    # then
    assert fates == [(image.id, Fate.SENT) for image in reversed(images)]
    assert all(world.images.rows[image.id].image.status is ImageStatus.QUEUED for image in images)


async def test_by_the_rows_the_letters_stay_and_are_only_removed_later(world: World) -> None:
    image = await failed(world)

    assert await redriven(world.ports, rows=True) == [(image.id, Fate.SENT)]
    assert await letters(world) == [image.id]
    assert await redriven(world.ports) == [(image.id, Fate.NOT_FAILED)]


async def test_a_row_says_what_its_letter_says(world: World) -> None:
    image = await failed(world)

    async with aclosing(failed_images(world.ports, EVERYTHING)) as found:
        [by_row] = [letter async for letter in found]
    async with aclosing(wanted_letters(world.ports, EVERYTHING)) as walk:
        [by_letter] = [held.letter async for held in walk]

    assert by_row == by_letter
    assert by_row.headers == dead_letter_headers(image)


# ---- Purging


async def test_purging_removes_letters_and_leaves_the_images(world: World) -> None:
    image = await failed(world)
    world.queue.dead_letters.append(BuriedMessage(body=b"nonsense", request_id="r", headers={}))
    before = replace(world.images.rows[image.id])

    assert await purged(world, dry_run=True) == [image.id, None]
    assert await letters(world) == [image.id, None]
    assert await purged(world) == [image.id, None]

    assert await letters(world) == []
    assert world.images.rows[image.id] == before
    assert await redriven(world.ports, rows=True) == [(image.id, Fate.SENT)]


async def test_the_database_is_not_asked_where_only_letters_matter(world: World) -> None:
    await failed(world)
    watched = Watched(world.ports)

    async with aclosing(purge_letters(watched.ports, Wanted(reasons=frozenset({"corrupt-image"})))) as done:
        assert len([letter async for letter in done]) == 1

    assert set(watched.calls) == {"dead_letters.walk", "dead_letters.remove"}


# ---- Which


async def test_they_are_found_by_what_is_asked_for(world: World) -> None:
    # given one of an hour ago, one of ten minutes ago, and one of which nothing is known
    old = await failed(world)
    world.let_pass(timedelta(minutes=50))
    young = await failed(world, FailureCode.LIMIT_EXCEEDED)
    world.let_pass(timedelta(minutes=10))
    world.queue.dead_letters.append(BuriedMessage(body=b"nonsense", request_id="r", headers={}))

    for asked, found in (
        ({}, [old.id, young.id, None]),
        ({"limit": 2}, [old.id, young.id]),
        ({"reasons": {"corrupt-image"}}, [old.id]),
        ({"reasons": {"corrupt-image", "limit-exceeded"}}, [old.id, young.id]),
        ({"reasons": {UNKNOWN}}, [None]),
        ({"images": {young.id}}, [young.id]),
        ({"images": {young.id}, "reasons": {"corrupt-image"}}, []),
        ({"older_than": timedelta(minutes=30)}, [old.id]),
        ({"newer_than": timedelta(minutes=30)}, [young.id]),
        ({"older_than": timedelta(minutes=5), "newer_than": timedelta(minutes=30)}, [young.id]),
        ({"older_than": timedelta(minutes=30), "newer_than": timedelta(minutes=5)}, []),
        ({"newer_than": timedelta(days=100), "limit": 1}, [old.id]),
    ):
        what: dict[str, Any] = {name: frozenset(value) if isinstance(value, set) else value for name, value in asked.items()}
        assert await letters(world, Wanted(**what)) == found, asked


async def test_no_more_than_the_limit_are_sent_and_the_others_stay(world: World) -> None:
    first, second, third = [await failed(world) for _ in range(3)]

    assert await redriven(world.ports, Wanted(limit=2)) == [(first.id, Fate.SENT), (second.id, Fate.SENT)]

    assert await letters(world) == [third.id]
    assert await redriven(world.ports, Wanted(limit=2), rows=True) == [(third.id, Fate.SENT)]
