"""Who may do what, over every operation there is: generated from the description and the routes, so that a new one is in it."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from uuid6 import uuid7

from common.adapters.dev_issuer import DevIssuer
from gateway.app import create_app
from gateway.problems import METHODS
from tests.gateway import ADMIN, ALICE, BOB, RESULT, World, running, slug

# What anybody may ask without a token. Everything else wants one; a new route that is open has to be named here.
OPEN = {
    "/health",
    "/health/ready",
    "/metrics",
    "/docs",
    "/docs/oauth2-redirect",
    "/docs/assets",
    "/openapi.json",
    # the embedded mode's issuer alone
    "/realms/{realm}/.well-known/openid-configuration",
    "/realms/{realm}/protocol/openid-connect/auth",
    "/realms/{realm}/protocol/openid-connect/certs",
    "/realms/{realm}/protocol/openid-connect/token",
}


def operations() -> Iterator[tuple[str, str]]:
    """Methods and paths of the description, and HEAD where there is GET."""
    for path, methods in World().app.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path
            if method == "get":
                yield "HEAD", path


GUARDED = [(method, path) for method, path in operations() if path not in OPEN]
OF_AN_IMAGE = [(method, path) for method, path in GUARDED if "{id}" in path]
CONDITIONS = {
    "Range": "bytes=0-9",
    "If-None-Match": "*",
    "If-Match": "*",
    "Accept": "image/*",
    "Prefer": "wait=1",
    "Idempotency-Key": "a-key",
}
ODD_CONDITIONS: list[dict[str, str]] = [
    {"Range": "bytes=999999999-"},
    {"Range": "bytes=0-0", "If-Range": '"x"'},
    {"If-Modified-Since": "Mon, 01 Jan 2035 00:00:00 GMT"},
    {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
    {"Accept": "text/html"},
    {"Accept": "image/*, application/json;q=0.5", "If-None-Match": 'W/"1", "x"'},
    {"Prefer": "wait=30, respond-async"},
    {"X-HTTP-Method-Override": "GET"},
    {"Origin": "https://elsewhere.example"},
    CONDITIONS,
]
HEADERS: list[dict[str, str]] = [
    {name: CONDITIONS[name] for name in names} for count in (0, 1, 2) for names in combinations(CONDITIONS, count)
] + ODD_CONDITIONS
BOGUS = {"owner": "alice", "wait": "1"}
# A reader who may not see an image costs no more than these: nothing is waited for, opened or changed.
LOOKING = {"cache.get", "cache.put", "images.get", "images.mark_deleted"}


class Recorded:
    """A port, and which of its methods were asked for."""

    def __init__(self, name: str, port: object, calls: list[str]) -> None:
        self._name, self._port, self._calls = name, port, calls

    def __getattr__(self, method: str) -> Any:
        self._calls.append(f"{self._name}.{method}")
        return getattr(self._port, method)


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    """One for all, because each test makes images of its own."""
    async with running() as world:
        yield world


@pytest.fixture
def calls(world: World) -> Iterator[list[str]]:
    """What the gateway asks its ports for while the test runs."""
    unwatched, calls = world.app.state.gateway, list[str]()
    watched: dict[str, Any] = {
        name: Recorded(name, getattr(world.ports, name), calls) for name in ("images", "blobs", "queue", "cache", "notifier")
    }
    world.app.state.gateway = replace(unwatched, ports=replace(world.ports, **watched))
    yield calls
    world.app.state.gateway = unwatched


async def made(world: World, state: str) -> UUID:
    """An image of Alice's."""
    match state:
        case "queued":
            return await world.uploaded()
        case "failed":
            return await world.failed()
        case _:
            return await world.completed()


def without_names(answer: httpx.Response, image_id: UUID) -> tuple[int, dict[str, str], str]:
    """All of an answer but the request's id and the image's own."""
    request_id = answer.headers["X-Request-ID"]
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")}
    return answer.status_code, headers, answer.content.decode("latin-1").replace(request_id, "").replace(str(image_id), "")


def named(operation: tuple[str, str]) -> str:
    return " ".join(operation)


def test_there_is_something_to_test() -> None:
    assert ("DELETE", "/api/v1/images/{id}") in OF_AN_IMAGE
    assert ("HEAD", "/image/{id}") in OF_AN_IMAGE
    assert len(GUARDED) > len(OF_AN_IMAGE) >= 13


def test_every_route_is_either_in_the_matrix_or_open_by_name(tmp_path: Path, world: World) -> None:
    issuer = DevIssuer("http://localhost:3000", "ImageProcessor", "api-gateway-client", tmp_path / "issuer.pem")
    app = create_app(world.settings, world.ports, issuer)

    routes = list(iter_route_contexts(app.router.routes))

    assert {route.path for route in routes} == OPEN | {path for _, path in GUARDED}
    served = {(method, route.path) for route in routes if route.path not in OPEN for method in route.methods or {"any"}}
    assert served == set(GUARDED)


@pytest.mark.parametrize("operation", GUARDED, ids=named)
@pytest.mark.parametrize("query", [{}, BOGUS], ids=["plain", "with a query"])
async def test_without_a_token_it_is_401(world: World, operation: tuple[str, str], query: dict[str, str]) -> None:
    method, path = operation
    image_id = await world.completed()
    before = world.images.rows[image_id].image

    for given in (image_id, uuid7(), "seven"):
        answer = await world.http.request(method, path.replace("{id}", str(given)), params=query, content=b"no form")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="ImageProcessor"'
        assert answer.headers["Content-Type"] == "application/problem+json"

    assert world.images.rows[image_id].image == before


@pytest.mark.parametrize("state", ["queued", "completed", "failed"])
@pytest.mark.parametrize("operation", OF_AN_IMAGE, ids=named)
async def test_anothers_image_answers_as_one_that_does_not_exist(
    world: World, calls: list[str], operation: tuple[str, str], state: str
) -> None:
    # given an image of Alice's
    method, path = operation
    theirs = await made(world, state)
    before = world.images.rows[theirs].image

    async def asked(image_id: UUID, headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[int, dict[str, str], str]:
        answer = await world.http.request(method, path.replace("{id}", str(image_id)), headers={**BOB, **headers}, params=query)
        return without_names(answer, image_id)

    for headers, query in [*((headers, {}) for headers in HEADERS), ({}, BOGUS), (CONDITIONS, BOGUS)]:
        # when Bob asks for it, and for nothing
        calls.clear()
        theirs_answer, work = await asked(theirs, headers, query), list(calls)
        nothings_answer = await asked(uuid7(), headers, query)

        # then he cannot tell them apart
        assert theirs_answer == nothings_answer, (headers, query)
        assert theirs_answer[0] == (422 if query else 404), (headers, query)
        assert set(work) <= LOOKING, (headers, query)
        assert len(work) <= 3, (headers, query)

    assert world.images.rows[theirs].image == before
    assert (await world.http.get(f"/status/{theirs}", headers=ALICE)).json()["status"] == state


@pytest.mark.parametrize("path", sorted({path for _, path in OF_AN_IMAGE}))
async def test_a_method_that_is_not_there_answers_the_same_for_every_id(world: World, path: str) -> None:
    theirs, nothing = await world.completed(), uuid7()
    others = [method for method in METHODS if (method, path) not in OF_AN_IMAGE]
    assert others

    for method in others:
        answers = [
            without_names(await world.http.request(method, path.replace("{id}", str(image_id)), headers=BOB), image_id)
            for image_id in (theirs, nothing)
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] == 405


@pytest.mark.parametrize("operation", OF_AN_IMAGE, ids=named)
async def test_the_admin_is_answered_as_the_owner(world: World, operation: tuple[str, str]) -> None:
    method, path = operation
    image_id = await world.completed()

    async def asked(who: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, dict[str, str], str]:
        # What is deleted has to be another one each time.
        its_id = await world.completed() if method == "DELETE" else image_id
        answer = await world.http.request(method, path.replace("{id}", str(its_id)), headers={**who, **headers})
        return without_names(answer, its_id)

    for headers in HEADERS:
        owners, admins = await asked(ALICE, headers), await asked(ADMIN, headers)
        assert owners == admins, headers
        assert owners[0] != 404, headers
    assert (await asked(ADMIN, {}))[0] == 200


async def test_the_admin_gets_the_bytes(world: World) -> None:
    image_id = await world.completed()

    answer = await world.http.get(f"/image/{image_id}", headers=ADMIN)

    assert answer.content == RESULT


@pytest.mark.parametrize("operation", OF_AN_IMAGE, ids=named)
async def test_a_deleted_image_answers_its_owner_as_one_that_never_was(world: World, operation: tuple[str, str]) -> None:
    method, path = operation
    gone, nothing = await world.completed(), uuid7()
    assert (await world.http.delete(f"/api/v1/images/{gone}", headers=ALICE)).status_code == 200

    for who in (ALICE, ADMIN, BOB):
        answers = [
            without_names(await world.http.request(method, path.replace("{id}", str(image_id)), headers=who), image_id)
            for image_id in (gone, nothing)
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] == 404


FORMS_OF_AN_ID = ("{}", "{}/", "{}%20", "%20{}", "{{{}}}", "urn:uuid:{}", "../images/{}", "%2e%2e/{}", "{}%00", "{},{}", "{}?id={}")


@pytest.mark.parametrize("operation", OF_AN_IMAGE, ids=named)
async def test_no_way_of_writing_an_id_opens_anothers_image(world: World, operation: tuple[str, str]) -> None:
    method, path = operation
    theirs = await world.completed()
    before = world.images.rows[theirs].image

    for form in FORMS_OF_AN_ID:
        for written in (str(theirs), str(theirs).upper(), theirs.hex, str(theirs.int)):
            answer = await world.http.request(method, path.replace("{id}", form.format(written, written)), headers=BOB)
            assert answer.status_code in (404, 405, 422), (form, written)
            assert "cat.jpg" not in answer.text

    assert world.images.rows[theirs].image == before


async def test_lists_are_of_ones_own_and_the_admins_of_all() -> None:
    async with running() as world:
        theirs = str(await world.completed())

        async def listed(who: Mapping[str, str], **query: str) -> list[str]:
            answer = await world.http.get("/api/v1/images", headers=who, params=query)
            assert answer.status_code == 200, answer.text
            return [item["id"] for item in answer.json()["items"]]

        assert await listed(BOB) == await listed(BOB, owner="bob") == await listed(ADMIN, owner="bob") == []
        assert await listed(ALICE) == await listed(ALICE, owner="alice") == await listed(ADMIN) == [theirs]
        assert await listed(ADMIN, owner="alice", status="completed") == [theirs]
        # whether or not somebody else is anybody
        for owner in ("alice", "nobody"):
            assert slug(await world.http.get("/api/v1/images", headers=BOB, params={"owner": owner})) == (403, "forbidden")
