"""Redis stopped, cut off, flushed, slow, silent: reads and uploads go on in bounded time, and no reader sees a step back."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import redis

from common.adapters.redis.link import PAUSE_SECONDS
from tests.chaos.proxy import Proxy
from tests.chaos.samples import GOOD, make_samples
from tests.chaos.servers import Servers
from tests.chaos.system import System, running_system
from tests.polling import wait_until

SAMPLES = make_samples(4)[GOOD]
# SERVICE_TIMEOUT_SECONDS is 2; a call may find that out once for the cache and once for the rate, and the machine may be busy.
BOUND_SECONDS = 8.0


@pytest.fixture
def idle_system(tmp_path: Path, servers: Servers, keycloak_url: str) -> Iterator[System]:
    """A gateway and no worker yet."""
    with running_system(tmp_path, servers, workers=0) as system:
        yield system


def accept_some(system: System, count: int = 4) -> list[str]:
    return [system.accept(SAMPLES[number % len(SAMPLES)]).image_id for number in range(count)]


def in_time(call: Callable[[], httpx.Response]) -> httpx.Response:
    started = time.monotonic()
    answer = call()
    assert time.monotonic() - started < BOUND_SECONDS
    return answer


def status_of(system: System, image_id: str, wait_seconds: int = 0) -> httpx.Response:
    answer = system.read(f"/api/v1/images/{image_id}/status", Prefer=f"wait={wait_seconds}")
    assert answer.status_code == 200, answer.text
    return answer


def is_completed(system: System, image_id: str) -> bool:
    return bool(status_of(system, image_id).json()["status"] == "completed")


def check_of(system: System, name: str) -> str:
    return str(httpx.get(f"{system.gateways[0].url}/health/ready", trust_env=False, timeout=20).json()["checks"][name])


def cache_reads(system: System, result: str) -> float:
    return system.metric(system.gateways[0], "image_processor_cache_reads_total", result=result)


@contextmanager
def waiting_reader(system: System, image_id: str) -> Iterator[Future[httpx.Response]]:
    """Who has begun to wait for a final state, for longer than anything here should take."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(status_of, system, image_id, wait_seconds=25)
        wait_until(lambda: subscribers(system) > 0, "the reader to wait", 10)
        yield waiting


def subscribers(system: System) -> int:
    with redis.Redis.from_url(system.servers.redis.url) as client:
        ((_, count),) = client.pubsub_numsub("images:final")
        return int(count)


def test_redis_stopped_during_uploads_and_reads(system: System) -> None:
    accept_some(system)
    system.servers.redis.stop()
    try:
        for sample in SAMPLES[:4]:
            started = time.monotonic()
            image_id = system.accept(sample).image_id
            assert time.monotonic() - started < BOUND_SECONDS
            in_time(partial(status_of, system, image_id))
        assert cache_reads(system, "unavailable") >= 4
        assert check_of(system, "cache") == "unavailable"
        # they end without it, and readers see that
        for image_id in system.ledger.accepted:
            wait_until(partial(is_completed, system, image_id), "the end", 30)
    finally:
        system.servers.redis.start()

    system.audit(within_seconds=30)


@pytest.mark.parametrize(
    "what", [Proxy.cut, Proxy.freeze, lambda proxy: proxy.swallow("from_server")], ids=["cut", "frozen", "deaf"]
)
def test_a_waiting_reader_is_answered_though_redis_is_gone(idle_system: System, what: Callable[[Proxy], None]) -> None:
    """Nobody can wake it any more, so it looks for itself."""
    system = idle_system
    (image_id,) = accept_some(system, 1)
    with waiting_reader(system, image_id) as waiting:
        what(system.proxies["redis"])
        started = time.monotonic()
        system.start_worker()

        assert waiting.result(40).json()["status"] == "completed"
        assert time.monotonic() - started < 20
    assert system.metric(system.gateways[0], "image_processor_waits_total", result="polled") == 1
    # the worker waits for Redis in vain before it knows, and the reader may have looked meanwhile
    lost = partial(system.metric, system.workers[0], "image_processor_lost_notifications_total")
    wait_until(lambda: lost() == 1, "the worker to give up", 10)

    system.proxies["redis"].heal()
    system.proxies["redis"].reset()
    system.audit(within_seconds=30)


def test_redis_slow_and_silent(system: System) -> None:
    for worsen in (partial(system.proxies["redis"].delay, 0.4), system.proxies["redis"].freeze):
        worsen()
        for _ in range(3):
            (image_id,) = accept_some(system, 1)
            in_time(partial(status_of, system, image_id))
    assert cache_reads(system, "unavailable") > 0
    system.proxies["redis"].heal()

    system.audit(within_seconds=30)


def test_readers_of_two_gateways_never_see_a_status_go_backwards_though_redis_is_flushed(
    tmp_path: Path, servers: Servers, keycloak_url: str
) -> None:
    with running_system(tmp_path, servers, gateways=2) as system:
        stopped = threading.Event()
        backwards: list[tuple[str, int, int]] = []
        reads = 0

        def watch() -> None:
            nonlocal reads
            newest: dict[str, int] = {}
            while not stopped.is_set():
                for image_id in list(system.ledger.accepted):
                    for gateway in (0, 1):
                        answer = system.read(f"/api/v1/images/{image_id}/status", gateway=gateway)
                        version = int(answer.headers["ETag"].split('"')[1])
                        if version < newest.get(image_id, 0):
                            backwards.append((image_id, newest[image_id], version))
                        newest[image_id] = version
                        reads += 1

        system.as_user()
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with redis.Redis.from_url(system.servers.redis.url) as client:
                # On a busy machine the readers take longer to have looked often enough.
                for flushes in range(1, 51):
                    accept_some(system, 2)
                    client.flushall()
                    if flushes >= 5 and reads > 20:
                        break
        finally:
            stopped.set()
            watcher.join()

        assert not backwards
        assert reads > 20
        system.audit(within_seconds=30)


def test_an_image_deleted_while_redis_is_away_is_not_seen_again(system: System) -> None:
    # given one whose final state the cache knows for minutes
    (image_id,) = accept_some(system, 1)
    system.audit(within_seconds=30)
    status_of(system, image_id)
    hits = cache_reads(system, "hit")
    status_of(system, image_id)
    assert cache_reads(system, "hit") == hits + 1

    # when it is deleted, and the cache cannot be told
    system.proxies["redis"].cut()
    path = f"/api/v1/images/{image_id}"
    user = system.as_user()
    deleted = in_time(lambda: httpx.delete(system.gateways[0].url + path, headers=user, trust_env=False, timeout=30))
    assert deleted.status_code == 200
    system.proxies["redis"].heal()
    time.sleep(PAUSE_SECONDS)

    # then
    misses = cache_reads(system, "miss")
    assert system.read(f"{path}/status").status_code == 404
    assert cache_reads(system, "miss") == misses + 1
    assert system.metric(system.gateways[0], "image_processor_cache_lost_invalidations_total") == 1


def test_an_image_deleted_before_redis_comes_back_with_what_it_had_saved_is_not_seen_again(system: System) -> None:
    """As after a failover, too, to a replica that was behind. Nobody has asked meanwhile, and so nobody has seen it away."""
    # given one whose final state the cache knows for minutes, and has saved
    (image_id,) = accept_some(system, 1)
    system.audit(within_seconds=30)
    status_of(system, image_id)
    data = system.servers.redis.set.state / "redis" / "data"
    saved = shutil.copytree(data, system.folder / "saved")
    path = f"/api/v1/images/{image_id}"
    assert httpx.delete(system.gateways[0].url + path, headers=system.as_user(), trust_env=False).status_code == 200

    # when
    system.servers.redis.kill()
    shutil.rmtree(data)
    shutil.copytree(saved, data)
    system.servers.redis.start()
    with redis.Redis.from_url(system.servers.redis.url) as client:
        assert b'"completed"' in client.get(f"image:{image_id}")

    # then
    misses = cache_reads(system, "miss")
    assert system.read(f"{path}/status").status_code == 404
    assert cache_reads(system, "miss") == misses + 1
