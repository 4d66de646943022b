"""Wait until the database answers, and make sure that it is the one this program was written for."""

import asyncio

from common.errors import Unavailable
from common.ports import Ports
from common.telemetry import log

INTERVAL_SECONDS = 2.0


async def wait_for_database(ports: Ports, stop: asyncio.Event) -> None:
    """Returns when it answers, or when `stop` is set. Raises NotMigrated."""
    while not stop.is_set():
        try:
            await ports.images.check()
        except Unavailable as error:
            log.warning("waiting for the database", reason=error.reason)
            await sleep_or_stop(stop, INTERVAL_SECONDS)
        else:
            return


async def sleep_or_stop(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
