"""A real program whose clock steps, by so many seconds at each SIGUSR2: `python -m tests.chaos.stepping -240 worker`.

For it and all its libraries `time.time` and `datetime.now` tell the wrong time from then on, as after a correction by an operator.
What measures durations does not notice, as the system's own monotonic clock would not. Its renderer is that of `moody.py`.
"""

import datetime
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Self

true_time, true_time_ns, true_datetime = time.time, time.time_ns, datetime.datetime
ahead_seconds = 0


class _OfAnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, true_datetime)


class SteppingDatetime(datetime.datetime, metaclass=_OfAnyDatetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        return cls.fromtimestamp(time.time(), tz)


def stepping(seconds: int) -> list[str]:
    """The command line of a program whose clock steps by that much; what kind of program comes last."""
    return ["env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable, "-m", __name__, str(seconds)]


def run(seconds: int) -> None:
    def step(*_: object) -> None:
        global ahead_seconds
        ahead_seconds += seconds

    signal.signal(signal.SIGUSR2, step)
    time.time = lambda: true_time() + ahead_seconds
    time.time_ns = lambda: true_time_ns() + ahead_seconds * 1_000_000_000
    vars(datetime)["datetime"] = SteppingDatetime
    runpy.run_module("tests.chaos.moody", run_name="__main__")


if __name__ == "__main__":
    by = int(sys.argv.pop(1))
    run(by)
