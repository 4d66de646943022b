"""How every peer in Python is measured: PROGRAM PICTURE RESULT COUNT STEPS → one JSON line. No dependencies."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

PICTURE, RESULT, COUNT, STEPS = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


def measured(work: Callable[[], object], version: str) -> None:
    """The first time does not count: it loads libraries and fills caches."""
    work()
    cpu, wall = [], []
    for _ in range(COUNT):
        cpu_before, wall_before = time.process_time(), time.perf_counter()
        work()
        cpu.append((time.process_time() - cpu_before) * 1000)
        wall.append((time.perf_counter() - wall_before) * 1000)
    # Not getrusage's, which counts what the process was before it became this program.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    rss = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    json.dump({"version": version, "cpu_ms": cpu, "wall_ms": wall, "rss_bytes": rss}, sys.stdout)
