"""One of the processes of a gateway that has several: started by cli/supervisor.py, with a listener and a place, and not by people.

What it cannot go on for it writes to standard output, for the parent to say once for all. That its standard input ends says that
the parent has.
"""

import asyncio
import os
import socket
import sys
from pathlib import Path

from common.shared_metrics import FOLDER, share


def main() -> None:
    descriptor, place = int(sys.argv[1]), int(sys.argv[2])
    share(Path(os.environ[FOLDER]), place)
    # Only now: with these, metrics are made.
    from cli.errors import FORESEEN, last_words
    from cli.main import run
    from cli.programs import run_gateway
    from common.settings import load

    async def program(stop: asyncio.Event) -> None:
        _stop_with_the_parent(stop)
        await run_gateway(settings, stop, socket.socket(fileno=descriptor))

    try:
        settings = load()
        run("gateway", settings, program)
    except FORESEEN as error:
        line, code = last_words(error)
        sys.stdout.write(f"{line}\n")
        sys.exit(code)


def _stop_with_the_parent(stop: asyncio.Event) -> None:
    loop, parent = asyncio.get_running_loop(), sys.stdin.fileno()

    def end() -> None:
        loop.remove_reader(parent)
        stop.set()

    loop.add_reader(parent, end)


if __name__ == "__main__":
    main()
