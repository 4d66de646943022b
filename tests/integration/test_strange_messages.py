"""Messages whose properties the SDK cannot read, as other programs may write them: nobody's connection ends over one, and it goes
to the dead letters."""

import struct
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import uuid4

import aio_pika
import pytest
from pamqp import encode

from common.adapters.rabbitmq import RabbitMqDeadLetters, RabbitMqQueue
from common.images import Priority
from common.messages import DeadLetter, Job, decode
from tests.broker import Broker, open_broker
from tests.polling import eventually

NO_TEXT = b"\x02\xff\xfe"
# Microseconds since 1970, and the last time there is.
MICROSECONDS, LAST = struct.pack(">Q", 1_700_000_000_000_000), b"\xff" * 8


def table(*entries: bytes) -> bytes:
    return struct.pack(">I", sum(map(len, entries))) + b"".join(entries)


def nested(levels: int) -> bytes:
    content = table()
    for _ in range(levels):
        content = table(b"\x01xF" + content)
    return content


STRANGE = [
    pytest.param("timestamp", MICROSECONDS, id="microseconds"),
    pytest.param("timestamp", LAST, id="the last time"),
    pytest.param("shortstr", NO_TEXT, id="no text"),
    pytest.param("table", table(NO_TEXT + b"t\x01"), id="a header's name that is no text"),
    pytest.param("table", table(b"\x01xT" + LAST), id="a time in a header"),
    pytest.param("table", nested(2_000), id="headers in headers"),
]


@pytest.fixture
async def broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    async with open_broker(rabbitmq_url) as broker:
        yield broker


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[RabbitMqQueue]:
    queue = RabbitMqQueue(broker.url, 10)
    await queue.check()
    yield queue
    await queue.close()


async def send(broker: Broker, kind: str, content: bytes) -> None:
    """A message with a property of that kind that reads like this."""
    property_of_kind = {
        "timestamp": aio_pika.Message(b"strange", timestamp=1),
        "shortstr": aio_pika.Message(b"strange", correlation_id="strange"),
        "table": aio_pika.Message(b"strange", headers={"strange": True}),
    }
    as_usual = encode.METHODS[kind]

    def strangely(value: object) -> bytes:
        return as_usual(value) if kind == "shortstr" and value != "strange" else content

    async with await aio_pika.connect(broker.url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange("images")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(encode.METHODS, kind, strangely)
            await exchange.publish(property_of_kind[kind], Priority.NORMAL)


@pytest.mark.parametrize(("kind", "content"), STRANGE)
async def test_a_strange_message_holds_up_nobody(broker: Broker, queue: RabbitMqQueue, kind: str, content: bytes) -> None:
    # given
    await send(broker, kind, content)
    job = Job(image_id=uuid4(), request_id="request-1")
    await queue.publish(job, Priority.NORMAL)
    # when
    async with aclosing(queue.deliveries(1)) as deliveries:
        strange = await anext(deliveries)
        assert strange.body == b"strange"
        await strange.reject()
        # then
        usual = await anext(deliveries)
        assert decode(usual.body, usual.request_id) == job
        await usual.ack()

    async def letters() -> list[DeadLetter]:
        async with aclosing(RabbitMqDeadLetters(broker.url, 10).walk()) as walk:
            return [held.letter async for held in walk]

    [letter] = await eventually(letters, "the dead letter")
    assert (letter.body, letter.reason) == (b"strange", "rejected")
