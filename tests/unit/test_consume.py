"""The consuming loop: every delivery settled exactly once, also when stopping, and by the table in outcome.py."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import pytest
from uuid6 import uuid7

from common import errors
from common.errors import ImageProcessorError, LaterMessage, Unavailable, UnreadableMessage
from common.images import FailureCode, Priority
from common.messages import Job, decode, encode
from common.ports import Delivery
from worker import consume as consume_module
from worker.consume import consume
from worker.outcome import OUTCOMES, Outcome, outcome_of


@dataclass
class FakeDelivery:
    body: bytes
    settled: list[str] = field(default_factory=list)
    request_id: str | None = "request-1"
    priority: Priority = Priority.NORMAL
    sent_at: datetime | None = None
    traceparent: str | None = None

    async def ack(self) -> None:
        self.settled.append("ack")

    async def hand_back(self) -> None:
        self.settled.append("hand-back")

    async def defer(self) -> None:
        self.settled.append("defer")

    async def reject(self) -> None:
        self.settled.append("reject")


class FakeSource:
    """Yields what it is given, then waits; tells when it was closed."""

    def __init__(self, deliveries: list[FakeDelivery]) -> None:
        self._deliveries = deliveries
        self.closed = False
        self.taken = 0

    @property
    def is_receiving(self) -> bool:
        return not self.closed

    async def deliveries(self, capacity: int) -> AsyncGenerator[Delivery, None]:
        try:
            for delivery in self._deliveries:
                self.taken += 1
                yield delivery
            await asyncio.Event().wait()
        finally:
            self.closed = True


def job(image_id: UUID | None = None) -> FakeDelivery:
    return FakeDelivery(encode(Job(image_id=image_id or uuid7(), request_id="request-1")))


async def run_until(
    condition: asyncio.Event, source: FakeSource, handle: consume_module.Handle, shutdown_seconds: float = 5
) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(consume(source, handle, 2, stop, shutdown_seconds))
    async with asyncio.timeout(5):
        await condition.wait()
        stop.set()
        await running


async def test_a_job_that_was_done_is_acked() -> None:
    source, done = FakeSource([job(), job(), job()]), asyncio.Event()
    seen: list[Job] = []

    async def handle(given: Job) -> None:
        seen.append(given)
        if len(seen) == 3:
            done.set()

    await run_until(done, source, handle)

    assert [delivery.settled for delivery in source._deliveries] == [["ack"]] * 3
    assert source.closed


@pytest.mark.parametrize(
    ("error", "settled"),
    [(Unavailable("database", "gone"), "hand-back"), (ZeroDivisionError(), "ack"), (errors.ImageNotFound("x"), "ack")],
)
async def test_what_went_wrong_is_settled_by_the_table(error: Exception, settled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume_module, "PAUSE_SECONDS", 0)
    source, done = FakeSource([job()]), asyncio.Event()

    async def handle(given: Job) -> None:
        done.set()
        raise error

    await run_until(done, source, handle)

    assert source._deliveries[0].settled == [settled]


async def test_a_message_that_cannot_be_read_goes_to_the_dead_letters_and_the_next_is_done() -> None:
    source, done = FakeSource([FakeDelivery(b"nonsense"), job()]), asyncio.Event()

    async def handle(given: Job) -> None:
        done.set()

    await run_until(done, source, handle)

    assert [delivery.settled for delivery in source._deliveries] == [["reject"], ["ack"]]


LATER = b'{"v": 2, "image": "of a later version"}'


async def test_messages_of_a_later_version_keep_nobody_from_what_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: as many as there is room for, and they are held for longer than this test lasts
    monkeypatch.setattr(consume_module, "PAUSE_SECONDS", 60)
    source, done = FakeSource([FakeDelivery(LATER), FakeDelivery(LATER), FakeDelivery(LATER), job()]), asyncio.Event()

    async def handle(given: Job) -> None:
        done.set()

    await run_until(done, source, handle, shutdown_seconds=0.01)

    # then the worker's own is done, and the others go back to the broker with the connection
    assert [delivery.settled for delivery in source._deliveries] == [[], [], [], ["ack"]]


async def test_a_message_of_a_later_version_is_deferred_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume_module, "PAUSE_SECONDS", 0.05)
    later = FakeDelivery(LATER)
    source, done = FakeSource([later, job()]), asyncio.Event()
    settled_by_then: list[str] = []

    async def handle(given: Job) -> None:
        settled_by_then.extend(later.settled)
        done.set()

    await run_until(done, source, handle)

    assert settled_by_then == []
    assert later.settled == ["defer"]


async def test_room_is_given_back_once_for_each_message_of_a_later_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume_module, "PAUSE_SECONDS", 0)
    source, done = FakeSource([*(FakeDelivery(LATER) for _ in range(5)), *(job() for _ in range(6))]), asyncio.Event()
    running = most = finished = 0

    async def handle(given: Job) -> None:
        nonlocal running, most, finished
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        finished += 1
        if finished == 6:
            done.set()

    await run_until(done, source, handle)

    assert most == 2


async def test_no_more_run_at_once_than_there_is_room_for() -> None:
    source, full, release, last = FakeSource([job() for _ in range(5)]), asyncio.Event(), asyncio.Event(), asyncio.Event()
    running = most = 0

    last_id = decode(source._deliveries[-1].body, None).image_id

    async def handle(given: Job) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            full.set()
        if given.image_id == last_id:
            last.set()
        await release.wait()
        running -= 1

    stop = asyncio.Event()
    consuming = asyncio.create_task(consume(source, handle, 2, stop, 5))
    async with asyncio.timeout(5):
        await full.wait()
        assert source.taken == 2
        release.set()
        await last.wait()
        stop.set()
        await consuming

    assert most == 2
    assert all(delivery.settled == ["ack"] for delivery in source._deliveries)


async def test_stopping_lets_what_runs_finish() -> None:
    source, started = FakeSource([job()]), asyncio.Event()

    async def handle(given: Job) -> None:
        started.set()
        await asyncio.sleep(0.05)

    await run_until(started, source, handle)

    assert source._deliveries[0].settled == ["ack"]


async def test_stopping_hands_back_what_does_not_finish_in_time() -> None:
    source, started = FakeSource([job()]), asyncio.Event()

    async def handle(given: Job) -> None:
        started.set()
        await asyncio.Event().wait()

    await run_until(started, source, handle, shutdown_seconds=0.01)

    assert source._deliveries[0].settled == ["hand-back"]
    assert source.closed


async def test_a_broken_source_ends_the_loop_with_its_error() -> None:
    class Broken(FakeSource):
        async def deliveries(self, capacity: int) -> AsyncGenerator[Delivery, None]:
            raise RuntimeError("broken")
            yield

    async def handle(given: Job) -> None: ...

    with pytest.raises(RuntimeError, match="broken"):
        await consume(Broken([]), handle, 1, asyncio.Event(), 1)


def leaves(kind: type[ImageProcessorError]) -> list[type[ImageProcessorError]]:
    below = kind.__subclasses__()
    return [leaf for child in below for leaf in leaves(child)] if below else [kind]


@pytest.mark.parametrize("kind", leaves(ImageProcessorError), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_has_an_outcome(kind: type[ImageProcessorError]) -> None:
    assert any(issubclass(kind, known) for known, _ in OUTCOMES)


def test_the_outcomes_that_matter() -> None:
    assert outcome_of(None) is Outcome.ACK
    assert outcome_of(UnreadableMessage("x")) is Outcome.REJECT
    assert outcome_of(LaterMessage("x")) is Outcome.DEFER
    assert outcome_of(Unavailable("queue", "x")) is Outcome.HAND_BACK
    assert outcome_of(errors.PictureRefused(FailureCode.CORRUPT_IMAGE, "x")) is Outcome.ACK
