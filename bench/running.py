"""The service as it is run: real gateways and workers over the real services, on names of their own, and what they use of the CPU.

Leaving `running` ends every process that it has started, and removes all that they have stored, whatever ended it: Ctrl-C and
SIGTERM, too. Not for use in a running event loop.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import httpx

from bench import processes
from bench.services import own_names, server_processes
from common.loopback import DIRECT
from common.settings import load
from tests.e2e.stack import PROGRAM, Process, free_port
from tests.polling import wait_until

# Of the demo realm's, which are good for a few minutes.
TOKEN_SECONDS = 60
START_SECONDS = 60
# What benchmarks would else stumble over: one caller sends all there is.
FOR_BENCHMARKS = {"RATE_LIMIT": "off", "LOG_FORMAT": "json", "LOG_LEVEL": "warning"}


class Program(Process):
    """A gateway or a worker that has answered on its own `url`."""

    def __init__(self, kind: Literal["gateway", "worker"], environment: dict[str, str], log: Path) -> None:
        port = free_port()
        self.kind = kind
        self.url = f"http://127.0.0.1:{port}"
        super().__init__([kind], environment | {f"{kind.upper()}_PORT": str(port)}, log)


class Running:
    """`settings`: what the programs were started with."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.settings = load(**{name.lower(): value for name, value in environment.items()})
        self.gateways: list[Program] = []
        self.workers: list[Program] = []
        self._http = httpx.Client(mounts=DIRECT, timeout=30)
        self._token: tuple[float, str] | None = None

    @property
    def gateway_url(self) -> str:
        return self.gateways[0].url

    def start_gateway(self) -> Program:
        return self._start("gateway", self.gateways)

    def start_worker(self) -> Program:
        """Returns once it receives messages."""
        return self._start("worker", self.workers)

    def as_user(self) -> dict[str, str]:
        """Headers with a token of Keycloak's that is good for a while."""
        if self._token is None or time.monotonic() - self._token[0] > TOKEN_SECONDS:
            form = {"grant_type": "password", "client_id": self.settings.keycloak_client_id}
            form |= {"username": "user", "password": "password"}
            answer = self._http.post(f"{self.settings.issuer}/protocol/openid-connect/token", data=form).raise_for_status()
            self._token = (time.monotonic(), answer.json()["access_token"])
        return {"Authorization": f"Bearer {self._token[1]}"}

    def stop(self) -> None:
        """All at once, in good order, and what does not end so by force."""
        programs = [*self.gateways, *self.workers]
        for program in programs:
            if program.is_running():
                program.send(signal.SIGTERM)
        for program in programs:
            with suppress(Exception):
                program.wait(15)
            program.kill()
        self._http.close()

    def _start(self, kind: Literal["gateway", "worker"], among: list[Program]) -> Program:
        program = Program(kind, self.environment, self.folder / f"{kind}-{len(among)}.log")
        among.append(program)

        def is_ready() -> bool:
            if not program.is_running():
                raise RuntimeError(f"the {kind} ended while it started:\n{program.log.read_text()[-2000:]}")
            try:
                answer = self._http.get(f"{program.url}/health/ready")
            except httpx.TransportError:
                return False
            return answer.is_success and bool(answer.json()["status"] == "ok")

        wait_until(is_ready, f"the {kind} to be ready; its log: {program.log}", START_SECONDS)
        return program


@contextmanager
def running(folder: Path, *, gateways: int = 1, workers: int = 1, **settings: Any) -> Iterator[Running]:
    """`settings`: by the names that they have in Settings. Logs go to `folder`. Raises NotRunning where a service is not."""
    with stopped_by_signals(), own_names(load()) as names:
        environment = FOR_BENCHMARKS | names | {name.upper(): str(value) for name, value in settings.items()}
        system = Running(folder, environment)
        try:
            for _ in range(gateways):
                system.start_gateway()
            for _ in range(workers):
                system.start_worker()
            yield system
        finally:
            system.stop()


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends this program as Ctrl-C does, so that it takes with it what it has started."""

    def stop(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cpu_seconds_by_process() -> dict[str, float]:
    """So far: of all gateways and of all workers (with their children) that this process has started and that still run, and of
    each service. Raises NotRunning."""
    below = processes.tree(os.getpid())
    by_kind = {kind: [pid for pid in below if processes.command(pid)[1:3] == [PROGRAM, kind]] for kind in ("gateway", "worker")}
    used = {kind: processes.cpu_seconds(*pids) for kind, pids in by_kind.items()}
    return used | {name: processes.cpu_seconds(pid) for name, pid in server_processes(load()).items()}


def rss_bytes(process: Process) -> int:
    """With its children; what they share counts for each."""
    return processes.rss_bytes(process.pid)
