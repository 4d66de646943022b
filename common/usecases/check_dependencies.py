"""Ask every dependency at once whether it can do its work, on behalf of however many who want to know.

Promises an answer within its time limit, whatever hangs; that no dependency is asked twice at a time, or more than once a second;
and so that probes cost little, and never pile up on what is silent. An answer may be that second old.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from common.errors import Full, NotMigrated, Unavailable, WrongConfiguration
from common.ports import JobSource, Ports
from common.telemetry import log

# Without these nothing can be promised; without the others uploads and reads go on.
ESSENTIAL = ("database", "object_store")
FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """For each dependency "ok", or one of the words of `_word_for`."""

    checks: dict[str, str]

    @property
    def status(self) -> str:
        """ok: all answer; degraded: all essential ones do; unavailable: one of those does not."""
        if any(self.checks.get(name, "ok") != "ok" for name in ESSENTIAL):
            return "unavailable"
        return "ok" if all(answer == "ok" for answer in self.checks.values()) else "degraded"

    @property
    def is_ready(self) -> bool:
        return self.status != "unavailable"


class Dependencies:
    """What a program stands on. `judges_tokens`, `consumes`: which of the two it does."""

    def __init__(self, ports: Ports, *, judges_tokens: bool = False, consumes: bool = False) -> None:
        self._checks = [
            _Check("database", ports.images),
            _Check("object_store", ports.blobs),
            _Check("queue", ports.queue),
            _Check("cache", ports.cache),
        ]
        if judges_tokens:
            self._checks.append(_Check("identity_provider", ports.tokens))
        if consumes:
            self._checks.append(_Check("consumer", _Consumer(ports.jobs)))

    async def readiness(self, time_limit_seconds: float) -> Readiness:
        """Never raises for what is away."""
        answers = await asyncio.gather(*(check.answer(time_limit_seconds) for check in self._checks))
        return Readiness({check.name: answer for check, answer in zip(self._checks, answers, strict=True)})


class _Dependency(Protocol):
    async def check(self) -> None: ...


class _Consumer:
    """Not a service, but whether this program gets anything from one."""

    def __init__(self, jobs: JobSource) -> None:
        self._jobs = jobs

    async def check(self) -> None:
        if not self._jobs.is_receiving:
            raise Unavailable("queue", "no messages are being received")


class _Check:
    def __init__(self, name: str, dependency: _Dependency) -> None:
        self.name = name
        self._dependency = dependency
        self._asking: asyncio.Task[str] | None = None
        self._asked_at = 0.0
        self._last = "ok"

    async def answer(self, time_limit_seconds: float) -> str:
        """Who comes while another asks waits for that one's answer, and no longer. One whose time is over may take longer to end,
        as a thread does; then nobody waits, until it has ended."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now >= self._asked_at + FRESH_SECONDS):
            self._asking, self._asked_at = asyncio.create_task(self._asked(time_limit_seconds)), now
        await asyncio.wait([self._asking], timeout=max(0.0, self._asked_at + time_limit_seconds - now))
        return self._asking.result() if self._asking.done() else "unavailable"

    async def _asked(self, time_limit_seconds: float) -> str:
        try:
            async with asyncio.timeout(time_limit_seconds):
                await self._dependency.check()
        except TimeoutError:
            word, reason = "unavailable", f"no answer in {time_limit_seconds} s"
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a dependency, the others are told of
            word, reason = _word_for(error)
        else:
            word, reason = "ok", ""
        if word != self._last:
            tell = log.info if word == "ok" else log.warning
            tell("dependency changed", dependency=self.name, state=word, reason=reason)
        self._last = word
        return word


def _word_for(error: Exception) -> tuple[str, str]:
    """→ what is told to everybody, and the reason, for the log alone."""
    match error:
        case Full():
            return "full", error.reason
        case Unavailable():
            return "unavailable", error.reason
        case NotMigrated():
            return "not migrated", error.detail
        case WrongConfiguration():
            return "misconfigured", error.detail
        case _:
            return "failing", repr(error)
