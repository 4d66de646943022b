"""The command line with a watch over its event loop: what keeps the loop's thread from turning is written down as it happens.

    WATCHED=FILE python -m tests.integration.watched gateway

A line a finding. Neither needs a clock on the wall, so that a busy machine raises no alarm:

- `blocking`: a call that waits, or can, seen through the interpreter's audit hooks (PEP 578), with the place in this repository
  that it came from: sleeping, opening a file, looking up a name, connecting a socket that blocks, starting a process.
- `computing`: a callback that took more than CPU_SECONDS of the thread's own CPU time, with whose callback it was.

The loop is asyncio's own, whose callbacks can be watched, and not uvloop. Not looked at: imports, as a first use may load what it
needs; temporary files, whose opening waits for nothing but a folder of this machine; the collection of garbage, which would be
counted as whosever callback it happens in.
"""

import asyncio
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import uvloop

from cli.main import main

CPU_SECONDS = 0.03
ROOT = Path(__file__).parents[2]
TEMPORARY = f"{tempfile.gettempdir()}{os.sep}"
WAITING = ("time.sleep", "open", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.system", "os.posix_spawn")


class Watch:
    def __init__(self, findings: Path) -> None:
        # Opened once, so that writing a finding down is none.
        self._findings = os.open(findings, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._thread: int | None = None

    def run(self, callback: Callable[[], None], whose: Callable[[], str]) -> None:
        self._thread = threading.get_ident()
        before = time.thread_time()
        try:
            callback()
        finally:
            self._thread = None
            if time.thread_time() - before > CPU_SECONDS:
                self._note(f"computing {whose()}")

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if threading.get_ident() != self._thread or not _waits(event, arguments):
            return
        frames = _frames(sys._getframe(1))
        if not any("importlib" in frame.co_filename for frame in frames):
            ours = [frame for frame in frames if frame.co_filename.startswith(str(ROOT)) and ".venv" not in frame.co_filename]
            # The innermost one but the watch's own.
            place = next((frame for frame in ours if frame.co_filename != __file__), frames[-1])
            self._note(f"blocking {event} by {frames[0].co_qualname} in {place.co_qualname} ({Path(place.co_filename).name})")

    def _note(self, finding: str) -> None:
        os.write(self._findings, f"{finding}\n".encode())


def _waits(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "socket.connect":
        return bool(arguments[0].gettimeout() != 0)
    if event == "open" and str(arguments[0]).startswith(TEMPORARY):
        return False
    return event in WAITING


def _frames(frame: FrameType | None) -> list[CodeType]:
    frames = []
    while frame is not None:
        frames.append(frame.f_code)
        frame = frame.f_back
    return frames


def _owner(handle: Any) -> str:
    """The coroutine whose step it was, or the function."""
    task = getattr(handle._callback, "__self__", None)
    return str(getattr(task.get_coro(), "__qualname__", task)) if isinstance(task, asyncio.Task) else repr(handle._callback)


def watch(findings: Path) -> None:
    watched, run, sleep = Watch(findings), asyncio.Handle._run, time.sleep

    def run_watched(handle: Any) -> None:
        watched.run(partial(run, handle), partial(_owner, handle))

    def sleep_watched(seconds: float) -> None:
        # Python tells the hooks of it from version 3.13 on.
        watched.heard("time.sleep", (seconds,))
        sleep(seconds)

    def run_program(program: Coroutine[Any, Any, None]) -> None:
        asyncio.run(program)

    # Where every callback goes through; what every program of ours is run by.
    for module, name, replacement in (
        (asyncio.Handle, "_run", run_watched),
        (time, "sleep", sleep_watched),
        (uvloop, "run", run_program),
    ):
        setattr(module, name, replacement)
    sys.addaudithook(watched.heard)
    gc.disable()


if __name__ == "__main__":
    watch(Path(os.environ["WATCHED"]))
    main()
