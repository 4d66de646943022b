"""Each caller's rate: over all routes that want a token together, after the token and before the body."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prometheus_client import REGISTRY

from common.errors import RateLimited, Unavailable
from gateway.app import create_app
from tests.gateway import ALICE, BOB, World, slug


class Limiter:
    """Admits so many, and knows whom."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.asked: Counter[str] = Counter()

    async def admit(self, caller: str) -> None:
        self.asked[caller] += 1
        if self.asked[caller] > self._limit:
            raise RateLimited(self._limit, 60, 17)


class AwayLimiter:
    async def admit(self, caller: str) -> None:
        raise Unavailable("rate limiter", "connection refused")


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"image_processor_{name}_total") or 0


@pytest.fixture
async def limited() -> AsyncIterator[Callable[[Any], World]]:
    clients: list[httpx.AsyncClient] = []

    def world_with(limiter: Any) -> World:
        world = World()
        world.ports = replace(world.ports, limiter=limiter)
        world.app = create_app(world.settings, world.ports)
        world.http = httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url="http://gateway")
        clients.append(world.http)
        return world

    yield world_with
    for client in clients:
        await client.aclose()


async def test_over_the_rate(limited: Callable[[Any], World]) -> None:
    world = limited(Limiter(2))
    before = counted("rate_limited")
    for _ in range(2):
        assert (await world.http.get(f"/status/{uuid4()}", headers=ALICE)).status_code == 404

    answer = await world.http.get(f"/status/{uuid4()}", headers=ALICE)

    assert slug(answer) == (429, "rate-limited")
    assert answer.headers["Retry-After"] == "17"
    assert answer.headers["RateLimit-Limit"] == "2"
    assert answer.headers["RateLimit-Remaining"] == "0"
    assert answer.headers["RateLimit-Reset"] == "17"
    assert answer.headers["RateLimit-Policy"] == "2;w=60"
    assert counted("rate_limited") == before + 1
    # and others are not over theirs
    assert (await world.http.get(f"/status/{uuid4()}", headers=BOB)).status_code == 404


async def test_every_route_that_wants_a_token_counts_one(limited: Callable[[Any], World]) -> None:
    limiter = Limiter(1000)
    world = limited(limiter)
    paths = (await world.http.get("/openapi.json")).json()["paths"]
    secured = [(method, path) for path in paths for method, operation in paths[path].items() if "security" in operation]
    secured += [("head", path) for method, path in secured if method == "get"]
    assert len(secured) > 10

    for number, (method, path) in enumerate(secured, 1):
        await world.http.request(method, path.replace("{id}", str(uuid4())), headers=ALICE)
        assert limiter.asked == {"alice": number}, (method, path)


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics", "/docs", "/openapi.json", "/nope"])
async def test_what_wants_no_token_has_no_limit(limited: Callable[[Any], World], path: str) -> None:
    limiter = Limiter(0)
    world = limited(limiter)

    answer = await world.http.get(path, headers=ALICE)

    assert answer.status_code != 429
    assert not limiter.asked


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer stolen"}, [("Authorization", "Bearer alice-token")] * 2])
async def test_the_token_is_judged_first(limited: Callable[[Any], World], headers: Any) -> None:
    limiter = Limiter(0)
    world = limited(limiter)

    answer = await world.http.get(f"/status/{uuid4()}", headers=headers)

    assert slug(answer) == (401, "unauthorized")
    assert not limiter.asked


async def test_the_body_is_not_read(limited: Callable[[Any], World]) -> None:
    world = limited(Limiter(0))
    read = 0

    headers = ALICE | {"Content-Type": "multipart/form-data; boundary=x"}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"--x\r\n", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/upload",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await world.app(scope, receive, send)

    assert sent[0]["status"] == 429
    assert read == 0


async def test_while_rates_cannot_be_looked_up_everybody_is_let_in_and_counted(limited: Callable[[Any], World]) -> None:
    world = limited(AwayLimiter())
    before = counted("rate_unknown")

    assert (await world.upload()).status_code == 202

    assert counted("rate_unknown") == before + 1
