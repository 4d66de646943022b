"""What the workers say of the whole system."""

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from common.errors import PictureRefused, RenderInterrupted, Unavailable
from common.images import FailureCode, ImageStatus
from common.usecases.measure import measure
from tests.world import STALE, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(f"image_processor_{name}", labels)
    assert found is not None, f"{name} {labels} is not exported"
    return found


async def away(*_: Any) -> None:
    raise Unavailable("something", "away")


async def test_what_waits_and_for_how_long(world: World) -> None:
    for status in ImageStatus:
        await world.image_in(status)
    await world.image_in(ImageStatus.QUEUED)
    world.let_pass(STALE + timedelta(seconds=5))

    await measure(world.ports)

    assert [value("backlog", status=status) for status in ("uploaded", "queued", "processing")] == [1, 2, 1]
    assert 600 < value("oldest_seconds", status="queued") < 610
    # the one that nobody has published was due five seconds after its upload
    assert value("dispatch_lag_seconds") == pytest.approx(600)


async def test_what_is_in_the_queues(world: World) -> None:
    await world.submit()
    await world.image_in(ImageStatus.FAILED)

    await measure(world.ports)

    assert value("queue_depth", queue="dead") == 1
    assert value("queue_depth", queue="high") == 2
    assert value("queue_depth", queue="low") == 0


async def test_what_is_away_is_not_shown_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.submit()
    await measure(world.ports)

    monkeypatch.setattr(world.images, "backlog", away)
    await measure(world.ports)
    assert math.isnan(value("backlog", status="queued"))
    assert math.isnan(value("oldest_seconds", status="queued"))
    assert math.isnan(value("dispatch_lag_seconds"))
    assert value("queue_depth", queue="high") == 1

    monkeypatch.undo()
    monkeypatch.setattr(world.queue, "depths", away)
    await measure(world.ports)
    assert value("backlog", status="queued") == 1
    assert math.isnan(value("queue_depth", queue="high"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RenderInterrupted(FailureCode.TIME_LIMIT, "slow"), "time-limit"),
        (Unavailable("object store", "away"), "object store"),
    ],
)
async def test_retries_are_counted_by_reason(world: World, error: Exception, reason: str) -> None:
    image = await world.submit()
    world.renderer.error = error
    before = REGISTRY.get_sample_value("image_processor_retries_total", {"reason": reason}) or 0

    await world.process(image)

    assert value("retries_total", reason=reason) == before + 1


async def test_how_many_attempts_an_image_took(world: World) -> None:
    completed, failed = value("attempts_sum", status="completed"), value("attempts_count", status="failed")
    image = await world.submit()
    world.renderer.error = RenderInterrupted(FailureCode.TIME_LIMIT, "slow")
    await world.process(image)
    world.renderer.error = None
    await world.process(image)
    assert value("attempts_sum", status="completed") == completed + 2

    other = await world.submit()
    world.renderer.error = PictureRefused(FailureCode.CORRUPT_IMAGE, "damaged")
    await world.process(other)
    assert value("attempts_count", status="failed") == failed + 1


async def test_a_lost_lease_is_counted(tmp_path: Path) -> None:
    from common.messages import Job
    from common.usecases.process_image import ProcessPolicy, process_image
    from tests.polling import eventually
    from tests.world import RETRY

    world = World(tmp_path)
    before = value("leases_lost_total")
    image = await world.submit()

    async def taken_over() -> None:
        row = world.images.rows[image.id]
        row.due = world.now
        await world.images.claim(image.id, timedelta(hours=1))

        async def is_counted() -> bool:
            return value("leases_lost_total") == before + 1

        await eventually(is_counted, "the loss to be noticed")

    world.renderer.meanwhile = taken_over
    policy = ProcessPolicy(lease=timedelta(milliseconds=60), retry=RETRY)
    await process_image(world.ports, world.renderer, policy, Job(image_id=image.id, request_id="r"))
    assert value("leases_lost_total") == before + 1
