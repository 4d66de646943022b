"""Examine an installation for its operator: does each service do its work, do the clocks agree, is anything left lying.

Really uses what it examines, and leaves nothing behind. Every examination has the same time limit, and all go on at once.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from common.errors import Full, ImageProcessorError, NotMigrated, Unavailable
from common.ports import Bucket, Ports

# Leases and retries go by the store's clock, tokens by the gateway's: Keycloak's may differ by 10 seconds.
CLOCK_SECONDS = 2.0
# What is due is dispatched every second.
OVERDUE_SECONDS = 60.0


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`what` was examined, what came of it, and `advice`: what to do where it is not ok. `seconds`: how long it took."""

    what: str
    level: Level
    detail: str
    advice: str = ""
    seconds: float = 0.0


Examination = Callable[[], Awaitable[Finding]]


async def examine(ports: Ports, time_limit_seconds: float, *more: tuple[str, Examination]) -> list[Finding]:
    """Never raises for what is away. `more`: examinations of others, by name."""
    examinations: list[tuple[str, Examination]] = [
        ("database", lambda: _database(ports)),
        ("clock", lambda: _clock(ports)),
        ("object store", lambda: _object_store(ports)),
        ("queue", lambda: _queue(ports)),
        ("cache", lambda: _cache(ports)),
        ("identity provider", lambda: _identity_provider(ports)),
        ("backlog", lambda: _backlog(ports)),
        *more,
    ]
    return await asyncio.gather(*(_limited(name, examination, time_limit_seconds) for name, examination in examinations))


# By the name of the examination, for where the service does not answer at all.
ADVICE = {
    "database": "Is PostgreSQL running, and POSTGRES_URL right?",
    "clock": "See the database.",
    "object store": "Is the object store running; are MINIO_ENDPOINT, its keys and their rights on both buckets right?",
    "queue": "Is RabbitMQ running, and RABBITMQ_URL right? Uploads go on without it; work waits.",
    "cache": "Is Redis running, and REDIS_URL right? Reads go on without it, more slowly.",
    "identity provider": "Is Keycloak running, and KEYCLOAK_URL and KEYCLOAK_REALM right?",
    "backlog": "See the database.",
}

# The same, for where it answers and takes nothing.
FULL = {"queue": "Uploads go on; work waits, and is done when it takes messages again."}


RIGHTS_ADVICE = "Are this account's rights as they must be? See image-processor accounts."
# By what OpenSSL or the service says of it, which is in the reasons of every adapter.
REASONS = {
    **dict.fromkeys(("permission denied", "AccessDenied", "ACCESS_REFUSED - access", "NoPermissionError"), RIGHTS_ADVICE),
    **dict.fromkeys(
        ("NOT_ALLOWED - vhost", "NOT_ALLOWED - access to vhost"),
        "Make the virtual host that RABBITMQ_URL names, with rights in it for its user, or run: image-processor accounts",
    ),
    "CERTIFICATE_VERIFY_FAILED": "Is its certificate by a CA in TLS_CA_FILE, and for the host name in the setting?",
    "WRONG_VERSION_NUMBER": "It answers, but not in TLS: is this its TLS port, and TLS turned on there?",
    "no answer in TLS": "Is it running; is this its TLS port, and TLS turned on there?",
    "rejected SSL upgrade": "It answers, but has no TLS: is ssl turned on there?",
    "[SSL": "TLS cannot be agreed on: are its versions, ciphers and, where asked for, the client's certificate right?",
}


def advice_on(reason: str) -> str:
    """Empty where it tells nothing of what to do."""
    return next((advice for words, advice in REASONS.items() if words in reason), "")


async def _limited(name: str, examination: Examination, seconds: float) -> Finding:
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            found = await examination()
    except NotMigrated as error:
        found = Finding(what=name, level=Level.FAILED, detail=error.detail, advice="Run: image-processor migrate")
    except Full as error:
        advice = f"Make room: its memory or disk has run low. {FULL.get(name, '')}".strip()
        found = Finding(what=name, level=Level.FAILED, detail=error.reason, advice=advice)
    except Unavailable as error:
        found = Finding(what=name, level=Level.FAILED, detail=error.reason, advice=advice_on(error.reason) or ADVICE.get(name, ""))
    except TimeoutError:
        detail = f"no answer in {seconds:g} s"
        found = Finding(what=name, level=Level.FAILED, detail=detail, advice=ADVICE.get(name, ""))
    except ImageProcessorError as error:
        found = Finding(what=name, level=Level.FAILED, detail=error.detail)
    except Exception as error:  # noqa: BLE001 - a service that answers what nobody expects is one finding, and not the end of all
        detail = " ".join(str(error).split("\n", 1)[0].split()) or type(error).__name__
        found = Finding(what=name, level=Level.FAILED, detail=detail, advice=RIGHTS_ADVICE)
    return Finding(what=found.what, level=found.level, detail=found.detail, advice=found.advice, seconds=time.monotonic() - started)


async def _database(ports: Ports) -> Finding:
    await ports.images.check()
    return Finding(what="database", level=Level.OK, detail="answers, and is of this program's revision or a later one")


async def _clock(ports: Ports) -> Finding:
    before = datetime.now(UTC)
    there = await ports.upkeep.now()
    after = datetime.now(UTC)
    ahead = max((there - after).total_seconds(), 0.0) - max((before - there).total_seconds(), 0.0)
    if abs(ahead) > CLOCK_SECONDS:
        detail = f"the database's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
        advice = "Let both be set by NTP. Leases and retries go by the database's; tokens are judged by this one's."
        return Finding(what="clock", level=Level.WARNING, detail=detail, advice=advice)
    return Finding(what="clock", level=Level.OK, detail="the database's and this machine's agree")


async def _object_store(ports: Ports) -> Finding:
    await ports.blobs.check()
    key, content = f"doctor/{uuid4()}", b"written by image-processor doctor"
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        await asyncio.to_thread(source.write_bytes, content)
        for bucket in Bucket:
            await ports.blobs.put(bucket, key, source, "text/plain")
            try:
                await ports.blobs.fetch(bucket, key, target)
            finally:
                await ports.blobs.delete(bucket, key)
            if await asyncio.to_thread(target.read_bytes) != content:
                detail = f"{bucket} gives back other bytes than were put"
                return Finding(what="object store", level=Level.FAILED, detail=detail, advice="Is a cache or proxy in between?")
    return Finding(what="object store", level=Level.OK, detail="puts, gives back and deletes in both buckets")


async def _queue(ports: Ports) -> Finding:
    await ports.queue.check()
    depths = await ports.queue.depths()
    waiting = ", ".join(f"{count} {name}" for name, count in depths.items() if name != "dead")
    if dead := depths["dead"]:
        detail, advice = f"{dead} dead letters (waiting: {waiting})", "See what failed: image-processor dead list"
        return Finding(what="queue", level=Level.WARNING, detail=detail, advice=advice)
    return Finding(what="queue", level=Level.OK, detail=f"answers; exchanges and queues are as they must be (waiting: {waiting})")


async def _cache(ports: Ports) -> Finding:
    await ports.cache.get(uuid4())
    return Finding(what="cache", level=Level.OK, detail="answers, and takes entries")


async def _identity_provider(ports: Ports) -> Finding:
    await ports.tokens.check()
    return Finding(what="identity provider", level=Level.OK, detail="the realm's keys are there")


async def _backlog(ports: Ports) -> Finding:
    await ports.images.check()  # without its tables there is nothing to ask
    backlog = await ports.upkeep.backlog()
    waiting = ", ".join(f"{count} {status}" for status, count in backlog.images.items())
    if backlog.overdue_seconds > OVERDUE_SECONDS:
        return Finding(
            what="backlog",
            level=Level.WARNING,
            detail=f"images are due for {backlog.overdue_seconds:.0f} s, and nobody puts them on the queue ({waiting})",
            advice="Is a worker running, and does it reach the database and the queue?",
        )
    oldest = max(backlog.oldest_seconds.values())
    return Finding(what="backlog", level=Level.OK, detail=f"{waiting}; the oldest of them for {oldest:.0f} s")
