"""How each fault is done to a running system. Every function here is called at a fault's beginning and gives what ends it.

Ending does not wait for programs to answer: what they need may be away at that moment, by another fault.
"""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

import asyncpg
import redis

from common.images import Priority
from common.messages import Job
from common.ports import Ports
from tests.chaos.faulty import faulty
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Server
from tests.chaos.system import Program, System

End = Callable[[], None]
Begin = Callable[[System, random.Random], End]

GATEWAY_POINTS = ("blobs.put", "images.add", "queue.publish", "images.mark_queued", "images.mark_deleted", "images.remove")
WORKER_POINTS = (
    "images.claim",
    "blobs.fetch",
    "blobs.put",
    "images.complete",
    "images.fail",
    "queue.publish_dead",
    "images.settle",
)
QUEUES = ("images.high", "images.normal", "images.low")
DUPLICATES = 20
DISK_LIMIT = "50MB"  # RabbitMQ's default
MEMORY_LIMIT = "0.6"  # and another


def _no_end() -> None:
    """It happened once."""


# ---------------------------------------------------------------- programs
def gateway(deed: Callable[[Program, random.Random], End]) -> Begin:
    return lambda system, dice: deed(dice.choice(system.gateways), dice)


def worker(deed: Callable[[Program, random.Random], End]) -> Begin:
    return lambda system, dice: deed(dice.choice(system.workers), dice)


def kill(program: Program, dice: random.Random) -> End:
    program.kill()
    return program.start_again


def terminate(program: Program, dice: random.Random) -> End:
    program.send(signal.SIGTERM)

    def end() -> None:
        code = program.wait()
        program.start_again()
        assert code == 0, f"{program.log.stem} was told to stop, and ended with {code}"

    return end


def pause(program: Program, dice: random.Random) -> End:
    program.send(signal.SIGSTOP)
    return lambda: program.send(signal.SIGCONT)


def crash_at(points: Sequence[str]) -> Callable[[Program, random.Random], End]:
    """It kills itself at one of these, just before or after, when one of the next images gets there."""

    def deed(program: Program, dice: random.Random) -> End:
        program.kill()
        program.start_again(faulty(dice.choice(points), on_call=dice.randrange(1, 4), after=dice.random() < 0.5))

        def end() -> None:
            program.kill()
            program.start_again()

        return end

    return deed


def kill_all_workers(system: System, dice: random.Random) -> End:
    for program in system.workers:
        program.kill()

    def end() -> None:
        for program in system.workers:
            program.start_again()

    return end


def kill_renderers(system: System, dice: random.Random) -> End:
    for program in system.workers:
        for renderer in program.renderers():
            with suppress(ProcessLookupError):
                os.kill(renderer, signal.SIGKILL)
    return _no_end


# ---------------------------------------------------------------- services and the ways to them
def server(name: str, end: Callable[[Server], None]) -> Begin:
    """It is ended in this way, and started again."""

    def begin(system: System, dice: random.Random) -> End:
        ended = system.servers.named(name)
        end(ended)
        return ended.start

    return begin


def server_paused(name: str) -> Begin:
    def begin(system: System, dice: random.Random) -> End:
        paused = system.servers.named(name)
        paused.pause()
        return paused.resume

    return begin


def way(name: str, what: Callable[[Proxy], None]) -> Begin:
    """What a proxy does on the way to a service."""

    def begin(system: System, dice: random.Random) -> End:
        proxy = system.proxies[name]
        what(proxy)
        return proxy.heal

    return begin


def answers_lost(name: str) -> Begin:
    """Until all connections are reset: a protocol does not go on behind a gap."""

    def begin(system: System, dice: random.Random) -> End:
        proxy = system.proxies[name]
        proxy.swallow("from_server")

        def end() -> None:
            proxy.heal()
            proxy.reset()

        return end

    return begin


# ---------------------------------------------------------------- RabbitMQ
def wipe_rabbitmq(system: System, dice: random.Random) -> End:
    broker = system.servers.rabbitmq
    broker.kill()
    broker.wipe()

    def end() -> None:
        broker.start()
        system.add_vhost()

    return end


def alarm(setting: str, so_that_it_rings: str, default: str) -> Begin:
    """Connections that publish are blocked."""

    def begin(system: System, dice: random.Random) -> End:
        system.servers.rabbitmq.ctl(setting, so_that_it_rings)

        def end() -> None:
            system.servers.rabbitmq.ctl(setting, default)

        return end

    return begin


def each_queue(command: str) -> Begin:
    def begin(system: System, dice: random.Random) -> End:
        for queue in QUEUES:
            # One that is not there now, of two faults behind one another, need not be.
            with suppress(AssertionError):
                system.servers.rabbitmq.ctl(command, "-p", system.vhost, queue)
        return _no_end

    return begin


def close_rabbitmq_connections(system: System, dice: random.Random) -> End:
    system.servers.rabbitmq.ctl("close_all_connections", "-p", system.vhost, "by an operator")
    return _no_end


def duplicate_messages(system: System, dice: random.Random) -> End:
    """The newest images' messages, whatever state they are in, twice more each."""
    rows = sorted(system.inventory.rows())[-3 * DUPLICATES :]
    chosen = dice.sample(rows, min(DUPLICATES, len(rows)))

    async def publish(ports: Ports) -> None:
        jobs = [Job(image_id=UUID(image_id), request_id="again") for image_id in (*chosen, *chosen)]
        await asyncio.gather(*(ports.queue.publish(job, Priority.HIGH) for job in jobs))

    system.inventory.with_ports(publish)
    return _no_end


# ---------------------------------------------------------------- Redis and PostgreSQL
def flush_redis(system: System, dice: random.Random) -> End:
    with redis.Redis.from_url(system.servers.redis.url) as cache:
        cache.flushall()
    return _no_end


def end_sessions(system: System, dice: random.Random) -> End:
    """In the middle of their transactions."""
    asyncio.run(_execute_once(_url(system), SESSIONS_ENDED))
    return _no_end


def take_all_connections(system: System, dice: random.Random) -> End:
    """Those that the system has go to others, too, until it ends."""
    held = asyncio.Runner()
    connections = held.run(_as_many_as_there_are(_url(system)))

    async def let_go() -> None:
        for connection in connections:
            connection.terminate()

    def end() -> None:
        held.run(let_go())
        held.close()

    return end


def lock_table(system: System, dice: random.Random) -> End:
    """Statements wait for it."""
    held = asyncio.Runner()

    async def lock() -> asyncpg.Connection:
        connection = await asyncpg.connect(_url(system))
        await connection.execute("BEGIN")
        await connection.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
        return connection

    connection = held.run(lock())

    def end() -> None:
        held.run(connection.close())
        held.close()

    return end


SESSIONS_ENDED = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def _url(system: System) -> str:
    return system.settings.postgres_url.get_secret_value()


async def _execute_once(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _as_many_as_there_are(url: str) -> list[asyncpg.Connection]:
    first = await asyncpg.connect(url)
    connections = [first]
    for is_last_round in (False, True):
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                connections.append(await asyncpg.connect(url))
        if not is_last_round:
            own = [connection.get_server_pid() for connection in connections]
            await first.execute(f"{SESSIONS_ENDED} AND NOT pid = ANY($1::int[])", own)
    return connections
