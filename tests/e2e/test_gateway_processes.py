"""A gateway of two processes: one port, whole numbers from whichever of them is asked, and none of them alone in the world."""

import asyncio
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from bench import processes
from cli import supervisor
from common.settings import Settings, load
from common.shared_metrics import RESERVED_BYTES, Roll
from tests.e2e.conftest import own_services
from tests.e2e.stack import PROGRAM, Process, Stack, free_port
from tests.pictures import photo_jpeg
from tests.polling import eventually, wait_until

REQUESTS = "image_processor_http_requests_total"
# What one process exports before anything has happened.
ALONE = "import common.telemetry, prometheus_client as p; print(p.generate_latest().decode())"


class Two(Stack):
    """`start_gateway` starts a gateway of two processes, whose temporary files are below the folder."""

    def __init__(self, folder: Path, environment: dict[str, str], issuer: str) -> None:
        super().__init__(folder, environment | {"GATEWAY_PROCESSES": "2", "TMPDIR": str(folder)}, issuer)

    def start_gateway(self) -> None:
        super().start_gateway()
        wait_until(lambda: len(self.started()) >= 2, "both processes to serve", 60)

    @property
    def parent(self) -> Process:
        assert self.gateway is not None
        return self.gateway

    def children(self) -> set[int]:
        return processes.tree(self.parent.pid) - {self.parent.pid}

    def started(self) -> list[str]:
        return [line for line in self.log().splitlines() if '"gateway started"' in line]

    def answered(self, place: int, route: str) -> float:
        """How many requests the process in this place has counted itself."""
        file = next(self.folder.glob(f"image-processor-*/metrics-*/counter_{place}.db"))
        families = MultiProcessCollector.merge([str(file)])  # type: ignore[no-untyped-call]  # the library's
        return float(sum(one.value for family in families for one in family.samples if of(one.name, one.labels, route)))

    def metrics_from_each(self) -> list[str]:
        """Asked on new connections until each place has answered."""
        said: dict[int, str] = {}

        def ask() -> bool:
            before = [self.answered(place, "/metrics") for place in (0, 1)]
            text = httpx.get(f"{self.url}/metrics", timeout=30).raise_for_status().text
            counted = wait_until(
                lambda: [place for place in (0, 1) if self.answered(place, "/metrics") > before[place]], "the answer to be counted"
            )
            said[counted[0]] = text
            return len(said) == 2

        wait_until(ask, "both to be asked")
        return list(said.values())


def of(name: str, labels: dict[str, str], route: str) -> bool:
    return name == REQUESTS and labels["route"] == route


def value(text: str, name: str, **labels: str) -> float:
    """The sum of what has these labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def series(text: str) -> set[tuple[str, ...]]:
    families = text_string_to_metric_families(text)
    return {(one.name, *sorted(one.labels.values())) for family in families for one in family.samples}


@pytest.fixture(scope="module")
def two(migrated_environment: dict[str, str], settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    stack = Two(tmp_path_factory.mktemp("two"), migrated_environment, settings.issuer)
    try:
        stack.start_gateway()
        yield stack
    finally:
        stack.close()


def ask_until_both_have_answered(two: Two) -> int:
    """Crowds of requests, each on a connection of its own. → how many there were."""
    route = "/api/v1/images/{id}"
    first = [two.answered(place, route) for place in (0, 1)]
    asked = 0
    with ThreadPoolExecutor(12) as threads:

        def crowd() -> bool:
            nonlocal asked
            answers = threads.map(lambda _: httpx.get(f"{two.url}/api/v1/images/{uuid4()}", timeout=30), range(48))
            assert {answer.status_code for answer in answers} == {401}
            asked += 48
            return all(two.answered(place, route) > first[place] for place in (0, 1))

        wait_until(crowd, "both to have answered")
    return asked


def test_both_take_part_and_each_tells_of_all(two: Two) -> None:
    # given
    user = two.as_user()
    before = two.metrics_from_each()[0]

    # when
    asked = ask_until_both_have_answered(two)
    with ThreadPoolExecutor(6) as threads:
        uploads = list(threads.map(lambda n: two.upload(user, photo_jpeg(64 + n, 64)), range(6)))
    assert {answer.status_code for answer in uploads} == {202}

    # then
    refused = {"route": "/api/v1/images/{id}", "status": "401"}
    for name, labels, expected in (
        (REQUESTS, refused, asked),
        ("image_processor_http_request_seconds_count", {"route": refused["route"]}, asked),
        ("image_processor_uploads_total", {}, 6),
        ("image_processor_publishes_total", {"result": "confirmed"}, 6),
    ):
        assert [value(text, name, **labels) - value(before, name, **labels) for text in two.metrics_from_each()] == [expected] * 2


def test_what_one_process_shows_several_show_and_nothing_twice(two: Two) -> None:
    # given what one process has at its start, of which the library shares all but these
    ran = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=True)
    expected = {one for one in series(ran.stdout) if not one[0].startswith("python_gc_") and not one[0].endswith("_created")}

    text = two.metrics_from_each()[0]

    assert expected - series(text) == set()
    labels = {name for family in text_string_to_metric_families(text) for one in family.samples for name in one.labels}
    assert "pid" not in labels
    # and what only workers measure is no number
    for name in ("backlog", "oldest_seconds", "queue_depth", "dispatch_lag_seconds"):
        assert math.isnan(value(text, f"image_processor_{name}")), name
    assert value(text, "image_processor_in_progress") == 0
    # and so in the other format
    openmetrics = httpx.get(f"{two.url}/metrics", headers={"Accept": "application/openmetrics-text"}, timeout=30)
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    read = list(parse_openmetrics(openmetrics.text))  # type: ignore[no-untyped-call]  # the library's
    assert {family.name for family in read} == {family.name for family in text_string_to_metric_families(text)}


def test_memory_and_time_are_those_of_all_processes(two: Two) -> None:
    text = two.metrics_from_each()[0]

    assert value(text, "process_resident_memory_bytes") == pytest.approx(processes.rss_bytes(two.parent.pid), rel=0.1)
    assert value(text, "process_cpu_seconds_total") == pytest.approx(processes.cpu_seconds(two.parent.pid), rel=0.1)
    # Of files each process has a limit of its own: the one with the most is told of.
    most = max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (two.parent.pid, *two.children()))
    assert value(text, "process_max_fds") == max_fds(two.parent.pid)
    assert value(text, "process_open_fds") == pytest.approx(most, abs=10)
    alone = httpx.get(f"{two.url}/metrics", timeout=30).text
    assert value(alone, "process_start_time_seconds") == value(text, "process_start_time_seconds")


def max_fds(pid: int) -> int:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(int(line.split()[3]) for line in lines if line.startswith("Max open files"))


def test_every_file_has_its_room_from_the_start(two: Two) -> None:
    files = {file.name: file.stat() for file in two.folder.glob("image-processor-*/metrics-*/*.db")}

    assert set(files) == {f"{kind}_{place}.db" for kind in RESERVED_BYTES for place in (0, 1)}
    for name, found in files.items():
        assert found.st_size == RESERVED_BYTES[name.rpartition("_")[0]]
        assert found.st_blocks * 512 >= found.st_size


def test_one_that_is_killed_is_replaced_and_no_number_goes_back(two: Two) -> None:
    # given
    asked = ask_until_both_have_answered(two)
    before = two.metrics_from_each()[0]
    victim = min(two.children())

    # when
    subprocess.run(["kill", "-9", str(victim)], check=True)

    # then the other one answers
    assert httpx.get(f"{two.url}/health", timeout=30).status_code == 200
    wait_until(lambda: len(two.started()) >= 3, "another one to serve")
    assert len(two.children()) == 2
    assert victim not in two.children()
    assert "gateway process died" in two.log()
    # and all that were counted are
    asked = ask_until_both_have_answered(two)
    for text in two.metrics_from_each():
        assert value(text, REQUESTS, status="401") - value(before, REQUESTS, status="401") == asked
        assert value(text, "process_cpu_seconds_total") > value(before, "process_cpu_seconds_total")
        assert value(text, "process_cpu_seconds_total") == pytest.approx(processes.cpu_seconds(two.parent.pid), rel=0.1)


def test_told_to_stop_they_finish_what_they_have_begun(two: Two) -> None:
    # given uploads of which the gateway has the first half
    user, picture, crowd = two.as_user(), photo_jpeg(640, 480), 8
    children, go_on = two.children(), threading.Event()
    halfway = threading.Barrier(crowd + 1)

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + picture[:100]
        halfway.wait(30)
        go_on.wait(30)
        yield picture[100:] + b"\r\n--x--\r\n"

    def upload() -> int:
        headers = user | {"Content-Type": "multipart/form-data; boundary=x"}
        return httpx.post(f"{two.url}/api/v1/upload", headers=headers, content=body(), timeout=60).status_code

    with ThreadPoolExecutor(crowd) as threads:
        uploads = [threads.submit(upload) for _ in range(crowd)]
        halfway.wait(30)

        # when
        two.parent.send(signal.SIGTERM)
        wait_until(lambda: not listens(two.port), "the gateway to stop listening")
        go_on.set()

        # then
        assert [done.result(60) for done in uploads] == [202] * crowd
    assert two.parent.wait(60) == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert list(two.folder.glob("image-processor-*")) == []


def listens(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), timeout=5).close()
    except OSError:
        return False
    return True


def test_without_their_parent_they_end(migrated_environment: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    stack = Two(tmp_path, migrated_environment, settings.issuer)
    try:
        stack.start_gateway()
        children = stack.children()
        assert len(children) == 2

        stack.kill()

        wait_until(lambda: not [pid for pid in children if processes.command(pid)], "the children to end")
        assert not listens(stack.port)
    finally:
        stack.close()


def test_what_all_of_them_have_against_it_is_said_once(settings: Settings, tmp_path: Path) -> None:
    with own_services(settings) as environment, ExitStack() as stack:
        taken = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]

        def gateway(**variables: str) -> tuple[int, str]:
            values = environment | {"GATEWAY_PROCESSES": "2", "GATEWAY_PORT": str(free_port()), "LOG_LEVEL": "error"} | variables
            process = Process(["gateway"], values, tmp_path / f"{uuid4()}.log", (PROGRAM,))
            return process.wait(60), process.log.read_text()

        port, number, database = gateway(GATEWAY_PORT=str(taken)), gateway(GATEWAY_PROCESSES="0"), gateway()

    assert port == (2, f"image-processor: GATEWAY_PORT: cannot listen on 127.0.0.1:{taken}: Address already in use\n")
    assert number[0] == 2
    assert number[1].startswith("image-processor: GATEWAY_PROCESSES: ")
    assert database[0] == 1
    assert database[1].startswith("image-processor: The database is not migrated")
    assert [text.count("\n") for _, text in (port, number, database)] == [1, 1, 1]


def test_what_a_follower_alone_has_against_it_ends_nobody_else(
    migrated_environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    # given two that serve, with a file that has been changed since so that none could start
    stack = Two(tmp_path, migrated_environment, settings.issuer)
    try:
        stack.start_gateway()
        (tmp_path / "config.yaml").write_text("no_such_setting: 1\n")

        # when one is killed
        os.kill(min(stack.children()), signal.SIGKILL)
        wait_until(lambda: "there is no such setting" in stack.log(), "its follower to say why it cannot start")

        # then the other serves on, and the follower comes once it can
        assert stack.http.get("/health").status_code == 200
        (tmp_path / "config.yaml").unlink()
        wait_until(lambda: len(stack.started()) == 3, "the follower to serve")
        assert stack.parent.is_running()
    finally:
        stack.close()


def test_a_folder_that_cannot_be_written_to_starts_and_ends_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "gone"

    roll = Roll(folder)
    roll.enter(1)
    roll.strike(1, 0)

    assert roll.children() == []


async def test_it_takes_longer_and_longer_pauses_over_one_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.setattr(supervisor, "PROGRAM", (sys.executable, "-c", "raise SystemExit(3)"))
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_SECONDS", 0.05)
    settings, stop = load(gateway_processes=1, gateway_port=free_port()), asyncio.Event()

    # when
    with capture_logs() as logged:
        running = asyncio.create_task(supervisor.run_gateway_processes(settings, stop))

        async def four_died() -> bool:
            return len([one for one in logged if "died" in one["event"]]) >= 4

        await eventually(four_died, "it to have died four times")
        stop.set()
        await running

    # then
    died = [(one["reason"], one["pause_seconds"]) for one in logged if "died" in one["event"]]
    assert died[:4] == [("exit code 3", pause) for pause in (0.02, 0.04, 0.05, 0.05)]
