"""Listing images: whose they are, where a page ends, and what pages are worth while images come and go."""

from pathlib import Path
from uuid import UUID

import pytest

from common.errors import Forbidden
from common.images import Image, ImageStatus, Principal
from common.usecases.delete_image import delete_image
from common.usecases.list_images import Page, list_images
from tests.world import ADMIN, ALICE, BOB, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def listed(
    world: World,
    who: Principal = ALICE,
    *,
    owner: str | None = None,
    status: ImageStatus | None = None,
    after: UUID | None = None,
    limit: int = 2,
) -> Page:
    return await list_images(world.ports, who, owner=owner, status=status, after=after, limit=limit)


def ids(images: list[Image]) -> list[UUID]:
    return [image.id for image in images]


async def submitted(world: World, number: int) -> list[UUID]:
    """The newest first."""
    return ids([await world.submit() for _ in range(number)])[::-1]


async def test_nothing_is_an_empty_last_page(world: World) -> None:
    assert await listed(world) == Page(items=[], last=None)


@pytest.mark.parametrize(("number", "pages"), [(1, [1]), (2, [2]), (3, [2, 1]), (4, [2, 2]), (5, [2, 2, 1])])
async def test_pages_follow_on_each_other_and_the_last_says_that_it_is(world: World, number: int, pages: list[int]) -> None:
    wanted = await submitted(world, number)
    found: list[UUID] = []
    sizes = []
    last: UUID | None = None
    while True:
        page = await listed(world, after=last)
        found += ids(list(page.items))
        sizes.append(len(page.items))
        last = page.last
        if last is None:
            break
        assert last == page.items[-1].id
    assert sizes == pages
    assert found == wanted


async def test_rows_deleted_between_pages_are_skipped_and_no_other(world: World) -> None:
    newest, second, third, fourth, oldest = await submitted(world, 5)
    page = await listed(world)
    assert ids(list(page.items)) == [newest, second]
    # when the one that the next page begins after is deleted, and the first of that
    for image_id in (second, third):
        await delete_image(world.ports, ALICE, image_id)
    page = await listed(world, after=page.last)
    assert ids(list(page.items)) == [fourth, oldest]
    assert page.last is None


async def test_where_the_rest_is_deleted_the_next_page_is_empty(world: World) -> None:
    *_, oldest = await submitted(world, 3)
    page = await listed(world)
    await delete_image(world.ports, ALICE, oldest)
    assert await listed(world, after=page.last) == Page(items=[], last=None)


async def test_new_images_do_not_shift_pages(world: World) -> None:
    wanted = await submitted(world, 4)
    first = await listed(world)
    newer = await submitted(world, 3)
    second = await listed(world, after=first.last)
    assert ids([*first.items, *second.items]) == wanted
    assert second.last is None
    assert ids(list((await listed(world)).items)) == newer[:2]


async def test_a_status_is_the_present_one(world: World) -> None:
    made = {status: (await world.image_in(status)).id for status in ImageStatus}
    for status, image_id in made.items():
        page = await listed(world, status=status)
        assert ids(list(page.items)) == [image_id]
        assert page.last is None
    await world.process(world.images.rows[made[ImageStatus.UPLOADED]].image)
    assert (await listed(world, status=ImageStatus.UPLOADED)).items == []


async def test_everybody_lists_their_own_and_an_admin_all_or_anybodys(world: World) -> None:
    alices, bobs = (await world.submit()).id, (await world.submit(principal=BOB)).id
    for who, owner, wanted in (
        (ALICE, None, [alices]),
        (ALICE, "alice", [alices]),
        (BOB, None, [bobs]),
        (ADMIN, None, [bobs, alices]),
        (ADMIN, "alice", [alices]),
        (ADMIN, "root", []),
        (ADMIN, "nobody", []),
    ):
        assert ids(list((await listed(world, who, owner=owner)).items)) == wanted


@pytest.mark.parametrize("owner", ["bob", "nobody", "", "ALICE", "alice "])
async def test_nobody_but_an_admin_lists_somebody_elses(world: World, owner: str) -> None:
    await world.submit(principal=BOB)
    with pytest.raises(Forbidden):
        await listed(world, owner=owner)
