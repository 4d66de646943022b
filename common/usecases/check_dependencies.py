"""Ask every dependency at once whether it can do its work."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from common.errors import NotMigrated, Unavailable
from common.ports import Ports
from common.telemetry import log

# Without these nothing can be promised; without the others uploads and reads go on.
ESSENTIAL = ("database", "object_store")


@dataclass(frozen=True, slots=True)
class Readiness:
    """For each dependency "ok", "unavailable" or "not migrated"."""

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


async def check_dependencies(ports: Ports, time_limit_seconds: float, *, with_tokens: bool = True) -> Readiness:
    """Never raises for what is away. `with_tokens=False` for a program that judges no tokens."""
    checks: dict[str, Awaitable[None]] = {
        "database": ports.images.check(),
        "object_store": ports.blobs.check(),
        "queue": ports.queue.check(),
        "cache": ports.cache.check(),
    }
    if with_tokens:
        checks["identity_provider"] = ports.tokens.check()
    answers = await asyncio.gather(*(_answer(name, check, time_limit_seconds) for name, check in checks.items()))
    return Readiness(dict(zip(checks, answers, strict=True)))


async def _answer(name: str, check: Awaitable[None], time_limit_seconds: float) -> str:
    try:
        async with asyncio.timeout(time_limit_seconds):
            await check
    except NotMigrated:
        return "not migrated"
    except Unavailable as error:
        log.warning("dependency unavailable", dependency=name, reason=error.reason)
        return "unavailable"
    except TimeoutError:
        log.warning("dependency unavailable", dependency=name, reason=f"no answer in {time_limit_seconds} s")
        return "unavailable"
    return "ok"
