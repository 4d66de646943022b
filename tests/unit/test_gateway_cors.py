"""CORS: off unless origins are set; then on every answer, and without credentials."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from structlog.testing import capture_logs

from common.errors import RateLimited
from gateway.app import create_app
from tests.gateway import ALICE, World, running, slug

ORIGIN = "https://app.example.com"
FROM_PAGE = {"Origin": ORIGIN}
OTHER = {"Origin": "https://evil.example.com"}
PREFLIGHT = FROM_PAGE | {"Access-Control-Request-Method": "POST"}
EXPOSED = (
    "Location, ETag, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy, X-Request-ID, "
    "Content-Disposition, Content-Range, Content-Length, Accept-Ranges, WWW-Authenticate, Preference-Applied"
)
ASKED = "Authorization, Content-Type, Idempotency-Key, If-None-Match, If-Range, Range, Prefer, X-Request-ID"


def names(text: str) -> set[str]:
    return {name.strip().lower() for name in text.split(",")}


def cors_headers(answer: httpx.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


async def broken(*_: Any) -> Any:
    raise ZeroDivisionError


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running(cors_origins=["https://first.example.com", ORIGIN]) as world:
        yield world


async def test_off_nothing_is_said_of_it_anywhere() -> None:
    async with running() as world:
        image_id = await world.completed()
        for answer in [
            await world.http.get("/health", headers=FROM_PAGE),
            await world.http.get("/nope", headers=FROM_PAGE),
            await world.http.get(f"/status/{image_id}", headers=FROM_PAGE),
            await world.http.get(f"/status/{image_id}", headers=ALICE | FROM_PAGE),
            await world.http.get(f"/image/{image_id}", headers=ALICE | FROM_PAGE),
            await world.http.options("/upload", headers=PREFLIGHT),
        ]:
            assert not cors_headers(answer)
            assert "origin" not in names(answer.headers.get("Vary", ""))


async def test_off_a_preflight_is_a_method_like_others() -> None:
    async with running() as world:
        answer = await world.http.options("/upload", headers=PREFLIGHT)

    assert slug(answer) == (405, "method-not-allowed")


async def test_a_page_may_read_the_answer(world: World) -> None:
    image_id = await world.completed()

    answer = await world.http.get(f"/status/{image_id}", headers=ALICE | FROM_PAGE)

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert names(answer.headers["Access-Control-Expose-Headers"]) == names(EXPOSED)
    assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_and_every_problem(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Limiter:
        async def admit(self, caller: str) -> None:
            raise RateLimited(1, 60, 17)

    image_id = await world.uploaded()
    answers = [
        (404, await world.http.get("/nope", headers=FROM_PAGE)),
        (405, await world.http.put("/upload", headers=FROM_PAGE)),
        (401, await world.http.get(f"/status/{image_id}", headers=FROM_PAGE)),
        (409, await world.http.get(f"/image/{image_id}", headers=ALICE | FROM_PAGE)),
        (415, await world.http.post("/upload", headers=ALICE | FROM_PAGE)),
        (431, await world.http.get("/health", headers=FROM_PAGE | {"X-Long": "x" * 33_000})),
    ]
    monkeypatch.setattr(world.cache, "get", broken)
    with capture_logs():
        answers.append((500, await world.http.get(f"/status/{image_id}", headers=ALICE | FROM_PAGE)))
    limited = create_app(world.settings, replace(world.ports, limiter=Limiter()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://gateway") as http:
        answers.append((429, await http.get(f"/status/{image_id}", headers=ALICE | FROM_PAGE)))

    for status, answer in answers:
        assert slug(answer)[0] == status
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "x-request-id" in names(answer.headers["Access-Control-Expose-Headers"])


async def test_a_page_of_another_origin_may_not(world: World) -> None:
    image_id = await world.completed()

    for origin in ("https://evil.example.com", "null", f"{ORIGIN}.evil.example.com", ORIGIN.upper(), "http://app.example.com", ""):
        answer = await world.http.get(f"/status/{image_id}", headers=ALICE | {"Origin": origin})
        assert answer.status_code == 200
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("origin", [FROM_PAGE, OTHER, {}])
async def test_the_origin_joins_what_else_the_answer_varies_with(world: World, origin: dict[str, str]) -> None:
    image_id = await world.completed()

    for path, varies in ((f"/status/{image_id}", {"accept", "authorization"}), (f"/image/{image_id}", {"authorization"})):
        for headers in ({}, {"If-None-Match": "*"}):
            answer = await world.http.get(path, headers=ALICE | origin | headers)
            assert answer.status_code == (304 if headers else 200)
            assert names(answer.headers["Vary"]) == varies | {"origin"}
    assert names((await world.http.get("/health", headers=origin)).headers["Vary"]) == {"origin"}


async def test_a_preflight_needs_no_token_and_says_what_may_be_sent(world: World) -> None:
    for path in ("/api/v1/upload", f"/api/v1/images/{uuid4()}", "/nope"):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            asked = FROM_PAGE | {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": ASKED.lower()}

            answer = await world.http.options(path, headers=asked)

            assert answer.status_code == 200, answer.text
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert names(answer.headers["Access-Control-Allow-Methods"]) == {"get", "head", "post", "delete"}
            assert names(answer.headers["Access-Control-Allow-Headers"]) >= names(ASKED)
            assert "Access-Control-Allow-Credentials" not in answer.headers
            assert "origin" in names(answer.headers["Vary"])


async def test_it_is_recorded_like_every_request(world: World) -> None:
    with capture_logs() as logs:
        answer = await world.http.options("/upload", headers=PREFLIGHT | {"X-Request-ID": "request-7"})

    assert answer.headers["X-Request-ID"] == "request-7"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert [(line["event"], line["method"], line["status"]) for line in logs] == [("request", "OPTIONS", 200)]


async def test_it_is_not_limited(world: World) -> None:
    class Limiter:
        async def admit(self, caller: str) -> None:
            raise AssertionError("was asked")

    limited = create_app(world.settings, replace(world.ports, limiter=Limiter()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://gateway") as http:
        assert (await http.options("/upload", headers=ALICE | PREFLIGHT)).status_code == 200


@pytest.mark.parametrize(
    ("asked", "of"),
    [
        (PREFLIGHT | OTHER, "origin"),
        (PREFLIGHT | {"Access-Control-Request-Method": "PATCH"}, "method"),
        (PREFLIGHT | {"Access-Control-Request-Headers": "Authorization, X-Other"}, "headers"),
    ],
)
async def test_one_that_is_refused_is_a_problem_that_says_why(world: World, asked: dict[str, str], of: str) -> None:
    answer = await world.http.options("/upload", headers=asked)

    assert slug(answer) == (400, "bad-request")
    assert of in answer.json()["detail"]
    assert answer.headers.get("Access-Control-Allow-Origin") == (None if of == "origin" else ORIGIN)
    assert "origin" in names(answer.headers["Vary"])


@pytest.mark.parametrize("headers", [{}, FROM_PAGE, {"Access-Control-Request-Method": "POST"}])
async def test_what_is_no_preflight_is_a_method_like_others(world: World, headers: dict[str, str]) -> None:
    answer = await world.http.options("/upload", headers=headers)

    assert slug(answer) == (405, "method-not-allowed")


async def test_every_origin_where_that_is_set() -> None:
    async with running(cors_origins=["*"]) as world:
        for origin in (FROM_PAGE, OTHER):
            answer = await world.http.get(f"/status/{uuid4()}", headers=origin)
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in answer.headers
            preflight = await world.http.options("/upload", headers=PREFLIGHT | origin)
            assert preflight.status_code == 200
            assert preflight.headers["Access-Control-Allow-Origin"] == "*"
