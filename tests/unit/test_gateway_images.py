"""Reading: the resource, its status, its bytes, with the headers that caches and clients go by."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from common.images import ImageStatus
from common.ports import Bucket
from tests.gateway import ADMIN, ALICE, BOB, MOMENT, PICTURE, RESULT, World, away, running, slug

RESOURCES = ("/api/v1/images/{}", "/api/v1/images/{}/status", "/status/{}")
CONTENTS = ("/api/v1/images/{}/content", "/image/{}")
ORIGINAL = "/api/v1/images/{}/original"
UNKNOWN = "01936c2e-0000-7000-8000-000000000000"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def get(world: World, path: str, image_id: UUID, method: str = "GET", **headers: str) -> httpx.Response:
    return await world.http.request(
        method, path.format(image_id), headers=ALICE | {k.replace("_", "-"): v for k, v in headers.items()}
    )


async def test_a_completed_image(world: World) -> None:
    image_id = await world.completed()

    answer = await get(world, RESOURCES[0], image_id)

    image = answer.json()
    assert (image["status"], image["attempts"], image["error"]) == ("completed", 1, None)
    assert image["result"] == {
        "content_type": "image/jpeg",
        "size_bytes": len(RESULT),
        "sha256": "a" * 64,
        "width": 800,
        "height": 600,
        "download_url": f"/api/v1/images/{image_id}/content",
    }
    assert image["completed_at"].endswith("Z")
    assert answer.headers["Content-Type"] == "application/json"
    assert "Retry-After" not in answer.headers


async def test_a_failed_image(world: World) -> None:
    image_id = await world.failed()

    image = (await get(world, RESOURCES[0], image_id)).json()

    assert (image["status"], image["result"]) == ("failed", None)
    assert image["error"] == {"code": "corrupt-image", "detail": "The JPEG is cut off."}


async def test_the_status_is_part_of_the_resource(world: World) -> None:
    image_id = await world.failed()
    image = (await get(world, RESOURCES[0], image_id)).json()

    for path in RESOURCES[1:]:
        status = await get(world, path, image_id)
        assert status.json() == {key: image[key] for key in ("id", "status", "attempts", "error", "updated_at")}


@pytest.mark.parametrize("path", RESOURCES)
async def test_what_a_resource_says_to_caches_and_pollers(world: World, path: str) -> None:
    # given an image that is not final
    image_id = await world.uploaded()

    # when
    answer = await get(world, path, image_id)

    # then
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Vary"] == "Accept, Authorization"
    assert answer.headers["Retry-After"] == "1"

    # and when nothing has changed since
    unchanged = await get(world, path, image_id, If_None_Match=answer.headers["ETag"])
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert {unchanged.headers[name] for name in ("ETag", "Cache-Control", "Vary", "Retry-After")} == {
        answer.headers[name] for name in ("ETag", "Cache-Control", "Vary", "Retry-After")
    }

    # and when something has
    claimed = await world.images.claim(image_id, MOMENT)
    assert claimed is not None
    await world.cache.invalidate(image_id, claimed.version)
    changed = await get(world, path, image_id, If_None_Match=answer.headers["ETag"])
    assert (changed.status_code, changed.json()["status"]) == (200, ImageStatus.PROCESSING)
    assert changed.headers["ETag"] != answer.headers["ETag"]


@pytest.mark.parametrize(
    ("given", "known"),
    [("*", True), ('"0", {}', True), ("{},", True), ('"0"', False), ("nonsense", False), ("", False)],
)
async def test_if_none_match(world: World, given: str, known: bool) -> None:
    image_id = await world.completed()
    for path in (RESOURCES[0], CONTENTS[0]):
        tag = (await get(world, path, image_id)).headers["ETag"]

        answer = await get(world, path, image_id, If_None_Match=given.format(tag))

        assert answer.status_code == (304 if known else 200)


@pytest.mark.parametrize("path", [*RESOURCES, *CONTENTS, ORIGINAL])
async def test_head_is_get_without_the_body(world: World, path: str) -> None:
    image_id = await world.completed()

    whole, head = await get(world, path, image_id), await get(world, path, image_id, "HEAD")

    assert (whole.status_code, head.status_code) == (200, 200)
    for answer in (whole, head):
        del answer.headers["X-Request-ID"]
    assert head.headers == whole.headers
    assert int(head.headers["Content-Length"]) == len(whole.content)


@pytest.mark.parametrize("path", CONTENTS)
async def test_the_content(world: World, path: str) -> None:
    image_id = await world.completed(name='Öl & "Wasser".png')

    answer = await get(world, path, image_id)

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

    answer = await get(world, ORIGINAL, image_id)

    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["ETag"] == f'"{(await get(world, RESOURCES[0], image_id)).json()["sha256"]}"'


@pytest.mark.parametrize("path", CONTENTS)
async def test_content_too_early_and_of_a_failed_image(world: World, path: str) -> None:
    early = await get(world, path, await world.uploaded())
    assert slug(early) == (409, "not-ready")
    assert early.headers["Retry-After"] == "1"

    never = await get(world, path, await world.failed())
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

    answer = await get(world, CONTENTS[0], image_id, Range=given)

    assert answer.status_code == 206
    assert answer.content == RESULT[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/262144"
    assert answer.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("given", ["bytes=262144-", "bytes=999999-1000000", "bytes=-0"])
async def test_a_range_beyond_the_end(world: World, given: str) -> None:
    answer = await get(world, CONTENTS[0], await world.completed(), Range=given)

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
    tag = (await get(world, CONTENTS[0], image_id)).headers["ETag"]

    for if_range, status in ((tag, 206), ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)):
        assert (await get(world, CONTENTS[0], image_id, Range="bytes=0-9", If_Range=if_range)).status_code == status


async def test_a_known_version_comes_before_a_range(world: World) -> None:
    image_id = await world.completed()
    tag = (await get(world, CONTENTS[0], image_id)).headers["ETag"]

    assert (await get(world, CONTENTS[0], image_id, Range="bytes=0-9", If_None_Match=tag)).status_code == 304


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [*RESOURCES, *CONTENTS, ORIGINAL])
async def test_unknown_no_uuid_and_somebody_elses_are_all_the_same(world: World, path: str, method: str) -> None:
    image_id = await world.completed()
    details = set()

    ids = (UNKNOWN, "seven", "%00", f"{{{UNKNOWN}}}", UNKNOWN.replace("-", ""), f"urn:uuid:{UNKNOWN}", "x" * 5000, str(image_id))
    for asked in ids:
        answer = await world.http.request(method, path.format(asked), headers=BOB)
        assert answer.status_code == 404, asked
        assert answer.headers["Content-Type"] == "application/problem+json"
        if method == "GET":
            details.add(answer.json()["detail"])

    assert len(details) <= 1
    assert (await world.http.request(method, path.format(image_id), headers=ADMIN)).status_code == 200


async def test_an_id_in_capitals(world: World) -> None:
    image_id = await world.completed()

    assert (await world.http.get(f"/status/{str(image_id).upper()}", headers=ALICE)).status_code == 200


@pytest.mark.parametrize("path", [*RESOURCES, *CONTENTS, ORIGINAL])
async def test_the_database_is_away(world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = await world.completed()
    monkeypatch.setattr(world.images, "get", away)

    answer = await get(world, path, image_id)

    assert slug(answer) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "10.0.0.7" not in answer.text


@pytest.mark.parametrize("path", [CONTENTS[0], ORIGINAL])
async def test_the_object_store_is_away(world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = await world.completed()

    def cannot_open(*_: Any) -> Any:
        class Opening:
            __aenter__ = staticmethod(away)

            async def __aexit__(self, *_: object) -> None: ...

        return Opening()

    monkeypatch.setattr(world.blobs, "open", cannot_open)

    assert slug(await get(world, path, image_id)) == (503, "unavailable")


@pytest.mark.parametrize("path", [*RESOURCES, *CONTENTS, ORIGINAL])
async def test_reads_go_on_without_the_cache(world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = await world.completed()
    monkeypatch.setattr(world.cache, "get", away)
    monkeypatch.setattr(world.cache, "put", away)

    assert (await get(world, path, image_id)).status_code == 200


async def test_bytes_that_the_store_has_lost(world: World) -> None:
    image_id = await world.completed()
    del world.blobs.objects[Bucket.RAW, str(image_id)]

    assert slug(await get(world, ORIGINAL, image_id)) == (404, "not-found")
