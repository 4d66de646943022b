"""What ImageStore promises of pages, of every adapter and the fake."""

import random
from itertools import product
from uuid import UUID

import pytest
from uuid6 import uuid7

from common.images import Image, ImageStatus
from common.ports import ImageStore
from tests.contract.image_stores import EVERY_STATE, HOUR, added

OWNERS = ("alice", "bob")


async def walked(images: ImageStore, limit: int, owner: str | None = None, status: ImageStatus | None = None) -> list[Image]:
    """All pages, one after the other."""
    found: list[Image] = []
    while True:
        page = await images.page(owner=owner, status=status, before=found[-1].id if found else None, limit=limit)
        assert len(page) <= limit
        found += page
        if len(page) < limit:
            return found


async def test_a_page_is_the_newest_images_in_order(images: ImageStore) -> None:
    ids = [uuid7() for _ in range(7)]
    for image_id in random.sample(ids, 7):
        await added(images, id=image_id)
    newest_first = sorted(ids, reverse=True)
    assert [row.id for row in await images.page(owner=None, status=None, before=None, limit=3)] == newest_first[:3]
    assert [row.id for row in await images.page(owner="alice", status=None, before=newest_first[2], limit=3)] == newest_first[3:6]
    assert [row.id for row in await images.page(owner=None, status=None, before=None, limit=7)] == newest_first
    assert [row.id for row in await images.page(owner=None, status=None, before=None, limit=100)] == newest_first
    assert await images.page(owner=None, status=None, before=min(ids), limit=3) == []


async def test_an_image_on_a_page_is_all_of_it(images: ImageStore) -> None:
    rows = [await make(images) for make in EVERY_STATE.values()]
    assert list(reversed(await images.page(owner=None, status=None, before=None, limit=100))) == rows
    assert [await images.get(row.id) for row in rows] == rows


async def test_every_filter_goes_with_every_other(images: ImageStore) -> None:
    rows = [
        await EVERY_STATE[status](images, owner=owner)
        for owner, status, _ in random.sample(list(product(OWNERS, ImageStatus, range(3))), 30)
    ]
    for row in random.sample(rows, 8):
        await images.mark_deleted(row.id, None, HOUR)
        rows.remove(row)
    rows.reverse()
    for owner, status, limit in product((None, *OWNERS, "nobody"), (None, *ImageStatus), (1, 3, 100)):
        wanted = [row for row in rows if owner in (None, row.owner) and status in (None, row.status)]
        assert await walked(images, limit, owner, status) == wanted


@pytest.mark.parametrize("owner", [None, "alice"])
async def test_images_of_the_same_millisecond_are_each_found_once(images: ImageStore, owner: str | None) -> None:
    # given ids that differ in their last bits, or in the first ones after the time
    start = uuid7().int >> 80 << 80 | 7 << 76 | 2 << 62
    ids = [UUID(int=start | tail) for tail in (*range(5), *((n << 64) for n in range(1, 5)), *((n << 56) for n in range(1, 5)))]
    for image_id in random.sample(ids, len(ids)):
        await added(images, id=image_id)
    assert [row.id for row in await walked(images, 2, owner)] == sorted(ids, reverse=True)


async def test_a_page_begins_where_a_row_was_that_is_gone(images: ImageStore) -> None:
    oldest, middle, newest = [await added(images) for _ in range(3)]
    await images.mark_deleted(middle.id, None, HOUR)
    assert await images.page(owner=None, status=None, before=middle.id, limit=3) == [oldest]
    await images.remove(middle.id)
    assert await images.page(owner=None, status=None, before=middle.id, limit=3) == [oldest]
    assert await images.page(owner=None, status=None, before=None, limit=3) == [newest, oldest]


async def test_an_owner_is_matched_to_the_letter(images: ImageStore) -> None:
    odd = await added(images, owner="o'brien_% ö\\")
    for other in ("o'brien_%", "O'BRIEN_% ö\\", "alice"):
        await added(images, owner=other)
    assert await walked(images, 2, odd.owner) == [odd]
