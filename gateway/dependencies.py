"""What endpoints are given: the ports and settings, who is calling, and which image is meant.

A token is judged before anything else of a request is looked at, and never logged or repeated; then its bearer's rate.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request

from common.errors import ImageNotFound, RateLimited, Unauthorized, Unavailable
from common.images import Principal
from common.ports import Ports
from common.settings import Settings
from common.telemetry import RATE_LIMITED, RATE_UNKNOWN, UPLOADS_SHED, log
from common.usecases.check_dependencies import Dependencies

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Intake:
    """The uploads that are under way, of which there may be so many and no more."""

    def __init__(self, places: int) -> None:
        self._free = places

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Raises Unavailable at once where all places are taken: waiting would hold a connection and make the crowd larger."""
        if not self._free:
            UPLOADS_SHED.inc()
            raise Unavailable("gateway", "too many uploads are under way")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What the application holds on to, as `app.state.gateway`. `waits`: places for answers that are held back. `stopping`: nobody
    should be kept waiting any more."""

    settings: Settings
    ports: Ports
    intake: Intake
    waits: asyncio.Semaphore
    dependencies: Dependencies
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def caller_of(request: Request, gateway: Annotated[Gateway, Depends(gateway_of)]) -> Principal:
    """RFC 6750, section 2.1; a token in the form or the query is not looked at."""
    given = request.headers.getlist("Authorization")
    if len(given) > 1:
        raise Unauthorized("There are several Authorization headers; send one.")
    # Only these are spaces in a header; what Python also takes for one would be dropped from the token in silence.
    scheme, _, token = (given[0] if given else "").strip(" \t").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("Send an access token in the header Authorization: Bearer …", token_given=False)
    principal = await gateway.ports.tokens.verify(token)
    await _admit(gateway, principal)
    return principal


async def _admit(gateway: Gateway, principal: Principal) -> None:
    """Lets everybody in while rates cannot be looked up."""
    if gateway.ports.limiter is None:
        return
    try:
        await gateway.ports.limiter.admit(principal.subject)
    except RateLimited:
        RATE_LIMITED.inc()
        raise
    except Unavailable as error:
        RATE_UNKNOWN.inc()
        log.debug("rate not looked up", reason=error.reason)


async def image_id_of(image_id: Annotated[str, Path(alias="id", json_schema_extra={"format": "uuid"})]) -> UUID:
    """What is no UUID is the id of no image."""
    if not _UUID.fullmatch(image_id):
        raise ImageNotFound("There is no image with this id.")
    return UUID(image_id)


InGateway = Annotated[Gateway, Depends(gateway_of)]
Caller = Annotated[Principal, Depends(caller_of)]
ImageId = Annotated[UUID, Depends(image_id_of)]
