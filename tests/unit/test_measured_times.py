"""The times that are measured are those that a reader of a dashboard takes them for."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from common.errors import RenderInterrupted
from common.images import FailureCode, Image, ImageStatus
from common.serving import LAG_INTERVAL_SECONDS, listen, serve
from tests.gateway import ALICE, running
from tests.gateway import World as GatewayWorld
from tests.polling import eventually
from tests.world import World


def sampled(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"image_processor_{name}", labels) or 0.0


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def process_after(world: World, image: Image, seconds: float) -> Image | None:
    world.now += timedelta(seconds=seconds)
    return await world.process(image)


async def test_how_long_an_image_waited_and_took(world: World) -> None:
    # given
    image = await world.image_in(ImageStatus.UPLOADED)
    waited, took = sampled("queue_seconds_sum", priority="high"), sampled("turnaround_seconds_sum", status="completed")

    async def render_slowly() -> None:
        world.now += timedelta(seconds=5)

    world.renderer.meanwhile = render_slowly

    # when
    await process_after(world, image, 7)

    # then
    assert sampled("queue_seconds_sum", priority="high") - waited == pytest.approx(7, abs=0.5)
    assert sampled("turnaround_seconds_sum", status="completed") - took == pytest.approx(12, abs=0.5)


async def test_a_retry_did_not_wait_in_the_queue_again(world: World) -> None:
    # given
    image = await world.image_in(ImageStatus.UPLOADED)
    world.renderer.error = RenderInterrupted(FailureCode.TIME_LIMIT, "It took too long.")
    await process_after(world, image, 1)
    waits, ends = sampled("queue_seconds_count", priority="high"), sampled("turnaround_seconds_count", status="failed")

    # when
    failed = await process_after(world, image, 1)

    # then
    assert failed is not None
    assert failed.status is ImageStatus.FAILED
    assert sampled("queue_seconds_count", priority="high") == waits
    assert sampled("turnaround_seconds_count", status="failed") == ends + 1


async def test_an_image_that_is_sent_again_has_its_time_once(world: World) -> None:
    # given
    image = await world.image_in(ImageStatus.FAILED)
    await world.images.redrive(image.id)
    before = sampled("turnaround_seconds_count", status="completed"), sampled("attempts_count", status="completed")

    # when
    completed = await process_after(world, image, 3600)

    # then
    assert completed is not None
    assert completed.status is ImageStatus.COMPLETED
    after = sampled("turnaround_seconds_count", status="completed"), sampled("attempts_count", status="completed")
    assert after == (before[0], before[1] + 1)


async def test_a_gateway_whose_clock_is_ahead_has_no_negative_times(world: World) -> None:
    image = await world.image_in(ImageStatus.UPLOADED)
    before = sampled("queue_seconds_sum", priority="high")

    await process_after(world, image, -5)

    assert sampled("queue_seconds_sum", priority="high") == before


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayWorld]:
    async with running() as gateway:
        yield gateway


async def test_the_time_of_a_request_is_without_the_wait_that_it_asked_for(gateway: GatewayWorld) -> None:
    # given
    route = {"method": "GET", "route": "/api/v1/images/{id}/status"}
    image_id = await gateway.uploaded()
    seconds, waited = sampled("http_request_seconds_sum", **route), sampled("wait_seconds_sum")

    # when
    started = time.perf_counter()
    await gateway.http.get(f"/api/v1/images/{image_id}/status", headers=ALICE | {"Prefer": "wait=1"})
    took = time.perf_counter() - started

    # then
    waited = sampled("wait_seconds_sum") - waited
    assert 0.9 < waited <= took
    assert sampled("http_request_seconds_sum", **route) - seconds <= took - waited


async def test_an_event_loop_that_stood_still_is_seen() -> None:
    # given
    stop = asyncio.Event()
    listener = listen("127.0.0.1", 0, "PORT")
    serving = asyncio.create_task(serve(lambda *_: None, listener, stop, 1))
    name = "event_loop_lag_seconds"
    before = sampled(f"{name}_sum")
    await asyncio.sleep(LAG_INTERVAL_SECONDS / 2)

    # when
    time.sleep(1)  # noqa: ASYNC251 - what blocks the loop is the case

    # then
    async def seen() -> bool:
        return sampled(f"{name}_sum") - before > 0.4

    await eventually(seen, "the lag to be measured", 5)
    stop.set()
    await serving
