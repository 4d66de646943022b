"""A body that goes out as it comes in, for as long as somebody takes it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

from fastapi import Response
from starlette.types import Receive, Scope, Send


class Streamed(Response):
    """Stops at the next chunk when the client goes away. Starlette's own would cancel the read of a chunk, again and again until
    it gives way, which a read in a thread cannot: it would go on with a file that is closed."""

    def __init__(self, chunks: AsyncIterator[bytes], opening: AsyncExitStack, status: int, headers: Mapping[str, str]) -> None:
        """`opening` is closed when the answer has ended."""
        super().__init__(status_code=status, headers=headers)
        self._chunks, self._opening = chunks, opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in self._chunks:
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await asyncio.wait([gone])
            await self._opening.aclose()


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone. What it still sends is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass
