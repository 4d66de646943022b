"""The real gateway or worker, to which something happens at one call of one of its ports.

    python -m tests.chaos.faulty --at images.add --on-call 3 --after --do kill gateway

The points are here and not in the product: `tests/disturbed.py` wraps the ports that the program opens.
"""

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cli import main, programs
from common.errors import Unavailable
from common.ports import Ports
from common.wiring import open_ports
from tests.disturbed import Disturbed

DEEDS = ("kill", "stop", "raise")


def faulty(at: str, *, do: str = "kill", on_call: int = 1, after: bool = False) -> list[str]:
    """The command line of a program to which that happens; what kind of program comes last."""
    root = Path(__file__).parents[2]
    when = ["--after"] if after else []
    own = ["env", f"PYTHONPATH={root}", sys.executable, "-m", __name__]
    return [*own, "--at", at, "--on-call", str(on_call), "--do", do, *when]


class DisturbedAt(Disturbed):
    """Only calls by that name are counted."""

    def __init__(self, ports: Ports, at: str, on_call: int, do: str, *, after: bool) -> None:
        self._name = at
        self._do = do
        super().__init__(ports, on_call, self._deed, after=after)

    @asynccontextmanager
    async def _around(self, name: str) -> AsyncIterator[None]:
        if name != self._name:
            yield
            return
        async with super()._around(name):
            yield

    async def _deed(self) -> None:
        if self._do == "raise":
            raise Unavailable(self._name, "said to be away")
        os.kill(os.getpid(), signal.SIGKILL if self._do == "kill" else signal.SIGSTOP)


def run(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", required=True, help="port and method")
    parser.add_argument("--on-call", type=int, default=1)
    parser.add_argument("--after", action="store_true", help="once the call has taken effect, not before")
    parser.add_argument("--do", choices=DEEDS, default="kill")
    parser.add_argument("kind", choices=("gateway", "worker"))
    wanted = parser.parse_args(arguments)

    @asynccontextmanager
    async def disturbed_ports(*given: Any, **named: Any) -> AsyncIterator[Ports]:
        async with open_ports(*given, **named) as ports:
            yield DisturbedAt(ports, wanted.at, wanted.on_call, wanted.do, after=wanted.after).ports

    with patch.object(programs, "open_ports", disturbed_ports):
        main.app([wanted.kind])


if __name__ == "__main__":
    run(sys.argv[1:])
