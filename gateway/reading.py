"""What all reads share: HEAD beside GET, validators (RFC 9110, section 13), one range (section 14), and a body that is streamed."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from common.images import Image
from common.ports import Bucket
from common.usecases.fetch_content import Content, opened
from gateway.dependencies import Gateway
from gateway.filenames import content_disposition
from gateway.parameters import wait_seconds
from gateway.problems import range_not_satisfiable

VARY = {"Vary": "Accept, Authorization"}
# A link is good for at least LINK_SECONDS less this, whenever its resource was kept.
LINK_WINDOW_SECONDS = 300
REVALIDATE = {"Cache-Control": "private, no-cache"}
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,1000})-([0-9]{0,1000})[ \t]*", re.IGNORECASE)


def add_read(router: APIRouter, path: str, endpoint: Callable[..., Any], **documentation: Any) -> None:
    """GET, and HEAD, which the description need not repeat."""
    router.add_api_route(path, endpoint, methods=["GET"], **documentation)
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def presigned(gateway: Gateway, image: Image) -> str | None:
    """A link to the result that works without a token for a while, where the store makes such."""
    result = image.result
    if result is None:
        return None
    disposition = content_disposition(image.filename, result.content_type)
    return gateway.ports.blobs.link(Bucket.PROCESSED, result.key, result.content_type, disposition)


def resource_response(request: Request, image: Image, resource: BaseModel, *, has_link: bool = False) -> Response:
    """The tag is weak: the version says that nothing a reader cares for has changed, not that every byte is the same. `has_link`:
    a presigned link is in it; the tag then changes from time to time, so that nobody keeps one that no longer works."""
    tag = f'W/"{image.version}-{int(time.time()) // LINK_WINDOW_SECONDS}"' if has_link else f'W/"{image.version}"'
    headers = REVALIDATE | VARY | {"ETag": tag}
    if (waited := wait_seconds(request.headers)) is not None:
        headers["Preference-Applied"] = f"wait={waited}"
    if not image.status.is_final:
        headers["Retry-After"] = "1"
    if _is_known(request.headers, tag):
        return Response(status_code=304, headers=headers)
    return Response(resource.model_dump_json(by_alias=True), headers=headers, media_type="application/json")


async def content_response(request: Request, gateway: Gateway, content: Content) -> Response:
    """Asks the object store only where bytes are sent. Raises range_not_satisfiable, ImageNotFound, Unavailable."""
    tag, size = f'"{content.sha256}"', content.size_bytes
    headers = REVALIDATE | VARY | {"ETag": tag, "Accept-Ranges": "bytes"}
    if _is_known(request.headers, tag):
        return Response(status_code=304, headers=headers)
    headers |= {
        "Content-Type": content.content_type,
        "Content-Disposition": content_disposition(content.image.filename, content.content_type),
    }
    span = _span(request, tag, size)
    status = 206 if span else 200
    if span:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    span = span or _Span(0, size)
    headers["Content-Length"] = str(span.stop - span.start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    opening = AsyncExitStack()
    blob = await opening.enter_async_context(opened(gateway.ports, content))
    return _Streamed(_within(blob.chunks, span), opening, status, headers)


def _is_known(headers: Headers, tag: str) -> bool:
    """If-None-Match, which compares weakly (RFC 9110, section 13.1.2)."""
    given = ",".join(headers.getlist("If-None-Match"))
    return given.strip() == "*" or tag.removeprefix("W/") in _ENTITY_TAG.findall(given)


@dataclass(frozen=True, slots=True)
class _Span:
    """Bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int


def _span(request: Request, tag: str, size: int) -> _Span | None:
    """None for the whole: no range, one in an unknown form, several, or one of other content than this (If-Range)."""
    given = _ONE_RANGE.fullmatch(request.headers.get("Range", ""))
    if request.method != "GET" or given is None or request.headers.get("If-Range", tag) != tag:
        return None
    first, last = given.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise range_not_satisfiable(size)
    return _Span(start, stop)


class _Streamed(Response):
    """Stops at the next chunk when the client goes away. Starlette's own would cancel the read of a chunk, again and again until
    it gives way, which a read in a thread cannot: it would go on with a file that is closed."""

    def __init__(self, chunks: AsyncIterator[bytes], opening: AsyncExitStack, status: int, headers: Mapping[str, str]) -> None:
        """`opening` is closed when the answer has ended."""
        super().__init__(status_code=status, headers=headers)
        self._chunks, self._opening = chunks, opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnected(receive))
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


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _within(chunks: AsyncIterator[bytes], span: _Span) -> AsyncIterator[bytes]:
    position = 0
    async for chunk in chunks:
        wanted = chunk[max(0, span.start - position) : max(0, span.stop - position)]
        position += len(chunk)
        if wanted:
            yield wanted
        if position >= span.stop:
            break
