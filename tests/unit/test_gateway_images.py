"""Reading: the resource and its status, with the headers that caches and clients go by; what holds for every read; the end."""

import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from common.images import ImageStatus
from common.ports import LINK_SECONDS, Bucket
from tests.gateway import ADMIN, ALICE, BOB, CONTENTS, MOMENT, ORIGINAL, RESOURCES, RESULT, World, away, running, slug

UNKNOWN = "01936c2e-0000-7000-8000-000000000000"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def test_a_completed_image(world: World) -> None:
    image_id = await world.completed()

    answer = await world.get(RESOURCES[0], image_id)

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

    image = (await world.get(RESOURCES[0], image_id)).json()

    assert (image["status"], image["result"]) == ("failed", None)
    assert image["error"] == {"code": "corrupt-image", "detail": "The JPEG is cut off."}


async def test_the_status_is_part_of_the_resource(world: World) -> None:
    image_id = await world.failed()
    image = (await world.get(RESOURCES[0], image_id)).json()

    for path in RESOURCES[1:]:
        status = await world.get(path, image_id)
        assert status.json() == {key: image[key] for key in ("id", "status", "attempts", "error", "updated_at")}


@pytest.mark.parametrize("path", RESOURCES)
async def test_what_a_resource_says_to_caches_and_pollers(world: World, path: str) -> None:
    # given an image that is not final
    image_id = await world.uploaded()

    # when
    answer = await world.get(path, image_id)

    # then
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Vary"] == "Accept, Authorization"
    assert answer.headers["Retry-After"] == "1"

    # and when nothing has changed since
    unchanged = await world.get(path, image_id, If_None_Match=answer.headers["ETag"])
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert {unchanged.headers[name] for name in ("ETag", "Cache-Control", "Vary", "Retry-After")} == {
        answer.headers[name] for name in ("ETag", "Cache-Control", "Vary", "Retry-After")
    }

    # and when something has
    claimed = await world.images.claim(image_id, MOMENT)
    assert claimed is not None
    await world.cache.invalidate(image_id, claimed.version)
    changed = await world.get(path, image_id, If_None_Match=answer.headers["ETag"])
    assert (changed.status_code, changed.json()["status"]) == (200, ImageStatus.PROCESSING)
    assert changed.headers["ETag"] != answer.headers["ETag"]


@pytest.mark.parametrize(
    ("given", "known"),
    [("*", True), ('"0", {}', True), ("{},", True), ('"0"', False), ("nonsense", False), ("", False)],
)
async def test_if_none_match(world: World, given: str, known: bool) -> None:
    image_id = await world.completed()
    for path in (RESOURCES[0], CONTENTS[0]):
        tag = (await world.get(path, image_id)).headers["ETag"]

        answer = await world.get(path, image_id, If_None_Match=given.format(tag))

        assert answer.status_code == (304 if known else 200)


@pytest.mark.parametrize("path", [*RESOURCES, *CONTENTS, ORIGINAL])
async def test_head_is_get_without_the_body(world: World, path: str) -> None:
    image_id = await world.completed()

    whole, head = await world.get(path, image_id), await world.get(path, image_id, "HEAD")

    assert (whole.status_code, head.status_code) == (200, 200)
    for answer in (whole, head):
        del answer.headers["X-Request-ID"]
    assert head.headers == whole.headers
    assert int(head.headers["Content-Length"]) == len(whole.content)


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

    answer = await world.get(path, image_id)

    assert slug(answer) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "10.0.0.7" not in answer.text


@pytest.mark.parametrize("path", [*RESOURCES, *CONTENTS, ORIGINAL])
async def test_reads_go_on_without_the_cache(world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = await world.completed()
    monkeypatch.setattr(world.cache, "get", away)
    monkeypatch.setattr(world.cache, "put", away)

    assert (await world.get(path, image_id)).status_code == 200


async def test_a_link_that_needs_no_token(world: World) -> None:
    # given a store that makes some
    world.blobs.links = "https://objects.example.com"
    image_id = await world.completed(name="Öl.png")

    # when
    alone = (await world.get(RESOURCES[0], image_id)).json()
    listed = (await world.get("/api/v1/images")).json()["items"]

    # then it names the object, what it is, and what to call it
    url = urlsplit(alone["result"]["download_url"])
    assert (url.scheme, url.netloc) == ("https", "objects.example.com")
    assert url.path == f"/{Bucket.PROCESSED}/{image_id}/1"
    query = parse_qs(url.query)
    assert query["type"] == ["image/jpeg"]
    assert query["disposition"] == ["inline; filename=\"_l.jpg\"; filename*=UTF-8''%C3%96l.jpg"]
    assert listed == [alone]


async def test_a_client_never_keeps_a_link_that_no_longer_works(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.blobs.links = "https://objects.example.com"
    image_id = await world.completed()
    kept_at = 1_700_000_000.0
    now = [kept_at]
    monkeypatch.setattr(time, "time", lambda: now[0])
    tag = (await world.get(RESOURCES[0], image_id)).headers["ETag"]

    # As long as a kept one is good, the link in it is good for ten minutes more.
    while (await world.get(RESOURCES[0], image_id, If_None_Match=tag)).status_code == 304:
        assert now[0] + 600 <= kept_at + LINK_SECONDS
        now[0] += 10
    assert now[0] > kept_at

    # And without a link, the tag stays.
    tag = (await world.get(RESOURCES[1], image_id)).headers["ETag"]
    now[0] += 86_400
    assert (await world.get(RESOURCES[1], image_id, If_None_Match=tag)).status_code == 304


async def test_somebody_elses_costs_as_much_as_one_that_is_not_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # given one that the cache has
    image_id = await world.completed()
    await world.get(RESOURCES[0], image_id)
    asked: list[UUID] = []
    found = world.images.get

    async def get(image_id: UUID) -> Any:
        asked.append(image_id)
        return await found(image_id)

    monkeypatch.setattr(world.images, "get", get)

    # then its owner's read is the cache's alone, and anybody else's goes all the way
    assert (await world.get(RESOURCES[0], image_id)).status_code == 200
    assert asked == []
    for given in (str(image_id), UNKNOWN):
        assert (await world.http.get(f"/status/{given}", headers=BOB)).status_code == 404
    assert asked == [image_id, UUID(UNKNOWN)]


async def test_conditions_that_are_not_looked_at(world: World) -> None:
    image_id = await world.completed()
    ignored = {"If-Match": '"other"', "If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT"}

    for path in (RESOURCES[0], CONTENTS[0]):
        assert (await world.http.get(path.format(image_id), headers=ALICE | ignored)).status_code == 200
        since = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
        assert (await world.http.get(path.format(image_id), headers=ALICE | since)).status_code == 200
    assert (await world.http.delete(f"/api/v1/images/{image_id}", headers=ALICE | ignored)).status_code == 200


async def test_deleting(world: World) -> None:
    image_id = await world.completed()
    address = f"/api/v1/images/{image_id}"
    assert slug(await world.http.delete(address, headers=BOB)) == (404, "not-found")

    deleted = await world.http.delete(address, headers=ALICE | {"Accept": "image/*"})

    assert (deleted.status_code, deleted.json()) == (200, {"message": "Image deleted successfully"})
    assert world.blobs.objects == {}
    assert (await world.get("/api/v1/images")).json()["items"] == []
    gone = await world.http.delete(address, headers=ALICE)
    unknown = await world.http.delete(f"/api/v1/images/{UNKNOWN}", headers=ALICE)
    assert slug(gone) == slug(unknown) == (404, "not-found")
    assert gone.json()["detail"] == unknown.json()["detail"]


@pytest.mark.parametrize("store", ["images", "blobs"])
async def test_deleting_while_a_store_is_away(world: World, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = await world.completed()
    monkeypatch.setattr(getattr(world, store), "mark_deleted" if store == "images" else "delete", away)

    assert slug(await world.http.delete(f"/api/v1/images/{image_id}", headers=ALICE)) == (503, "unavailable")
