"""What the doctor finds: each trouble has a line that names it and says what to do."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from common.errors import Full, NotMigrated, Unavailable
from common.images import ImageStatus
from common.ports import Bucket
from common.usecases.examine import Finding, Level, examine
from tests.world import World

Break = Callable[[World, pytest.MonkeyPatch], None]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def found_in(world: World, seconds: float = 5) -> dict[str, Finding]:
    return {finding.what: finding for finding in await examine(world.ports, seconds)}


async def test_where_all_is_well_nothing_is_advised_and_nothing_left(world: World) -> None:
    found = await found_in(world)

    assert {finding.level for finding in found.values()} == {Level.OK}
    assert not any(finding.advice for finding in found.values())
    assert set(found) == {"database", "clock", "object store", "queue", "cache", "identity provider", "backlog"}
    assert world.blobs.objects == {}
    assert not world.images.rows


async def away(*_: Any) -> None:
    raise Unavailable("something", "connection refused")


async def hang(*_: Any) -> None:
    await asyncio.Event().wait()


CALLS = [
    ("images", "check", "database", "POSTGRES_URL"),
    ("blobs", "put", "object store", "MINIO_ENDPOINT"),
    ("queue", "check", "queue", "RABBITMQ_URL"),
    ("cache", "get", "cache", "REDIS_URL"),
    ("tokens", "check", "identity provider", "KEYCLOAK_URL"),
]


@pytest.mark.parametrize(("port", "call", "what", "variable"), CALLS)
@pytest.mark.parametrize(("trouble", "words"), [(away, "connection refused"), (hang, "no answer in 0.05 s")])
async def test_what_does_not_answer_is_named_with_its_setting(
    world: World, monkeypatch: pytest.MonkeyPatch, port: str, call: str, what: str, variable: str, trouble: Any, words: str
) -> None:
    monkeypatch.setattr(getattr(world.ports, port), call, trouble)

    found = await found_in(world, 0.05)

    assert (found[what].level, found[what].detail) == (Level.FAILED, words)
    assert variable in found[what].advice
    alone = {what} if what != "database" else {what, "backlog"}
    assert {finding.what for finding in found.values() if finding.level is not Level.OK} == alone


@pytest.mark.parametrize(("port", "what"), [("blobs", "object store"), ("queue", "queue")])
async def test_what_is_full_is_to_be_given_room(world: World, monkeypatch: pytest.MonkeyPatch, port: str, what: str) -> None:
    async def full() -> None:
        raise Full(what, "1000 bytes free")

    monkeypatch.setattr(getattr(world.ports, port), "check", full)

    found = (await found_in(world))[what]

    assert (found.level, found.detail) == (Level.FAILED, "1000 bytes free")
    assert found.advice.startswith("Make room")


async def test_a_database_that_is_not_migrated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def old() -> None:
        raise NotMigrated("The database is not migrated.")

    monkeypatch.setattr(world.images, "check", old)

    assert (await found_in(world))["database"].advice == "Run: image-processor migrate"


@pytest.mark.parametrize(("seconds", "words"), [(5.0, "5.0 s ahead of"), (-7200.0, "7200.0 s behind")])
async def test_clocks_that_differ(world: World, seconds: float, words: str) -> None:
    world.let_pass(timedelta(seconds=seconds))

    clock = (await found_in(world))["clock"]

    assert clock.level is Level.WARNING
    assert words in clock.detail
    assert "NTP" in clock.advice


async def test_an_object_store_that_gives_back_other_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def other(bucket: Bucket, key: str, target: Path) -> None:
        target.write_bytes(b"something else")

    monkeypatch.setattr(world.blobs, "fetch", other)

    store = (await found_in(world))["object store"]

    assert store.level is Level.FAILED
    assert "other bytes" in store.detail
    assert world.blobs.objects == {}


async def test_dead_letters_are_a_warning(world: World) -> None:
    await world.image_in(ImageStatus.FAILED)

    queue = (await found_in(world))["queue"]

    assert (queue.level, queue.detail.split(" (")[0]) == (Level.WARNING, "1 dead letters")
    assert "image-processor dead list" in queue.advice


async def test_images_that_nobody_dispatches_are_a_warning(world: World) -> None:
    await world.image_in(ImageStatus.UPLOADED)
    world.let_pass(timedelta(minutes=2))

    backlog = (await found_in(world))["backlog"]

    assert backlog.level is Level.WARNING
    assert "worker" in backlog.advice
