"""CPU time and memory of processes, from /proc, each with all the processes that it has started. Linux alone."""

import os
from collections import defaultdict
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
PROC = Path("/proc")
_LISTENING = "0A"


def cpu_seconds(*roots: int) -> float:
    """Of these processes and all below them so far, of those that have ended, too."""
    return sum(_ticks(pid) for pid in tree(*roots)) / TICKS_PER_SECOND


def rss_bytes(*roots: int) -> int:
    """Resident now. What several of them share counts as often as they are."""
    return sum(_resident_pages(pid) for pid in tree(*roots)) * PAGE_BYTES


def tree(*roots: int) -> set[int]:
    """These processes and all below them."""
    children = defaultdict(list)
    for pid in _all():
        fields = _stat(pid)
        if fields is not None:
            children[int(fields[1])].append(pid)
    found, new = set[int](), list(roots)
    while new:
        pid = new.pop()
        if pid not in found:
            found.add(pid)
            new += children[pid]
    return found


def command(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def listening(port: int) -> int | None:
    """→ the process that accepts connections on this port of this machine; None where there is none that this user may look at.
    Where several share the socket, the one that has been there first."""
    wanted = set()
    for table in ("tcp", "tcp6"):
        for line in (PROC / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                wanted.add(f"socket:[{fields[9]}]")
    return min((pid for pid in _all() if wanted & _links(pid)), default=None)


def _all() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """What follows the name in /proc/PID/stat: the state, the parent, … (proc_pid_stat(5))."""
    try:
        return (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
    except OSError:
        return None


def _ticks(pid: int) -> int:
    """utime, stime, and both of the children that have ended and were waited for."""
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15]) if fields is not None else 0


def _resident_pages(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) if fields is not None else 0


def _links(pid: int) -> set[str]:
    links = set()
    try:
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            links.add(str(descriptor.readlink()))
    except OSError:
        pass
    return links
