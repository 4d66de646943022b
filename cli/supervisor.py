"""A gateway of several processes on one port, each of which takes what connections it can.

The parent listens, starts the others and starts those again that died, after a pause that grows while they die soon. A reason that
all of them have, such as a wrong setting or a database of an earlier revision, ends the whole with the line that it has; one that
only a follower of a dead one has, such as a setting that was changed since, ends nobody else. Told to stop it tells each of them,
and waits for the last: how long they take is theirs to limit. They find out by the end of their standard input that it is gone
itself, and stop as if they were told to.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

from cli.errors import ProcessEnded
from common.serving import listen
from common.settings import Settings
from common.shared_metrics import FOLDER, Roll
from common.telemetry import log
from common.usecases.wait_for_database import sleep_or_stop

# -P: what lies in the working directory is no module of ours.
PROGRAM = (sys.executable, "-P", "-m", "cli.gateway_process")
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
# One that has lived for so long did not die of how it was started.
LASTING_SECONDS = 60.0
# One that has lived for so long has nothing against it that a line would say.
STARTING_SECONDS = 15.0
# How far apart processes that were started together come to the same line, on a busy machine.
OTHERS_SECONDS = 3.0


async def run_gateway_processes(settings: Settings, stop: asyncio.Event) -> None:
    """Raises ProcessEnded."""
    listener = listen(settings.gateway_host, settings.gateway_port, "GATEWAY_PORT")
    supervisor = _Supervisor(listener, settings.gateway_processes, Path(tempfile.mkdtemp(prefix="metrics-")), stop)
    log.info("gateway starts", host=settings.gateway_host, port=settings.gateway_port, processes=settings.gateway_processes)
    async with asyncio.TaskGroup() as tasks:
        for place in range(settings.gateway_processes):
            tasks.create_task(supervisor.keep(place))
        await stop.wait()
        # Nobody should connect who would not be answered.
        listener.close()
    if supervisor.reason is not None:
        raise supervisor.reason


class _Supervisor:
    """`reason`: why all of them ended, where nobody told them to."""

    def __init__(self, listener: socket.socket, processes: int, folder: Path, stop: asyncio.Event) -> None:
        self.reason: ProcessEnded | None = None
        self._lines: dict[int, ProcessEnded] = {}  # by place, of those that have not lived since
        self._listener = listener
        self._processes = processes
        self._folder = folder
        self._stop = stop
        self._roll = Roll(folder)
        self._roll.open()

    async def keep(self, place: int) -> None:
        """Has a process in this place until `stop` is set, and returns when the last one has ended."""
        soon_dead = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                code, line = await self._run(place)
                reason = line or f"exit code {code}"
            except OSError as error:
                # The machine has no memory for it, or no number.
                code, line, reason = 1, "", str(error)
            if self._stop.is_set():
                return
            if line and await self._is_of_all(place, ProcessEnded(line, max(code, 1))):
                return
            soon_dead = 0 if time.monotonic() - began > LASTING_SECONDS else soon_dead + 1
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(max(soon_dead - 1, 0), 10))
            log.error("gateway process died; another one follows", reason=reason, pause_seconds=pause)
            await sleep_or_stop(self._stop, pause)

    async def _is_of_all(self, place: int, reason: ProcessEnded) -> bool:
        """Whether each of them has said such a line, and so all end; waits for those that are about to."""
        self._lines[place] = reason
        if len(self._lines) == self._processes:
            self.reason = reason
            self._stop.set()
        await sleep_or_stop(self._stop, OTHERS_SECONDS)
        return self._stop.is_set()

    async def _run(self, place: int) -> tuple[int, str]:
        """→ its exit code, and the line that it ended with if it has one."""
        process = await self._start(place)
        self._roll.enter(process.pid)
        ended = asyncio.create_task(_end(process))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED, timeout=STARTING_SECONDS)
        if not ended.done():
            self._lines.pop(place, None)
            await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        code, line = await ended
        self._roll.strike(process.pid, place)
        return code, line

    async def _start(self, place: int) -> Process:
        descriptor = self._listener.fileno()
        program = [*PROGRAM, str(descriptor), str(place)]
        environment = os.environ | {FOLDER: str(self._folder)}
        return await asyncio.create_subprocess_exec(*program, stdin=PIPE, stdout=PIPE, pass_fds=[descriptor], env=environment)


async def _end(process: Process) -> tuple[int, str]:
    said = await process.stdout.read() if process.stdout is not None else b""
    return await process.wait(), said.decode(errors="replace").strip()
