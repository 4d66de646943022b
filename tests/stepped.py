"""A use case that runs step by step: it stands still before each of its calls to a port until it is told to go on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum

from common.errors import ImageProcessorError, Unavailable
from common.ports import Ports
from tests.disturbed import Killed, Watched

# So often a task may give way to others before it comes to its next call, or its end.
TURNS = 10


class Outage(StrEnum):
    """DEAF: calls have no effect. MUTE: they have, and their answers are lost."""

    DEAF = "deaf"
    MUTE = "mute"


class Stepped:
    """`away`: the ports that are away now, by their names in Ports, and how. `lost`: whether a call of this one met with that."""

    def __init__(self, ports: Ports, away: Mapping[str, Outage], do: Callable[[Ports], Awaitable[object]]) -> None:
        self.lost: set[str] = set()
        self._away = away
        self._waiting: list[asyncio.Future[None]] = []
        self._is_dead = False
        self._task = asyncio.ensure_future(self._run(do(_Halting(ports, self._call).ports)))

    @property
    def is_over(self) -> bool:
        """What a task that was stopped has left to be done goes on after it."""
        return self._task.done() and not self._waiting

    async def step(self) -> None:
        """One call takes effect."""
        if self._waiting:
            self._waiting[0].set_result(None)
        await self._stand_still()

    async def finish(self) -> None:
        while not self.is_over:
            await self.step()

    async def stop(self) -> None:
        """The task is cancelled, and may have calls to make before it ends."""
        self._task.cancel()
        await self._stand_still()

    async def kill(self) -> None:
        """Nothing more takes effect."""
        self._is_dead = True
        await self.finish()

    async def _stand_still(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        while not (self._task.done() or self._waiting):  # noqa: ASYNC110 - any of its tasks may get there; none takes time
            await asyncio.sleep(0)
        if self._task.done() and not self._task.cancelled():
            self._task.result()

    async def _run(self, doing: Awaitable[object]) -> None:
        try:
            await doing
        except (ImageProcessorError, Killed):
            pass
        except BaseExceptionGroup as group:
            if rest := group.split(Killed)[1]:
                raise rest from None

    @asynccontextmanager
    async def _call(self, name: str) -> AsyncIterator[None]:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        finally:
            self._waiting.remove(turn)
        if self._is_dead:
            raise Killed
        port = name.partition(".")[0]
        outage = self._away.get(port)
        if outage is not None:
            self.lost.add(port)
        if outage is Outage.DEAF:
            raise Unavailable(port, "deaf")
        yield
        if outage is Outage.MUTE:
            raise Unavailable(port, "mute")


class _Halting(Watched):
    def __init__(self, ports: Ports, call: Callable[[str], AbstractAsyncContextManager[None]]) -> None:
        self._call = call
        super().__init__(ports)

    @asynccontextmanager
    async def _around(self, name: str) -> AsyncIterator[None]:
        async with self._call(name):
            yield
