"""Secrets are changed while uploads go on, as docs/security.md says: second accounts, a rolling restart, the first ones dropped.

A client has two gateways behind one address, as behind a load balancer: where one refuses a connection it is given the other.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from common.settings import Settings
from tests.accounts import Installation, installation
from tests.conftest import require_services
from tests.e2e.stack import Process, Stack, free_port
from tests.pictures import photo_jpeg
from tests.polling import wait_until

PAUSE_SECONDS = 0.2


class Clients:
    """Upload and read without a pause, from `start` to `stop`. `refused`: what a client would have called a failure."""

    def __init__(self, urls: list[str], user: dict[str, str]) -> None:
        self._urls, self._user = cycle(urls), user
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self.accepted: list[str] = []
        self.refused: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)

    def go_on_for(self, count: int) -> None:
        """Until so many more were accepted."""
        wanted = len(self.accepted) + count
        wait_until(lambda: len(self.accepted) >= wanted or self.refused, f"{count} more uploads")

    def ask(self, method: str, path: str, **arguments: object) -> httpx.Response:
        """The next gateway; where it takes no connection, or is ending and drops it, the other one."""
        for _ in range(2):
            try:
                return httpx.request(method, f"{next(self._urls)}{path}", timeout=30, trust_env=False, **arguments)  # type: ignore[arg-type]  # passed on
            except httpx.TransportError as error:
                failure = error
        raise failure

    def _go_on(self) -> None:
        picture = photo_jpeg(320, 240)
        while not self._stopping.is_set():
            headers = self._user | {"Idempotency-Key": str(uuid4())}
            try:
                answer = self.ask("POST", "/api/v1/images", headers=headers, files={"image": ("a.jpg", picture)})
                if answer.status_code != 202:
                    self.refused.append(f"{answer.status_code}: {answer.text}")
                    continue
                self.accepted.append(answer.json()["id"])
                answer = self.ask("GET", f"/api/v1/images/{self.accepted[-1]}", headers=self._user)
                if answer.status_code != 200:
                    self.refused.append(f"{answer.status_code}: {answer.text}")
            except httpx.TransportError as error:
                self.refused.append(repr(error))
            self._stopping.wait(PAUSE_SECONDS)


class Program:
    """A gateway or a worker that is ended and started again with other secrets."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self.port = free_port()
        self._process: Process | None = None

    def start(self, environment: dict[str, str]) -> None:
        ports = {"GATEWAY_PORT": str(self.port), "WORKER_PORT": str(self.port), "WORKER_PROCESSES": "1"}
        self._process = Process([self.name], environment | ports, self._folder / f"{self.name}-{self.port}.log")

    def wait(self) -> None:
        """Until it does its work."""
        assert self._process is not None
        wait_until(self._is_ready, f"{self.name}; its log: {self._process.log}", 60)

    def end(self) -> None:
        """In good order."""
        assert self._process is not None
        self._process.send(signal.SIGTERM)
        assert self._process.wait() == 0, self._process.log.read_text()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=5, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and answer.json()["status"] == "ok"


@pytest.fixture
def installed(settings: Settings) -> Iterator[Installation]:
    require_services(settings)
    with installation(settings) as made:
        yield made


def test_every_secret_is_changed_and_no_upload_is_lost_or_refused(
    installed: Installation, settings: Settings, tmp_path: Path
) -> None:
    # given two gateways and two workers with the first accounts
    assert installed.run(installed.administrator, "accounts")[0] == 0
    assert installed.run(installed.owner, "migrate")[0] == 0
    first, second = installed.programs, installed.environment(f"{installed.name}_second", "second-password")
    halves = [[Program(name, tmp_path) for name in ("gateway", "worker")] for _ in range(2)]
    programs = [program for half in halves for program in half]
    user = Stack(tmp_path, {}, settings.issuer).as_user()
    clients = Clients([f"http://127.0.0.1:{program.port}" for program in programs if program.name == "gateway"], user)
    with ExitStack() as running:
        for program in programs:
            running.callback(program.kill)
            program.start(first)
        for program in programs:
            program.wait()
        running.callback(clients.stop)
        clients.start()
        clients.go_on_for(5)

        # when there are second ones, one gateway and worker after the other are given them, and the first are dropped
        status, said = installed.run(installed.administrator | second, "accounts")
        assert status == 0, said
        for half in halves:
            for program in half:
                program.end()
                program.start(second)
            for program in half:
                program.wait()
            clients.go_on_for(3)
        status, said = installed.run(installed.administrator | second, "accounts", "--remove", f"{installed.name}_app")
        assert (status, said.count("is gone")) == (0, 4), said
        clients.go_on_for(5)
        clients.stop()

        # then nobody was sent away, and everything is done
        assert clients.refused == []
        for image_id in clients.accepted:
            wait_until(lambda one=image_id: _is_completed(clients, user, one), f"{image_id} to be completed")  # type: ignore[misc]  # mypy knows no type for a lambda's default
    # and the first accounts are worth nothing
    assert set(installed.findings(first)) >= {"database", "cache", "queue", "object store"}


def _is_completed(clients: Clients, user: dict[str, str], image_id: str) -> bool:
    answer = clients.ask("GET", f"/api/v1/images/{image_id}", headers=user)
    assert answer.status_code == 200, answer.text
    image = answer.json()
    assert image["status"] != "failed", image
    return bool(image["status"] == "completed")
