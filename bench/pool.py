"""What the render pool adds to rendering, how it scales from one child process to two, and how much memory it takes.

Every turn is a process of its own (bench/rendering.py). The turns alternate, so that what else the machine does meets all of them;
the figures are medians over all turns, and the ratios are of medians of one run. Nothing is left running after an error or Ctrl-C.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.installed import ROOT
from bench.results import show, write_results
from tests.pictures import jpeg, photo

ROUNDS, SECONDS_PER_TURN, STREAMED = 5, 2.0, 200
QUICK_ROUNDS, QUICK_SECONDS_PER_TURN, QUICK_STREAMED = 1, 0.3, 20
SMALL, LARGE = "640x480", "12 MP"
TURNS = [("alone", 1), ("alone", 2), ("pool", 1), ("pool", 2), ("carry", 1), ("call", 1)]
LIMIT_SECONDS = 300

Found = dict[tuple[str, str, int], dict[str, float]]


def run(out: Path, *, quick: bool) -> None:
    console = Console()
    rounds, seconds, streamed = (
        (QUICK_ROUNDS, QUICK_SECONDS_PER_TURN, QUICK_STREAMED) if quick else (ROUNDS, SECONDS_PER_TURN, STREAMED)
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        pictures = _make_pictures(Path(name), quick=quick)
        folder = Path(name) / "results"
        folder.mkdir()
        turns = [(picture, how, processes) for picture in pictures for how, processes in TURNS] * rounds
        said = defaultdict(list)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("pool", total=len(turns) + 1)
            for picture, how, processes in turns:
                progress.update(bar, description=f"{picture} {how} × {processes}")
                said[picture, how, processes].append(_turn(how, processes, seconds, pictures[picture], folder))
                progress.advance(bar)
            progress.update(bar, description="24 MP stream")
            memory = _turn("stream", 2, streamed, _make_large_pictures(Path(name) / "large"), folder)
            progress.advance(bar)
    found = {key: {each: statistics.median(one[each] for one in several) for each in several[0]} for key, several in said.items()}
    rows: list[dict[str, Any]] = [
        {"picture": picture, "how": how, "processes": processes, "turn": f"{how} × {processes}"}
        | one
        | ({"two_to_one": _two_to_one(picture, how, found)} if processes == 2 else {})
        | ({"share_of_moving": _share(picture, found)} if (how, processes) == ("pool", 1) else {})
        for (picture, how, processes), one in found.items()
    ]
    rows += [_memory(memory)]
    show(console, out, "pool", [*(_table(picture, found) for picture in pictures), _memory_in_words(rows[-1])])
    console.print(f"Written: {write_results(out, 'pool', rows, x='turn', y='per_second', by='picture')}")


def _make_pictures(folder: Path, *, quick: bool) -> dict[str, Path]:
    sizes = {SMALL: (640, 480)} if quick else {SMALL: (640, 480), LARGE: (4000, 3000)}
    pictures = {label: folder / f"{width}x{height}.jpg" for label, (width, height) in sizes.items()}
    for label, path in pictures.items():
        path.write_bytes(jpeg(photo(*sizes[label])))
    return pictures


def _make_large_pictures(folder: Path) -> Path:
    """Baseline and progressive, of which the second takes far more memory."""
    folder.mkdir()
    picture = photo(6000, 4000)
    (folder / "24mp.jpg").write_bytes(jpeg(picture))
    (folder / "24mp-progressive.jpg").write_bytes(jpeg(picture, progressive=True))
    return folder / "24mp.jpg"


def _turn(how: str, processes: int, amount: float, picture: Path, folder: Path) -> dict[str, Any]:
    """Its children die with it, should it be killed."""
    command = [sys.executable, "-m", "bench.rendering", how, str(processes), str(amount), str(picture), str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
    if ended.returncode:
        raise RuntimeError(f"{how} failed:\n{ended.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def _two_to_one(picture: str, how: str, found: Found) -> float:
    return found[picture, how, 2]["per_second"] / found[picture, how, 1]["per_second"]


def _share(picture: str, found: Found) -> float:
    """Of a render's CPU time: what its picture, result and messages cost the parent, and a child that does nothing else, files
    included."""
    moving = found[picture, "pool", 1]["parent_cpu_ms"] + found[picture, "carry", 1]["children_cpu_ms"]
    return moving / found[picture, "alone", 1]["children_cpu_ms"]


def _table(picture: str, found: Found) -> Table:
    caption = (
        f"two : one = {_two_to_one(picture, 'pool', found):.2f} in the pool, {_two_to_one(picture, 'alone', found):.2f} alone; "
        f"moving bytes takes {_share(picture, found):.1%} of a render's CPU time and "
        f"{1000 / found[picture, 'call', 1]['per_second']:.2f} ms"
    )
    table = Table(title=picture, title_justify="left", caption=caption, caption_justify="left")
    for column in ("turn", "processes", "a second", "parent's CPU ms", "children's CPU ms"):
        table.add_column(column, justify="left" if column == "turn" else "right")
    for how, processes in TURNS:
        one = found[picture, how, processes]
        parents = f"{one['parent_cpu_ms']:.2f}" if "parent_cpu_ms" in one else ""
        table.add_row(how, str(processes), f"{one['per_second']:.1f}", parents, f"{one['children_cpu_ms']:.2f}")
    return table


def _memory(said: dict[str, Any]) -> dict[str, Any]:
    """It is flat where the second half's peak is that of the first."""
    rss: list[int] = said["rss_bytes"]
    first, second = max(rss[: len(rss) // 2]), max(rss[len(rss) // 2 :])
    row = {"picture": "24 MP", "how": "stream", "processes": 2, "turn": "stream × 2", "per_second": said["per_second"]}
    row |= {"pictures": len(rss), "processes_in_all": said["processes"]}
    return row | {"first_half_rss_bytes": first, "second_half_rss_bytes": second}


def _memory_in_words(row: dict[str, Any]) -> str:
    first, second = (f"{row[half] / 1e6:.0f} MB" for half in ("first_half_rss_bytes", "second_half_rss_bytes"))
    return (
        f"24 MP × {row['pictures']} with 2 child processes, {row['processes_in_all']} processes in all: together at most "
        f"{first} resident in the first half, {second} in the second"
    )
