"""`Prefer: wait`: answered as soon as there is something to say, and never later than was asked for."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from starlette.datastructures import Headers

from gateway.waiting import wait_seconds
from tests.gateway import ALICE, BOB, RESULT, World, running, slug
from tests.polling import eventually


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


@pytest.mark.parametrize(
    ("preferences", "expected"),
    [
        (["wait=5"], 5),
        (["wait=31"], 30),
        (["Wait = 7"], 7),
        (['wait="8"'], 8),
        (["respond-async, wait=9"], 9),
        (["respond-async", "wait=10; foo=bar"], 10),
        (["wait=1, wait=2"], 1),
        (["wait=0"], 0),
        (["wait=" + "9" * 1000], 30),
        (["wait = 7 ; strictly"], 7),
        (['note="a, wait=1, b", wait=2'], 2),
        (["wait=", "wait=3"], 3),
        (['wait="3'], None),
        (["wait=" + "9" * 20_000], None),
        ([""], None),
        (["wait"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=٥"], None),
        (["waiting=5"], None),
        ([], None),
    ],
)
def test_how_long_to_wait(preferences: list[str], expected: int | None) -> None:
    headers = Headers(raw=[(b"prefer", value.encode()) for value in preferences])

    assert wait_seconds(headers) == expected


def _waiting(world: World, image_id: UUID, path: str = "", seconds: int = 20) -> asyncio.Task[httpx.Response]:
    headers = ALICE | {"Prefer": f"wait={seconds}"}
    return asyncio.create_task(world.http.get(f"/api/v1/images/{image_id}{path}", headers=headers))


async def _somebody_waits(world: World) -> None:
    async def waits() -> bool:
        return bool(world.notifier.waiting)

    await eventually(waits, "somebody to wait", 5)


@pytest.mark.parametrize("path", ["", "/status"])
async def test_a_final_state_ends_the_wait(world: World, path: str) -> None:
    image_id = await world.uploaded()
    waiting = _waiting(world, image_id, path)
    await _somebody_waits(world)

    await world.complete(image_id)
    await world.notifier.notify(image_id)

    answer = await asyncio.wait_for(waiting, 5)
    assert answer.json()["status"] == "completed"
    assert answer.headers["Preference-Applied"] == "wait=20"


async def test_a_deletion_ends_the_wait(world: World) -> None:
    image_id = await world.uploaded()
    waiting = _waiting(world, image_id)
    await _somebody_waits(world)

    assert (await world.http.delete(f"/api/v1/images/{image_id}", headers=ALICE)).status_code == 200

    assert slug(await asyncio.wait_for(waiting, 5)) == (404, "not-found")


async def test_a_stopping_gateway_ends_the_wait(world: World) -> None:
    image_id = await world.uploaded()
    waiting = _waiting(world, image_id)
    await _somebody_waits(world)

    world.app.state.gateway.stopping.set()

    answer = await asyncio.wait_for(waiting, 5)
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert not world.notifier.waiting


async def test_when_the_time_is_over_it_says_what_is(world: World) -> None:
    image_id = await world.uploaded()
    started = time.monotonic()

    answer = await _waiting(world, image_id, seconds=1)

    assert time.monotonic() - started >= 1
    assert (answer.status_code, answer.json()["status"], answer.headers["Retry-After"]) == (200, "queued", "1")


async def test_what_is_final_or_anothers_is_answered_at_once(world: World) -> None:
    image_id = await world.completed()
    started = time.monotonic()

    done = await _waiting(world, image_id)
    foreign = await world.http.get(f"/api/v1/images/{image_id}", headers=BOB | {"Prefer": "wait=20"})

    assert (done.status_code, foreign.status_code) == (200, 404)
    assert time.monotonic() - started < 5


async def test_head_waits_as_get_does(world: World) -> None:
    image_id = await world.uploaded()
    waiting = asyncio.create_task(world.get("/status/{}", image_id, "HEAD", Prefer="wait=20"))
    await _somebody_waits(world)

    await world.complete(image_id)
    await world.notifier.notify(image_id)

    answer = await asyncio.wait_for(waiting, 5)
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=20")
    assert "Retry-After" not in answer.headers


async def test_whoever_knows_the_state_waits_for_the_next_one(world: World) -> None:
    # given two who have what there is
    image_id = await world.uploaded()
    tag = (await world.get("/status/{}", image_id)).headers["ETag"]
    short = asyncio.create_task(world.get("/status/{}", image_id, Prefer="wait=1", If_None_Match=tag))
    long = asyncio.create_task(world.get("/status/{}", image_id, Prefer="wait=20", If_None_Match=tag))

    # when the time of one is over
    unchanged = await short
    assert (unchanged.status_code, unchanged.headers["Preference-Applied"]) == (304, "wait=1")
    assert unchanged.headers["ETag"] == tag

    # and then there is something new for the other
    await world.complete(image_id)
    await world.notifier.notify(image_id)
    changed = await asyncio.wait_for(long, 5)
    assert (changed.status_code, changed.json()["status"]) == (200, "completed")


async def test_a_picture_can_be_waited_for(world: World) -> None:
    image_id = await world.uploaded()
    waiting = asyncio.create_task(world.get("/api/v1/images/{}", image_id, Prefer="wait=20", Accept="image/*"))
    await _somebody_waits(world)

    await world.complete(image_id)
    await world.notifier.notify(image_id)

    answer = await asyncio.wait_for(waiting, 5)
    assert (answer.status_code, answer.content) == (200, RESULT)
    assert answer.headers["Preference-Applied"] == "wait=20"


async def test_what_cannot_be_had_is_not_waited_for(world: World) -> None:
    image_id = await world.uploaded()
    started = time.monotonic()

    for path in ("/api/v1/images/{}", "/status/{}"):
        assert slug(await world.get(path, image_id, Prefer="wait=20", Accept="text/html")) == (406, "not-acceptable")
    assert slug(await world.get("/api/v1/images/{}/content", image_id, Prefer="wait=20")) == (409, "not-ready")

    assert time.monotonic() - started < 5


async def test_one_too_many_is_not_kept_waiting() -> None:
    async with running(max_concurrent_waits=1) as world:
        # given one who waits
        image_id = await world.uploaded()
        waiting = _waiting(world, image_id)
        await _somebody_waits(world)

        # then the next one is answered at once, and is not told that it had been waited for
        started = time.monotonic()
        declined = await _waiting(world, image_id)
        assert time.monotonic() - started < 5
        assert (declined.status_code, declined.json()["status"], declined.headers["Retry-After"]) == (200, "queued", "1")
        assert "Preference-Applied" not in declined.headers

        # and when the first one has been answered, there is room again
        await world.complete(image_id)
        await world.notifier.notify(image_id)
        await asyncio.wait_for(waiting, 5)
        another = await world.uploaded()
        waiting = _waiting(world, another)
        await _somebody_waits(world)
        world.app.state.gateway.stopping.set()
        assert "Preference-Applied" in (await asyncio.wait_for(waiting, 5)).headers


async def test_nobody_waits_any_more_when_the_gateway_stops(world: World) -> None:
    image_id = await world.uploaded()
    world.app.state.gateway.stopping.set()
    started = time.monotonic()

    answer = await _waiting(world, image_id)

    assert answer.status_code == 200
    assert time.monotonic() - started < 5
