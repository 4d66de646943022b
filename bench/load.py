"""A client that asks as fast as it is answered, on a number of connections at once; a process of its own.

Requests are bytes made before the first is sent, and answers are read by httptools, so that the client takes a fraction of what the
server takes; how much is in what it says. It counts answers by status and keeps every latency.
"""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

import httptools
import uvloop

# For the last answers.
ANSWER_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`paths` are asked for in turn, over and over, for so many seconds or so many requests, whichever ends first. `body`: a
    file."""

    url: str
    paths: list[str]
    headers: dict[str, str]
    connections: int
    seconds: float
    requests: int | None = None
    method: str = "GET"
    body: str | None = None


@dataclass(frozen=True, kw_only=True)
class Load:
    """What became of a plan. Latencies in milliseconds, of answers that came before the time was over; CPU of the client."""

    statuses: dict[str, int]
    seconds: float
    p50_ms: float
    p99_ms: float
    client_cpu_seconds: float

    @property
    def answers(self) -> int:
        return sum(self.statuses.values())

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


@contextmanager
def client(plan: Plan) -> Iterator[subprocess.Popen[str]]:
    """Asks while it is open; ended with it at the latest."""
    process = subprocess.Popen([sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        stdin = cast(IO[str], process.stdin)
        stdin.write(json.dumps(asdict(plan)))
        stdin.close()
        process.stdin = None
        yield process
    finally:
        process.kill()
        process.wait()


def said_by(process: subprocess.Popen[str]) -> Load:
    """At its end."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the client failed")
    return Load(**json.loads(said))


def run(plan: Plan) -> Load:
    with client(plan) as process:
        return said_by(process)


class _Asking:
    """What all connections share."""

    def __init__(self, plan: Plan) -> None:
        parts = urlsplit(plan.url)
        body = b""
        if plan.body is not None:
            body = Path(plan.body).read_bytes()
        headers = {"Host": parts.netloc, **plan.headers} | ({"Content-Length": str(len(body))} if plan.body else {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        heads = [f"{plan.method} {path} HTTP/1.1\r\n{lines}\r\n".encode() for path in plan.paths]
        self.body = body
        self._heads = itertools.cycle(heads)
        self._left: Iterator[int] = iter(range(plan.requests)) if plan.requests else itertools.count()
        self._ends_at = time.perf_counter() + plan.seconds
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []

    def next_head(self) -> bytes | None:
        if time.perf_counter() >= self._ends_at or next(self._left, None) is None:
            return None
        return next(self._heads)


class _Connection(asyncio.Protocol):
    def __init__(self, asking: _Asking) -> None:
        self._asking = asking
        self._sent_at = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server closed a connection"))

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._asking.latencies.append(time.perf_counter() - self._sent_at)
        self._asking.statuses[self._parser.get_status_code()] += 1
        self._parser = httptools.HttpResponseParser(self)
        # Not out of the old parser, which is still at work.
        asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        head = self._asking.next_head()
        if head is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(head)
        if self._asking.body:
            self._transport.write(self._asking.body)


async def _run(plan: Plan) -> Load:
    loop, parts = asyncio.get_running_loop(), urlsplit(plan.url)
    asking = _Asking(plan)
    began, used = time.perf_counter(), time.process_time()
    address = parts.hostname or "", parts.port or 80
    connected = [await loop.create_connection(lambda: _Connection(asking), *address) for _ in range(plan.connections)]
    async with asyncio.timeout(plan.seconds + ANSWER_SECONDS):
        await asyncio.gather(*(connection.done for _, connection in connected))
    seconds, used = time.perf_counter() - began, time.process_time() - used
    latencies = sorted(asking.latencies)
    return Load(
        statuses={str(status): count for status, count in asking.statuses.items()},
        seconds=seconds,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1000,
        client_cpu_seconds=used,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_run(Plan(**json.load(sys.stdin)))))))  # noqa: T201 - its answer
