"""Something else that happens at a chosen call of a use case to its ports, to sweep it over all of them."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from common.errors import Unavailable
from common.ports import Ports

PORTS = ("images", "upkeep", "blobs", "queue", "cache", "notifier")


class Disturbed:
    """`ports`: the same as those given, but `what` is done just before their call number `on_call` takes effect, or just after.
    Calls are counted from 1, over all the ports; `calls` are the names of those there were, and `at` that of the disturbed one."""

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

        if inspect.iscoroutinefunction(method):
            return call
        return enter if name == "subscribe" else method
