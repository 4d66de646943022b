"""Ask every dependency at once whether it can do its work."""

import asyncio
from collections.abc import Awaitable

from common.errors import NotMigrated, Unavailable
from common.ports import Ports
from common.telemetry import log

# Without these nothing can be promised; without the others uploads and reads go on.
ESSENTIAL = ("database", "object store")


async def check_dependencies(ports: Ports, time_limit_seconds: float) -> dict[str, str]:
    """→ for each dependency "ok", "unavailable" or "not migrated"."""
    checks = {
        "database": ports.images.check(),
        "object store": ports.blobs.check(),
        "queue": ports.queue.check(),
        "cache": ports.cache.check(),
        "identity provider": ports.tokens.check(),
    }
    answers = await asyncio.gather(*(_answer(name, check, time_limit_seconds) for name, check in checks.items()))
    return dict(zip(checks, answers, strict=True))


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
