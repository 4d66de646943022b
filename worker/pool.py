"""Renders in child processes, each with a time limit and a memory limit.

Promises that a picture on which a child hangs, crashes or is killed costs that picture an attempt and nobody else anything, that no
child outlives the worker, that one which keeps too much memory is replaced between two pictures, and that a signal to the worker's
process group does not end what is being rendered. Paths and small values travel between the processes, never pictures. Does not
limit how many renders wait: the caller does.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from pebble import ProcessExpired, ProcessPool

from common.errors import PictureRefused, RenderInterrupted, Unavailable
from common.images import Failure, FailureCode
from common.ports import Rendered
from common.processing import Processing
from common.settings import Settings
from common.telemetry import CHILDREN_LOST, CHILDREN_OUTGROWN, POOL_RESTARTS, log
from worker.child import Allowance, Answer, Crash, RenderFunction, answer_in_child, become_child
from worker.imaging import render_file


class RenderPool:
    """A Renderer, open between entering and leaving. Leaving lets what runs finish, within its time limit."""

    def __init__(self, settings: Settings, render: RenderFunction = render_file) -> None:
        self._settings = settings
        self._render = render
        self._pool: _Children | None = None
        self._running: set[Future[Answer]] = set()
        self._restarting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._pool = self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(wait, self._running.copy(), self._settings.render_seconds)
            await asyncio.to_thread(pool.end)

    async def render(self, source: Path, target: Path, processing: Processing) -> Rendered:
        """Cancelling it ends the child."""
        for _ in range(2):
            pool = self._pool
            if pool is None:
                break
            try:
                return _judge(await self._run(pool, source, target, processing))
            except BrokenProcessPool as error:
                # Happens to renders that no child had begun, when an idle child was killed: a new pool can still take them.
                log.warning("render pool broken; starting another", reason=str(error))
                POOL_RESTARTS.inc()
                await self._replace(pool)
        raise Unavailable("renderer", "its child processes end before they begin")

    async def _run(self, pool: "_Children", source: Path, target: Path, processing: Processing) -> Rendered | Failure | Crash:
        """The only place that meets the pool's exceptions; BrokenProcessPool is left to the caller."""
        settings = self._settings
        try:
            future = pool.schedule(
                answer_in_child,
                args=(self._render, source, target, processing.canonical, settings.limits),
                timeout=settings.render_seconds,
            )
        except RuntimeError as error:
            raise BrokenProcessPool(str(error)) from error
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        try:
            answer = await asyncio.wrap_future(future)
        except TimeoutError:
            CHILDREN_LOST.labels("time-limit").inc()
            detail = f"Rendering this picture takes longer than {settings.render_seconds:g} seconds."
            raise RenderInterrupted(FailureCode.TIME_LIMIT, detail) from None
        except ProcessExpired as error:
            CHILDREN_LOST.labels("crashed").inc()
            log.error("renderer crashed", exit_code=error.exitcode, pid=error.pid)
            raise _crashed() from None
        if answer.resident_bytes > settings.render_resident_bytes:
            CHILDREN_OUTGROWN.inc()
        return answer.outcome

    async def _replace(self, broken: "_Children") -> None:
        """Several renders may find the same pool broken; the first replaces it. The old one is gone before the new one starts, so
        that no two children write to one target."""
        async with self._restarting:
            if self._pool is broken:
                await asyncio.to_thread(broken.end)
                self._pool = self._start()

    def _start(self) -> "_Children":
        """Raises Unavailable."""
        pool = _Children(self._settings)
        try:
            with _signals_blocked():
                if not pool.active:  # asking starts it
                    raise BrokenProcessPool("it ended at once")
        except (BrokenProcessPool, OSError) as error:
            pool.end()
            raise Unavailable("renderer", f"cannot start child processes: {error}") from error
        return pool


class _Children(ProcessPool):
    """Children are spawned, not forked: the worker has threads. Not to be started in a thread that ends before the pool does: the
    children die with the thread that started them (see child.py)."""

    def __init__(self, settings: Settings) -> None:
        self._starter = _RememberingContext()
        super().__init__(
            max_workers=settings.worker_processes,
            max_tasks=Allowance(settings.render_tasks_per_child, settings.render_resident_bytes),
            initializer=become_child,
            initargs=(os.getpid(), settings.render_memory_bytes),
            context=self._starter,
        )

    def end(self) -> None:
        """Blocks. Kills the children before the pool takes away the pipes and locks: one that was still starting would complain
        about that on standard error, and one that hangs would be waited for. One that the pool's thread is about to start, which
        has no pid yet, is left to `join`."""
        self.stop()  # type: ignore[no-untyped-call] # pebble annotates no function that returns nothing
        for child in list(self._starter.children):
            if child.pid is not None:
                child.kill()
        self.join()


class _RememberingContext(SpawnContext):
    def __init__(self) -> None:
        super().__init__()
        self.children: WeakSet[SpawnProcess] = WeakSet()

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802 - a class in multiprocessing
        child = SpawnProcess(*args, **options)
        self.children.add(child)
        return child


def _judge(outcome: Rendered | Failure | Crash) -> Rendered:
    match outcome:
        case Rendered():
            return outcome
        case Failure(code=FailureCode.MEMORY_LIMIT as code, detail=detail):
            raise RenderInterrupted(code, detail)
        case Failure(code=code, detail=detail):
            raise PictureRefused(code, detail)
        case Crash(traceback):
            log.error("renderer failed", traceback=traceback)
            raise _crashed()


def _crashed() -> RenderInterrupted:
    return RenderInterrupted(FailureCode.ATTEMPTS_EXHAUSTED, "The renderer crashed on this picture.")


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """The pool's threads, and the children that they start at any time, inherit the mask. So a signal to the process group cannot
    end a child that is still starting; once started it leaves the group and unblocks SIGTERM (see child.py)."""
    resource_tracker.ensure_running()  # the first child would start it, and starting it unblocks both signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
