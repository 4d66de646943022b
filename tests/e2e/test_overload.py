"""More than can be done now: uploads are taken or told to come back, in bounded time and memory; high priority overtakes, and low
is not forgotten. On the real services, with a database and queues of each test's own."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.settings import Settings
from tests.chaos.proxy import Proxy
from tests.e2e.conftest import management, migrate, own_services
from tests.e2e.stack import Process, Stack
from tests.pictures import photo_jpeg
from tests.polling import wait_until

SMALL = photo_jpeg(64, 48)
# A tenth of a second's work, so that a backlog lasts.
SLOW = photo_jpeg(3000, 2000)
CLIENTS = 8
# Of a gateway or worker, from its start to the end of the test.
MAY_GROW_BYTES = 100 << 20
# What a client at another machine would still call an answer. The machine of the tests is busy with everything else, too.
BOUND_SECONDS = 5


class Overload:
    """A gateway, workers when they are asked for, and what they are doing."""

    def __init__(self, stack: Stack, settings: Settings) -> None:
        self.stack = stack
        self.settings = settings
        self.database = stack.environment["POSTGRES_URL"]
        self.vhost = urlsplit(stack.environment["RABBITMQ_URL"]).path[1:]
        stack.start_gateway()
        assert stack.gateway is not None
        self.gateway: Process = stack.gateway
        self.user = stack.as_user()
        assert stack.upload(self.user, SMALL, priority="low").status_code == 202  # connects everything
        self._at_first = resident_bytes(self.gateway)

    @property
    def gateway_grew_bytes(self) -> int:
        return resident_bytes(self.gateway) - self._at_first

    def upload(self, count: int, content: bytes = SMALL, clients: int = CLIENTS, **form: str) -> list[tuple[httpx.Response, float]]:
        """So many, by so many clients at once. → each answer, and how long it took."""

        def one(_: int) -> tuple[httpx.Response, float]:
            started = time.monotonic()
            return self.stack.upload(self.user, content, **form), time.monotonic() - started

        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(one, range(count)))

    def limit_queue(self, queue: str, messages: int) -> None:
        policy = {"pattern": f"^{queue}$".replace(".", "[.]"), "apply-to": "queues", "definition": {"max-length": messages}}
        management(self.settings, "PUT", f"policies/{self.vhost}/full", **policy)

    def lift_limits(self) -> None:
        management(self.settings, "DELETE", f"policies/{self.vhost}/full")

    def rows(self) -> list[asyncpg.Record]:
        """id, priority, status, and when it was completed."""

        async def ask() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.database)
            try:
                rows: list[asyncpg.Record] = await connection.fetch("SELECT id, priority, status, completed_at FROM images")
            finally:
                await connection.close()
            return rows

        return asyncio.run(ask())

    def wait_until_done(self, seconds: float) -> None:
        wait_until(lambda: {row["status"] for row in self.rows()} == {"completed"}, "all images to be completed", seconds)

    def completed_at_least(self, count: int) -> bool:
        return [row["status"] for row in self.rows()].count("completed") >= count

    def completed_at(self, priority: str) -> list[float]:
        return sorted(row["completed_at"].timestamp() for row in self.rows() if row["priority"] == priority)

    def publishes(self, result: str) -> float:
        text = self.stack.http.get("/metrics").text
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        wanted = "image_processor_publishes_total", {"result": result}
        return sum(sample.value for sample in samples if (sample.name, sample.labels) == wanted)


def resident_bytes(process: Process) -> int:
    line = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@pytest.fixture
def environment(settings: Settings) -> Iterator[dict[str, str]]:
    with own_services(settings) as environment:
        migrate(environment)
        yield environment | {"RATE_LIMIT": "off", "WORKER_PROCESSES": "1", "DISPATCH_INTERVAL_SECONDS": "0.2"}


@pytest.fixture
def overload(environment: dict[str, str], settings: Settings, tmp_path: Path) -> Iterator[Overload]:
    stack = Stack(tmp_path, environment, settings.issuer)
    try:
        yield Overload(stack, settings)
    finally:
        stack.close()


def test_a_full_queue_keeps_nobody_from_uploading_and_nothing_else_from_going_on(overload: Overload) -> None:
    # given: no room in the queue of normal priority
    overload.limit_queue("images.normal", 1)

    def refused() -> bool:
        overload.upload(5)
        return overload.publishes("refused") > 0

    wait_until(refused, "the queue to be full")
    # when
    answers = overload.upload(40)
    # then all are taken, and none waits for the queue
    assert {answer.status_code for answer, _ in answers} == {202}
    assert max(seconds for _, seconds in answers) < BOUND_SECONDS
    # and what is of another priority is done, while those of the full queue trickle through
    overload.stack.start_worker()
    [(high, _)] = overload.upload(1, priority="high")
    assert overload.stack.final(overload.user, high.json()["id"], 20)["status"] == "completed"
    # and once there is room, everything is done
    overload.lift_limits()
    overload.wait_until_done(60)


def test_a_thousand_waiting_images(overload: Overload) -> None:
    # when
    answers = overload.upload(1_000)
    # then
    assert {answer.status_code for answer, _ in answers} == {202}
    assert max(seconds for _, seconds in answers) < BOUND_SECONDS
    assert overload.gateway_grew_bytes < MAY_GROW_BYTES
    # and who reads is answered
    links = [answer.json()["links"]["status"] for answer, _ in answers[::20]]
    for link in [*links, "/api/v1/images?limit=100"]:
        started = time.monotonic()
        assert overload.stack.http.get(link, headers=overload.user).status_code == 200
        assert time.monotonic() - started < BOUND_SECONDS
    # and a worker takes no more than it can do
    worker = overload.stack.start_worker()
    wait_until(lambda: overload.completed_at_least(50), "the first images to be completed", 60)
    at_first = resident_bytes(worker)
    overload.wait_until_done(120)
    assert resident_bytes(worker) - at_first < MAY_GROW_BYTES
    assert overload.gateway_grew_bytes < MAY_GROW_BYTES


def test_a_store_that_answers_no_more(environment: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    store = urlsplit(f"//{settings.minio_endpoint.rpartition('/')[2]}")
    with Proxy(store.port or 9000, store.hostname or "127.0.0.1") as proxy:
        slow = {"MINIO_ENDPOINT": f"127.0.0.1:{proxy.port}", "SERVICE_TIMEOUT_SECONDS": "4", "MAX_CONCURRENT_UPLOADS": "6"}
        stack = Stack(tmp_path, environment | slow, settings.issuer)
        try:
            overload = Overload(stack, settings)
            # given
            proxy.freeze()
            # when
            answers = overload.upload(60, photo_jpeg(640, 480), clients=30)
            # then each is told to come back: those that are too many at once
            assert {answer.status_code for answer, _ in answers} == {503}
            assert all(int(answer.headers["Retry-After"]) > 0 for answer, _ in answers)
            assert max(seconds for _, seconds in answers) < 4 * BOUND_SECONDS
            assert sorted(seconds for _, seconds in answers)[len(answers) // 2] < BOUND_SECONDS
            assert overload.gateway_grew_bytes < MAY_GROW_BYTES
            # and reads go on
            assert stack.http.get("/api/v1/images", headers=overload.user).status_code == 200

            # when it is only slow
            proxy.heal()
            proxy.delay(0.3)
            answers = overload.upload(30, clients=15)
            # then what has a place is taken
            assert {answer.status_code for answer, _ in answers} == {202, 503}
            assert max(seconds for _, seconds in answers) < 2 * BOUND_SECONDS

            # and what was taken is done, and nothing else was kept
            taken = sum(answer.status_code == 202 for answer, _ in answers)
            proxy.heal()
            stack.start_worker()
            overload.wait_until_done(60)
            assert len(overload.rows()) == 1 + taken
        finally:
            stack.close()


def test_high_overtakes_a_backlog(overload: Overload) -> None:
    # given
    overload.upload(30, SLOW, priority="normal")
    overload.upload(30, SLOW, priority="low")
    overload.stack.start_worker()
    wait_until(lambda: overload.completed_at_least(3), "the first images to be completed", 60)
    # when
    overload.upload(5, SLOW, priority="high")
    # then
    overload.wait_until_done(120)
    high = overload.completed_at("high")
    others = overload.completed_at("normal") + overload.completed_at("low")
    overtaken = sum(at > high[-1] for at in others)
    assert overtaken > 30, f"{overtaken} of {len(others)} were completed later than the last of high priority"


def test_low_is_not_starved(overload: Overload) -> None:
    # given: high and normal that never run out while there is low
    overload.upload(60, SLOW, priority="high")
    overload.upload(60, SLOW, priority="normal")
    overload.upload(4, SLOW, priority="low")
    # when
    overload.stack.start_worker()
    # then
    overload.wait_until_done(120)
    high, low = overload.completed_at("high"), overload.completed_at("low")
    assert low[3] < high[-1]
