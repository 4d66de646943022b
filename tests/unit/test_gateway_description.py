"""What /openapi.json says of reading, listing and deleting: what may be asked, and every answer with its headers, as it comes."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from common.errors import RateLimited
from tests.gateway import ALICE, BOB, CONTENTS, ORIGINAL, RESOURCES, World, away, running

IMAGES = "/api/v1/images"
LIMITED = RateLimited(limit=6000, window_seconds=60, reset_seconds=7)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def operation(world: World, path: str, method: str = "get") -> dict[str, Any]:
    found: dict[str, Any] = (await world.http.get("/openapi.json")).json()["paths"][path.format("{id}")][method]
    return found


def asked_of(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {parameter["name"]: parameter for parameter in described["parameters"]}


async def test_a_lists_parameters_say_what_they_take(world: World) -> None:
    asked = asked_of(await operation(world, IMAGES))

    assert {name for name, parameter in asked.items() if parameter["in"] == "query"} == {"status", "limit", "cursor", "owner"}
    assert not any(parameter.get("required") for parameter in asked.values())
    limit = asked["limit"]["schema"]
    assert (limit["type"], limit["minimum"], limit["maximum"], limit["default"]) == ("integer", 1, 100, 20)
    status = (await world.http.get("/openapi.json")).json()["components"]["schemas"]["ImageStatus"]
    assert status["enum"] == ["uploaded", "queued", "processing", "completed", "failed"]
    owner = asked["owner"]["schema"]["anyOf"][0]
    assert (owner["minLength"], owner["maxLength"]) == (1, 255)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (RESOURCES[0], {"Prefer", "If-None-Match", "Range", "If-Range"}),
        *((path, {"Prefer", "If-None-Match"}) for path in RESOURCES[1:]),
        *((path, {"If-None-Match", "Range", "If-Range"}) for path in (*CONTENTS, ORIGINAL)),
    ],
)
async def test_the_headers_that_a_read_goes_by_are_named(world: World, path: str, headers: set[str]) -> None:
    asked = asked_of(await operation(world, path))

    assert {name for name, parameter in asked.items() if parameter["in"] == "header"} == headers
    assert asked["id"]["schema"] == {"type": "string", "format": "uuid", "title": "Id"}


@pytest.mark.parametrize(
    ("path", "method", "statuses"),
    [
        (RESOURCES[0], "get", {200, 206, 304, 401, 404, 406, 409, 416, 422, 429, 431, 503}),
        *((path, "get", {200, 304, 401, 404, 406, 422, 429, 431, 503}) for path in RESOURCES[1:]),
        *((path, "get", {200, 206, 304, 401, 404, 409, 416, 422, 429, 431, 503}) for path in CONTENTS),
        (ORIGINAL, "get", {200, 206, 304, 401, 404, 416, 422, 429, 431, 503}),
        (RESOURCES[0], "delete", {200, 401, 404, 422, 429, 431, 503}),
        (IMAGES, "get", {200, 401, 403, 406, 422, 429, 431, 503}),
    ],
)
async def test_every_answer_is_described_and_no_other(
    world: World, path: str, method: str, statuses: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    described = (await operation(world, path, method))["responses"]

    answers = [answer async for answer in every_answer(world, path, method, monkeypatch)]

    assert {answer.status_code for answer in answers} == statuses
    assert described.keys() == {str(status) for status in statuses} | {"default"}
    for answer in answers:
        as_described(answer, described[str(answer.status_code)])


async def test_an_upload_says_where_its_image_is(world: World) -> None:
    for path in ("/api/v1/upload", IMAGES, "/upload"):
        described = (await operation(world, path, "post"))["responses"]

        as_described(await world.upload(), described["202"])
        assert described["202"]["headers"]["Location"]["required"]


def as_described(answer: httpx.Response, response: dict[str, Any]) -> None:
    """Its type is one of those, and it has each header that is always there."""
    assert answer.headers.get("Content-Type") in {*response.get("content", {}), *({None} if not answer.content else ())}
    needed = {name for name, header in response.get("headers", {}).items() if header.get("required")}
    assert not {name for name in needed if name not in answer.headers}, answer.status_code
    worth_saying = ("Retry-After", "Preference-Applied", "ETag", "Accept-Ranges", "Content-Range", "WWW-Authenticate")
    assert {name for name in worth_saying if name in answer.headers} <= response.get("headers", {}).keys(), answer.status_code


async def every_answer(world: World, path: str, method: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.Response]:
    """To good requests and to all kinds of bad ones."""
    completed, failed, queued = await world.completed(), await world.failed(), await world.uploaded()

    async def asked(image_id: object, who: dict[str, str] = ALICE, query: str = "", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await world.http.request(method, path.format(image_id) + query, headers=who | named)

    yield await asked(completed, {})
    yield await asked("seven", BOB, query="?owner=alice" if path == IMAGES else "")
    yield await asked(completed, query="?colour=red")
    yield await asked(completed, X_Long="x" * 40_000)
    if method == "get":
        for accept in ("*/*", "image/*"):
            yield await asked(queued, Accept=accept, Prefer="wait=0")
            yield await asked(queued, Accept=accept, Prefer="wait=0", If_None_Match="*")
            yield await asked(completed, Accept=accept, Prefer="wait=0", Range="bytes=0-9")
            yield await asked(failed, Accept=accept)
            yield await asked(completed, Accept=accept)
            yield await asked(completed, Accept=accept, If_None_Match="*")
            yield await asked(completed, Accept=accept, Range="bytes=0-9")
            yield await asked(completed, Accept=accept, Range="bytes=9999999-")
        yield await asked(completed, Accept="text/html")
    else:
        yield await asked(completed)
    with monkeypatch.context() as broken:
        for call in ("get", "page", "mark_deleted"):
            broken.setattr(world.images, call, away)
        broken.setattr(world.cache, "get", away)
        yield await asked(queued)
    with monkeypatch.context() as limited:

        async def verify(_: str) -> Any:
            raise LIMITED

        limited.setattr(world.tokens, "verify", verify)
        yield await asked(queued)
