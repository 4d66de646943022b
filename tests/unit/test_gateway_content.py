"""The bytes: whole, in part, or not again where the client has them; and the store is asked for no more than is sent."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from common.ports import Bucket
from tests.gateway import ALICE, CONTENTS, ORIGINAL, PICTURE, RESOURCES, RESULT, World, away, running, slug


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


@pytest.mark.parametrize("path", CONTENTS)
async def test_the_content(world: World, path: str) -> None:
    image_id = await world.completed(name='Öl & "Wasser".png')

    answer = await world.get(path, image_id)

    assert answer.content == RESULT
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Length"] == str(len(RESULT))
    assert answer.headers["ETag"] == f'"{"a" * 64}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == (
        "inline; filename=\"_l & _Wasser_.jpg\"; filename*=UTF-8''%C3%96l%20&%20%22Wasser%22.jpg"
    )


async def test_the_original(world: World) -> None:
    image_id = await world.uploaded()

    answer = await world.get(ORIGINAL, image_id)

    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["ETag"] == f'"{(await world.get(RESOURCES[0], image_id)).json()["sha256"]}"'


@pytest.mark.parametrize("path", CONTENTS)
async def test_content_too_early_and_of_a_failed_image(world: World, path: str) -> None:
    early = await world.get(path, await world.uploaded())
    assert slug(early) == (409, "not-ready")
    assert early.headers["Retry-After"] == "1"

    never = await world.get(path, await world.failed())
    assert slug(never) == (409, "processing-failed")
    assert "The JPEG is cut off." in never.json()["detail"]
    assert "Retry-After" not in never.headers


@pytest.mark.parametrize(
    ("given", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=65530-65545", 65530, 65546),  # over the edge of a chunk
        ("bytes=262000-", 262000, 262144),
        ("bytes=-100", 262044, 262144),
        ("bytes=-999999", 0, 262144),
        ("bytes=100-999999999999999999999", 100, 262144),
        ("Bytes= 1-2 ", 1, 3),
    ],
)
async def test_one_range(world: World, given: str, start: int, stop: int) -> None:
    image_id = await world.completed()

    answer = await world.get(CONTENTS[0], image_id, Range=given)

    assert answer.status_code == 206
    assert answer.content == RESULT[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/262144"
    assert answer.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("given", ["bytes=262144-", "bytes=999999-1000000", "bytes=-0"])
async def test_a_range_beyond_the_end(world: World, given: str) -> None:
    answer = await world.get(CONTENTS[0], await world.completed(), Range=given)

    assert slug(answer) == (416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == "bytes */262144"


@pytest.mark.parametrize(
    "given", ["bytes=5-2", "bytes=-", "bytes=0-1,5-6", "bytes=a-b", "lines=1-2", "bytes=", "bytes=٣-٤".encode()]
)
async def test_a_range_that_is_ignored(world: World, given: Any) -> None:
    image_id = await world.completed()

    answer = await world.http.get(f"/image/{image_id}", headers=[*ALICE.items(), ("Range", given)])

    assert (answer.status_code, answer.content) == (200, RESULT)


async def test_a_range_of_what_has_changed_meanwhile_is_ignored(world: World) -> None:
    image_id = await world.completed()
    tag = (await world.get(CONTENTS[0], image_id)).headers["ETag"]

    for if_range, status in ((tag, 206), ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)):
        assert (await world.get(CONTENTS[0], image_id, Range="bytes=0-9", If_Range=if_range)).status_code == status


async def test_a_known_version_comes_before_a_range(world: World) -> None:
    image_id = await world.completed()
    tag = (await world.get(CONTENTS[0], image_id)).headers["ETag"]

    assert (await world.get(CONTENTS[0], image_id, Range="bytes=0-9", If_None_Match=tag)).status_code == 304


@pytest.mark.parametrize("if_range", [["{}", "{}"], ["W/{}"], [""]], ids=["twice", "weak", "empty"])
async def test_a_range_on_a_condition_that_is_none(world: World, if_range: list[str]) -> None:
    image_id = await world.completed()
    tag = (await world.get(CONTENTS[0], image_id)).headers["ETag"]

    headers = [*ALICE.items(), ("Range", "bytes=0-9"), *(("If-Range", text.format(tag)) for text in if_range)]

    assert (await world.http.get(f"/image/{image_id}", headers=headers)).status_code == 200


async def test_two_range_headers_are_several_ranges(world: World) -> None:
    image_id = await world.completed()

    answer = await world.http.get(f"/image/{image_id}", headers=[*ALICE.items(), ("Range", "bytes=0-9"), ("Range", "bytes=5-9")])

    assert (answer.status_code, answer.content) == (200, RESULT)


async def test_a_range_is_for_get_alone(world: World) -> None:
    image_id = await world.completed()

    for given in ("bytes=0-9", "bytes=999999-"):
        head = await world.get(CONTENTS[0], image_id, "HEAD", Range=given)
        assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(RESULT)))
        assert "Content-Range" not in head.headers


async def test_what_a_client_accepts_is_not_looked_at(world: World) -> None:
    image_id = await world.completed()

    for path in (*CONTENTS, ORIGINAL):
        answer = await world.get(path, image_id, Accept="application/json, image/jpeg;q=0")
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/jpeg")
        assert answer.headers["Vary"] == "Authorization"


async def test_the_store_is_asked_for_what_is_sent_and_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a store whose work is watched
    image_id = await world.completed()
    tag = (await world.get(CONTENTS[0], image_id)).headers["ETag"]
    opened: list[range | None] = []
    really_open = world.blobs.open

    def watched_open(bucket: Bucket, key: str, part: range | None = None) -> Any:
        opened.append(part)
        return really_open(bucket, key, part)

    monkeypatch.setattr(world.blobs, "open", watched_open)

    # then it learns nothing of what has no body
    assert (await world.get(CONTENTS[0], image_id, "HEAD")).status_code == 200
    assert (await world.get(CONTENTS[0], image_id, If_None_Match=tag)).status_code == 304
    assert (await world.get(CONTENTS[0], image_id, Range="bytes=999999-")).status_code == 416
    assert opened == []

    # and of a part that one
    await world.get(CONTENTS[0], image_id, Range="bytes=100000-100009")
    await world.get(CONTENTS[0], image_id)
    assert opened == [range(100000, 100010), None]


@pytest.mark.parametrize("path", [CONTENTS[0], ORIGINAL])
async def test_the_object_store_is_away(world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = await world.completed()

    def cannot_open(*_: Any) -> Any:
        class Opening:
            __aenter__ = staticmethod(away)

            async def __aexit__(self, *_: object) -> None: ...

        return Opening()

    monkeypatch.setattr(world.blobs, "open", cannot_open)

    assert slug(await world.get(path, image_id)) == (503, "unavailable")


async def test_bytes_that_the_store_has_lost(world: World) -> None:
    image_id = await world.completed()
    del world.blobs.objects[Bucket.RAW, str(image_id)]

    assert slug(await world.get(ORIGINAL, image_id)) == (404, "not-found")
