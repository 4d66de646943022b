"""Compares the environment it runs in with the lock files: every line pinned and hashed, and nothing installed but what they name.

    python locked_packages.py FILE...

Says what is wrong, a line each, with exit code 1. Asks nobody: whether a version has known vulnerabilities is not looked at.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import canonicalize_name

# A requirement as `uv pip compile` writes it, its continued lines joined.
ENTRY = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?:\s*;(?P<marker>.+?))?(?P<hashes>(?:\s+--hash=\S+)*)\s*", re.ASCII)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# The project itself, and what every environment is made with.
UNLOCKED = {"image-processor", "pip"}


def problems(files: Iterable[Path]) -> list[str]:
    locked: dict[str, set[str]] = defaultdict(set)
    found = [problem for file in files for problem in _read(file, locked)]
    installed = {canonicalize_name(package.metadata["Name"]): package.version for package in distributions()}
    for name, version in sorted(installed.items()):
        if name not in UNLOCKED and version not in locked.get(name, ()):
            found.append(f"{name} {version} is installed, and no lock file names it; rm -r .venv, and make it anew")
    # One of the two provides PIL.
    missing = locked.keys() - installed.keys() - {"pillow", "pillow-simd"}
    return found + [f"{name} is locked, and not installed" for name in sorted(missing)]


def _read(file: Path, locked: dict[str, set[str]]) -> Iterator[str]:
    """Adds what is locked for this platform; → what is wrong with the file."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for entry in "\n".join(lines).replace("\\\n", " ").splitlines():
        found = ENTRY.fullmatch(entry)
        if found is None:
            yield f"{file}: not pinned to one version: {entry[:80]}"
            continue
        hashes = found["hashes"].split()
        if not hashes or not all(HASH.fullmatch(given) for given in hashes):
            yield f"{file}: {found['name']} has no SHA-256 hashes"
        if found["marker"] is None or Marker(found["marker"]).evaluate():
            locked[canonicalize_name(found["name"])].add(found["version"])


if __name__ == "__main__":
    sys.exit("\n".join(problems(Path(argument) for argument in sys.argv[1:])) or 0)
