"""What the benchmarks read from /proc about processes that work, start others and listen."""

import socket
import subprocess
import sys

import pytest

from bench import processes

# More than is asked for by what the kernel keeps to itself: it counts user and system time of each in whole ticks of 10 ms.
BUSY = "import time\nwhile time.process_time() < 0.35: pass\n"
# Says so when its child has worked, and waits for the end of its input.
PARENT = f"""import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {BUSY!r} + sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
if "read" not in sys.argv[1]:
    child.wait()
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("then", "processes_left"),
    [("print(flush=True); import sys; sys.stdin.read()", 2), ("print(flush=True)", 1)],
    ids=["runs", "has ended"],
)
def test_a_child_s_cpu_time_counts_while_it_runs_and_when_it_has_ended(then: str, processes_left: int) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, then], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdout.readline()

        below = processes.tree(parent.pid)
        assert len(below) == processes_left
        assert processes.cpu_seconds(parent.pid) >= 0.3
        assert processes.rss_bytes(parent.pid) >= processes_left * 1_000_000


def test_the_process_behind_a_port_is_found() -> None:
    program = (
        "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin
        assert server.stdout
        port = int(server.stdout.readline())

        assert processes.listening(port) == server.pid
        server.stdin.close()

    with socket.create_server(("127.0.0.1", port)):
        pass  # nobody has it any more
    assert processes.listening(port) is None
