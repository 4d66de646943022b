"""`Prefer: wait=N` (RFC 7240): the answer is held back until the image is final, or N seconds are over.

A wait also ends when the gateway stops, with what there is then, and when its client has gone. It costs the connection, a
few tasks and a place with the notifier, and neither a thread nor a connection to any service. As a preference may be declined, so
is the one that would be one too many: it is answered at once, without Preference-Applied, and the client asks again as others do.
"""

import asyncio
import re
import time
from urllib.request import parse_http_list

from fastapi import Request
from starlette.datastructures import Headers

from common.images import Image, Principal
from common.telemetry import WAIT_SECONDS, WAITS
from common.usecases.get_image import get_image
from common.usecases.wait_until_final import wait_until_final
from gateway.dependencies import Gateway
from gateway.streaming import disconnected

LONGEST_WAIT_SECONDS = 30
# RFC 7240, section 2, and 4.3 for `wait`.
_WAIT = re.compile(r'\s*wait\s*=\s*(?:"([0-9]{1,1000})"|([0-9]{1,1000}))\s*(?:;.*)?', re.IGNORECASE | re.ASCII)


def wait_seconds(headers: Headers) -> int | None:
    """At most LONGEST_WAIT_SECONDS. The first one counts; what is malformed counts as not there."""
    for preference in parse_http_list(",".join(headers.getlist("Prefer"))):
        if found := _WAIT.fullmatch(preference):
            return min(LONGEST_WAIT_SECONDS, int(found[1] or found[2]))
    return None


async def awaited(request: Request, gateway: Gateway, caller: Principal, image: Image) -> tuple[Image, dict[str, str]]:
    """→ the image as it is after the wait that was asked for, if any, and the header that says so. Raises as `get_image`
    does."""
    seconds = wait_seconds(request.headers)
    if seconds is None:
        return image, {}
    if seconds and not image.status.is_final:
        if gateway.waits.locked():
            WAITS.labels("declined").inc()
            return image, {}
        async with gateway.waits:
            started = time.perf_counter()
            try:
                image = await _wait(request, gateway, caller, image, seconds)
            finally:
                # What the client asked for says nothing about how fast it is answered.
                request.state.waited_seconds = time.perf_counter() - started
                WAIT_SECONDS.observe(request.state.waited_seconds)
    return image, {"Preference-Applied": f"wait={seconds}"}


async def _wait(request: Request, gateway: Gateway, caller: Principal, image: Image, seconds: int) -> Image:
    waiting = asyncio.create_task(wait_until_final(gateway.ports, caller, image.id, seconds))
    stopping = asyncio.create_task(gateway.stopping.wait())
    gone = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait([waiting, stopping, gone], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        return await get_image(gateway.ports, caller, image.id)
    finally:
        for task in (waiting, stopping, gone):
            task.cancel()
        # With what they raise, so that the loop does not report an error that nobody is left to handle.
        await asyncio.gather(waiting, stopping, gone, return_exceptions=True)
