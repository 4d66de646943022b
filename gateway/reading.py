"""What all reads share: HEAD beside GET, validators (RFC 9110, section 13), one range (section 14), and a body that is streamed."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from common.images import Image
from common.usecases.fetch_content import Content
from gateway.filenames import content_disposition
from gateway.problems import range_not_satisfiable

REVALIDATE = {"Cache-Control": "private, no-cache"}
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,1000})-([0-9]{0,1000})[ \t]*", re.IGNORECASE)


def add_read(router: APIRouter, path: str, endpoint: Callable[..., Any], **documentation: Any) -> None:
    """GET, and HEAD, which the description need not repeat."""
    router.add_api_route(path, endpoint, methods=["GET"], **documentation)
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def resource_response(request: Request, image: Image, resource: BaseModel) -> Response:
    """The tag is weak: the version says that nothing a reader cares for has changed, not that every byte is the same."""
    tag = f'W/"{image.version}"'
    headers = REVALIDATE | {"ETag": tag, "Vary": "Accept, Authorization"}
    if not image.status.is_final:
        headers["Retry-After"] = "1"
    if _is_known(request.headers, tag):
        return Response(status_code=304, headers=headers)
    return Response(resource.model_dump_json(by_alias=True), headers=headers, media_type="application/json")


def content_response(request: Request, content: Content) -> Response:
    """The blob has to stay open until the answer is sent. Raises range_not_satisfiable."""
    tag, size = f'"{content.sha256}"', content.blob.size_bytes
    headers = REVALIDATE | {"ETag": tag, "Vary": "Accept, Authorization", "Accept-Ranges": "bytes"}
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
    return _Streamed(_within(content.blob.chunks, span), status, headers)


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

    def __init__(self, chunks: AsyncIterator[bytes], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status, headers=headers)
        self._chunks = chunks

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
