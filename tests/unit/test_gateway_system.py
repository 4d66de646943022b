"""Health, metrics and documentation: for everybody, without a token."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from common.errors import NotMigrated
from common.usecases import check_dependencies
from gateway.routes import system
from tests.gateway import World, away, running

OPERATIONS = {
    ("post", "/api/v1/upload"),
    ("post", "/api/v1/images"),
    ("post", "/upload"),
    ("get", "/api/v1/images"),
    ("get", "/api/v1/images/{id}"),
    ("delete", "/api/v1/images/{id}"),
    ("get", "/api/v1/images/{id}/status"),
    ("get", "/api/v1/images/{id}/content"),
    ("get", "/api/v1/images/{id}/original"),
    ("get", "/status/{id}"),
    ("get", "/image/{id}"),
    ("get", "/health"),
    ("get", "/health/ready"),
    ("get", "/metrics"),
}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def hangs(*_: Any) -> None:
    await asyncio.Event().wait()


async def not_migrated(*_: Any) -> None:
    raise NotMigrated("The database has no tables.")


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics", "/docs", "/openapi.json"])
async def test_head(world: World, path: str) -> None:
    assert (await world.http.head(path)).status_code == 200


async def test_alive(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.images, "check", away)

    answer = await world.http.get("/health")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("port", "name", "check", "status", "said", "word"),
    [
        ("images", "database", away, 503, "unavailable", "unavailable"),
        ("images", "database", hangs, 503, "unavailable", "unavailable"),
        ("images", "database", not_migrated, 503, "unavailable", "not migrated"),
        ("blobs", "object_store", away, 503, "unavailable", "unavailable"),
        ("queue", "queue", away, 200, "degraded", "unavailable"),
        ("cache", "cache", hangs, 200, "degraded", "unavailable"),
        ("tokens", "identity_provider", away, 200, "degraded", "unavailable"),
    ],
)
async def test_ready_says_who_is_away(
    world: World, port: str, name: str, check: Any, status: int, said: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = (await world.http.get("/health/ready")).json()
    assert ready == {"status": "ok", "checks": dict.fromkeys(ready["checks"], "ok")}
    monkeypatch.setattr(system, "READY_SECONDS", 0.05)
    monkeypatch.setattr(check_dependencies, "FRESH_SECONDS", 0)
    monkeypatch.setattr(getattr(world, port), "check", check)

    answer = await world.http.get("/health/ready")

    assert (answer.status_code, answer.json()["status"]) == (status, said)
    assert answer.json()["checks"] == ready["checks"] | {name: word}
    assert "10.0.0.7" not in answer.text


async def test_metrics(world: World) -> None:
    await world.uploaded()

    answer = await world.http.get("/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert 'image_processor_uploads_total{content_type="image/jpeg"}' in answer.text
    assert 'route="/api/v1/upload",status="202"' in answer.text


async def test_the_description_names_every_operation(world: World) -> None:
    description = (await world.http.get("/openapi.json")).json()

    assert {(method, path) for path, methods in description["paths"].items() for method in methods} == OPERATIONS
    for method, path in OPERATIONS:
        operation = description["paths"][path][method]
        of_images = not path.startswith(("/health", "/metrics"))
        assert bool(operation.get("security")) == of_images
        if of_images:
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            assert {"401", "503"} <= operation["responses"].keys()
    form = description["paths"]["/api/v1/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"].keys() == {"image", "processing", "priority"}


async def test_every_reference_in_the_description_leads_somewhere(world: World) -> None:
    description = (await world.http.get("/openapi.json")).json()

    references = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(description)))

    assert "#/components/schemas/Problem" in references
    for reference in references:
        found: Any = description
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


async def test_the_description_has_the_realms_own_flows() -> None:
    async with running(keycloak_public_url="https://login.example.com") as world:
        schemes = (await world.http.get("/openapi.json")).json()["components"]["securitySchemes"]

    endpoints = "https://login.example.com/realms/ImageProcessor/protocol/openid-connect"
    flows = schemes["realm"]["flows"]
    assert flows["authorizationCode"]["authorizationUrl"] == f"{endpoints}/auth"
    assert flows["authorizationCode"]["tokenUrl"] == flows["password"]["tokenUrl"] == f"{endpoints}/token"


async def test_the_documentation_needs_nothing_from_elsewhere(world: World) -> None:
    page = (await world.http.get("/docs")).text

    assert "http" not in re.sub(r"<!--.*?-->", "", page)
    assert '"clientId": "api-gateway-client"' in page
    assert '"usePkceWithAuthorizationCodeGrant": true' in page
    addresses = re.findall(r'(?:href|src)="(/[^"]*)"', page) + re.findall(r"'(/[^']*)'", page)
    assert len(addresses) == 4
    for address in addresses:
        answer = await world.http.get(address)
        assert answer.status_code == 200
        assert len(answer.content) > 1000
