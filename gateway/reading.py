"""What all reads share: HEAD beside GET, the headers that caches go by, and bytes asked of the store only where they are sent.

A reader's copy is its own (private) and may be kept, to be asked about each time (no-cache) with its entity tag.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from common.images import Image
from common.ports import Bucket
from common.usecases.fetch_content import Content, opened
from gateway.conditions import is_known, part_asked
from gateway.dependencies import Gateway
from gateway.filenames import content_disposition
from gateway.streaming import Streamed

KEPT = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}
# Where what a client accepts is looked at, too.
NEGOTIATED = KEPT | {"Vary": "Accept, Authorization"}
# A link is good for at least LINK_SECONDS less this, whenever its resource was kept.
LINK_WINDOW_SECONDS = 300


def add_read(router: APIRouter, path: str, endpoint: Callable[..., Any], **documentation: Any) -> None:
    """GET, and HEAD, which the description need not repeat."""
    router.add_api_route(path, endpoint, methods=["GET"], **documentation)
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def json_response(content: BaseModel, headers: Mapping[str, str]) -> Response:
    return Response(content.model_dump_json(by_alias=True), headers=headers, media_type="application/json")


def presigned(gateway: Gateway, image: Image) -> str | None:
    """A link to the result that works without a token for a while, where the store makes such."""
    result = image.result
    if result is None:
        return None
    disposition = content_disposition(image.filename, result.content_type)
    return gateway.ports.blobs.link(Bucket.PROCESSED, result.key, result.content_type, disposition)


def resource_response(
    request: Request, image: Image, resource: BaseModel, headers: Mapping[str, str], *, has_link: bool = False
) -> Response:
    """The tag is weak: the version says that nothing a reader cares for has changed, not that every byte is the same. `has_link`:
    a presigned link is in it; the tag then changes from time to time, so that nobody keeps one that no longer works."""
    tag = f'W/"{image.version}-{int(time.time()) // LINK_WINDOW_SECONDS}"' if has_link else f'W/"{image.version}"'
    headers = {**NEGOTIATED, **headers, "ETag": tag}
    if not image.status.is_final:
        headers["Retry-After"] = "1"
    if is_known(request.headers, tag):
        return Response(status_code=304, headers=headers)
    return json_response(resource, headers)


async def content_response(request: Request, gateway: Gateway, content: Content, headers: Mapping[str, str]) -> Response:
    """Asks the object store only where bytes are sent. Raises range_not_satisfiable, ImageNotFound, Unavailable."""
    tag, size = f'"{content.sha256}"', content.size_bytes
    headers = {**headers, "ETag": tag}
    if is_known(request.headers, tag):
        return Response(status_code=304, headers=headers)
    headers["Accept-Ranges"] = "bytes"
    headers["Content-Type"] = content.content_type
    headers["Content-Disposition"] = content_disposition(content.image.filename, content.content_type)
    part = part_asked(request, tag, size)
    if part:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    status = 206 if part else 200
    headers["Content-Length"] = str(len(part) if part else size)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    opening = AsyncExitStack()
    blob = await opening.enter_async_context(opened(gateway.ports, content, part))
    return Streamed(blob.chunks, opening, status, headers)
