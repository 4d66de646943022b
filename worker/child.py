"""The child's side of the process pool. Kept apart from the parent's, so that a child loads little and starts fast."""

import ctypes
import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from common.errors import PictureRefused
from common.formats import Limits
from common.images import Failure, FailureCode
from common.ports import Rendered

# (source, target, canonical text of the processing, limits of the picture) → what was written to the target
RenderFunction = Callable[[Path, Path, str, Limits], Rendered]

_PR_SET_PDEATHSIG = 1
# Source: mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True, slots=True)
class Crash:
    """An exception that nobody foresaw."""

    traceback: str


class Allowance(int):
    """How many renders a child may do, which ends early once it keeps more than `resident_bytes` between two of them.

    The pool passes it as the number of tasks a child may take, and the child compares it with the number done before it takes
    another from the queue. So no picture is with a child that ends."""

    resident_bytes: int

    def __new__(cls, renders: int, resident_bytes: int) -> Self:
        made = super().__new__(cls, renders)
        made.resident_bytes = resident_bytes
        return made

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override] # int's takes one
        return int(self), self.resident_bytes

    def __gt__(self, done: int) -> bool:
        return super().__gt__(done) and memory_bytes().resident <= self.resident_bytes


class Memory(NamedTuple):
    """Of this process. 0 elsewhere than on Linux, where nobody tells."""

    address_space: int
    resident: int


def memory_bytes() -> Memory:
    if sys.platform != "linux":
        return Memory(0, 0)
    address_space, resident = Path("/proc/self/statm").read_text(encoding="ascii").split()[:2]
    return Memory(int(address_space) * resource.getpagesize(), int(resident) * resource.getpagesize())


@dataclass(frozen=True, slots=True)
class Answer:
    """`resident_bytes`: what the child kept when it was done."""

    outcome: Rendered | Failure | Crash
    resident_bytes: int


def answer_in_child(render: RenderFunction, source: Path, target: Path, text: str, limits: Limits) -> Answer:
    return Answer(render_in_child(render, source, target, text, limits), memory_bytes().resident)


def render_in_child(render: RenderFunction, source: Path, target: Path, text: str, limits: Limits) -> Rendered | Failure | Crash:
    """Answers with values, because an exception that cannot be pickled and rebuilt would take the whole pool down."""
    try:
        return render(source, target, text, limits)
    except PictureRefused as error:
        return Failure(code=error.failure_code, detail=error.detail)
    except MemoryError:
        return Failure(code=FailureCode.MEMORY_LIMIT, detail="Rendering this picture takes more memory than a picture may have.")
    except Exception:  # noqa: BLE001 - whatever it is, it must cross the pipe
        return Crash(traceback.format_exc())


def become_child(parent: int, more_bytes: int) -> None:
    """Runs first in each child, which was born with SIGTERM and SIGINT blocked (see pool.py)."""
    _leave_the_group()
    _die_with(parent)
    keep_freed_memory()
    _load_decoders()
    _quieten_libtiff()
    _limit_memory(more_bytes)


def _leave_the_group() -> None:
    """Signals to the worker's process group stop the worker, which lets its children finish. Only the pool ends a child."""
    os.setpgrp()
    # Ignoring drops a signal that came before this; the default, unlike a Python handler, also ends a child that hangs in C code.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _die_with(parent: int) -> None:
    """No child outlives a worker that is killed. Elsewhere than on Linux it lives until it next looks for work."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def keep_freed_memory() -> None:
    """For the next picture: by default glibc gives a picture's memory back at once, and the kernel has to clear it again for the
    next, page by page. What is larger than most pictures need goes back all the same. Elsewhere than with glibc nothing happens."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, 64 << 20)
        set_option(_M_TRIM_THRESHOLD, 128 << 20)


def _load_decoders() -> None:
    """What they take is not the picture's. numpy's threads for linear algebra would take more than all else, and are never used."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import kornia_rs  # noqa: F401 - for the first PNG; and numpy with it, for the first JPEG

    import worker.imaging  # noqa: F401 - for the first picture


def _quieten_libtiff() -> None:
    """It would write about damage into the log, in lines of its own form; whoever decodes says what is wrong all the same. On
    Linux only: elsewhere nobody tells where the library is. Source: TIFFError(3tiff), TIFFWarning(3tiff)."""
    if sys.platform != "linux":
        return
    for path in set(re.findall(r"/\S*/libtiff\S*", Path("/proc/self/maps").read_text(encoding="utf-8"))):
        library = ctypes.CDLL(path)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def _limit_memory(more_bytes: int) -> None:
    """Address space above what the bare child has. Elsewhere than on Linux the limit means too many different things to set it."""
    if sys.platform == "linux":
        limit = memory_bytes().address_space + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
