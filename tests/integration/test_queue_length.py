"""`scripts/queue_length` on the real RabbitMQ: the number that workers are scaled by goes up and down with the backlog."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest
from uuid6 import uuid7

from common.adapters.rabbitmq import RabbitMqQueue
from common.adapters.rabbitmq.topology import DEAD_QUEUE
from common.images import Priority
from common.messages import Job
from tests.broker import MANAGEMENT_PORT, Broker, open_broker
from tests.e2e.stack import free_port
from tests.polling import eventually

PROGRAM = Path(__file__).parents[2] / "scripts" / "lib" / "queue_length.py"
LINE = re.compile(r"\d\d:\d\d:\d\d  length (\d+) \((\d+) ready, (\d+) unacked\)  replicas (\d+)\n")


@pytest.fixture
async def broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    async with open_broker(rabbitmq_url) as broker:
        yield broker


def address(url: str) -> str:
    """The scaler's for this virtual host."""
    parts = urlsplit(url)
    return f"http://{parts.username or 'guest'}:{parts.password or 'guest'}@{parts.hostname}:{MANAGEMENT_PORT}{parts.path}"


async def said(where: str, *options: str) -> tuple[int, str, str]:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        PROGRAM,
        *options,
        env=os.environ | {"RABBITMQ_MANAGEMENT_URL": where},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await program.communicate()
    assert program.returncode is not None
    return program.returncode, out.decode(), err.decode()


async def test_it_follows_the_backlog(broker: Broker) -> None:
    queue, where = RabbitMqQueue(broker.url, 30), address(broker.url)
    seen: list[tuple[int, ...]] = []

    async def reads(*expected: int) -> None:
        """Length, ready, unacked, replicas."""

        async def ask() -> bool:
            code, out, err = await said(where, "--value=20")
            line = LINE.fullmatch(out)
            assert line, (code, out, err)
            seen.append(tuple(int(number) for number in line.groups()))
            return seen[-1] == expected

        try:
            await eventually(ask, f"{expected}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it was {sorted(set(seen))}") from None

    try:
        # given queues, and dead letters, which are nobody's work
        await queue.check()
        async with await aio_pika.connect(broker.url) as connection, connection.channel() as channel:
            for _ in range(7):
                await channel.default_exchange.publish(aio_pika.Message(b"x", delivery_mode=2), DEAD_QUEUE)
        await reads(0, 0, 0, 1)

        # when there is a backlog of all priorities
        for number in range(45):
            await queue.publish(Job(image_id=uuid7(), request_id="r"), list(Priority)[number % 3])
        await reads(45, 45, 0, 3)

        # then what a worker has in hand counts
        async with aclosing(queue.deliveries(12)) as deliveries:
            held = [await anext(deliveries) for _ in range(12)]
            # 12 of each priority, from which it chooses
            await reads(45, 9, 36, 3)

            # and what it has done does not
            for delivery in held:
                await delivery.ack()
            for _ in range(45 - len(held)):
                await (await anext(deliveries)).ack()
            await reads(0, 0, 0, 1)
    finally:
        await queue.close()


async def test_it_asks_for_one_worker_a_so_many_messages(broker: Broker) -> None:
    # given
    async with await aio_pika.connect(broker.url) as connection, connection.channel() as channel:
        await channel.declare_queue("images.low", durable=True)
        await asyncio.gather(*(channel.default_exchange.publish(aio_pika.Message(b"x"), "images.low") for _ in range(241)))

    async def replicas(*options: str) -> tuple[str, ...]:
        _, out, _ = await said(address(broker.url), *options)
        line = LINE.fullmatch(out)
        assert line, out
        return line[1], line[4]

    async def is_counted() -> bool:
        return (await replicas())[0] == "241"

    await eventually(is_counted, "the messages to be counted")

    # then
    assert await replicas("--value", "20") == ("241", "10")
    assert await replicas("--value", "20", "--max", "30") == ("241", "13")
    assert await replicas("--value", "2") == ("241", "10")
    assert await replicas("--value", "100") == ("241", "3")
    assert await replicas("--value", "500", "--min", "2") == ("241", "2")
    assert await replicas("--queues", "^images.dead$") == ("0", "1")


async def test_it_says_in_a_line_why_there_is_no_number(broker: Broker) -> None:
    where = address(broker.url)
    refused = f"answered 401 (user, password, or no permission in the virtual host {urlsplit(where).path[1:]})\n"
    for given, reason in (
        (where.replace("guest:guest", "guest:wrong"), refused),
        (f"{where}-other", "answered 404 (no such virtual host)"),
        (f"http://guest:guest@127.0.0.1:{free_port()}/", "does not answer: "),
        ("amqp://guest:guest@localhost/", "RABBITMQ_MANAGEMENT_URL is no address like"),
    ):
        code, out, err = await said(given)

        assert (code, out) == (1, "")
        assert reason in err
        assert err.count("\n") == 1
        assert "guest:" not in err.partition("like")[0]


async def answering(port: int, answer: dict[str, object]) -> asyncio.Server:
    """What RabbitMQ's management could say at this moment."""
    body = json.dumps(answer).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", port)


async def test_who_watches_waits_for_the_broker_to_come_back() -> None:
    # given a broker that is away
    port = free_port()
    environment = os.environ | {"RABBITMQ_MANAGEMENT_URL": f"http://127.0.0.1:{port}/"}
    watching = await asyncio.create_subprocess_exec(
        sys.executable,
        PROGRAM,
        "--watch",
        "--every=0.1",
        "--value=20",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert watching.stdout
        assert watching.stderr
        async with asyncio.timeout(30):
            assert b"does not answer" in await watching.stderr.readline()

            # when it is back, with queues that have no numbers yet
            async with await answering(port, {"page_count": 1, "items": [{"name": "images.low"}, {"messages": 21}]}):
                line = await watching.stdout.readline()

        # then
        assert line.decode().endswith("length 21 (0 ready, 0 unacked)  replicas 2\n")
    finally:
        watching.kill()
        await watching.communicate()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [({"page_count": 2, "items": []}, "more than 100 queues match"), ({"error": "?"}, "is not RabbitMQ's management")],
)
async def test_what_the_scaler_refuses_is_no_number(answer: dict[str, object], reason: str) -> None:
    port = free_port()
    async with await answering(port, answer):
        code, out, err = await said(f"http://127.0.0.1:{port}/")

    assert (code, out) == (1, "")
    assert reason in err


@pytest.mark.parametrize("option", ["--value=0", "--max=ten", "--every=0"])
async def test_a_wrong_option_is_refused(option: str) -> None:
    code, _, err = await said("http://localhost:1/", option)

    assert code == 2
    assert option.partition("=")[0] in err
