"""Writes what was measured: JSON, and a bar chart where matplotlib is installed."""

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def write_results(out: Path, name: str, rows: list[dict[str, Any]], *, x: str, y: str, by: str) -> str:
    """`x`, `y` and `by` are columns: for each value of `by` one series. → what was written."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    about = {"benchmark": name, "at": datetime.now(UTC).isoformat(), "python": platform.python_version(), "machine": _machine()}
    path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
    try:
        from matplotlib import pyplot
    except ImportError:
        return f"{path} (no plot: matplotlib is not installed)"
    figure, axes = pyplot.subplots(figsize=(10, 5), layout="constrained")
    groups = list(dict.fromkeys(row[x] for row in rows))
    series = list(dict.fromkeys(row[by] for row in rows))
    for index, one in enumerate(series):
        heights = {row[x]: row[y] for row in rows if row[by] == one}
        places = [groups.index(group) + (index - len(series) / 2 + 0.5) / (len(series) + 1) for group in heights]
        axes.bar(places, list(heights.values()), 1 / (len(series) + 1), label=str(one))
    axes.set_xticks(range(len(groups)), [str(group) for group in groups], rotation=20)
    axes.set_ylabel(y)
    axes.legend()
    plot = out / f"{name}.svg"
    figure.savefig(plot)
    pyplot.close(figure)
    return f"{path} and {plot}"


def _machine() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
