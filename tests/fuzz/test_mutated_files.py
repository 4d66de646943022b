"""Thousands of broken files through the gateway's header check and the worker's real child processes: refused or rendered whole, in
time, by children that stay alive, stay small and leave nothing behind.

`FUZZ_FILES` and `FUZZ_SEED` say how many and which; scripts/fuzz runs it for longer. A file that did harm is kept in fuzz-failures,
and belongs into tests/data/fuzz once it is mended, where it is a seed and is tried whole each time.
"""

import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common import processing
from common.errors import PictureRefused, RenderInterrupted, TooLarge, UnsupportedMedia
from common.formats import Limits
from common.images import FailureCode
from common.ports import Rendered
from common.settings import load
from gateway.inspection import inspect
from tests.fuzz.mutations import mutated
from tests.fuzz.seeds import seeds
from worker.pool import RenderPool

FILES = int(os.environ.get("FUZZ_FILES", "5000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261123"))
# Small enough that what claims to be large is refused quickly, large enough for any seed.
LIMITS = Limits(pixels=2_000_000, frames=50, total_pixels=8_000_000)
RENDER_SECONDS = 10.0
INSPECT_SECONDS = 2.0
MAY_GROW_BYTES = 100 << 20
PROCESSINGS = (
    "resize:40|grayscale",
    "resize:40|grayscale",
    "resize:30x30:fill:down",
    "grayscale|format:png",
    "resize:x20|blur:2|format:webp",
    "rotate:90|sharpen|format:gif",
    "mirror|format:tiff",
    "flip|format:bmp",
    "resize:50|format:jpeg|quality:50",
)
KEPT = Path("fuzz-failures")


class Run:
    """What happened, by kind. `harm` says what must not."""

    def __init__(self, folder: Path, pool: RenderPool) -> None:
        self.folder, self.pool = folder, pool
        self.happened: Counter[str] = Counter()
        self.harm: list[str] = []

    async def try_file(self, number: int, content: bytes, steps: str) -> None:
        source, target = self.folder / f"{number}.source", self.folder / f"{number}.target"
        source.write_bytes(content)
        try:
            harm = await self._inspected(source) + await self._rendered(source, target, steps)
        finally:
            source.unlink()
            target.unlink(missing_ok=True)
        if harm:
            KEPT.mkdir(exist_ok=True)
            (KEPT / f"{SEED}-{number}").write_bytes(content)
            self.harm += [f"{number} ({steps}): {what}" for what in harm]

    async def _inspected(self, source: Path) -> list[str]:
        started = time.thread_time()
        try:
            inspect(source, LIMITS)
        except (UnsupportedMedia, TooLarge) as refused:
            self.happened[f"gateway: {refused.code}"] += 1
        except Exception as error:  # noqa: BLE001 - anything else is what this looks for
            return [f"the gateway's check raised {error!r}"]
        else:
            self.happened["gateway: accepted"] += 1
        spent = time.thread_time() - started
        return [f"the gateway's check took {spent:.1f} s"] if spent > INSPECT_SECONDS else []

    async def _rendered(self, source: Path, target: Path, steps: str) -> list[str]:
        try:
            rendered = await self.pool.render(source, target, processing.parse(steps))
        except PictureRefused as refused:
            self.happened[f"worker: {refused.failure_code}"] += 1
            is_named = refused.failure_code in (FailureCode.CORRUPT_IMAGE, FailureCode.LIMIT_EXCEEDED)
            return [] if is_named and refused.detail else [f"refused as {refused.failure_code}: {refused.detail!r}"]
        except RenderInterrupted as interrupted:
            return [f"the child was interrupted: {interrupted.failure_code}"]
        self.happened["worker: rendered"] += 1
        return _untrue(rendered, target)


def _untrue(rendered: Rendered, target: Path) -> list[str]:
    """What came out is judged as if somebody uploaded it."""
    try:
        found = inspect(target, Limits())
    except (UnsupportedMedia, TooLarge) as error:
        return [f"the result is not what a client could upload: {error.detail}"]
    if (found.width, found.height, found.content_type) != (rendered.width, rendered.height, rendered.content_type):
        return [f"the result is {found}, not {rendered}"]
    return []


def _children() -> dict[int, int]:
    """Resident bytes of this process's children, by process id."""
    sizes = {}
    for process in Path("/proc").iterdir():
        try:
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if process.name.isdecimal() and int(status["PPid"]) == os.getpid() and "VmRSS" in status:
            sizes[int(process.name)] = int(status["VmRSS"].split()[0]) * 1024
    return sizes


@pytest.fixture
async def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    # One set of children for the whole run: a crash would show as another process id, a leak as growth.
    settings = load(
        max_pixels=LIMITS.pixels,
        max_frames=LIMITS.frames,
        max_total_pixels=LIMITS.total_pixels,
        worker_processes=2,
        render_seconds=RENDER_SECONDS,
        render_tasks_per_child=10_000_000,
    )
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    async with RenderPool(settings) as pool:
        yield Run(tmp_path, pool)


@pytest.mark.timeout(max(600, FILES // 10))
async def test_no_mutated_file_does_harm(run: Run, tmp_path: Path) -> None:
    # given
    whole = seeds()
    for number, content in enumerate(whole):
        await run.try_file(-1 - number, content, "resize:40|grayscale")
    warm = _children()
    dice = random.Random(SEED)
    numbers = iter(range(FILES))

    # when
    async def lane() -> None:
        for number in numbers:
            await run.try_file(number, mutated(dice.choice(whole), dice, whole), dice.choice(PROCESSINGS))

    await asyncio.gather(*(lane() for _ in range(3)))

    # then
    print(f"seed {SEED}:", dict(run.happened))  # noqa: T201 - what a long run is for
    assert run.harm == [], f"seed {SEED}; the files are in {KEPT}/"
    assert sum(count for kind, count in run.happened.items() if kind.startswith("worker")) == FILES + len(whole)
    grown = _children()
    assert grown.keys() == warm.keys(), "a child was replaced"
    assert all(grown[pid] - warm[pid] < MAY_GROW_BYTES for pid in warm), (warm, grown)
    assert list((tmp_path / "temporary").iterdir()) == []
    # Enough of them get past the first check to mean something.
    assert run.happened["worker: rendered"] > FILES // 20
    assert run.happened["worker: corrupt-image"] > FILES // 20
