"""What one picture costs, on one thread: by default decode, reduce to 800 wide, gray, JPEG of quality 85.

Every contender is a process of its own that does the work over and over and reports its own CPU time. They take turns, so that what
else the machine does meets all of them; the figures are medians over all turns, and the ratios are of medians of one run.
"""

import io
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench import installed
from bench.installed import OURS, PEERS, REFERENCE, Peer
from bench.results import show, write_results
from tests.pictures import jpeg, photo, png

ROUNDS, SECONDS_PER_TURN = 5, 1.0
STEPS_ROUNDS, SECONDS_PER_STEPS_TURN = 3, 0.6
DEFAULT = "resize:800|grayscale"
# What libvips has an equivalent of.
STEPS = [
    *("resize:800", "resize:320", "resize:320|grayscale", "resize:1600", "resize:1600|grayscale", "resize:400x400:fill"),
    *("resize:800|blur:2", "resize:800|sharpen:1", "resize:800|rotate:90", "grayscale"),
]


@dataclass(frozen=True)
class Task:
    """`label`: what is told apart in the table."""

    label: str
    picture: Path
    steps: str = DEFAULT


@dataclass
class Measured:
    """Of one contender on one picture; CPU and wall in milliseconds a picture, PSNR in decibels before encoding."""

    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    rss_bytes: int = 0
    psnr: float | None = None

    @property
    def cpu(self) -> float:
        return statistics.median(self.cpu_ms)

    @property
    def wall(self) -> float:
        return statistics.median(self.wall_ms)


def make_pictures(folder: Path, *, quick: bool) -> dict[str, Path]:
    """The same ones each time: photo-like, seeded. → by column."""
    if quick:
        small = photo(640, 480)
        contents = {"640x480.jpg": jpeg(small), "640x480.png": png(small), "640x480.webp": _webp(small)}
    else:
        middle, large = photo(1920, 1280), photo(4000, 3000)
        contents = {
            "1920x1280.jpg": jpeg(middle),
            "1920x1280-progressive.jpg": jpeg(middle, progressive=True),
            "12mp.jpg": jpeg(large),
            "12mp-progressive.jpg": jpeg(large, progressive=True),
            "24mp.jpg": jpeg(photo(6000, 4000)),
            "1920x1280.png": png(middle),
            "1920x1280.webp": _webp(middle),
        }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def run(out: Path, *, quick: bool) -> None:
    console = Console()
    peers = [OURS, *(peer for peer in PEERS if peer.is_installed)]
    for peer in PEERS:
        if not peer.is_installed:
            console.print(f"{peer.name} is not installed; scripts/bench peers installs it", style="dim")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        pictures = make_pictures(folder, quick=quick)
        tasks = [Task(name, path) for name, path in pictures.items()]
        turns = Turns(folder, SECONDS_PER_TURN)
        turns.take(console, [(peer, task) for task in tasks for peer in peers], rounds=1 if quick else ROUNDS)
        if REFERENCE.is_installed:
            _judge(peers, pictures, folder, turns.found)
    found = turns.found
    show(console, out, "engine", _findings(peers, list(pictures), turns))
    rows = [
        {
            "picture": picture,
            "contender": name,
            "version": turns.versions[name],
            "cpu_ms": measured.cpu,
            "wall_ms": measured.wall,
            "rss_bytes": measured.rss_bytes,
            "psnr_db": measured.psnr,
            "ratio": measured.cpu / found[OURS.name, picture].cpu,
        }
        for (name, picture), measured in found.items()
    ]
    console.print(f"Written: {write_results(out, 'engine', rows, x='picture', y='cpu_ms', by='contender')}")


def run_steps(out: Path, *, quick: bool) -> None:
    """Other steps than the default ones, beside libvips."""
    console = Console()
    libvips = next(peer for peer in PEERS if peer.name == "libvips")
    peers = [OURS, *([libvips] if libvips.is_installed else [])]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        pictures = {name: path for name, path in make_pictures(Path(name), quick=quick).items() if path.suffix == ".jpg"}
        turns = Turns(Path(name), SECONDS_PER_STEPS_TURN)
        tasks = {(picture, steps): Task(f"{picture} {steps}", path, steps) for steps in STEPS for picture, path in pictures.items()}
        turns.take(console, [(peer, task) for task in tasks.values() for peer in peers], rounds=1 if quick else STEPS_ROUNDS)
    rows = [
        {"steps": steps, "picture": picture, "contender": peer.name, "version": turns.versions[peer.name], "cpu_ms": measured.cpu}
        for (picture, steps), task in tasks.items()
        for peer in peers
        for measured in [turns.found[peer.name, task.label]]
    ]
    table = Table(title="CPU ms, and libvips' as a multiple", title_justify="left")
    for column in ("steps", *pictures):
        table.add_column(column, justify="left" if column == "steps" else "right")
    for steps in STEPS:
        cells = []
        for picture in pictures:
            mine, *theirs = [turns.found[peer.name, tasks[picture, steps].label].cpu for peer in peers]
            cells.append(" ".join([f"{mine:.1f}", *(f"× {other / mine:.2f}" for other in theirs)]))
        table.add_row(steps, *cells)
    show(console, out, "steps", [table])
    console.print(f"Written: {write_results(out, 'steps', rows, x='steps', y='cpu_ms', by='contender')}")


class Turns:
    """`found` and `versions` grow with each turn."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        self._counts: dict[tuple[str, str], int] = {}
        self.found: dict[tuple[str, str], Measured] = {}
        self.versions: dict[str, str] = {}

    def take(self, console: Console, pairs: list[tuple[Peer, Task]], rounds: int) -> None:
        pairs = [(peer, task) for peer, task in pairs if task.picture.suffix in peer.reads]
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("engine", total=rounds * len(pairs))
            for peer, task in pairs * rounds:
                progress.update(bar, description=f"{task.label} {peer.name}")
                self._take_one(peer, task)
                progress.advance(bar)

    def _take_one(self, peer: Peer, task: Task) -> None:
        key = (peer.name, task.label)
        said = json.loads(
            installed.run(peer, task.picture, self._folder / f"{peer.name}.jpg", self._counts.get(key, 3), task.steps)
        )
        self.versions[peer.name] = said["version"]
        # So many that a turn takes about as long, whoever's it is.
        self._counts[key] = max(3, min(200, round(self._seconds * 1000 / max(1.0, statistics.median(said["wall_ms"])))))
        measured = self.found.setdefault(key, Measured())
        measured.cpu_ms += said["cpu_ms"]
        measured.wall_ms += said["wall_ms"]
        measured.rss_bytes = max(measured.rss_bytes, said["rss_bytes"])


def _judge(peers: list[Peer], pictures: dict[str, Path], folder: Path, found: dict[tuple[str, str], Measured]) -> None:
    """The floor does not reduce; so there is nothing to judge."""
    for picture, path in pictures.items():
        names = {}
        for peer in peers:
            if (peer.name, picture) in found and peer.name != "floor":
                result = folder / f"{peer.name}-{picture}.png"
                installed.run(peer, path, result, 1, DEFAULT)
                names[result.name] = peer.name
        decibels = json.loads(installed.run(REFERENCE, path, *(folder / name for name in names)))
        for name, peer_name in names.items():
            found[peer_name, picture].psnr = decibels[name]


def _findings(peers: list[Peer], pictures: list[str], turns: Turns) -> list[Table | str]:
    """A table a measure: contenders down, pictures across."""
    found, floor = turns.found, "floor"

    def table(title: str, cell: Callable[[str, str], str], names: list[str]) -> Table:
        table = Table("", title=title, title_justify="left")
        for picture in pictures:
            table.add_column(picture, justify="right")
        for name in names:
            table.add_row(name, *(cell(name, picture) if (name, picture) in found else "" for picture in pictures))
        return table

    names = [peer.name for peer in peers]
    judged = [name for name in names if name != floor]
    return [
        table("CPU ms", lambda name, picture: f"{found[name, picture].cpu:.1f}", names),
        table("CPU, ours = 1", lambda name, picture: f"{found[name, picture].cpu / found[OURS.name, picture].cpu:.2f}", names),
        table("wall ms", lambda name, picture: f"{found[name, picture].wall:.1f}", names),
        table("PSNR dB, before encoding", lambda name, picture: _decibels(found[name, picture]), judged),
        table("peak RSS MB", lambda name, picture: f"{found[name, picture].rss_bytes / 1e6:.0f}", names),
        "Versions: " + ", ".join(f"{name} {turns.versions[name]}" for name in names if name in turns.versions),
    ]


def _decibels(measured: Measured) -> str:
    return "" if measured.psnr is None else f"{measured.psnr:.1f}"
