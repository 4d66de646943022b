"""How endpoints are called: on the event loop, with what they declare."""

import inspect
from collections.abc import AsyncIterator

import anyio.to_thread
import pytest

from gateway.routes.images import images_router
from gateway.routing import ImageRoute
from tests.gateway import ALICE, CONTENTS, ORIGINAL, RESOURCES, World, running


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def test_no_endpoint_or_dependency_of_images_is_run_in_a_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the framework does with what is not `async`, at several times the price of a status read."""
    image_id = await world.completed()

    async def refused(*_: object, **__: object) -> None:
        raise AssertionError("in a thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refused)

    for path in (*RESOURCES, *CONTENTS, ORIGINAL):
        assert (await world.get(path, image_id)).status_code == 200
    assert (await world.get("/api/v1/images")).status_code == 200
    assert (await world.upload()).status_code == 202
    assert (await world.http.delete(f"/api/v1/images/{image_id}", headers=ALICE)).status_code == 200


def test_what_endpoints_of_one_image_declare_is_what_they_are_given() -> None:
    routes = images_router().routes

    assert routes
    for route in routes:
        assert isinstance(route, ImageRoute)
        assert list(inspect.signature(route.endpoint).parameters) == ["caller", "gateway", "image_id", "request"]
