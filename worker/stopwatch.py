"""Where a render's time goes: which steps it takes, when, and for how long of that.

Frames are decoded, changed and encoded one after the other, so that steps take turns. A turn costs one look at the clock.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from common.ports import RenderStep


@dataclass(slots=True)
class _Times:
    """In nanoseconds since 1970."""

    since: int
    until: int
    busy: int = 0


class Stopwatch:
    """Runs from the beginning, for the step that it is made with."""

    def __init__(self, step: str) -> None:
        self._times: dict[str, _Times] = {}
        self._step = step
        self._since = time.time_ns()

    def turn_to(self, step: str) -> None:
        """From now on it is that step's time."""
        now = time.time_ns()
        times = self._times.setdefault(self._step, _Times(self._since, now))
        times.until = now
        times.busy += now - self._since
        self._step, self._since = step, now

    def steps(self) -> tuple[RenderStep, ...]:
        """Until now, in the order in which they began."""
        self.turn_to(self._step)
        return tuple(
            RenderStep(name=name, since=_time(times.since), until=_time(times.until), busy_ms=times.busy / 1e6)
            for name, times in self._times.items()
        )


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
