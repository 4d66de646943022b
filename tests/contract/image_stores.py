"""Images in each state, for the suites of ImageStore's promises. Leases end by being negative: nobody waits for a clock."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from common.adapters.sql import SqlImageStore
from common.adapters.sql.rows import KEYS
from common.images import Failure, FailureCode, Image, ImageStatus, Priority, Result
from common.ports import ImageStore
from tests.builders import image
from tests.fakes import FakeImageStore

HOUR = timedelta(hours=1)
PAST = -HOUR
RESULT = Result(key="a/1", content_type="image/jpeg", size_bytes=3_000_000_000, sha256="f" * 64, width=800, height=600)
ERROR = "The object store was away."
FAILURE = Failure(code=FailureCode.CORRUPT_IMAGE, detail="The picture ends before its end: “abgeschnitten”.")


async def added(images: ImageStore, due_in: timedelta = HOUR, **changes: Any) -> Image:
    return await images.add(image(**changes), due_in)


async def queued(images: ImageStore, **changes: Any) -> Image:
    new = await added(images, **changes)
    confirmed = await images.mark_queued(new.id, 0, Priority.NORMAL, HOUR)
    assert confirmed is not None
    return confirmed


async def claimed(images: ImageStore, lease: timedelta = HOUR, **changes: Any) -> Image:
    new = await added(images, **changes)
    held = await images.claim(new.id, lease)
    assert held is not None
    return held


async def completed(images: ImageStore, **changes: Any) -> Image:
    held = await claimed(images, **changes)
    done = await images.complete(held.id, held.attempts, RESULT)
    assert done is not None
    return done


async def failed(images: ImageStore, due_in: timedelta = HOUR, **changes: Any) -> Image:
    held = await claimed(images, **changes)
    lost = await images.fail(held.id, held.attempts, FAILURE, due_in)
    assert lost is not None
    return lost


Make = Callable[..., Awaitable[Image]]
EVERY_STATE: dict[ImageStatus, Make] = {
    ImageStatus.UPLOADED: added,
    ImageStatus.QUEUED: queued,
    ImageStatus.PROCESSING: claimed,
    ImageStatus.COMPLETED: completed,
    ImageStatus.FAILED: failed,
}
in_every_state = pytest.mark.parametrize("make", EVERY_STATE.values(), ids=EVERY_STATE.keys())

Write = Callable[[ImageStore, Image, int], Awaitable[object]]
FENCED: dict[str, Write] = {
    "mark_queued": lambda images, row, attempts: images.mark_queued(row.id, attempts, Priority.NORMAL, PAST),
    "renew": lambda images, row, attempts: images.renew(row.id, attempts, PAST),
    "complete": lambda images, row, attempts: images.complete(row.id, attempts, RESULT),
    "retry": lambda images, row, attempts: images.retry(row.id, attempts, PAST, ERROR, outage=True),
    "fail": lambda images, row, attempts: images.fail(row.id, attempts, FAILURE, PAST),
}


async def due(images: ImageStore, *, deleted: bool = False) -> list[Image]:
    """What is due now; still due afterwards."""
    return await images.take_due(100, PAST, deleted=deleted)


async def age_keys(images: ImageStore, age: timedelta) -> None:
    """Every key there is was used that long ago: what is stored is changed, as nobody can change a database's clock."""
    used = datetime.now(UTC) - age
    if isinstance(images, FakeImageStore):
        images.keys = {name: replace(key, at=used) for name, key in images.keys.items()}
    else:
        assert isinstance(images, SqlImageStore)
        async with images._engine.connect() as connection:
            await connection.execute(update(KEYS).values(created_at=used))
