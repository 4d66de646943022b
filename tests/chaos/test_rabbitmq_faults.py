"""A broker that stops, forgets, falls silent, or takes nothing more: uploads go on, and every accepted image ends."""

import time

import httpx

from tests.chaos.samples import GOOD, make_samples
from tests.chaos.system import System
from tests.polling import wait_until

SAMPLES = make_samples(5)[GOOD]
QUEUES = ("images.high", "images.normal", "images.low")


def accept_some(system: System, count: int = 6) -> None:
    for number in range(count):
        system.accept(SAMPLES[number % len(SAMPLES)], priority=("high", "normal", "low")[number % 3])


def management(system: System, method: str, path: str, json: object = None) -> httpx.Response:
    url = f"{system.servers.rabbitmq.console_url}/api/{path.format(vhost=system.vhost)}"
    answer = httpx.request(method, url, auth=("guest", "guest"), json=json, timeout=30, trust_env=False)
    assert answer.is_success, answer.text
    return answer


def hold_back_work(system: System) -> None:
    """No worker runs, so that messages stay in the queues."""
    for worker in system.workers:
        worker.kill()


def publishes(system: System, result: str) -> float:
    return system.metric(system.gateways[0], "image_processor_publishes_total", result=result)


def test_stopped_during_uploads(system: System) -> None:
    accept_some(system)
    system.servers.rabbitmq.stop()
    started = time.monotonic()
    accept_some(system)
    # each at once, but for the first to notice
    assert time.monotonic() - started < 6
    assert system.metric(system.gateways[0], "image_processor_publish_deferred_total") >= 6
    ready = httpx.get(f"{system.gateways[0].url}/health/ready").json()
    assert ready["status"] == "degraded"
    assert ready["checks"]["queue"] != "ok"

    system.servers.rabbitmq.start()

    system.audit(within_seconds=40)


def test_restarted_with_messages_in_the_queues(system: System) -> None:
    hold_back_work(system)
    accept_some(system)

    system.servers.rabbitmq.stop()
    system.servers.rabbitmq.start()
    system.restart(system.workers[0])

    system.audit(within_seconds=40)


def test_killed_with_messages_in_flight(system: System) -> None:
    accept_some(system, 12)
    system.servers.rabbitmq.kill()
    system.servers.rabbitmq.start()

    system.audit(within_seconds=60)


def test_paused_for_longer_than_everybody_waits(system: System) -> None:
    accept_some(system)
    system.servers.rabbitmq.pause()
    try:
        accept_some(system)
        time.sleep(3)
    finally:
        system.servers.rabbitmq.resume()

    system.audit(within_seconds=60)


def test_the_alarm_of_its_disk(system: System) -> None:
    accept_some(system, 3)
    system.servers.rabbitmq.ctl("set_disk_free_limit", "1000000GB")
    try:
        wait_until(lambda: deferred(system), "the alarm to be told", 20)
        started = time.monotonic()
        accept_some(system)
        assert time.monotonic() - started < 6
        assert publishes(system, "blocked") > 0
    finally:
        system.servers.rabbitmq.ctl("set_disk_free_limit", "50MB")

    system.audit(within_seconds=60)


def deferred(system: System) -> bool:
    before = system.metric(system.gateways[0], "image_processor_publish_deferred_total")
    system.accept(SAMPLES[0])
    return system.metric(system.gateways[0], "image_processor_publish_deferred_total") > before


def test_its_queues_purged(system: System) -> None:
    hold_back_work(system)
    accept_some(system)
    for queue in QUEUES:
        management(system, "DELETE", f"queues/{{vhost}}/{queue}/contents")
    wait_until(lambda: system.waiting_messages() == 0, "the queues to be empty")

    system.restart(system.workers[0])

    system.audit(within_seconds=60)


def test_a_queue_deleted_under_its_consumer(system: System) -> None:
    accept_some(system, 3)
    system.audit(within_seconds=30)
    management(system, "DELETE", "queues/{vhost}/images.normal")

    accept_some(system)

    system.audit(within_seconds=60)


def test_its_data_wiped(system: System) -> None:
    hold_back_work(system)
    accept_some(system)
    rabbitmq = system.servers.rabbitmq
    rabbitmq.kill()
    rabbitmq.wipe()
    rabbitmq.start()
    rabbitmq.ctl("add_vhost", system.vhost)
    rabbitmq.ctl("set_permissions", "-p", system.vhost, "guest", ".*", ".*", ".*")
    accept_some(system, 3)

    system.restart(system.workers[0])

    system.audit(within_seconds=60)


def test_acks_on_a_channel_that_has_closed(system: System) -> None:
    """The connection is gone while pictures are being rendered: what was done is not acknowledged, and comes again."""
    for _ in range(6):
        accept_some(system)
        system.proxies["rabbitmq"].reset()

    system.audit(within_seconds=60)
    assert max(row.attempts for row in system.inventory.rows().values()) == 1


def test_confirms_that_never_come(system: System) -> None:
    accept_some(system, 3)
    system.proxies["rabbitmq"].swallow("from_server")
    started = time.monotonic()
    accept_some(system, 3)
    # one time limit for the first, and short moments for the others
    assert time.monotonic() - started < 12
    assert publishes(system, "timed-out") > 0

    system.proxies["rabbitmq"].heal()
    system.proxies["rabbitmq"].reset()

    system.audit(within_seconds=60)


def test_slow(system: System) -> None:
    system.proxies["rabbitmq"].delay(0.4)
    accept_some(system)
    system.proxies["rabbitmq"].heal()

    system.audit(within_seconds=60)


def test_full(system: System) -> None:
    """Its queues refuse what is over their length."""
    hold_back_work(system)
    management(system, "PUT", "policies/{vhost}/full", {"pattern": "^images[.]normal$", "definition": {"max-length": 1}})
    for _ in range(12):
        system.accept(SAMPLES[0])
    assert publishes(system, "refused") > 0

    # a worker takes what is there, and the dispatcher brings the rest, a little at a time
    system.restart(system.workers[0])

    system.audit(within_seconds=90)
    management(system, "DELETE", "policies/{vhost}/full")


def test_connections_are_back_to_what_they_were(system: System) -> None:
    accept_some(system, 3)
    system.audit(within_seconds=30)
    before = system.inventory.connections()["rabbitmq"]

    for _ in range(5):
        system.proxies["rabbitmq"].reset()
        accept_some(system, 3)
    system.audit(within_seconds=60)

    # One to publish for each program, and three that the worker consumes from.
    wait_until(lambda: system.inventory.connections()["rabbitmq"] <= max(before, 5), "the connections to be as before", 30)
