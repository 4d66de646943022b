"""The render pool on real child processes: what goes wrong with one picture stays with that picture."""

import asyncio
import ctypes
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from common import processing
from common.errors import PictureRefused, RenderInterrupted
from common.formats import Format, Limits
from common.images import FailureCode
from common.ports import Rendered
from common.settings import load
from common.telemetry import CHILDREN_OUTGROWN
from tests.pictures import photo_jpeg
from tests.polling import wait_until
from worker.child import RenderFunction
from worker.decoding.picture import Frame
from worker.encoding import encode
from worker.pool import RenderPool

STEPS = processing.parse("resize:80|grayscale")


# What the children run. `source` says what to do; `target` tells the test which process did it.


def _obey(source: Path, target: Path, text: str, limits: Limits) -> Rendered:
    target.write_text(str(os.getpid()), encoding="ascii")
    match source.name:
        case "hang":
            _wait_for(source.with_name("never"))
        case "wait":
            _wait_for(source.with_name("go"))
        case "hog":
            _ = [bytearray(1 << 24) for _ in range(1 << 6)]
        case "reuse":
            target.write_text(str(_page_faults_of_reuse()), encoding="ascii")
        case "grow":
            _kept.append(bytearray(b"\1") * (160 << 20))
        case "exit":
            os._exit(3)
        case "bug":
            raise _TwoArguments("one", "two")
    return Rendered(content_type=text, size_bytes=limits.pixels, sha256="", width=1, height=1)


_kept: list[bytearray] = []


class _TwoArguments(Exception):
    """Can be pickled, but not rebuilt: such an exception in a pipe has broken many a pool."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def _page_faults_of_reuse() -> int:
    """Of taking 48 MiB, as much as a large picture, for the second time."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        bytearray(b"\1") * (48 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@asynccontextmanager
async def _open(render: RenderFunction = _obey, **changes: object) -> AsyncIterator[Callable[[Path], "asyncio.Task[Rendered]"]]:
    """→ a function that starts a render of a source; its target is beside it."""
    values = {"worker_processes": 1, "render_seconds": 60, "render_memory_bytes": 1 << 28} | changes
    async with RenderPool(load(**values), render) as pool:
        yield lambda source: asyncio.create_task(pool.render(source, _target_of(source), STEPS))


def _target_of(source: Path) -> Path:
    return source.with_name(f"{source.name}.target")


async def _pid(source: Path) -> int:
    """Of the child that has begun on it."""
    return await asyncio.to_thread(_pid_in, _target_of(source))


def _pid_in(target: Path) -> int:
    wait_until(lambda: target.exists() and target.stat().st_size, "a child to begin")
    return int(target.read_text(encoding="ascii"))


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


async def test_a_picture_is_rendered(tmp_path: Path) -> None:
    source = tmp_path / "photo"
    source.write_bytes(photo_jpeg(160, 90))

    async with RenderPool(load(worker_processes=1)) as pool:
        rendered = await pool.render(source, tmp_path / "target", STEPS)

    assert (rendered.width, rendered.height, rendered.content_type) == (80, 45, "image/jpeg")
    assert (tmp_path / "target").stat().st_size == rendered.size_bytes


async def test_a_refusal_comes_back_with_its_code_and_words(tmp_path: Path) -> None:
    source = tmp_path / "photo"
    source.write_bytes(photo_jpeg(160, 90)[:-100])

    async with RenderPool(load(worker_processes=1)) as pool:
        with pytest.raises(PictureRefused, match="cut off") as refused:
            await pool.render(source, tmp_path / "target", STEPS)

    assert refused.value.failure_code is FailureCode.CORRUPT_IMAGE


async def test_a_hanging_child_is_ended_and_the_next_picture_is_rendered(tmp_path: Path) -> None:
    async with _open(render_seconds=0.5) as render:
        with pytest.raises(RenderInterrupted, match=r"0\.5 seconds") as interrupted:
            await render(tmp_path / "hang")

        assert interrupted.value.failure_code is FailureCode.TIME_LIMIT
        pid = await _pid(tmp_path / "hang")
        await asyncio.to_thread(wait_until, lambda: not _is_alive(pid), "the child to be gone")
        assert (await render(tmp_path / "next")).content_type == "resize:80|grayscale"


async def test_a_memory_hog_meets_its_limit(tmp_path: Path) -> None:
    async with _open() as render:
        with pytest.raises(RenderInterrupted, match="memory") as interrupted:
            await render(tmp_path / "hog")

        assert interrupted.value.failure_code is FailureCode.MEMORY_LIMIT
        await render(tmp_path / "next")


@pytest.mark.parametrize("kind", [Format.GIF, Format.PNG, Format.WEBP])
async def test_three_hundred_frames_are_rendered_within_a_quarter_of_a_child_s_memory(tmp_path: Path, kind: Format) -> None:
    """Together they would have 286 MiB, and as much again once they are processed."""
    frames = (Frame(image=Image.new("RGB", (500, 500), (number * 97 % 256, 90, 0)), duration_ms=40) for number in range(300))
    source = tmp_path / "animation"
    source.write_bytes(encode(frames, kind, 30, count=300, loops=0))

    async with RenderPool(load(worker_processes=1, render_memory_bytes=1 << 28)) as pool:
        rendered = await pool.render(source, tmp_path / "target", processing.parse("resize:499"))

    with Image.open(tmp_path / "target") as result:
        assert (rendered.width, rendered.height) == result.size == (499, 499)
        assert getattr(result, "n_frames", 1) == 300


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="it is glibc's")
async def test_a_child_keeps_its_memory_for_the_next_picture(tmp_path: Path) -> None:
    async with _open() as render:
        await render(tmp_path / "reuse")

    # 12,288 pages, where the memory was given back in between
    assert int((tmp_path / "reuse.target").read_text(encoding="ascii")) < 100


@pytest.mark.parametrize("fault", ["exit", "bug"])
async def test_a_crash_costs_only_this_picture(tmp_path: Path, fault: str) -> None:
    async with _open() as render:
        with pytest.raises(RenderInterrupted, match="crashed") as interrupted:
            await render(tmp_path / fault)

        assert interrupted.value.failure_code is FailureCode.ATTEMPTS_EXHAUSTED
        await render(tmp_path / "next")


async def test_killing_a_child_leaves_its_neighbour_alone(tmp_path: Path) -> None:
    async with _open(worker_processes=2) as render:
        # given two children at work
        victim, neighbour = render(tmp_path / "hang"), render(tmp_path / "wait")
        pid, neighbours_pid = await _pid(tmp_path / "hang"), await _pid(tmp_path / "wait")

        # when
        os.kill(pid, signal.SIGKILL)

        # then
        with pytest.raises(RenderInterrupted, match="crashed"):
            await victim
        (tmp_path / "go").touch()
        await neighbour
        assert await _pid(tmp_path / "wait") == neighbours_pid != pid


async def test_closing_leaves_a_child_alone_that_is_only_about_to_start(tmp_path: Path) -> None:
    async with RenderPool(load(worker_processes=1), _obey) as pool:
        await pool.render(tmp_path / "any", tmp_path / "target", STEPS)
        assert pool._pool is not None

        child = pool._pool._starter.Process()

    assert child.pid is None
    assert not multiprocessing.active_children()


async def test_killing_idle_children_costs_no_picture_anything(tmp_path: Path) -> None:
    async with _open(worker_processes=2) as render:
        for round_ in range(2):
            # given children that have nothing to do
            await asyncio.gather(*(render(tmp_path / f"{round_}-{number}") for number in range(4)))
            idle = {child.pid for child in multiprocessing.active_children() if child.name == "pebble_pool_worker"}

            # when
            for pid in idle:
                assert pid is not None
                os.kill(pid, signal.SIGKILL)

            # then
            await asyncio.gather(*(render(tmp_path / f"{round_}-{number}-after") for number in range(4)))


async def test_cancelling_ends_the_child(tmp_path: Path) -> None:
    async with _open() as render:
        rendering = render(tmp_path / "hang")
        pid = await _pid(tmp_path / "hang")

        rendering.cancel()

        with pytest.raises(asyncio.CancelledError):
            await rendering
        await asyncio.to_thread(wait_until, lambda: not _is_alive(pid), "the child to be gone")
        await render(tmp_path / "next")


async def test_a_child_is_replaced_after_so_many_renders(tmp_path: Path) -> None:
    async with _open(render_tasks_per_child=2) as render:
        pids = []
        for number in range(4):
            await render(tmp_path / str(number))
            pids.append(await _pid(tmp_path / str(number)))

    assert pids[0] == pids[1] != pids[2] == pids[3]


@pytest.mark.skipif(sys.platform != "linux", reason="only there a child knows its size")
async def test_a_child_that_has_grown_is_replaced_between_two_pictures(tmp_path: Path) -> None:
    before = CHILDREN_OUTGROWN._value.get()
    async with _open(render_resident_bytes=1 << 27) as render:
        # given pictures that wait behind one on which their child grows
        names = ["first", "grow", *(f"after-{number}" for number in range(6))]

        # when
        await asyncio.gather(*(render(tmp_path / name) for name in names))

        # then none is lost
        pids = [await _pid(tmp_path / name) for name in names]
        assert pids[0] == pids[1]
        assert {*pids[2:]} == {pids[-1]} != {pids[0]}
    assert CHILDREN_OUTGROWN._value.get() == before + 1


async def test_two_processes_render_the_same_as_one_and_leave_no_other_file(tmp_path: Path) -> None:
    sources = [f"{seed}.jpg" for seed in range(6)]
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        for seed, name in enumerate(sources):
            (folder / name).write_bytes(photo_jpeg(160, 90, seed))

        async with RenderPool(load(worker_processes=processes)) as pool:
            rendered = await asyncio.gather(*(pool.render(folder / name, _target_of(folder / name), STEPS) for name in sources))

        assert {path.name for path in folder.iterdir()} == {*sources, *(f"{name}.target" for name in sources)}
        found.append([(each, _target_of(folder / name).read_bytes()) for each, name in zip(rendered, sources, strict=True)])

    assert found[0] == found[1]
    assert len({content for _, content in found[0]}) == len(sources)


async def test_leaving_lets_what_runs_finish_and_no_child_behind(tmp_path: Path) -> None:
    async with _open() as render:
        rendering = render(tmp_path / "wait")
        pid = await _pid(tmp_path / "wait")
        asyncio.get_running_loop().call_later(0.3, (tmp_path / "go").touch)

    assert (await rendering).width == 1
    assert not _is_alive(pid)


async def test_many_pictures_at_once_are_all_rendered(tmp_path: Path) -> None:
    async with _open(worker_processes=2) as render:
        await asyncio.gather(*(render(tmp_path / str(number)) for number in range(200)))


# The worker as a process of its own, in a process group of its own: it renders until told to stop, then says how it went.
_WORKER = """
import asyncio, signal, sys
from pathlib import Path
import uvloop
from tests.integration.test_pool import STEPS, _obey
from common.settings import load
from common.telemetry import CHILDREN_OUTGROWN
from worker.pool import RenderPool

async def main(folder):
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with RenderPool(load(worker_processes=2), _obey) as pool:
        print("started", flush=True)
        renders = [asyncio.create_task(pool.render(folder / name / "wait", folder / name / "target", STEPS)) for name in "ab"]
        await stop.wait()
        print("stopping", flush=True)
        await asyncio.gather(*renders)
    print("finished", flush=True)

if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "a", tmp_path / "b"]
    for folder in made:
        folder.mkdir()
    return made


def _start_worker(tmp_path: Path) -> "subprocess.Popen[str]":
    script = tmp_path / "rendering.py"
    script.write_text(_WORKER, encoding="utf-8")
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(script), str(tmp_path)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _children_at_work(folders: list[Path]) -> list[int]:
    return [_pid_in(folder / "target") for folder in folders]


def test_no_child_outlives_a_killed_worker(tmp_path: Path, folders: list[Path]) -> None:
    with _start_worker(tmp_path) as worker:
        children = _children_at_work(folders)

        worker.kill()

        wait_until(lambda: not any(_is_alive(pid) for pid in children), "the children to be gone", seconds=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("while_starting", [True, False])
def test_a_signal_to_the_process_group_lets_renders_finish(
    tmp_path: Path, folders: list[Path], number: signal.Signals, while_starting: bool
) -> None:
    with _start_worker(tmp_path) as worker:
        # given children at work, or still starting
        assert worker.stdout is not None
        assert worker.stdout.readline() == "started\n"
        if not while_starting:
            _children_at_work(folders)

        # when
        os.killpg(worker.pid, number)

        # then
        assert worker.stdout.readline() == "stopping\n"
        for folder in folders:
            (folder / "go").touch()
        said, _ = worker.communicate(timeout=30)

    assert (said, worker.returncode) == ("finished\n", 0)


async def test_a_damaged_tiff_writes_nothing_into_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # given one that libtiff has much to say about: compressed strips with other bytes in them
    source = tmp_path / "source"
    Image.effect_noise((200, 200), 90).save(source, "TIFF", compression="tiff_lzw")
    content = bytearray(source.read_bytes())
    content[2000:2400] = bytes(400)
    source.write_bytes(content)

    # when
    async with RenderPool(load(worker_processes=1)) as pool:
        with pytest.raises(PictureRefused):
            await pool.render(source, tmp_path / "target", STEPS)

    # then
    assert capfd.readouterr() == ("", "")
