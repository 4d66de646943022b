"""The check of the environment against the lock files notices what differs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "scripts" / "lib" / "locked_packages.py"


@pytest.fixture
def lock_files(tmp_path: Path) -> Path:
    for file in (ROOT / "requirements").glob("*.txt"):
        shutil.copy(file, tmp_path)
    return tmp_path


def said(lock_files: Path) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, PROGRAM, *sorted(lock_files.glob("*.txt"))], capture_output=True, text=True, timeout=60, check=False
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("pattern", "replacement", "complaint"),
    [
        (r"httpx==[0-9.]+", "httpx==0.1", r"^httpx [0-9.]+ is installed, and no lock file names it;"),
        (r"httpx==[0-9.]+ (.|\n)*?\n(?=\w)", "", r"^httpx [0-9.]+ is installed, and no lock file names it;"),
        (r"httpx==[0-9.]+", "httpy==1.0", r"^httpy is locked, and not installed$"),
        (r"httpx==", "httpx>=", r"runtime.txt: not pinned to one version: httpx>="),
        (r"httpx==([0-9.]+) (.|\n)*?\n(?=\w)", r"httpx==\1\n", r"runtime.txt: httpx has no SHA-256 hashes$"),
        (r"(httpx==[0-9.]+ \\\n\s+--hash=)sha256:\w+", r"\1md5:00", r"runtime.txt: httpx has no SHA-256 hashes$"),
    ],
    ids=["other version", "not locked", "not installed", "a range", "no hashes", "weak hash"],
)
def test_what_differs_is_said(lock_files: Path, pattern: str, replacement: str, complaint: str) -> None:
    for name in ("dev.txt", "runtime.txt"):
        file = lock_files / name
        changed, count = re.subn(pattern, replacement, file.read_text(), count=1)
        assert count == 1
        file.write_text(changed)

    code, complaints = said(lock_files)

    assert code == 1
    assert re.search(complaint, complaints, re.MULTILINE), complaints
