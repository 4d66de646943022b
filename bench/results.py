"""Writes what was measured: JSON, and a bar chart where matplotlib is installed in its place."""

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.installed import PLOT, run


def write_results(out: Path, name: str, rows: list[dict[str, Any]], *, x: str, y: str, by: str) -> str:
    """`x`, `y` and `by` are columns: for each value of `by` one series. → what was written."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    about = {"benchmark": name, "at": datetime.now(UTC).isoformat(), "python": platform.python_version(), "machine": _machine()}
    path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
    if not PLOT.is_installed:
        return f"{path} (no plot: scripts/bench peers installs matplotlib)"
    plot = out / f"{name}.svg"
    run(PLOT, path, plot, x, y, by)
    return f"{path} and {plot}"


def _machine() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
