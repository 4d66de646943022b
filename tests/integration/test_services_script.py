"""scripts/services as a program: what it says and refuses, and that it never takes another's process for one of its own.

Each test has a folder of its own for the state, so that services which run for other tests stay as they are.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/services"
NAMES = ["postgres", "redis", "rabbitmq", "minio", "keycloak"]


class Services:
    def __init__(self, cache: Path) -> None:
        self.state = cache / "services"
        self._environment = {**os.environ, "IMAGE_PROCESSOR_CACHE": str(cache)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(SCRIPT), *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60, check=False)

    def remember(self, name: str, text: str) -> None:
        (self.state / name).mkdir(parents=True)
        (self.state / name / "pid").write_text(text)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(tmp_path)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def started_at(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def this_boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_status_has_a_line_for_each_service_and_fails_when_one_is_down(services: Services) -> None:
    status = services.run("status", "--native")

    assert status.returncode == 1
    assert [line.split()[:2] for line in status.stdout.splitlines()] == [[name, "down"] for name in NAMES]


def test_down_with_nothing_up_is_no_error(services: Services) -> None:
    down = services.run("down", "--native", "--purge")

    assert down.returncode == 0
    assert down.stdout.count("was not running") == len(NAMES)


def test_a_port_of_somebody_else_is_refused(services: Services) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 6379))
            taken.listen()
        except OSError:
            pass  # whoever has it, with these services up the real Redis, is somebody else to this state folder

        up = services.run("up", "--native", "redis")

    assert up.returncode == 1
    assert "redis: port 6379 is taken" in up.stderr
    assert not (services.state / "redis/pid").exists()


@pytest.mark.parametrize("which", ["another start time", "another boot"])
def test_a_reused_pid_is_never_killed(services: Services, stranger: subprocess.Popen[bytes], which: str) -> None:
    started, boot = started_at(stranger.pid), this_boot()
    if which == "another boot":
        boot = "00000000-0000-0000-0000-000000000000"
    else:
        started = str(int(started) - 1)
    services.remember("redis", f"{stranger.pid} {started} {boot}\n")

    killed = services.run("kill", "--native", "redis")
    stopped = services.run("down", "--native", "redis")

    assert killed.returncode == 1
    assert "redis is not running" in killed.stderr
    assert stopped.returncode == 0
    assert stranger.poll() is None


def test_down_stops_the_very_process_that_was_started(services: Services, stranger: subprocess.Popen[bytes]) -> None:
    services.remember("redis", f"{stranger.pid} {started_at(stranger.pid)} {this_boot()}\n")

    stopped = services.run("down", "--native", "redis")

    assert stopped.returncode == 0
    assert stranger.wait(timeout=10) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["up", "mongo"], "unknown service mongo"),
        (["sideways"], "unknown command sideways"),
        (["up", "--fast"], "unknown option --fast"),
        (["kill"], "NAME"),
        (["up", "--purge"], "--purge"),
    ],
)
def test_a_wrong_command_line_is_one_line(services: Services, arguments: list[str], says: str) -> None:
    finished = services.run(*arguments)

    assert finished.returncode != 0
    assert says in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


def test_help_names_every_command(services: Services) -> None:
    text = services.run("--help").stdout

    for command in ("up", "down", "restart", "kill", "status"):
        assert f"  {command} " in text
