"""Another set of real services beside the usual one (`scripts/services --beside`), to be stopped, killed, paused and wiped.

There may be a few sets on a machine; who finds none free waits. All methods block until what they ask for has happened.
"""

import fcntl
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.polling import wait_until

ROOT = Path(__file__).parents[2]
NUMBERS = (1, 2, 3)
# Of the usual set; those of another are higher by its number times this.
USUAL_PORTS = {"postgres": 5432, "redis": 6379, "rabbitmq": 5672, "minio": 9000, "console": 15672, "epmd": 4369}
SHIFT = 1000
# Debian's wrapper on PATH changes to the user rabbitmq, who may not read the cookie.
CTL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")


@dataclass(frozen=True)
class Set:
    """What `scripts/services` knows a set by. `state`: where it keeps data, logs and the numbers of its processes."""

    number: int

    @property
    def state(self) -> Path:
        standard = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "image-processor")
        name = "services-beside" + (f"-{self.number}" if self.number > 1 else "")
        return Path(os.environ.get("IMAGE_PROCESSOR_CACHE") or standard, name)

    def port(self, name: str) -> int:
        return USUAL_PORTS[name] + self.number * SHIFT

    def do(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [ROOT / "scripts" / "services", command, f"--beside={self.number}", *arguments],
            capture_output=True,
            text=True,
            timeout=400,
            start_new_session=True,  # Ctrl-C is for us, who then stop everything in good order
        )
        assert done.returncode == 0, f"scripts/services {command} {arguments}: {done.stdout}{done.stderr}"


@dataclass(frozen=True)
class Server:
    """One of them. `url`: as the settings want it, of the database, virtual host or number that is there from the start."""

    set: Set
    name: str
    url: str

    @property
    def port(self) -> int:
        return self.set.port(self.name)

    @property
    def log(self) -> Path:
        return self.set.state / self.name / "log"

    @property
    def is_up(self) -> bool:
        return bool(self._processes())

    @property
    def pid(self) -> int:
        return int((self.set.state / self.name / "pid").read_text().split()[0])

    def start(self) -> None:
        """Until it answers."""
        self.set.do("up", self.name)

    def stop(self) -> None:
        """In good order."""
        self.set.do("down", self.name)

    def kill(self) -> None:
        """All its processes at once."""
        self._send(signal.SIGKILL)
        # A process of many threads counts as ended before the last of them has let go of its sockets.
        wait_until(lambda: not self._processes() and not self._listens(), f"{self.name} to end", 20)

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def wipe(self) -> None:
        """Its data are gone. Only while it is down."""
        assert not self.is_up, f"{self.name} is up"
        self.set.do("down", "--purge", self.name)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _send(self, number: signal.Signals) -> None:
        processes = self._processes()
        assert processes, f"{self.name} is not up"
        for process in processes:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue  # it was just ending

    def _processes(self) -> list[int]:
        """Those of the session that the remembered process leads; none where another process has its number now."""
        try:
            leader, started = (self.set.state / self.name / "pid").read_text().split()[:2]
        except (FileNotFoundError, ValueError):
            return []
        found = {int(path.name): _stat(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
        running = {process: stat for process, stat in found.items() if stat is not None and stat[0] not in "ZX"}
        first = running.get(int(leader))
        if first is not None and first[2] != started:
            return []
        return [process for process, stat in running.items() if stat[1] == leader]


def _stat(process: Path) -> tuple[str, str, str] | None:
    """State, session and start time, as scripts/lib/services-process.sh reads them."""
    try:
        fields = (process / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return fields[0], fields[3], fields[19]


@dataclass(frozen=True)
class RabbitMqServer(Server):
    @property
    def console_url(self) -> str:
        return f"http://127.0.0.1:{self.set.port('console')}"

    def ctl(self, *arguments: str) -> str:
        """rabbitmqctl: what only somebody on the broker's own machine may do."""
        environment = os.environ | {"HOME": str(self.set.state / "rabbitmq"), "ERL_EPMD_PORT": str(self.set.port("epmd"))}
        program = CTL if CTL.exists() else "rabbitmqctl"
        done = subprocess.run(
            [program, "-q", "-n", "image-processor@localhost", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            start_new_session=True,
        )
        assert done.returncode == 0, f"rabbitmqctl {arguments}: {done.stdout}{done.stderr}"
        return done.stdout


@dataclass(frozen=True)
class Servers:
    postgres: Server
    redis: Server
    rabbitmq: RabbitMqServer
    minio: Server

    @property
    def all(self) -> tuple[Server, ...]:
        return (self.postgres, self.redis, self.rabbitmq, self.minio)

    def named(self, name: str) -> Server:
        return next(server for server in self.all if server.name == name)


@contextmanager
def running_servers() -> Iterator[Servers]:
    """All up, with nothing in them; all stopped at the end, whatever happened to them. Their data and logs stay until the next
    start."""
    with _free_set() as taken:
        at = {name: f"127.0.0.1:{taken.port(name)}" for name in USUAL_PORTS}
        servers = Servers(
            postgres=Server(taken, "postgres", f"postgresql://image_processor:image_processor@{at['postgres']}/image_processor"),
            redis=Server(taken, "redis", f"redis://{at['redis']}/0"),
            rabbitmq=RabbitMqServer(taken, "rabbitmq", f"amqp://guest:guest@{at['rabbitmq']}/"),
            minio=Server(taken, "minio", at["minio"]),
        )
        _stop(servers, "--purge")
        try:
            taken.do("up")
            yield servers
        finally:
            _stop(servers)


@contextmanager
def _free_set() -> Iterator[Set]:
    """Held by a lock, which ends with the process that has it."""
    with ExitStack() as locks:
        for number in itertools.cycle(NUMBERS):
            one = Set(number)
            one.state.mkdir(parents=True, exist_ok=True)
            lock = locks.enter_context((one.state / ".taken").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                time.sleep(0.5)
                continue
            yield one
            return


def _stop(servers: Servers, *how: str) -> None:
    """A paused one would not hear that it is to stop."""
    for server in servers.all:
        if server.is_up:
            server.resume()
    servers.postgres.set.do("down", *how)
