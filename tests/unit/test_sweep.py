"""The sweeper: what no row names goes, nothing else does, whatever happens in between."""

import dataclasses
import math
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from uuid6 import uuid7

from common.errors import Unavailable
from common.images import Image, ImageStatus
from common.ports import Bucket, Ports
from common.usecases.delete_image import delete_image, finish_due_deletions
from common.usecases.expire_images import expire_images
from common.usecases.keep_in_order import UpkeepPolicy, keep_in_order
from common.usecases.sweep import FEW, Findings, sweep
from tests.caches import remember
from tests.disturbed import Disturbed, Failing
from tests.world import ALICE, World

GRACE = timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def swept(
    world: World, ports: Ports | None = None, meanwhile: Callable[[], Awaitable[object]] | None = None, **options: bool
) -> Findings:
    """`meanwhile` happens during the grace."""

    async def pause(seconds: float) -> bool:
        world.let_pass(timedelta(seconds=seconds))
        if meanwhile is not None:
            await meanwhile()
        return True

    return await sweep(ports or world.ports, GRACE, pause, **options)


def left(world: World) -> set[tuple[str, str]]:
    return {(str(bucket), key) for bucket, key in world.blobs.objects}


async def litter(world: World, bucket: Bucket, key: str) -> tuple[Bucket, str]:
    await world.blobs.put(bucket, key, world.upload.path, "image/jpeg")
    return bucket, key


async def test_images_in_every_state_keep_what_is_theirs(world: World) -> None:
    for status in ImageStatus:
        await world.image_in(status)
    before = left(world)

    found = await swept(world)

    assert left(world) == before
    assert (found.superfluous, found.without_object, found.foreign) == ([], [], 0)
    assert found.objects == len(before) == 6


async def test_what_no_row_names_is_removed(world: World) -> None:
    # given, between objects that are somebody's
    before_all = await litter(world, Bucket.RAW, str(uuid7()))
    done = await world.image_in(ImageStatus.COMPLETED)
    failed = await world.image_in(ImageStatus.FAILED)
    running = await world.image_in(ImageStatus.PROCESSING)
    stray = {
        before_all,
        await litter(world, Bucket.RAW, str(uuid7())),
        await litter(world, Bucket.PROCESSED, f"{uuid7()}/1"),
        await litter(world, Bucket.PROCESSED, f"{done.id}/7"),
        await litter(world, Bucket.PROCESSED, f"{failed.id}/1"),
    }
    # which may become its result yet
    kept = await litter(world, Bucket.PROCESSED, running.result_key)
    before = left(world)

    found = await swept(world)

    assert left(world) == before - stray
    assert kept in left(world)
    assert set(found.superfluous) == stray


@pytest.mark.parametrize("seed", range(30))
async def test_any_rows_beside_any_objects(world: World, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """However they fall into batches. What is right is said here without any order."""
    monkeypatch.setattr("common.usecases.sweep.BATCH", 3)
    random = Random(seed)
    images = [await world.image_in(random.choice(list(ImageStatus))) for _ in range(random.randrange(12))]
    for image in random.sample(images, len(images) // 4):
        await world.images.mark_deleted(image.id, None, timedelta(0))
    for image_id in [*(image.id for image in images), *(uuid7() for _ in range(5)), UUID(int=0), UUID(int=(1 << 128) - 1)]:
        for bucket, key in ((Bucket.RAW, f"{image_id}"), (Bucket.PROCESSED, f"{image_id}/1"), (Bucket.PROCESSED, f"{image_id}/10")):
            if random.random() < 0.5:
                await litter(world, bucket, key)
    for place in random.sample(sorted(world.blobs.objects), len(world.blobs.objects) // 4):
        del world.blobs.objects[place]
    rows = {str(image_id): row.image for image_id, row in world.images.rows.items()}
    before = left(world)

    def is_superfluous(bucket: str, key: str) -> bool:
        row = rows.get(key.partition("/")[0])
        if row is None:
            return True
        # of a deleted one, that is for the loop of deletions
        if bucket == Bucket.RAW or row.deleted or not row.status.is_final:
            return False
        return row.result is None or row.result.key != key

    def is_whole(row: Image) -> bool:
        is_there = row.result is None or (Bucket.PROCESSED, row.result.key) in before
        return is_there and (Bucket.RAW, row.raw_key) in before

    found = await swept(world)

    assert left(world) == {place for place in before if not is_superfluous(*place)}
    final = [row for row in rows.values() if row.status.is_final and not row.deleted]
    assert set(found.without_object) == {row.id for row in final if not is_whole(row)}
    assert found.objects == len(before)
    assert found.unknown == sum(is_superfluous(*place) for place in before)


async def test_a_dry_run_removes_nothing(world: World) -> None:
    stray = await litter(world, Bucket.RAW, str(uuid7()))
    key = dataclasses.replace(world.upload, idempotency_key="a key")
    await world.submit(key)
    world.let_pass(timedelta(days=2))

    found = await swept(world, dry_run=True)

    assert found.superfluous == [stray]
    assert stray in left(world)
    assert len(world.images.keys) == 1


async def test_objects_of_others_are_left(world: World) -> None:
    for key in ("README", str(uuid7()).upper(), f"{uuid7()}/1", f"{uuid7()}x"):
        await litter(world, Bucket.RAW, key)
    for key in (str(uuid7()), *(f"{uuid7()}/{attempt}" for attempt in ("one", "1/2", "0", "01", "-1", "١", ""))):
        await litter(world, Bucket.PROCESSED, key)

    found = await swept(world)

    assert (len(left(world)), found.foreign, found.superfluous) == (12, 12, [])


async def test_an_upload_whose_row_comes_during_the_grace_keeps_its_object(world: World) -> None:
    image = await world.submit()
    row = world.images.rows.pop(image.id)

    async def commit() -> None:
        world.images.rows[image.id] = row

    found = await swept(world, meanwhile=commit)

    assert (Bucket.RAW, image.raw_key) in left(world)
    assert found.superfluous == []


async def test_an_image_that_is_sent_again_during_the_grace_keeps_its_new_result(world: World) -> None:
    failed = await world.image_in(ImageStatus.FAILED)
    old = await litter(world, Bucket.PROCESSED, failed.result_key)

    async def again() -> None:
        await world.images.redrive(failed.id)
        await world.process(failed)

    await swept(world, meanwhile=again)

    image = await world.images.get(failed.id)
    assert image
    assert image.result
    assert (Bucket.PROCESSED, image.result.key) in left(world)
    assert old not in left(world)


async def test_stopping_during_the_grace_removes_nothing(world: World) -> None:
    stray = await litter(world, Bucket.RAW, str(uuid7()))

    async def stopped(_: float) -> bool:
        return False

    found = await sweep(world.ports, GRACE, stopped)

    assert stray in left(world)
    assert found.superfluous == []


async def test_a_database_that_knows_hardly_anything_is_not_believed(world: World) -> None:
    for _ in range(FEW + 1):
        await litter(world, Bucket.RAW, str(uuid7()))
    await world.submit()

    found = await swept(world)
    assert found.is_doubtful
    assert len(left(world)) == FEW + 2

    # unless somebody says so
    found = await swept(world, however_many=True)
    assert not found.is_doubtful
    assert len(left(world)) == 1


async def test_nor_is_it_where_there_are_far_more_objects_than_one_run_removes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.usecases.sweep.MOST", FEW)
    for _ in range(3 * FEW):
        await litter(world, Bucket.RAW, str(uuid7()))

    found = await swept(world)
    assert found.is_doubtful
    assert len(left(world)) == 3 * FEW

    # and where somebody says so, as many as one run removes
    await swept(world, however_many=True)
    assert len(left(world)) == 2 * FEW


async def test_objects_of_others_do_not_speak_for_the_database(world: World) -> None:
    for number in range(FEW + 1):
        await litter(world, Bucket.RAW, str(uuid7()))
        await litter(world, Bucket.RAW, f"somebody-elses-{number}")

    assert (await swept(world)).is_doubtful


async def test_a_final_image_whose_object_is_gone_is_told_and_left(world: World) -> None:
    without_raw = await world.image_in(ImageStatus.FAILED)
    without_result = await world.image_in(ImageStatus.COMPLETED)
    await world.image_in(ImageStatus.COMPLETED)
    assert without_result.result
    del world.blobs.objects[Bucket.RAW, without_raw.raw_key], world.blobs.objects[Bucket.PROCESSED, without_result.result.key]

    found = await swept(world)

    assert set(found.without_object) == {without_raw.id, without_result.id}
    assert len(world.images.rows) == 3


async def test_one_that_is_deleted_during_the_grace_is_not_told(world: World) -> None:
    image = await world.image_in(ImageStatus.COMPLETED)
    del world.blobs.objects[Bucket.RAW, image.raw_key]

    found = await swept(world, meanwhile=lambda: delete_image(world.ports, ALICE, image.id))

    assert found.without_object == []


async def test_keys_whose_time_is_over_are_dropped(world: World) -> None:
    await world.submit(dataclasses.replace(world.upload, idempotency_key="old"))
    world.let_pass(timedelta(hours=25))
    await world.submit(dataclasses.replace(world.upload, idempotency_key="new"))

    found = await swept(world)

    assert found.keys_expired == 1
    assert [text for _, text in world.images.keys] == ["new"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_whichever_call_fails_nothing_but_the_superfluous_goes(tmp_path: Path, *, after: bool) -> None:
    names = set()
    for call in count(1):
        world = World(tmp_path)
        images = [await world.image_in(status) for status in ImageStatus]
        strays = {await litter(world, Bucket.RAW, str(uuid7())), await litter(world, Bucket.PROCESSED, f"{uuid7()}/1")}
        before = left(world)
        failing = Failing(world.ports, call, after=after)
        if failing.at is None and call > 1 and not await _fails(world, failing):
            break
        names.add(failing.at)
        assert before - left(world) <= strays, failing.at
        # and the next run removes the rest
        await swept(world)
        assert left(world) == before - strays, failing.at
        assert len(world.images.rows) == len(images)
    assert names >= {"upkeep.scan", "upkeep.forget_expired_keys", "images.get", "blobs.delete", "blobs.keys"}


async def _fails(world: World, failing: Failing) -> bool:
    try:
        await swept(world, failing.ports)
    except Unavailable:
        return True
    return failing.at is not None


async def test_wherever_an_image_is_uploaded_deleted_or_processed_meanwhile_it_keeps_what_is_its_own(tmp_path: Path) -> None:
    for call in count(1):
        world = World(tmp_path)
        deleted, processed = await world.image_in(ImageStatus.COMPLETED), await world.image_in(ImageStatus.QUEUED)
        stray = await litter(world, Bucket.RAW, str(uuid7()))
        uploaded: list[Image] = []

        async def meanwhile(
            world: World = world, deleted: Image = deleted, processed: Image = processed, uploaded: list[Image] = uploaded
        ) -> None:
            uploaded.append(await world.submit())
            await delete_image(world.ports, ALICE, deleted.id)
            await world.process(processed)

        disturbed = Disturbed(world.ports, call, meanwhile)
        await swept(world, disturbed.ports)
        if disturbed.at is None:
            break
        row = await world.images.get(processed.id)
        assert row
        assert row.result
        own = {(str(Bucket.RAW), uploaded[0].raw_key), (str(Bucket.RAW), row.raw_key), (str(Bucket.PROCESSED), row.result.key)}
        assert own == left(world) - {stray}, disturbed.at
    assert call > 5


async def test_images_are_deleted_when_they_were_kept_for_long_enough(world: World) -> None:
    old, unfinished = await world.image_in(ImageStatus.COMPLETED), await world.image_in(ImageStatus.QUEUED)
    await remember(world.cache, old)
    world.let_pass(timedelta(days=31))
    young = await world.image_in(ImageStatus.FAILED)
    young = dataclasses.replace(young, created_at=world.now)
    world.images.rows[young.id].image = young

    assert await expire_images(world.ports, timedelta(days=30)) == 1
    await finish_due_deletions(world.ports)

    assert await world.remains(old) == []
    assert set(world.images.rows) == {unfinished.id, young.id}


async def test_it_is_one_workers_turn_at_a_time(world: World) -> None:
    policy = UpkeepPolicy(sweep_every=timedelta(hours=1), grace=timedelta(0), keep_for=timedelta(days=1))
    pauses = 0

    async def pause(_: float) -> bool:
        nonlocal pauses
        pauses += 1
        return True

    for _ in range(3):
        await litter(world, Bucket.RAW, str(uuid7()))
        await keep_in_order(world.ports, policy, pause)
    assert pauses == 1

    world.let_pass(timedelta(hours=1))
    await keep_in_order(world.ports, policy, pause)
    assert pauses == 2
    assert left(world) == set()


async def test_what_is_without_its_object_is_told_until_it_may_be_out_of_date(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await world.image_in(ImageStatus.FAILED)
    del world.blobs.objects[Bucket.RAW, image.raw_key]
    policy = UpkeepPolicy(sweep_every=timedelta(hours=1), grace=timedelta(0), keep_for=None)

    async def pause(_: float) -> bool:
        return True

    def told() -> float:
        value = REGISTRY.get_sample_value("image_processor_rows_without_object")
        assert value is not None
        return value

    await keep_in_order(world.ports, policy, pause)
    assert told() == 1
    # when it is another worker's turn from now on
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3 * 3600)
    assert math.isnan(told())


async def test_an_outage_puts_the_upkeep_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> bool:
        raise Unavailable("database", "away")

    monkeypatch.setattr(world.images, "take_turn", away)
    policy = UpkeepPolicy(sweep_every=timedelta(hours=1), grace=timedelta(0), keep_for=None)

    async def pause(_: float) -> bool:
        raise AssertionError

    await keep_in_order(world.ports, policy, pause)
