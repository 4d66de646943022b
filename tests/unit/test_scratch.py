"""Temporary files end with their process, or with the next one's start."""

import fcntl
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

import pytest

from cli.scratch import scratch_folder

DIES_INSIDE = """
import os, signal, tempfile
from cli.scratch import scratch_folder

with scratch_folder():
    tempfile.mkstemp()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_temporary_files_go_there_and_are_gone_afterwards(temporary_folder: Path) -> None:
    with scratch_folder() as folder, tempfile.NamedTemporaryFile(delete=False) as file:
        assert Path(file.name).parent == folder

    assert list(temporary_folder.iterdir()) == []
    assert tempfile.gettempdir() == str(temporary_folder)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(temporary_folder: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES_INSIDE], check=False, timeout=60)
    (dead,) = temporary_folder.iterdir()
    assert len(list(dead.iterdir())) == 2

    with scratch_folder() as first, scratch_folder() as second:
        assert not dead.exists()
        assert first.exists()
        assert second.exists()


def test_a_folder_that_another_start_took_for_a_dead_ones_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # given another start that comes between the making of the lock and the locking
    lock, removed = fcntl.flock, list[Path]()

    def late(file: TextIO, how: int) -> None:
        if not removed:
            removed.append(Path(file.name).parent)
            shutil.rmtree(removed[0])
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)

    # then
    with scratch_folder() as folder:
        assert folder not in removed
        assert (folder / "lock").exists()
