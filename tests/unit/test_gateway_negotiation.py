"""The resource as JSON or as the picture, by what the client accepts (RFC 9110, section 12.5.1)."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway import ALICE, RESOURCES, RESULT, World, running, slug

IMAGE = RESOURCES[0]
PICTURE, JSON = "image/jpeg", "application/json"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/*", PICTURE),
        ("image/jpeg", PICTURE),
        ("IMAGE/JPEG", PICTURE),
        ("image/*, application/json;q=0.9", PICTURE),
        ("application/json;q=0.5, */*", PICTURE),
        ("*/*, application/json;q=0", PICTURE),
        ("image/jpeg;q=0.001, text/html", PICTURE),
        # the most specific one counts
        ("image/*;q=0.1, image/jpeg, application/json;q=0.5", PICTURE),
        ("image/jpeg;q=0.1, image/*, application/json;q=0.5", JSON),
        ("application/json;q=0.1, application/*, image/*;q=0.5", PICTURE),
        ("*/*", JSON),
        ("image/*, */*", JSON),
        ("image/*, application/json", JSON),
        ("application/json", JSON),
        ("application/*", JSON),
        ("image/*;q=0, */*", JSON),
        ("image/png, application/json;q=0.1", JSON),
        # parameters of a type are not looked at
        ("application/json; charset=utf-8", JSON),
        ('image/*;a="x, application/json"', PICTURE),
        # what clients send that is not quite the grammar: Java's own, a weight without a digit or over one
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", PICTURE),
        ("text/html, image/gif, *; q=.2, */*; q=.2", JSON),
        ("image/jpeg;q=1.5, application/json", JSON),
        # what is malformed counts as not there
        ("image/*;q=high, application/json;q=0.1", JSON),
        ("image, application/json;q=0.1", JSON),
        ("*/jpeg, application/json;q=0.1", JSON),
        ("", JSON),
        (" , ;q=1, ", JSON),
        ("nonsense", JSON),
        ("image/*;q=-1", JSON),
        ("image/*;q=nan", JSON),
    ],
)
async def test_the_higher_ranked_one_and_json_where_both_are_equal(world: World, accept: str, expected: str) -> None:
    image_id = await world.completed()

    answer = await world.get(IMAGE, image_id, Accept=accept)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, expected)
    assert answer.headers["Vary"] == "Accept, Authorization"


@pytest.mark.parametrize(
    "accept", ["text/html", "image/png", "application/json;q=0", "*/*;q=0", "image/*;q=0, text/*", "image/webp"]
)
async def test_neither_will_do(world: World, accept: str) -> None:
    image_id = await world.completed()

    answer = await world.get(IMAGE, image_id, Accept=accept)

    assert slug(answer) == (406, "not-acceptable")
    assert "application/json" in answer.json()["detail"]
    assert "image/jpeg" in answer.json()["detail"]
    assert answer.headers["Vary"] == "Accept, Authorization"


async def test_several_accept_headers_are_one(world: World) -> None:
    image_id = await world.completed()

    headers = [*ALICE.items(), ("Accept", "application/json;q=0.5"), ("Accept", "image/*")]

    assert (await world.http.get(IMAGE.format(image_id), headers=headers)).headers["Content-Type"] == PICTURE


async def test_the_picture_is_the_content(world: World) -> None:
    image_id = await world.completed()
    content = await world.get(f"{IMAGE}/content", image_id)
    as_json = await world.get(IMAGE, image_id)

    picture = await world.get(IMAGE, image_id, Accept="image/*")

    del content.headers["X-Request-ID"], picture.headers["X-Request-ID"], content.headers["Vary"], picture.headers["Vary"]
    assert picture.headers == content.headers
    assert picture.content == RESULT
    assert picture.headers["ETag"] != as_json.headers["ETag"]

    # and what can be asked of it can be asked of this one
    part = await world.get(IMAGE, image_id, Accept="image/*", Range="bytes=5-8")
    assert (part.status_code, part.content) == (206, RESULT[5:9])
    assert slug(await world.get(IMAGE, image_id, Accept="image/*", Range="bytes=999999-")) == (416, "range-not-satisfiable")
    head = await world.get(IMAGE, image_id, "HEAD", Accept="image/*")
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(RESULT)))


async def test_each_form_has_a_tag_of_its_own(world: World) -> None:
    image_id = await world.completed()
    tags = {accept: (await world.get(IMAGE, image_id, Accept=accept)).headers["ETag"] for accept in ("image/*", JSON)}

    for accept in tags:
        for of, tag in tags.items():
            answer = await world.get(IMAGE, image_id, Accept=accept, If_None_Match=tag)
            assert answer.status_code == (304 if of == accept else 200)
            assert answer.headers["Vary"] == "Accept, Authorization"


async def test_a_range_of_json_is_the_whole(world: World) -> None:
    image_id = await world.completed()

    answer = await world.get(IMAGE, image_id, Range="bytes=0-9")

    assert (answer.status_code, answer.json()["status"]) == (200, "completed")


async def test_there_is_no_picture_yet_or_never(world: World) -> None:
    early = await world.get(IMAGE, await world.uploaded(), Accept="image/*")
    assert slug(early) == (409, "not-ready")
    assert early.headers["Retry-After"] == "1"
    assert slug(await world.get(IMAGE, await world.failed(), Accept="image/*")) == (409, "processing-failed")


async def test_the_type_is_judged_by_what_there_will_be(world: World) -> None:
    image_id = await world.uploaded(processing="resize:10|format:webp")

    assert slug(await world.get(IMAGE, image_id, Accept="image/webp")) == (409, "not-ready")
    not_acceptable = await world.get(IMAGE, image_id, Accept="image/jpeg", Prefer="wait=30")
    assert slug(not_acceptable) == (406, "not-acceptable")
    assert "image/webp" in not_acceptable.json()["detail"]


@pytest.mark.parametrize("path", [*RESOURCES[1:], "/api/v1/images"])
async def test_the_status_and_lists_are_json_alone(world: World, path: str) -> None:
    image_id = await world.completed()

    for accept in ("*/*", "application/*", "image/*, application/json;q=0.1", "nonsense"):
        assert (await world.get(path, image_id, Accept=accept)).status_code == 200
    for accept in ("image/*", "text/html", "*/*, application/json;q=0"):
        answer = await world.get(path, image_id, Accept=accept)
        assert slug(answer) == (406, "not-acceptable")
        assert "application/json" in answer.json()["detail"]
