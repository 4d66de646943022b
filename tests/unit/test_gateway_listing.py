"""Lists: pages of the caller's own images, the newest first, whose cursors are good for that query alone."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from uuid6 import uuid7

from common.errors import InvalidParameter
from gateway.cursors import cursor_of, position_in
from tests.builders import image
from tests.gateway import ADMIN, ALICE, BOB, MOMENT, World, away, running, slug

IMAGES = "/api/v1/images"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def add(world: World, count: int, owner: str = "alice") -> list[str]:
    """→ their ids, the newest first."""
    added = [image(owner=owner) for _ in range(count)]
    for one in added:
        await world.images.add(one, MOMENT)
    return [str(one.id) for one in reversed(added)]


async def listed(world: World, who: dict[str, str] = ALICE, **query: str) -> tuple[list[str], str | None]:
    answer = await world.http.get(IMAGES, headers=who, params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]], answer.json()["next_cursor"]


async def pages(world: World, who: dict[str, str] = ALICE, **query: str) -> list[list[str]]:
    ids, cursor = await listed(world, who, **query)
    found = [ids]
    while cursor is not None:
        ids, cursor = await listed(world, who, cursor=cursor, **query)
        found.append(ids)
    return found


async def test_no_images_are_an_empty_page(world: World) -> None:
    answer = await world.get(IMAGES)

    assert (answer.status_code, answer.json()) == (200, {"items": [], "next_cursor": None})
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["Vary"] == "Accept, Authorization"
    assert answer.headers["Content-Type"] == "application/json"


async def test_an_item_is_the_image_resource(world: World) -> None:
    for make in (world.failed, world.completed):
        image_id = await make()

        [item] = (await world.http.get(IMAGES, headers=ALICE, params={"limit": "1"})).json()["items"]

        assert item == (await world.get(f"{IMAGES}/{{}}", image_id)).json()


async def test_pages_follow_each_other_without_a_gap(world: World) -> None:
    ids = await add(world, 7)
    await add(world, 3, owner="bob")

    assert await pages(world, limit="3") == [ids[:3], ids[3:6], ids[6:]]
    assert await pages(world, limit="7") == [ids]
    assert await pages(world, limit="100") == [ids]


async def test_a_page_has_twenty_unless_told(world: World) -> None:
    ids = await add(world, 21)

    assert await pages(world) == [ids[:20], ids[20:]]


async def test_what_comes_or_goes_meanwhile_moves_no_page(world: World) -> None:
    ids = await add(world, 6)
    first, cursor = await listed(world, limit="2")

    # when there is a newer one, and the last one seen is deleted
    await add(world, 1)
    assert (await world.http.delete(f"{IMAGES}/{ids[1]}", headers=ALICE)).status_code == 200

    assert first == ids[:2]
    assert (await listed(world, limit="2", cursor=str(cursor)))[0] == ids[2:4]


async def test_by_status(world: World) -> None:
    completed, failed, queued = await world.completed(), await world.failed(), await world.uploaded()

    for status, image_id in (("completed", completed), ("failed", failed), ("queued", queued)):
        assert await listed(world, status=status) == ([str(image_id)], None)
    assert await listed(world, status="processing") == ([], None)


async def test_an_admin_sees_everybodys_or_one_owners(world: World) -> None:
    alices, bobs = await add(world, 2), await add(world, 2, owner="bob")

    assert await pages(world, ADMIN, limit="3") == [bobs + alices[:1], alices[1:]]
    assert await pages(world, ADMIN, owner="alice", limit="1") == [[alices[0]], [alices[1]]]
    assert await listed(world, ADMIN, owner="nobody") == ([], None)
    assert await listed(world, BOB, owner="bob") == (bobs, None)


async def test_somebody_elses_list_is_for_admins(world: World) -> None:
    answer = await world.http.get(IMAGES, headers=BOB, params={"owner": "alice"})

    assert slug(answer) == (403, "forbidden")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="ImageProcessor", error="insufficient_scope"')


async def test_head(world: World) -> None:
    await add(world, 3)

    head, whole = await world.get(IMAGES, method="HEAD"), await world.get(IMAGES)

    del head.headers["X-Request-ID"], whole.headers["X-Request-ID"]
    assert (head.status_code, head.headers) == (200, whole.headers)


BAD = [
    *(
        ("limit", value)
        for value in ("0", "101", "-1", "1e1", "%2B5", "+5", "%205", "5%20", "٥", "", "1.0", "0x10", "9" * 5000, "ten", "1_0")
    ),
    *(("status", value) for value in ("done", "COMPLETED", "", "completed,failed", "completed%00")),
    *(("cursor", value) for value in ("", "x", "%00", "٥", "=" * 44, "A" * 44, "A" * 5000, "%ff")),
    *(("owner", value) for value in ("", "%00", "alice%00", "x" * 256, "a%0Ab")),
]


@pytest.mark.parametrize(("field", "value"), BAD, ids=lambda text: text[:20])
@pytest.mark.parametrize("who", [ALICE, ADMIN], ids=["user", "admin"])
async def test_a_bad_value_names_its_field(world: World, who: dict[str, str], field: str, value: str) -> None:
    answer = await world.http.get(httpx.URL(f"http://gateway{IMAGES}?{field}={quote(value, safe='%+=')}"), headers=who)

    assert slug(answer) == (422, "validation")
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert error["message"]
    assert "Value error" not in answer.text


async def test_every_bad_value_is_named_at_once(world: World) -> None:
    answer = await world.http.get(IMAGES, headers=ALICE, params={"limit": "0", "status": "done"})

    assert {error["field"] for error in answer.json()["errors"]} == {"limit", "status"}


@pytest.mark.parametrize("value", ["1", "007", "100"])
async def test_a_good_limit(world: World, value: str) -> None:
    await listed(world, limit=value)


async def test_an_owner_may_have_any_name_that_a_realm_gives(world: World) -> None:
    for owner in ("x" * 255, "Ünï çødé", "a b", "🐈", "f:1234:name'; --"):
        assert await listed(world, ADMIN, owner=owner) == ([], None)


async def test_a_cursor_that_was_changed_is_noticed(world: World) -> None:
    await add(world, 3)
    _, cursor = await listed(world, limit="1")
    assert cursor

    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    changed = [cursor[:at] + other + cursor[at + 1 :] for at in range(len(cursor)) for other in alphabet if other != cursor[at]]
    for text in (*changed, cursor[:-1], cursor + "A", cursor + "=", cursor.swapcase(), cursor[:-4], f" {cursor}", f"{cursor}\n"):
        with pytest.raises(InvalidParameter):
            position_in(text, "alice", None, None)
    assert slug(await world.http.get(IMAGES, headers=ALICE, params={"cursor": changed[-1]})) == (422, "validation")


async def test_a_cursor_is_for_its_caller_and_query_alone(world: World) -> None:
    await add(world, 3)
    await add(world, 3, owner="root")
    _, cursor = await listed(world, limit="1")
    assert cursor

    elsewhere: list[tuple[dict[str, str], dict[str, str]]] = [
        (BOB, {}),
        (ADMIN, {}),
        (ADMIN, {"owner": "alice"}),
        (ALICE, {"status": "uploaded"}),
        (ALICE, {"owner": "alice"}),
    ]
    for who, query in elsewhere:
        answer = await world.http.get(IMAGES, headers=who, params=query | {"cursor": cursor})
        assert slug(answer) == (422, "validation"), (who, query)
    # How many a page is no part of the query.
    assert (await listed(world, limit="2", cursor=cursor))[1] is None


def test_a_cursor_needs_no_escaping_and_stays_small() -> None:
    for _ in range(100):
        position = uuid7()
        cursor = cursor_of(position, "alice", None, "queued")
        assert position_in(cursor, "alice", None, "queued") == position
        assert quote(cursor, safe="") == cursor
        assert len(cursor) < 100


@pytest.mark.parametrize(
    "query", [("a", "b", None), ("a", None, "b"), ('a","b', None, None), ("a,b", None, None), ("None", None, None)]
)
def test_no_two_queries_share_a_cursor(query: tuple[str | None, ...]) -> None:
    position = UUID(int=7)
    for other in (("a", None, None), ("a", "None", None), (None, None, None)):
        assert cursor_of(position, *query) != cursor_of(position, *other)


async def test_the_database_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.images, "page", away)

    assert slug(await world.get(IMAGES)) == (503, "unavailable")


async def test_a_page_is_one_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await add(world, 30)
    reads: list[dict[str, Any]] = []
    page = world.images.page

    async def watched(**query: Any) -> Any:
        reads.append(query)
        return await page(**query)

    async def not_asked(*_: Any) -> Any:
        raise AssertionError("an image was looked up by itself")

    monkeypatch.setattr(world.images, "page", watched)
    monkeypatch.setattr(world.images, "get", not_asked)

    assert (await listed(world, limit="10"))[0] == ids[:10]
    assert reads == [{"owner": "alice", "status": None, "before": None, "limit": 11}]
