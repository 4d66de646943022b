"""Doing the faults of a schedule to a system, each at its time, and undoing every one of them, whatever happens."""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.chaos.faults import Planned
from tests.chaos.system import System

AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Span:
    """When a fault was there."""

    begin: datetime
    end: datetime

    def touches(self, begin: datetime, end: datetime, aftermath: timedelta) -> bool:
        return self.begin <= end and begin <= self.end + aftermath


class Injection:
    """`active`: the fault that is there now, by the part that it befalls. `failed`: what could not be done. `ended_by_themselves`:
    programs that nobody had ended."""

    def __init__(self, system: System) -> None:
        self.active: dict[str, str] = {}
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self.spans: list[Span] = []
        self.ended_by_themselves: list[str] = []
        self._system = system
        self._stopped = threading.Event()
        self._parts: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def run(self, schedule: Iterable[Planned]) -> None:
        """Until the last fault has ended; one that comes too early, because others take their time, waits for its place."""
        start, places = time.monotonic(), threading.Semaphore(AT_ONCE)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for planned in schedule:
                if self._stopped.wait(max(0.0, start + planned.at - time.monotonic())):
                    return
                places.acquire()
                threads.submit(self._inject, planned).add_done_callback(lambda _: places.release())

    def stop(self) -> None:
        """What is there ends now, and nothing more begins; `run` returns once that is so."""
        self._stopped.set()

    def _inject(self, planned: Planned) -> None:
        with self._parts[planned.fault.part], self._noted(planned):
            if self._stopped.is_set():
                return
            try:
                end = planned.fault.begin(self._system, random.Random(planned.seed))
                self.done[planned.fault.name] += 1
                try:
                    self._stopped.wait(planned.seconds)
                finally:
                    end()
            except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on, and says so
                self.failed.append(f"{planned.fault.name}: {type(error).__name__}: {error}"[:500])

    @contextmanager
    def _noted(self, planned: Planned) -> Iterator[None]:
        begin, part = datetime.now(UTC), planned.fault.part
        self.active[part] = planned.fault.name
        try:
            yield
        finally:
            del self.active[part]
            self.spans.append(Span(begin, datetime.now(UTC)))

    def look_after_programs(self) -> None:
        """Starts again what has ended though no fault has befallen it, and remembers that."""
        for program in (*self._system.gateways, *self._system.workers):
            part = self._parts[program.kind]
            if program.is_running() or not part.acquire(blocking=False):
                continue
            try:
                if not program.is_running():
                    self.ended_by_themselves.append(f"{program.log.stem} ended by itself with exit code {program.wait()}")
                    program.start_again()
            finally:
                part.release()
