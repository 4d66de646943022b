"""A folder for this process's temporary files, which does not outlive it: what `kill -9` leaves, the next start removes."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

PREFIX = "image-processor-"
LOCK = "lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Python's temporary files go there while it is open. A lock on a file in it tells the living from the dead."""
    parent = Path(tempfile.gettempdir())
    _remove_dead(parent)
    folder, lock = _locked_folder(parent)
    with lock:
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, TextIO]:
    """One that another start took for a dead one's, before it was locked, is gone: then there is another."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = (folder / LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / LOCK).exists():
            return folder, lock
        lock.close()


def _remove_dead(parent: Path) -> None:
    for lock in parent.glob(f"{PREFIX}*/{LOCK}"):
        # Locked by a living process, or another user's.
        with suppress(OSError), lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
