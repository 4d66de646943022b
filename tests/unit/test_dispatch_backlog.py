"""What waits for long in the queues is told from what the broker has lost."""

from pathlib import Path
from typing import Any

import pytest

from common.adapters.priorities import PriorityBuffer
from common.errors import Unavailable
from common.images import Image, Priority
from common.messages import Job
from common.usecases.dispatch_due import BATCH, SEND_AGAIN, dispatch_until_none_is_due
from tests.world import DISPATCH, STALE, World

MANY = 2 * BATCH + 50


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def submitted(world: World, count: int, priority: Priority = Priority.HIGH) -> list[Image]:
    upload = world.upload_of(b"good", priority=priority)
    return [await world.submit(upload) for _ in range(count)]


async def dispatched(world: World) -> dict[str, int]:
    """→ the messages that there are once what has become stale is dispatched."""
    world.let_pass(STALE)
    await dispatch_until_none_is_due(world.ports, DISPATCH)
    return await world.queue.depths()


def lose(world: World, *, keep: int = 0) -> None:
    """Of every line, all but so many messages: the oldest are lost first."""
    lines: dict[Priority, list[Any]] = {line: [] for line in Priority}
    for message in world.queue._waiting.drain():
        lines[message.priority].append(message)
    world.queue._waiting = PriorityBuffer()
    for line, messages in lines.items():
        for message in messages[len(messages) - keep :] if keep else []:
            world.queue._waiting.put(line, message)


async def test_a_backlog_gets_no_second_messages_however_long_it_waits(world: World) -> None:
    await submitted(world, MANY)
    for _ in range(SEND_AGAIN - 1):
        assert (await dispatched(world))["high"] == MANY
    # and none of it is forgotten
    assert all(row.due for row in world.images.rows.values())


async def test_what_was_lost_is_sent_again_all_of_it(world: World) -> None:
    await submitted(world, MANY)
    lose(world)
    assert (await dispatched(world))["high"] == MANY
    await world.work()
    assert all(row.image.status.is_final for row in world.images.rows.values())


async def test_of_a_line_that_has_lost_some_as_many_are_sent_again(world: World) -> None:
    images = await submitted(world, 20)
    lose(world, keep=13)
    assert (await dispatched(world))["high"] == 20
    # the oldest, which were the first in the line
    again = {image.id for image in images if (row := world.images.rows[image.id]).sent_at == world.now and row.due}
    assert again == {image.id for image in images[:7]}


async def test_a_line_that_has_lost_everything_is_not_hidden_by_another(world: World) -> None:
    await submitted(world, 20, Priority.LOW)
    images = await submitted(world, 5, Priority.HIGH)
    kept = [message for message in world.queue._waiting.drain() if message.priority is Priority.LOW]
    world.queue._waiting = PriorityBuffer()
    for message in kept:
        world.queue._waiting.put(Priority.LOW, message)
    assert (await dispatched(world)) == {"high": len(images), "normal": 0, "low": 20, "dead": 0}


async def test_second_messages_hide_a_loss_for_a_while_and_not_for_ever(world: World) -> None:
    # given a message that is lost, behind one that nobody waits for
    [image] = await submitted(world, 1)
    lose(world)
    await world.queue.publish(Job(image_id=(await submitted(world, 1))[0].id, request_id="r"), Priority.HIGH)
    for _ in range(SEND_AGAIN - 1):
        assert (await dispatched(world))["high"] == 2
    assert (await dispatched(world))["high"] == 4
    await world.work()
    assert world.images.rows[image.id].image.status.is_final


async def test_where_the_queues_cannot_be_counted_everything_is_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await submitted(world, 3)

    async def away() -> dict[str, int]:
        raise Unavailable("queue", "away")

    monkeypatch.setattr(world.queue, "depths", away)
    world.let_pass(STALE)
    await dispatch_until_none_is_due(world.ports, DISPATCH)
    monkeypatch.undo()
    assert (await world.queue.depths())["high"] == 6


async def test_a_line_without_a_leader_does_not_flood_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a queue that takes nothing, and that says it holds nothing
    world.let_pass(-10 * STALE)
    await submitted(world, 20)
    lose(world)
    publish = world.queue.publish

    async def refuse(job: Job, priority: Priority) -> None:
        if priority is Priority.HIGH:
            raise Unavailable("queue", "no leader")
        await publish(job, priority)

    monkeypatch.setattr(world.queue, "publish", refuse)
    for _ in range(3):
        world.let_pass(STALE)
        depths = await dispatched(world)
        assert sum(depths.values()) == 20


async def test_what_waits_for_another_attempt_is_not_held_up_by_a_backlog(world: World) -> None:
    await submitted(world, 20)
    image = await world.submit()
    held = await world.images.claim(image.id, STALE)
    assert held is not None
    await world.images.retry(image.id, held.attempts, STALE, "away", outage=True)
    assert (await dispatched(world))["high"] == 22
    assert world.images.rows[image.id].sent_at == world.now
