"""`image-processor dead` on the real broker, where somebody takes their time."""

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process

from common.adapters.rabbitmq import RabbitMqQueue
from tests.broker import open_broker
from tests.builders import failed_image
from tests.e2e.stack import PROGRAM

# More than a pipe takes.
MANY = 1_500


async def listing(url: str) -> Process:
    environment = os.environ | {"RABBITMQ_URL": url, "SERVICE_TIMEOUT_SECONDS": "5"}
    return await asyncio.create_subprocess_exec(PROGRAM, "dead", "list", env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)


async def test_who_pages_through_the_list_holds_up_nobody(rabbitmq_url: str) -> None:
    async with open_broker(rabbitmq_url) as broker:
        # given
        queue = RabbitMqQueue(broker.url, 10)
        images = [failed_image() for _ in range(MANY)]
        for image in images:
            await queue.publish_dead(image)
        await queue.close()
        # when one reads the first line and no more
        slow = await listing(broker.url)
        assert slow.stdout is not None
        first = await slow.stdout.readline()
        # then another sees everything, in order
        output, errors = await (await listing(broker.url)).communicate()
        assert errors == b""
        lines = output.splitlines(keepends=True)
        assert lines[0] == first
        assert [str(image.id) in line.decode() for image, line in zip(images, lines, strict=True)] == [True] * MANY
        # and the first goes on where it was
        rest, errors = await slow.communicate()
        assert first + rest == output
        assert (slow.returncode, errors) == (0, b"")
