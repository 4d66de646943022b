"""Everything that a chaos run does to a running system, as a table, and the random order it is done in.

A fault begins, stays for its time and ends; ending it starts again what it has ended, and makes reachable what it has cut off. Two
at most are there at a time, and never two of one part of the system, so that none ends another's. The same seed gives the same
faults at the same times. What a run cannot do to itself is tested elsewhere in this folder: full disks, steps of the clock.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos import deeds
from tests.chaos.deeds import Begin, answers_lost, gateway, server, server_paused, way, worker
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Server

# Between the beginnings of two faults, in seconds; sometimes two begin at nearly the same time.
PAUSE = (6.0, 16.0)
PAIRED, PAIR_PAUSE = 0.25, (0.2, 2.0)
FIRST_AT = 3.0
# At the end of a run none begins.
CALM_SECONDS = 8.0

ONCE, SHORT, LONG = (0.0, 0.0), (1.0, 4.0), (4.0, 8.0)
SLOW_SECONDS, SLOW_BYTES = 0.25, 100_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`part` of the system is befallen, for `seconds` (from, to). `begin` → how it ends."""

    name: str
    part: str
    seconds: tuple[float, float]
    begin: Begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """`at` and `seconds`: when it begins after the start, and how long it stays. `seed`: of what it leaves to chance."""

    at: float
    seconds: float
    fault: Fault
    seed: int


def _slow(proxy: Proxy) -> None:
    proxy.delay(SLOW_SECONDS)


def _thin(proxy: Proxy) -> None:
    proxy.throttle(SLOW_BYTES)


FAULTS = [
    Fault(name=name, part=part, seconds=seconds, begin=begin)
    for part, of_part in {
        "gateway": [
            ("gateway killed", SHORT, gateway(deeds.kill)),
            ("gateway told to stop under load", SHORT, gateway(deeds.terminate)),
            ("gateway paused", LONG, gateway(deeds.pause)),
            ("gateway kills itself in an upload or a deletion", LONG, gateway(deeds.crash_at(deeds.GATEWAY_POINTS))),
        ],
        "worker": [
            ("worker killed", SHORT, worker(deeds.kill)),
            ("worker told to stop under load", SHORT, worker(deeds.terminate)),
            ("worker paused for longer than its lease", LONG, worker(deeds.pause)),
            ("worker kills itself in the middle of a job", LONG, worker(deeds.crash_at(deeds.WORKER_POINTS))),
            ("all workers killed", SHORT, deeds.kill_all_workers),
            ("renders' child processes killed", ONCE, deeds.kill_renderers),
        ],
        "rabbitmq": [
            ("RabbitMQ restarted", SHORT, server("rabbitmq", Server.stop)),
            ("RabbitMQ killed", SHORT, server("rabbitmq", Server.kill)),
            ("RabbitMQ paused", LONG, server_paused("rabbitmq")),
            ("RabbitMQ wiped", SHORT, deeds.wipe_rabbitmq),
            ("RabbitMQ's disk alarm", LONG, deeds.alarm("set_disk_free_limit", "1000000GB", deeds.DISK_LIMIT)),
            ("RabbitMQ's memory alarm", LONG, deeds.alarm("set_vm_memory_high_watermark", "0", deeds.MEMORY_LIMIT)),
            ("queues purged", ONCE, deeds.each_queue("purge_queue")),
            ("queues deleted, consumers cancelled", ONCE, deeds.each_queue("delete_queue")),
            ("connections to RabbitMQ closed by an operator", ONCE, deeds.close_rabbitmq_connections),
            ("messages duplicated", ONCE, deeds.duplicate_messages),
            ("RabbitMQ cut off", LONG, way("rabbitmq", Proxy.cut)),
            ("connections to RabbitMQ reset", ONCE, way("rabbitmq", Proxy.reset)),
            ("RabbitMQ silent", LONG, way("rabbitmq", Proxy.freeze)),
            ("RabbitMQ's confirms lost", SHORT, answers_lost("rabbitmq")),
            ("RabbitMQ slow", LONG, way("rabbitmq", _slow)),
        ],
        "redis": [
            ("Redis restarted", SHORT, server("redis", Server.stop)),
            ("Redis killed", SHORT, server("redis", Server.kill)),
            ("Redis flushed", ONCE, deeds.flush_redis),
            ("Redis cut off", LONG, way("redis", Proxy.cut)),
            ("Redis silent", LONG, way("redis", Proxy.freeze)),
            ("Redis slow", LONG, way("redis", _slow)),
        ],
        "postgres": [
            ("PostgreSQL restarted", SHORT, server("postgres", Server.stop)),
            ("PostgreSQL killed", SHORT, server("postgres", Server.kill)),
            ("PostgreSQL paused", LONG, server_paused("postgres")),
            ("sessions of PostgreSQL ended", ONCE, deeds.end_sessions),
            ("PostgreSQL out of connections", LONG, deeds.take_all_connections),
            ("table locked", LONG, deeds.lock_table),
            ("PostgreSQL cut off", LONG, way("postgres", Proxy.cut)),
            ("PostgreSQL silent", LONG, way("postgres", Proxy.freeze)),
            ("PostgreSQL's answers lost", SHORT, answers_lost("postgres")),
            ("PostgreSQL slow", LONG, way("postgres", _slow)),
        ],
        "minio": [
            ("MinIO restarted", SHORT, server("minio", Server.stop)),
            ("MinIO killed", SHORT, server("minio", Server.kill)),
            ("MinIO paused", LONG, server_paused("minio")),
            ("MinIO cut off", LONG, way("minio", Proxy.cut)),
            ("connections to MinIO reset", ONCE, way("minio", Proxy.reset)),
            ("MinIO answers 503", LONG, way("minio", Proxy.answer_503)),
            ("MinIO's answers lost", SHORT, answers_lost("minio")),
            ("MinIO slow", LONG, way("minio", _thin)),
        ],
        "keycloak": [
            ("Keycloak cut off", LONG, way("keycloak", Proxy.cut)),
            ("Keycloak silent", LONG, way("keycloak", Proxy.freeze)),
            ("Keycloak answers 503", LONG, way("keycloak", Proxy.answer_503)),
        ],
    }.items()
    for name, seconds, begin in of_part
]


def make_schedule(seed: int, seconds: float) -> Iterator[Planned]:
    """Every kind once, in random order, and again from the beginning."""
    dice = random.Random(f"faults {seed}")
    at = FIRST_AT
    deck: list[Fault] = []
    while at < seconds - CALM_SECONDS:
        if not deck:
            deck = dice.sample(FAULTS, len(FAULTS))
        fault = deck.pop()
        yield Planned(at=at, seconds=dice.uniform(*fault.seconds), fault=fault, seed=dice.randrange(1 << 32))
        at += dice.uniform(*(PAIR_PAUSE if dice.random() < PAIRED else PAUSE))
