"""A broker that refuses, breaks, falls silent or forgets: sending fails in bounded time, and both sides come back by themselves."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import pamqp.frame
import pytest
from pamqp.commands import Connection
from prometheus_client import REGISTRY

from common.adapters.rabbitmq import RabbitMqQueue, consuming
from common.errors import Full, Unavailable
from common.images import Priority
from common.messages import Job, decode
from common.ports import Delivery
from tests.broker import Broker, open_broker
from tests.builders import failed_image
from tests.contract.sockets import Server, free_port, silence
from tests.polling import eventually

LIMIT_SECONDS = 1.0


@pytest.fixture
async def broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    async with open_broker(rabbitmq_url) as broker:
        yield broker


@asynccontextmanager
async def opened(url: str, limit_seconds: float = 10) -> AsyncIterator[RabbitMqQueue]:
    queue = RabbitMqQueue(url, limit_seconds)
    try:
        yield queue
    finally:
        await queue.close()


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[RabbitMqQueue]:
    async with opened(broker.url) as queue:
        yield queue


def publishes(result: str) -> float:
    return REGISTRY.get_sample_value("image_processor_publishes_total", {"result": result}) or 0


class Cable:
    """What lies between a client and the broker: it can fall silent without being cut, and speak in the broker's name."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname or "localhost", parts.port or 5672)
        self._passing = asyncio.Event()
        self._passing.set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._held = 0

    async def holds_something(self) -> bool:
        return self._held > 0

    def silence(self) -> None:
        self._passing.clear()

    def restore(self) -> None:
        self._passing.set()

    def say(self, method: Connection.Blocked | Connection.Unblocked) -> None:
        for client in self._clients:
            client.write(pamqp.frame.marshal(method, 0))

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection(*self._upstream)
        self._clients.add(writer)
        copies = [asyncio.create_task(self._copy(reader, to_broker)), asyncio.create_task(self._copy(from_broker, writer))]
        try:
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.discard(writer)
            for copy in copies:
                copy.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
            to_broker.close()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            self._held += 1
            await self._passing.wait()
            self._held -= 1
            target.write(data)
            await target.drain()


def a_job() -> Job:
    return Job(image_id=uuid4(), request_id=f"request-{uuid4()}")


def through(server: Server, broker: Broker) -> str:
    """The broker's address by way of the server."""
    parts = urlsplit(broker.url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@{server.address}").geturl()


async def take(deliveries: AsyncGenerator[Delivery, None]) -> Delivery:
    async with asyncio.timeout(30):
        return await anext(deliveries)


async def send_eventually(queue: RabbitMqQueue, job: Job) -> None:
    async def sent() -> bool:
        try:
            await queue.publish(job, Priority.NORMAL)
        except Unavailable:
            return False
        return True

    await eventually(sent, "the message to be sent")


async def close_connections(broker: Broker, role: str) -> None:
    """As an operator does in the console, which learns of a connection a moment after it was opened."""
    for name in await eventually(lambda: broker.connections(role), f"the {role}'s connection to be listed"):
        await broker.close_connection(name)


async def test_what_was_not_settled_comes_again_after_the_connection_ended(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    job = a_job()
    await queue.publish(job, Priority.NORMAL)
    async with aclosing(queue.deliveries(1)) as deliveries:
        await take(deliveries)
    # when
    await queue.close()
    # then
    async with opened(broker.url) as another, aclosing(another.deliveries(1)) as deliveries:
        again = await take(deliveries)
        assert decode(again.body, again.request_id) == job
        await again.ack()


async def test_a_message_that_no_queue_takes_is_an_outage(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    await queue.check()
    await broker.ask("DELETE", "bindings/{}/e/images/q/images.normal/normal")
    # when
    with pytest.raises(Unavailable) as caught:
        await queue.publish(a_job(), Priority.NORMAL)
    # then
    assert "NO_ROUTE" in caught.value.reason
    await queue.publish(a_job(), Priority.LOW)


async def test_a_dead_letter_that_no_queue_takes_is_an_outage(broker: Broker, queue: RabbitMqQueue) -> None:
    await queue.check()
    await broker.ask("DELETE", "queues/{}/images.dead")
    before = publishes("unroutable")
    with pytest.raises(Unavailable):
        await queue.publish_dead(failed_image())
    assert publishes("unroutable") == before + 1


async def test_a_full_queue_is_an_outage(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    await queue.check()
    policy = {"pattern": "^images.normal$", "definition": {"max-length": 1}, "apply-to": "queues"}
    await broker.ask("PUT", "policies/{}/full", json=policy)

    # when: a quorum queue takes a few more than its limit
    async def refused() -> str:
        try:
            await queue.publish(a_job(), Priority.NORMAL)
        except Unavailable as error:
            return error.reason
        return ""

    # then
    before, confirmed = publishes("refused"), publishes("confirmed")
    assert "Basic.Nack" in await eventually(refused, "the queue to refuse a message")
    assert publishes("refused") == before + 1
    await queue.publish(a_job(), Priority.LOW)
    assert publishes("confirmed") > confirmed


async def test_an_exchange_that_was_deleted_is_declared_again(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    await queue.check()
    await broker.ask("DELETE", "exchanges/{}/images")
    # when
    with pytest.raises(Unavailable):
        await queue.publish(a_job(), Priority.NORMAL)
    # then
    await queue.publish(a_job(), Priority.NORMAL)


async def test_sending_goes_on_after_its_connection_was_closed(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    await queue.publish(a_job(), Priority.NORMAL)
    # when
    await close_connections(broker, "publisher")
    # then
    job = a_job()
    await send_eventually(queue, job)
    assert str(job.image_id) in (await broker.read("images.normal"))[-1]["payload"]


async def test_receiving_goes_on_after_its_connection_was_closed(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    first, second = a_job(), a_job()
    async with aclosing(queue.deliveries(1)) as deliveries:
        await queue.publish(first, Priority.NORMAL)
        held = await take(deliveries)
        # when
        await close_connections(broker, "consumer")
        # then: the broker has given the first to somebody else already, here to the same consumer
        again = await take(deliveries)
        assert decode(again.body, again.request_id) == first
        for settle in (held.ack, held.hand_back, held.defer, held.reject):
            await settle()
        await again.ack()
        await queue.publish(second, Priority.NORMAL)
        later = await take(deliveries)
        assert decode(later.body, later.request_id) == second
        await later.ack()


async def test_a_late_ack_on_a_lost_connection_does_not_disturb_the_next_one(broker: Broker, queue: RabbitMqQueue) -> None:
    # given
    await queue.publish(a_job(), Priority.NORMAL)
    async with aclosing(queue.deliveries(2)) as deliveries:
        held = await take(deliveries)
        await close_connections(broker, "consumer")
        again = await take(deliveries)
        # when
        await held.ack()
        # then
        job = a_job()
        await queue.publish(job, Priority.NORMAL)
        later = await take(deliveries)
        assert decode(later.body, later.request_id) == job
        await again.ack()
        await later.ack()
    assert await broker.read("images.normal") == []


async def test_receiving_goes_on_after_the_queue_was_deleted(broker: Broker, queue: RabbitMqQueue) -> None:
    async with aclosing(queue.deliveries(1)) as deliveries:
        # given
        await queue.publish(a_job(), Priority.NORMAL)
        await (await take(deliveries)).ack()
        await consumed(broker)
        # when
        waiting = asyncio.create_task(take(deliveries))
        await broker.ask("DELETE", "queues/{}/images.normal")
        # then
        job = a_job()
        await send_eventually(queue, job)
        delivery = await waiting
        assert decode(delivery.body, delivery.request_id) == job
        await delivery.ack()


async def consumed(broker: Broker) -> None:
    """Until every priority has its consumer."""

    async def condition() -> bool:
        return {consumer["queue"]["name"] for consumer in await broker.ask("GET", "consumers/{}")} == {
            "images.high",
            "images.normal",
            "images.low",
        }

    await eventually(condition, "three consumers", 20)


async def test_a_queue_that_cannot_be_consumed_keeps_no_other_from_it(
    broker: Broker, queue: RabbitMqQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quorum queue without a leader: consuming it ends in silence, or takes the connection down."""
    start = consuming.Flow.start

    async def start_but_not_high(flow: consuming.Flow, capacity: int) -> None:
        if flow.priority is Priority.HIGH:
            flow._lose("no leader")
        else:
            await start(flow, capacity)

    monkeypatch.setattr(consuming.Flow, "start", start_but_not_high)
    async with aclosing(queue.deliveries(1)) as deliveries:
        for priority in (Priority.NORMAL, Priority.LOW):
            job = a_job()
            await queue.publish(job, priority)
            delivery = await take(deliveries)
            assert decode(delivery.body, delivery.request_id) == job
            await delivery.ack()


async def test_a_broker_that_is_away_costs_a_sender_next_to_nothing() -> None:
    # given
    async with opened(f"amqp://guest:guest@127.0.0.1:{free_port()}/") as queue:
        # when
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unavailable) as caught:
                await queue.publish(a_job(), Priority.NORMAL)
        # then
        assert time.monotonic() - started < 2
        assert caught.value.service == "queue"
        assert "guest" not in caught.value.reason


async def test_a_receiver_waits_for_a_broker_that_is_away(broker: Broker) -> None:
    # given
    job = a_job()
    async with opened(broker.url) as sender:
        await sender.publish(job, Priority.NORMAL)
    server = Server(Cable(broker.url).carry, free_port())
    async with opened(through(server, broker)) as queue, aclosing(queue.deliveries(1)) as deliveries:
        waiting = asyncio.create_task(take(deliveries))
        with pytest.raises(Unavailable):
            await queue.check()
        # when
        async with server:
            # then
            delivery = await waiting
            assert decode(delivery.body, delivery.request_id) == job
            await delivery.ack()
            await deliveries.aclose()
            await queue.close()


async def test_a_broker_that_never_answers_a_connect_holds_nobody_longer_than_the_limit() -> None:
    # given
    async with Server(silence) as server, opened(f"amqp://guest:guest@{server.address}/", LIMIT_SECONDS) as queue:
        # when
        started = time.monotonic()
        answers = await asyncio.gather(
            *(queue.publish(a_job(), Priority.NORMAL) for _ in range(20)), queue.check(), return_exceptions=True
        )
        # then
        assert all(isinstance(answer, Unavailable) for answer in answers)
        assert time.monotonic() - started < LIMIT_SECONDS + 1
        assert server.connections <= 1


async def test_a_broker_that_falls_silent_holds_nobody_longer_than_the_limit(broker: Broker) -> None:
    cable, limit_seconds = Cable(broker.url), 3
    async with Server(cable.carry) as server, opened(through(server, broker), limit_seconds) as queue:
        # given
        await queue.publish(a_job(), Priority.NORMAL)
        # when
        cable.silence()
        started, timed_out = time.monotonic(), publishes("timed-out")
        answers = await asyncio.gather(*(queue.publish(a_job(), Priority.NORMAL) for _ in range(20)), return_exceptions=True)
        # then
        assert publishes("timed-out") > timed_out
        assert all(isinstance(answer, Unavailable) for answer in answers)
        assert time.monotonic() - started < limit_seconds + 1
        # and those who come later wait for a moment only
        started = time.monotonic()
        for call in (queue.publish(a_job(), Priority.NORMAL), queue.check()):
            with pytest.raises(Unavailable):
                await call
        assert time.monotonic() - started < 2.5
        # and when it speaks again
        cable.restore()
        await send_eventually(queue, a_job())


async def test_a_sender_that_gives_up_while_connecting_does_not_end_it_for_the_others(broker: Broker) -> None:
    cable = Cable(broker.url)
    async with Server(cable.carry) as server, opened(through(server, broker)) as queue:
        # given
        cable.silence()
        impatient, patient = (asyncio.create_task(queue.publish(a_job(), Priority.NORMAL)) for _ in range(2))
        await eventually(lambda: connections_of(server), "the connect to begin")
        # when
        impatient.cancel()
        await asyncio.wait([impatient])
        cable.restore()
        # then
        assert impatient.cancelled()
        await patient


async def connections_of(server: Server) -> int:
    return server.connections


async def test_a_connection_lost_in_the_middle_of_sending_is_an_outage_not_a_cancellation(broker: Broker) -> None:
    cable = Cable(broker.url)
    async with Server(cable.carry) as server, opened(through(server, broker)) as queue:
        # given
        await queue.check()
        cable.silence()
        sending = [asyncio.create_task(queue.publish(a_job(), Priority.NORMAL)) for _ in range(5)]
        await eventually(cable.holds_something, "the messages to be on their way")
        # when
        await server.cut()
        # then
        answers = await asyncio.gather(*sending, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable] * 5
        cable.restore()
        await send_eventually(queue, a_job())


async def test_closing_in_the_middle_of_sending_is_an_outage_not_a_cancellation(broker: Broker) -> None:
    cable = Cable(broker.url)
    async with Server(cable.carry) as server, opened(through(server, broker)) as queue:
        # given
        await queue.check()
        cable.silence()
        sending = [asyncio.create_task(queue.publish(a_job(), Priority.NORMAL)) for _ in range(5)]
        await eventually(cable.holds_something, "the messages to be on their way")
        # when
        await queue.close()
        # then
        answers = await asyncio.gather(*sending, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable] * 5


async def test_a_broker_that_blocks_senders_refuses_at_once_until_it_takes_messages_again(broker: Broker) -> None:
    cable = Cable(broker.url)
    async with Server(cable.carry) as server, opened(through(server, broker), 20) as queue:
        # given
        await queue.publish(a_job(), Priority.NORMAL)
        cable.say(Connection.Blocked("low on memory"))

        # when
        async def refused() -> str:
            try:
                await queue.check()
            except Full as error:
                return error.reason
            return ""

        assert "memory or disk" in await eventually(refused, "the connection to be blocked")
        started, blocked = time.monotonic(), publishes("blocked")
        with pytest.raises(Full):
            await queue.publish(a_job(), Priority.NORMAL)
        # then
        assert time.monotonic() - started < 1
        assert publishes("blocked") == blocked + 1
        cable.say(Connection.Unblocked())
        await send_eventually(queue, a_job())
