"""Readiness: what is asked of whom, how often, and what is said of it. Probes come from many sides and must never be the load."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from common.adapters.threads import run_to_end
from common.errors import Full, NotMigrated, Unavailable, WrongConfiguration
from common.usecases import check_dependencies
from common.usecases.check_dependencies import Dependencies, Readiness
from tests.polling import eventually
from tests.world import World
from worker.health import create_health_app

LIMIT = 0.1


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is too old at once."""
    monkeypatch.setattr(check_dependencies, "FRESH_SECONDS", 0)


def raising(error: Exception) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        raise error

    return check


async def looked(dependencies: Dependencies) -> tuple[Readiness, float]:
    """→ the answer, and the seconds that it took."""
    started = time.monotonic()
    return await dependencies.readiness(LIMIT), time.monotonic() - started


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (Unavailable("database", "refused by 10.0.0.7"), "unavailable"),
        (Full("database", "0 bytes free on /srv"), "full"),
        (NotMigrated("found nothing"), "not migrated"),
        (WrongConfiguration("POSTGRES_URL", "sslmode=perhaps"), "misconfigured"),
        (PermissionError("permission denied for table images"), "failing"),
    ],
)
async def test_a_word_for_everything_that_can_be_wrong(
    world: World, error: Exception, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.images, "check", raising(error))

    readiness = await Dependencies(world.ports).readiness(LIMIT)

    assert readiness.checks == {"database": word, "object_store": "ok", "queue": "ok", "cache": "ok"}
    assert readiness.status == "unavailable"


async def test_a_queue_that_is_full_or_misconfigured_keeps_nobody_from_uploading(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (Full("queue", "the disk"), WrongConfiguration("RABBITMQ_URL", "another queue is there")):
        monkeypatch.setattr(world.queue, "check", raising(error))
        assert (await Dependencies(world.ports).readiness(LIMIT)).status == "degraded"


async def test_many_probes_at_once_ask_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)

    monkeypatch.setattr(world.blobs, "check", check)
    dependencies = Dependencies(world.ports)

    await asyncio.gather(*(dependencies.readiness(LIMIT) for _ in range(50)))
    await dependencies.readiness(LIMIT)

    assert asked == 1


@pytest.mark.usefixtures("no_memory")
async def test_a_service_that_hangs_costs_one_thread_however_many_ask_and_nobody_waits_longer_than_the_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a thread, which no cancellation ends
    answers, asked = threading.Event(), 0

    def hang() -> None:
        nonlocal asked
        asked += 1
        answers.wait(30)

    monkeypatch.setattr(world.blobs, "check", lambda: run_to_end(None, hang))
    dependencies = Dependencies(world.ports)
    # when
    found = await asyncio.gather(*(looked(dependencies) for _ in range(5)))
    later = [await looked(dependencies) for _ in range(5)]
    # then
    assert asked == 1
    assert {readiness.checks["object_store"] for readiness, _ in found + later} == {"unavailable"}
    assert {readiness.checks["database"] for readiness, _ in found + later} == {"ok"}
    assert max(seconds for _, seconds in found) < LIMIT + 1
    assert sum(seconds for _, seconds in later) < LIMIT  # they did not wait at all

    # and once it answers again, so does this
    answers.set()

    async def is_ok() -> bool:
        return (await dependencies.readiness(LIMIT)).status == "ok"

    await eventually(is_ok, "the service to be well again", 10)


async def test_an_answer_is_old_after_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_dependencies, "FRESH_SECONDS", 0.05)
    dependencies = Dependencies(world.ports)
    assert (await dependencies.readiness(LIMIT)).status == "ok"
    monkeypatch.setattr(world.cache, "check", raising(Unavailable("cache", "away")))

    async def is_degraded() -> bool:
        return (await dependencies.readiness(LIMIT)).status == "degraded"

    await eventually(is_degraded, "the cache to be asked again", 10)


@pytest.mark.usefixtures("no_memory")
async def test_a_worker_says_whether_messages_reach_it(world: World) -> None:
    transport = httpx.ASGITransport(create_health_app(world.ports))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        waiting = await http.get("/health/ready")
        await world.submit()
        async with aclosing(world.queue.deliveries(1)) as deliveries:
            await anext(deliveries)
            consuming = await http.get("/health/ready")

    assert (waiting.status_code, waiting.json()["status"]) == (200, "degraded")
    assert waiting.json()["checks"]["consumer"] == "unavailable"
    assert (consuming.status_code, consuming.json()) == (
        200,
        {"status": "ok", "checks": dict.fromkeys(waiting.json()["checks"], "ok")},
    )
    assert "identity_provider" not in consuming.json()["checks"]
