"""Shows what was measured, and writes it: tables as Markdown, rows as JSON, and a chart of them where matplotlib is installed.

`fill` puts the Markdown into a page of the documentation, so that its tables are what a benchmark wrote.
"""

import json
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.installed import PLOT, run

# A place in a page: <!-- bench: NAME -->, what `fill` puts there, <!-- end -->.
PLACE = re.compile(r"(?<=<!-- bench: )([a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)


def show(console: Console, out: Path, name: str, findings: list[Table | str]) -> None:
    """Tables and sentences."""
    for finding in findings:
        console.print(finding)
    out.mkdir(parents=True, exist_ok=True)
    paragraphs = [_as_markdown(finding) if isinstance(finding, Table) else finding for finding in findings]
    (out / f"{name}.md").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")


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


def fill(page: Path, out: Path) -> list[str]:
    """→ the benchmarks whose tables are in `page` now. A place whose benchmark has not been run keeps what it has."""
    filled = []

    def found(place: re.Match[str]) -> str:
        name = place[1]
        if not (out / f"{name}.md").exists():
            return place[0]
        filled.append(name)
        at = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))["at"]
        return f"{name} -->\n{(out / f'{name}.md').read_text(encoding='utf-8')}\nMeasured {at[:16]}Z.\n<!-- end -->"

    page.write_text(PLACE.sub(found, page.read_text(encoding="utf-8")), encoding="utf-8")
    return filled


def _as_markdown(table: Table) -> str:
    lines = [
        [str(column.header) for column in table.columns],
        ["---:" if column.justify == "right" else "---" for column in table.columns],
        *([str(cell) for cell in row] for row in zip(*(column.cells for column in table.columns), strict=True)),
    ]
    text = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
    return "\n\n".join([*([f"**{table.title}**"] if table.title else []), text, *([str(table.caption)] if table.caption else [])])


def _machine() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
