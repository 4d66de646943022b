"""The metrics of several processes that are one gateway: whichever of them is asked answers for all.

The values are in files of one folder, a set for each *place* and not for each process: whoever follows a process that died goes on
with its counters, so that they never go back and no files pile up. Only one process at a time may have a place. There are neither
exemplars nor `_created` series, and nothing of Python's garbage collector: the library cannot share them.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client import PLATFORM_COLLECTOR, REGISTRY, CollectorRegistry, ProcessCollector, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

# The library's own variable: where it is set, metrics are shared.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# By the library's names of the files. More than all series of a gateway take.
RESERVED_BYTES = {"counter": 1 << 20, "histogram": 1 << 20, "gauge_max": 1 << 16, "gauge_livesum": 1 << 16}
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_MERGED: dict[str, Callable[[list[float]], float]] = {
    "process_start_time_seconds": min,
    "process_open_fds": max,
    "process_max_fds": min,
}
# How often to look again where a process ended while all were looked at.
_LOOKS = 5


def share(folder: Path, place: int) -> None:
    """Has this process keep its metrics there. Before the first one is made, which is when `common.telemetry` is loaded."""
    for kind, size in RESERVED_BYTES.items():
        with (folder / f"{kind}_{place}.db").open("ab") as file:
            # What is written to memory that a full disk has no room for ends the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]  # the library's


def registry() -> CollectorRegistry:
    """What `/metrics` shows."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return REGISTRY
    shared = CollectorRegistry()
    MultiProcessCollector(shared, folder)  # type: ignore[no-untyped-call]  # the library's
    shared.register(PLATFORM_COLLECTOR)
    shared.register(_Processes(Path(folder)))
    return shared


class Roll:
    """Which processes there are, as marks in the folder: kept by their parent, and read by each of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """By the parent."""
        (self._folder / f"{os.getpid()}.parent").touch()

    def enter(self, pid: int) -> None:
        """Raises nothing, nor does the next one: a folder that cannot be written to is no reason to start or end a process."""
        with suppress(OSError):
            (self._folder / f"{pid}.child").touch()

    def strike(self, pid: int, place: int) -> None:
        """It has ended, and what it did at this moment with it."""
        with suppress(OSError):
            (self._folder / f"{pid}.child").unlink(missing_ok=True)
            mark_process_dead(place, str(self._folder))  # type: ignore[no-untyped-call]  # the library's

    def parent(self) -> int:
        """This very process where nobody keeps the roll, because the variable was set by hand."""
        return next((int(mark.stem) for mark in self._folder.glob("*.parent")), os.getpid())

    def children(self) -> list[int]:
        return [int(mark.stem) for mark in self._folder.glob("*.child")]


class _Processes(Collector):
    """What the library tells of one process (`process_…`), as sums over all of them; but the time of the start is the parent's, and
    of files the process with the most says how many it has and may have, as each has a limit of its own. In CPU time is that of
    processes that ended. Nothing elsewhere than on Linux."""

    def __init__(self, folder: Path) -> None:
        self._roll = Roll(folder)

    def collect(self) -> Iterable[Metric]:
        parent = self._roll.parent()
        for _ in range(_LOOKS):
            ended = _cpu_seconds_of_ended(parent)
            found = [_look(pid) for pid in (parent, *self._roll.children())]
            # Else one has ended meanwhile, and would be in both or in neither.
            if ended == _cpu_seconds_of_ended(parent):
                break
        values_of = defaultdict[str, list[float]](list)
        for process in found:
            for name, family in process.items():
                values_of[name] += [sample.value for sample in family.samples]
        for name, family in found[0].items():
            if name == "process_cpu_seconds":
                yield CounterMetricFamily(name, family.documentation, sum(values_of[name]) + ended)
            else:
                yield GaugeMetricFamily(name, family.documentation, _MERGED.get(name, sum)(values_of[name]))


def _look(pid: int) -> dict[str, Metric]:
    return {family.name: family for family in ProcessCollector(pid=lambda: pid, registry=None).collect()}


def _cpu_seconds_of_ended(parent: int) -> float:
    """Of its children that it has waited for (proc_pid_stat(5): cutime and cstime)."""
    try:
        fields = Path(f"/proc/{parent}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return (int(fields[13]) + int(fields[14])) / _TICKS_PER_SECOND
