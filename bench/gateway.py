"""How many uploads and status reads a gateway takes, and what each costs it, on the real services and with no worker at work.

A gateway is one process, so one core: what counts is requests per CPU second of its own. Status reads are measured from the cache,
as a 304, and from the database, all with the caller's rate being counted, and from the cache once more without; in turns with an
empty FastAPI route behind the same token check, served in the same way (bench/empty_route.py), so that what else the machine does
meets all of them. The figures are medians over all turns. Latencies are those of a gateway that so many connections keep busy.

The client is a process of its own (bench/load.py); its share of a core is in the table, so that it is seen not to be the limit.
"""

import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench import load, processes
from bench.empty_route import PATH as EMPTY
from bench.load import Load, Plan
from bench.results import show, write_results
from bench.running import Running, cpu_seconds_by_process, rss_bytes, running
from common.loopback import DIRECT
from gateway.schemas import IMAGES
from tests.e2e.stack import Process, free_port
from tests.pictures import jpeg, photo
from tests.polling import wait_until

CONNECTIONS = 16
BOUNDARY = "boundary"
# So high that it is never reached; it is counted all the same.
RATE = "999999999/second"
EMPTY_ROUTE, HIT, UNCHANGED, MISS, UNLIMITED = (
    "empty route",
    "status, cached",
    "status, 304",
    "status, not cached",
    "status, cached, rate not counted",
)


@dataclass(frozen=True)
class Effort:
    turns: int
    seconds: float
    rows: int
    crowd: int
    crowd_bytes: int


FULL, QUICK = Effort(3, 4, 6000, 200, 10 << 20), Effort(1, 1, 1000, 20, 1 << 20)


@dataclass
class Measured:
    """Of one case, a turn each. CPU in microseconds a request, by process."""

    loads: list[Load] = field(default_factory=list)
    cpu_us: list[dict[str, float]] = field(default_factory=list)

    def median(self, value: Callable[[Load], float]) -> float:
        return statistics.median(value(one) for one in self.loads)

    def cpu(self, name: str) -> float:
        return statistics.median(turn.get(name, 0.0) for turn in self.cpu_us)

    @property
    def per_cpu_second(self) -> float:
        return 1e6 / self.cpu("gateway")


@dataclass
class Crowd:
    """Many large uploads at once: the gateway's resident memory in bytes."""

    before: int
    peak: int
    after: int
    load: Load


def run(out: Path, *, quick: bool) -> None:
    console, effort = Console(), QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with (
            running(folder, workers=0, rate_limit=RATE, max_concurrent_uploads=effort.crowd, log_level="info") as system,
            _empty_route(system) as empty,
        ):
            system.environment["RATE_LIMIT"] = "off"
            system.start_gateway()
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            with Progress(*columns, console=console) as progress:
                bench = Bench(system, empty, effort, progress)
                measured = bench.uploads(folder) | bench.status_reads(folder)
                crowd = bench.crowd(folder)
    show(console, out, "gateway", _findings(measured, crowd, effort))
    rows = [_row(name, one) for name, one in measured.items()]
    moments = {"before": crowd.before, "peak": crowd.peak, "after": crowd.after}
    memory = [{"case": "uploads at once", "moment": moment, "rss_mb": size / 1e6} for moment, size in moments.items()]
    written = (
        write_results(out, "gateway", rows, x="case", y="per_cpu_second", by="contender"),
        write_results(out, "gateway-memory", memory, x="moment", y="rss_mb", by="case"),
    )
    console.print(f"Written: {', '.join(written)}")


@contextmanager
def _empty_route(system: Running) -> Iterator["EmptyRoute"]:
    process = EmptyRoute(system)
    try:
        wait_until(process.answers, "the empty route")
        yield process
    finally:
        process.send(signal.SIGTERM)
        process.wait(15)


class EmptyRoute(Process):
    def __init__(self, system: Running) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = system.environment | {"PYTHONPATH": str(Path(__file__).parents[1])}
        program = (sys.executable, "-m", "bench.empty_route")
        super().__init__([str(port)], environment, system.folder / "empty-route.log", program)

    def answers(self) -> bool:
        try:
            return httpx.get(self.url, trust_env=False).status_code == 404
        except httpx.TransportError:
            return False


class Bench:
    def __init__(self, system: Running, empty: EmptyRoute, effort: Effort, progress: Progress) -> None:
        self._system = system
        self._empty = empty
        self._effort = effort
        self._progress = progress
        self._task = progress.add_task("gateway", total=2 + 5 * effort.turns + 1)

    def uploads(self, folder: Path) -> dict[str, Measured]:
        found = {}
        for width, height in ((640, 480), (1920, 1280)):
            name = f"upload, {width}x{height}"
            body = _form(folder / f"{width}x{height}", jpeg(photo(width, height)))
            plan = self._plan([f"{IMAGES}"], CONNECTIONS, method="POST", body=body, headers=_form_headers())
            found[name] = Measured()
            self._turn(name, found[name], plan, self._system.gateways[0], 202)
        return found

    def status_reads(self, folder: Path) -> dict[str, Measured]:
        completed = self._completed(folder)
        cached = [f"{IMAGES}/{completed['id']}/status"]
        slices = iter(self._copies(completed["id"]))
        limited, unlimited = self._system.gateways
        found = {name: Measured() for name in (EMPTY_ROUTE, HIT, UNCHANGED, MISS, UNLIMITED)}
        for _ in range(self._effort.turns):
            self._turn(EMPTY_ROUTE, found[EMPTY_ROUTE], self._plan([EMPTY], url=self._empty.url), self._empty, 200)
            self._turn(HIT, found[HIT], self._plan(cached), limited, 200)
            known = self._plan(cached, headers={"If-None-Match": completed["etag"]})
            self._turn(UNCHANGED, found[UNCHANGED], known, limited, 304)
            others = [f"{IMAGES}/{one}/status" for one in next(slices)]
            self._turn(MISS, found[MISS], self._plan(others, requests=len(others)), limited, 200)
            self._turn(UNLIMITED, found[UNLIMITED], self._plan(cached, url=unlimited.url), unlimited, 200)
        return found

    def crowd(self, folder: Path) -> Crowd:
        """Each uploads once, all at the same time."""
        self._progress.update(self._task, description=f"{self._effort.crowd} uploads at once")
        gateway, people = self._system.gateways[0], self._effort.crowd
        body = _form(folder / "large", _of_size(self._effort.crowd_bytes))
        plan = self._plan([IMAGES], people, method="POST", body=body, headers=_form_headers(), seconds=120, requests=people)
        before = peak = rss_bytes(gateway)
        with load.client(plan) as process:
            while process.poll() is None:
                peak = max(peak, rss_bytes(gateway))
                time.sleep(0.05)
            said = load.said_by(process)
        self._progress.advance(self._task)
        return Crowd(before, peak, rss_bytes(gateway), _all_are(said, 202))

    def _plan(self, paths: list[str], connections: int = CONNECTIONS, **how: Any) -> Plan:
        how = {"url": self._system.gateway_url, "seconds": self._effort.seconds, **how}
        headers = self._system.as_user() | how.pop("headers", {})
        return Plan(paths=paths, connections=connections, headers=headers, **how)

    def _turn(self, name: str, measured: Measured, plan: Plan, server: Process, status: int) -> None:
        self._progress.update(self._task, description=name)
        load.run(replace(plan, paths=plan.paths[:1], seconds=0.3, requests=None))
        before, own = cpu_seconds_by_process(), processes.cpu_seconds(server.pid)
        said = _all_are(load.run(plan), status)
        after, own = cpu_seconds_by_process(), processes.cpu_seconds(server.pid) - own
        used = {service: after[service] - before[service] for service in before} | {"gateway": own}
        measured.loads.append(said)
        measured.cpu_us.append({service: seconds / said.answers * 1e6 for service, seconds in used.items()})
        self._progress.advance(self._task)

    def _completed(self, folder: Path) -> dict[str, str]:
        """An image that a worker has processed, which then has gone."""
        with httpx.Client(base_url=self._system.gateway_url, mounts=DIRECT, headers=self._system.as_user(), timeout=60) as http:
            worker = self._system.start_worker()
            image_id = http.post(IMAGES, files={"image": jpeg(photo(64, 48))}, data={"priority": "high"}).json()["id"]
            path = f"{IMAGES}/{image_id}/status"
            answer = wait_until(lambda: _if_completed(http.get(path)), "a worker to process an image", 120)
            worker.send(signal.SIGTERM)
            worker.wait()
        return {"id": image_id, "etag": answer.headers["ETag"]}

    def _copies(self, image_id: str) -> list[list[str]]:
        """Rows of more images, for each turn some, which nobody has asked for yet."""
        rows = self._effort.rows

        async def copy() -> list[str]:
            connection = await asyncpg.connect(self._system.environment["POSTGRES_URL"])
            try:
                copied = await connection.fetch(
                    "INSERT INTO images SELECT (jsonb_populate_record(images, jsonb_build_object('id', gen_random_uuid()))).*"
                    " FROM images, generate_series(1, $2) WHERE id = $1 RETURNING id",
                    image_id,
                    rows * self._effort.turns,
                )
                await connection.execute("ANALYZE images")
            finally:
                await connection.close()
            return [str(row["id"]) for row in copied]

        ids = asyncio.run(copy())
        return [ids[start : start + rows] for start in range(0, len(ids), rows)]


def _if_completed(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.json()["status"] == "completed" else None


def _all_are(said: Load, status: int) -> Load:
    """A benchmark of refusals would be a fast one."""
    if list(said.statuses) != [str(status)]:
        raise RuntimeError(f"answers other than {status}: {said.statuses}")
    return said


def _form(path: Path, picture: bytes) -> str:
    """A file with the body of an upload."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo"\r\n\r\n'
    path.write_bytes(head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode())
    return str(path)


def _form_headers() -> dict[str, str]:
    return {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def _of_size(size_bytes: int) -> bytes:
    """A JPEG, with as much behind its end as some cameras put there."""
    picture = jpeg(photo(640, 480))
    return picture + bytes(size_bytes - len(picture))


def _row(name: str, one: Measured) -> dict[str, Any]:
    return {
        "case": name,
        "contender": "empty route" if name == EMPTY_ROUTE else "gateway",
        "per_second": one.median(lambda said: said.per_second),
        "per_cpu_second": one.per_cpu_second,
        "p50_ms": one.median(lambda said: said.p50_ms),
        "p99_ms": one.median(lambda said: said.p99_ms),
        "client_cores": one.median(lambda said: said.client_cpu_seconds / said.seconds),
        "cpu_us": {service: one.cpu(service) for service in one.cpu_us[0]},
    }


def _findings(measured: dict[str, Measured], crowd: Crowd, effort: Effort) -> list[Table | str]:
    rates = Table(title=f"gateway, {CONNECTIONS} connections", title_justify="left")
    for name in ("", "/s", "/CPU s", "of empty", "p50 ms", "p99 ms", "client cores"):
        rates.add_column(name, justify="right" if name else "left")
    empty = measured[EMPTY_ROUTE].per_cpu_second
    for name, one in measured.items():
        row = _row(name, one)
        share = "" if name.startswith("upload") else f"{one.per_cpu_second / empty:.0%}"
        each = [f"{row[key]:.0f}" for key in ("per_second", "per_cpu_second")]
        times = [f"{row[key]:.1f}" for key in ("p50_ms", "p99_ms")]
        rates.add_row(name, *each, share, *times, f"{row['client_cores']:.2f}")
    costs = Table(title="CPU µs a request", title_justify="left")
    services = ("gateway", "postgres", "rabbitmq", "redis", "minio")
    for name in ("", *services):
        costs.add_column(name, justify="right" if name else "left")
    for name, one in measured.items():
        costs.add_row(name, *(f"{one.cpu(service):.0f}" for service in services))
    memory = (
        f"{effort.crowd} uploads of {effort.crowd_bytes >> 20} MiB at once, in {crowd.load.seconds:.0f} s: the gateway's memory "
        f"was {crowd.before / 1e6:.0f} MB before, {crowd.peak / 1e6:.0f} MB at its peak, {crowd.after / 1e6:.0f} MB after"
    )
    return [rates, costs, memory]
