"""Query parameters that are not there: refused by name on every route of images, after the token and before anything else."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.gateway import ALICE, BOB, CONTENTS, ORIGINAL, RESOURCES, World, running, slug

UNKNOWN = "01936c2e-0000-7000-8000-000000000000"
READS = [("GET", path) for path in (*RESOURCES, *CONTENTS, ORIGINAL)]
UPLOADS = [("POST", path) for path in ("/api/v1/upload", "/api/v1/images", "/upload")]
ROUTES = [*READS, *(("HEAD", path) for _, path in READS), *UPLOADS, ("DELETE", RESOURCES[0]), ("GET", "/api/v1/images")]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_an_unknown_parameter_is_refused_before_anything_is_looked_up(
    world: World, method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an image of alice's, and stores that nobody may ask
    image_id = await world.completed()

    async def not_asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was looked up")

    for port, name in ((world.images, "get"), (world.images, "page"), (world.images, "mark_deleted"), (world.cache, "get")):
        monkeypatch.setattr(port, name, not_asked)

    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    # then whoever asks, and whatever for
    for who in (ALICE, BOB):
        for given in (str(image_id), UNKNOWN, "seven"):
            content = body() if method == "POST" else None
            answer = await world.http.request(method, f"{path.format(given)}?wait=30", headers=who, content=content)
            assert answer.status_code == 422
            if method != "HEAD":
                assert slug(answer) == (422, "validation")
                assert [error["field"] for error in answer.json()["errors"]] == ["wait"]

    # but the token comes first
    without = await world.http.request(method, f"{path.format(UNKNOWN)}?wait=30")
    assert without.status_code == 401


async def test_it_says_which_there_are(world: World) -> None:
    answer = await world.get("/api/v1/images?page=2")

    assert "cursor, limit, owner, status" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["limit", "status", "owner", "cursor"])
async def test_a_parameter_may_be_given_once(world: World, name: str) -> None:
    value = {"limit": "5", "status": "failed", "owner": "alice", "cursor": "x"}[name]

    answer = await world.get(f"/api/v1/images?{name}={value}&{name}={value}")

    assert slug(answer) == (422, "validation")
    assert answer.json()["errors"] == [{"field": name, "message": "may be given once"}]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("Limit=5", "Limit"),
        ("limit%20=5", "limit "),
        ("limit[]=5", "limit[]"),
        ("=5", "(without a name)"),
        ("%00%0d%0a=5", "???"),
        ("%ff=5", "\ufffd"),
        ("x" * 5000 + "=5", "x" * 100),
        ("access_token=secret", "access_token"),
    ],
)
async def test_a_name_is_repeated_readably(world: World, query: str, field: str) -> None:
    answer = await world.get(f"/api/v1/images?{query}")

    assert slug(answer) == (422, "validation")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics", "/docs", "/openapi.json"])
async def test_elsewhere_nobody_minds(world: World, path: str) -> None:
    assert (await world.http.get(f"{path}?probe=1")).status_code == 200


async def test_an_empty_query_is_none(world: World) -> None:
    image_id = await world.completed()

    assert (await world.http.get(f"/status/{image_id}?", headers=ALICE)).status_code == 200
