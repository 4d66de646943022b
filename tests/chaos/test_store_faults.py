"""MinIO stopped, cut off, slow, silent or full: uploads are refused in bounded time, and every accepted image ends, with no attempt
spent on the outage."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from common.ports import Bucket
from tests.chaos.samples import GOOD, LARGE, make_samples
from tests.chaos.servers import Servers
from tests.chaos.system import System, running_system
from tests.polling import wait_until

SAMPLES = make_samples(4)
GOOD_SAMPLES, LARGEST = SAMPLES[GOOD], SAMPLES[LARGE][1]
# SERVICE_TIMEOUT_SECONDS is 2, and the machine may be busy.
BOUND_SECONDS = 8.0
# Pieces of 64 KB, so that none takes longer than the silence that a caller bears.
SLOWLY = 150_000.0


@pytest.fixture
def patient_system(tmp_path: Path, servers: Servers, keycloak_url: str) -> Iterator[System]:
    """A gateway and no worker yet. Pictures have one attempt, so none may be spent on an outage."""
    with running_system(tmp_path, servers, workers=0, MAX_ATTEMPTS="1") as system:
        yield system


def accept_some(system: System, count: int = 4) -> list[str]:
    return [system.accept(GOOD_SAMPLES[number % len(GOOD_SAMPLES)]).image_id for number in range(count)]


def in_time(call: Callable[[], httpx.Response]) -> httpx.Response:
    started = time.monotonic()
    answer = call()
    assert time.monotonic() - started < BOUND_SECONDS
    return answer


def test_minio_cut_off_in_the_middle_of_an_upload(system: System) -> None:
    system.as_user()
    system.proxies["minio"].throttle(SLOWLY)
    with ThreadPoolExecutor(1) as thread:
        upload = thread.submit(system.upload, LARGEST.content, key="once", processing=LARGEST.processing)
        wait_until(lambda: system.proxies["minio"].connections > 0, "the put to begin", 20)
        time.sleep(0.5)
        system.proxies["minio"].cut()
        refused = upload.result(BOUND_SECONDS)
    assert_away(refused)

    # it is as if it had not been: the same key is free
    system.proxies["minio"].heal()
    again = system.upload(LARGEST.content, key="once", name="again.jpg", processing=LARGEST.processing)
    assert again.status_code == 202, again.text
    system.ledger.accept(again.json()["id"], "again.jpg", LARGEST)
    system.audit(within_seconds=30)
    assert len(system.inventory.rows()) == 1


def assert_away(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:image-processor:problem:unavailable"), answer.text
    assert int(answer.headers["Retry-After"]) > 0


def test_minio_cut_off_in_the_middle_of_a_workers_fetch(patient_system: System) -> None:
    system = patient_system
    for _ in range(2):
        system.accept(LARGEST)
    system.proxies["minio"].throttle(SLOWLY)
    system.proxies["minio"].reset()
    worker = system.start_worker()
    wait_until(lambda: system.metric(worker, "image_processor_in_progress") > 0, "a fetch", 20)
    for _ in range(3):
        time.sleep(0.4)
        system.proxies["minio"].reset()
    wait_until(lambda: outages(system) >= 1, "the fetch to be given up", 20)

    system.proxies["minio"].heal()

    system.audit(within_seconds=60)


def outages(system: System) -> float:
    return system.metric(system.workers[0], "image_processor_retries_total", reason="object store")


def test_minio_cut_off_in_the_middle_of_a_download(system: System) -> None:
    """A part is never taken for the whole."""
    accepted = system.accept(LARGEST)
    system.audit(within_seconds=30)
    url = f"{system.gateways[0].url}/api/v1/images/{accepted.image_id}/original"
    system.proxies["minio"].throttle(SLOWLY)
    system.proxies["minio"].reset()

    def read_until_it_is_cut_off() -> None:
        with httpx.stream("GET", url, headers=system.as_user(), trust_env=False, timeout=30) as answer:
            assert answer.status_code == 200
            for number, _ in enumerate(answer.iter_raw(1000)):
                if number == 10:
                    system.proxies["minio"].cut()

    with pytest.raises(httpx.TransportError):
        read_until_it_is_cut_off()

    system.proxies["minio"].heal()
    assert system.read(f"/api/v1/images/{accepted.image_id}/original").content == LARGEST.content


def test_minio_paused(patient_system: System) -> None:
    """What is put when it wakes, for nobody any more, is swept."""
    system = patient_system
    accept_some(system)
    system.servers.minio.pause()
    try:
        system.start_worker()
        for _ in range(3):
            assert_away(in_time(lambda: system.upload(GOOD_SAMPLES[0].content)))
        wait_until(lambda: outages(system) >= 1, "an attempt that ends for it", 40)
    finally:
        system.servers.minio.resume()

    system.audit(within_seconds=60)


def test_minio_answers_503(patient_system: System) -> None:
    system = patient_system
    accept_some(system)
    system.proxies["minio"].answer_503()
    system.start_worker()
    assert_away(in_time(lambda: system.upload(GOOD_SAMPLES[0].content)))
    wait_until(lambda: outages(system) >= 4, "attempts that end for it", 40)

    system.proxies["minio"].heal()

    system.audit(within_seconds=60)


def test_minio_slow(patient_system: System) -> None:
    """A transfer that makes progress may take longer than the time limit."""
    system = patient_system
    for _ in range(2):
        accept_some(system, 3)
        system.accept(LARGEST)
    system.proxies["minio"].throttle(2 * SLOWLY)
    system.start_worker()

    system.audit(within_seconds=60)
    assert outages(system) == 0


@pytest.mark.parametrize("bucket", list(Bucket))
def test_minio_full(patient_system: System, bucket: Bucket) -> None:
    """Its quota stands for its disk: MinIO refuses what it would have to write."""
    system = patient_system
    accept_some(system)
    with full(system, bucket):
        if bucket is Bucket.RAW:
            assert_away(in_time(lambda: system.upload(GOOD_SAMPLES[0].content)))
            system.start_worker()
        else:
            system.start_worker()
            accept_some(system, 2)
            wait_until(lambda: outages(system) >= 6, "results that find no room", 40)

    accept_some(system, 2)
    system.audit(within_seconds=60)


@contextmanager
def full(system: System, bucket: Bucket) -> Iterator[None]:
    keys = (system.settings.minio_access_key.get_secret_value(), system.settings.minio_secret_key.get_secret_value())
    admin = MinioAdmin(endpoint=system.servers.minio.url, credentials=StaticProvider(*keys), secure=False)
    admin.bucket_quota_set(bucket, 1)
    try:
        yield
    finally:
        admin.bucket_quota_clear(bucket)
