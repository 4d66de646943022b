"""Gateways and workers as real processes whose services are reached through proxies, so that each can be killed, paused or cut off.

Leaving `running_system` ends every process it started. Its services are the caller's; in them it has a database and a virtual host
of its own, and the whole of the cache and the object store.
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import redis
from prometheus_client.parser import text_string_to_metric_families

from common.settings import Settings, load
from tests.chaos.inventory import DEAD_LETTERS, Inventory
from tests.chaos.ledger import Accepted, Ledger, Row, judge, why_stuck
from tests.chaos.proxy import Proxy
from tests.chaos.samples import Sample
from tests.chaos.servers import Servers
from tests.databases import execute
from tests.e2e.stack import PROGRAM, Process
from tests.polling import wait_until

# Everything that a fault makes anybody wait for is over in seconds.
SHORT = {
    "LEASE_SECONDS": "3",
    "STALE_SECONDS": "5",
    "DISPATCH_INTERVAL_SECONDS": "0.2",
    "SERVICE_TIMEOUT_SECONDS": "2",
    "SHUTDOWN_SECONDS": "10",
    "WORKER_PROCESSES": "1",
    "JWKS_REFRESH_SECONDS": "3",
    "JWKS_COOLDOWN_SECONDS": "1",
    "RATE_LIMIT": "1000000/minute",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
}
TOKEN_SECONDS = 120


class Program(Process):
    """A gateway or a worker on a port of its own, on which it can be started again. Its log goes on in the same file."""

    def __init__(self, kind: str, environment: dict[str, str], log: Path, program: Sequence[str] = (PROGRAM,)) -> None:
        self.kind = kind
        self.environment = environment
        self.port = int(environment[f"{kind.upper()}_PORT"])
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__([kind], environment, log, program)

    def start_again(self, program: Sequence[str] = (PROGRAM,)) -> None:
        super().__init__([self.kind], self.environment, self.log, program)

    def children(self) -> list[int]:
        """The processes it has started: of a worker, those that render."""
        found = Path(f"/proc/{self.pid}/task")
        try:
            return [int(child) for task in found.iterdir() for child in (task / "children").read_text().split()]
        except OSError:
            return []

    def renderers(self) -> list[int]:
        return [child for child in self.children() if b"spawn_main" in _command(child)]

    def resident_bytes(self) -> int:
        return sum(_resident_bytes(process) for process in (self.pid, *self.children()))

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


class System:
    """`proxies`: by service, `keycloak` too. `gateways` and `workers` stay the same ones when they are started again."""

    def __init__(
        self, folder: Path, servers: Servers, proxies: dict[str, Proxy], environment: dict[str, str], settings: Settings
    ) -> None:
        self.folder = folder
        self.servers = servers
        self.proxies = proxies
        self.environment = environment
        self.settings = settings
        self.vhost = urlsplit(settings.rabbitmq_url.get_secret_value()).path[1:]
        self.inventory = Inventory(servers, settings, self.vhost)
        self.gateways: list[Program] = []
        self.workers: list[Program] = []
        self.ledger = Ledger(folder / "accepted.jsonl")
        self._http = httpx.Client(timeout=30, trust_env=False)
        self._token: tuple[float, str] | None = None

    @property
    def urls(self) -> list[str]:
        return [gateway.url for gateway in self.gateways]

    def start_gateway(self, program: Sequence[str] = (PROGRAM,), **environment: str) -> Program:
        return self._start("gateway", self.gateways, program, environment)

    def start_worker(self, program: Sequence[str] = (PROGRAM,), **environment: str) -> Program:
        return self._start("worker", self.workers, program, environment)

    def _start(self, kind: str, among: list[Program], program: Sequence[str], environment: dict[str, str]) -> Program:
        own = self.environment | {f"{kind.upper()}_PORT": str(_lasting_port())} | environment
        started = Program(kind, own, self.folder / f"{kind}-{len(among)}.log", program)
        among.append(started)
        self.wait_for(started)
        return started

    def restart(self, program: Program) -> None:
        """Whatever has become of it: afterwards it runs and answers."""
        if program.is_running():
            program.send(signal.SIGCONT)
        program.kill()
        program.start_again()
        self.wait_for(program)

    def wait_for(self, program: Program) -> None:
        def answers() -> bool:
            assert program.is_running(), f"{program.kind} ended while it started: {program.log}"
            # A worker answers only once the database has.
            return program.answers() or (program.kind == "worker" and not self.servers.postgres.is_up)

        wait_until(answers, f"the {program.kind} to answer; its log: {program.log}", 60)

    def as_user(self) -> dict[str, str]:
        """A token of the real Keycloak, good for minutes to come."""
        now = time.monotonic()
        if self._token is None or now - self._token[0] > TOKEN_SECONDS:
            form = {"grant_type": "password", "client_id": "api-gateway-client", "username": "user", "password": "password"}
            answer = self._http.post(f"{self.settings.issuer}/protocol/openid-connect/token", data=form)
            assert answer.status_code == 200, answer.text
            self._token = (now, answer.json()["access_token"])
        return {"Authorization": f"Bearer {self._token[1]}"}

    def upload(
        self, picture: bytes, *, gateway: int = 0, key: str | None = None, name: str = "cat.jpg", **form: str
    ) -> httpx.Response:
        headers = self.as_user() | ({"Idempotency-Key": key} if key else {})
        return self._http.post(
            f"{self.gateways[gateway].url}/api/v1/upload", headers=headers, files={"image": (name, picture)}, data=form
        )

    def accept(self, sample: Sample, *, gateway: int = 0, key: str | None = None, **form: str) -> Accepted:
        """An upload that must be taken; `audit` will ask what became of it."""
        name = f"{len(self.ledger.accepted)}.jpg"
        answer = self.upload(sample.content, gateway=gateway, key=key, name=name, processing=sample.processing, **form)
        assert answer.status_code == 202, answer.text
        return self.ledger.accept(answer.json()["id"], name, sample)

    def read(self, path: str, *, gateway: int = 0, **headers: str) -> httpx.Response:
        return self._http.get(self.gateways[gateway].url + path, headers=self.as_user() | headers)

    def metric(self, program: Program, name: str, **labels: str) -> float:
        """The sum of the samples of that name which have these labels among theirs."""
        text = self._http.get(f"{program.url}/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def audit(self, within_seconds: float) -> None:
        """Everything accepted is final in that time, and as its picture demands; and nothing is left that should not be."""
        rows = wait_until_settled(self, within_seconds)
        found = judge(list(self.ledger.accepted.values()), rows, self.ledger.wrong_answers)
        problems = {"lost": found.lost, "stuck": found.stuck, "wrong": found.wrong, "duplicates": found.duplicates}
        assert not any(problems.values()), f"{problems}; logs in {self.folder}"
        self.inventory.sweep()
        assert self.inventory.sweep().superfluous == []
        for entry in self.ledger.accepted.values():
            if (wanted := entry.sample.result) is not None and entry.image_id in rows:
                assert self.read(f"/api/v1/images/{entry.image_id}/content").headers["ETag"] == f'"{wanted.sha256}"'
        wait_until(lambda: self.waiting_messages() == 0, "the queues to be empty", 20)

    def add_vhost(self) -> None:
        """Its virtual host, which a broker does not have whose data are gone."""
        self.servers.rabbitmq.ctl("add_vhost", self.vhost)
        self.servers.rabbitmq.ctl("set_permissions", "-p", self.vhost, "guest", ".*", ".*", ".*")

    def waiting_messages(self) -> int:
        """Jobs, not dead letters."""
        return sum(count for queue, count in self.inventory.messages().items() if queue != DEAD_LETTERS)

    def close(self) -> None:
        for program in (*self.gateways, *self.workers):
            if program.is_running():
                program.send(signal.SIGCONT)
            program.kill()
        self.ledger.close()
        self._http.close()


def wait_until_settled(system: System, seconds: float) -> dict[str, Row]:
    """→ the rows, once none is left to be seen to, or when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        rows = system.inventory.rows()
        promised = system.ledger.accepted
        if not any(why_stuck(row, is_promised=image_id in promised) for image_id, row in rows.items()):
            return rows
        if time.monotonic() > deadline:
            return rows
        time.sleep(0.5)


@contextmanager
def running_system(folder: Path, servers: Servers, *, gateways: int = 1, workers: int = 1, **settings: str) -> Iterator[System]:
    """`settings`: more of them, in capitals as in the environment. The usual Keycloak is asked for tokens."""
    usual = load()
    name = f"chaos_{uuid4().hex[:12]}"
    with ExitStack() as stack:
        keycloak = urlsplit(usual.keycloak_url)
        upstream = {server.name: server.port for server in servers.all} | {"keycloak": keycloak.port or 8080}
        proxies = {service: stack.enter_context(Proxy(port)) for service, port in upstream.items()}
        direct = {
            "postgres_url": servers.postgres.url.rpartition("/")[0] + f"/{name}",
            "redis_url": servers.redis.url,
            "rabbitmq_url": servers.rabbitmq.url + name,
            "minio_endpoint": servers.minio.url,
        }
        environment = {
            variable.upper(): url.replace(f":{server.port}", f":{proxies[server.name].port}")
            for (variable, url), server in zip(direct.items(), servers.all, strict=True)
        }
        environment |= {"KEYCLOAK_URL": f"http://127.0.0.1:{proxies['keycloak'].port}", "KEYCLOAK_PUBLIC_URL": usual.keycloak_url}
        system = System(folder, servers, proxies, SHORT | environment | settings, load(**direct))
        stack.callback(system.close)
        _prepare(system, name)
        for _ in range(gateways):
            system.start_gateway()
        for _ in range(workers):
            system.start_worker()
        yield system


def _prepare(system: System, name: str) -> None:
    """A migrated database and a virtual host of that name; nothing in the cache and the object store."""
    servers = system.servers
    asyncio.run(execute(servers.postgres.url, f"CREATE DATABASE {name}"))
    direct = {"POSTGRES_URL": system.settings.postgres_url.get_secret_value()}
    subprocess.run([PROGRAM, "migrate"], env=os.environ | direct, check=True, timeout=60, capture_output=True)
    system.add_vhost()
    with redis.Redis.from_url(servers.redis.url) as cache:
        cache.flushall()
    system.inventory.empty()


def _lasting_port() -> int:
    """One that no connection is given while nobody listens there: below those that Linux hands out."""
    while True:
        port = random.randrange(30_000, 32_700)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _resident_bytes(process: int) -> int:
    try:
        line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) * 1024


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
