"""Something else that happens at a chosen call of a use case to its ports, to sweep it over all of them."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from common.errors import Unavailable
from common.ports import Ports

PORTS = ("images", "upkeep", "blobs", "queue", "dead_letters", "cache", "notifier")


class Disturbed:
    """`ports`: the same as those given, but `what` is done just before their call number `on_call` takes effect, or just after.
    Calls are counted from 1, over all the ports; `calls` are the names of those there were, and `at` that of the disturbed one.
    Each step of what is iterated is a call, and so is each removal of a dead letter."""

    def __init__(self, ports: Ports, on_call: int, what: Callable[[], Awaitable[object]], *, after: bool = False) -> None:
        self.calls: list[str] = []
        self.at: str | None = None
        self._on_call = on_call
        self._what = what
        self._after = after
        self.ports = replace(ports, **{name: _Port(name, getattr(ports, name), self._around) for name in PORTS})

    @asynccontextmanager
    async def _around(self, name: str) -> AsyncIterator[None]:
        self.calls.append(name)
        is_it = len(self.calls) == self._on_call
        if is_it:
            self.at = name
        if is_it and not self._after:
            await self._what()
        yield
        if is_it and self._after:
            await self._what()


class Watched(Disturbed):
    """Nothing else happens."""

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports, 0, self._nothing)

    async def _nothing(self) -> None:
        pass


class Failing(Disturbed):
    """The call raises Unavailable, before it has taken effect or after."""

    def __init__(self, ports: Ports, on_call: int, *, after: bool = False) -> None:
        super().__init__(ports, on_call, self._fail, after=after)

    async def _fail(self) -> None:
        raise Unavailable("something", f"call {len(self.calls)} failed")


class Away(Failing):
    """So does every call after it."""

    @asynccontextmanager
    async def _around(self, name: str) -> AsyncIterator[None]:
        if self.at is not None:
            await self._fail()
        async with super()._around(name):
            yield


class Stopped(Disturbed):
    """The task is cancelled there."""

    def __init__(self, ports: Ports, on_call: int, *, after: bool = False) -> None:
        super().__init__(ports, on_call, self._cancel, after=after)

    async def _cancel(self) -> None:
        raise asyncio.CancelledError


class Killed(BaseException):
    """A process that ends here."""


class Dying(Disturbed):
    """The process ends there: nothing that it would do afterwards, to tidy up, takes effect."""

    def __init__(self, ports: Ports, on_call: int, *, after: bool = False) -> None:
        super().__init__(ports, on_call, self._die, after=after)

    async def _die(self) -> None:
        raise Killed

    @asynccontextmanager
    async def _around(self, name: str) -> AsyncIterator[None]:
        if self.at is not None:
            await self._die()
        async with super()._around(name):
            yield


class _Port:
    def __init__(self, name: str, port: Any, around: Callable[[str], AbstractAsyncContextManager[None]]) -> None:
        self._name = name
        self._port = port
        self._around = around

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        what = f"{self._name}.{name}"

        async def call(*arguments: Any, **named: Any) -> Any:
            async with self._around(what):
                return await method(*arguments, **named)

        @asynccontextmanager
        async def enter(*arguments: Any) -> AsyncIterator[Any]:
            async with method(*arguments) as entered:
                async with self._around(what):
                    pass
                yield entered

        async def steps(*arguments: Any) -> AsyncGenerator[Any, None]:
            async with aclosing(method(*arguments)) as generated:
                while True:
                    async with self._around(what):
                        step = await anext(generated, None)
                    if step is None:
                        return
                    yield _Port(self._name, step, self._around) if hasattr(step, "remove") else step

        if not callable(method):
            return method
        if inspect.iscoroutinefunction(method):
            return call
        if inspect.isasyncgenfunction(method):
            return steps
        return enter if name in ("subscribe", "open") else method
