"""One image: the resource, its status, its bytes, and its end."""

import asyncio
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from common import processing
from common.errors import (
    ImageNotFound,
    InvalidParameter,
    NotAcceptable,
    ProcessingFailed,
    RateLimited,
    ResultNotReady,
    Unauthorized,
    Unavailable,
)
from common.formats import Format
from common.images import Image, Principal
from common.usecases.delete_image import delete_image
from common.usecases.fetch_content import content_of, find_content, find_original
from common.usecases.get_image import get_image
from common.usecases.wait_until_final import wait_until_final
from gateway.dependencies import Caller, Gateway, ImageId, InGateway
from gateway.negotiation import require_json, wants_picture
from gateway.parameters import wait_seconds
from gateway.problems import documented
from gateway.reading import add_read, content_response, presigned, resource_response
from gateway.schemas import IMAGES, Deleted, ImageResource, StatusResource

IMAGE = f"{IMAGES}/{{id}}"
PICTURES = {kind.value: {"schema": {"type": "string", "format": "binary"}} for kind in Format}
UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "Unchanged since the version in If-None-Match"}}
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes, streamed", "content": PICTURES},
    206: {"description": "The bytes of one range", "content": PICTURES},
}
ALL = (Unauthorized, ImageNotFound, InvalidParameter, RateLimited, Unavailable)
WAITING = {
    "parameters": [
        {
            "name": "Prefer",
            "in": "header",
            "schema": {"type": "string"},
            "description": "`wait=N`: answer as soon as the state is final, or after N seconds (at most 30)",
        }
    ]
}


def images_router() -> APIRouter:
    router = APIRouter(tags=["Images"])
    content = BYTES | UNCHANGED | documented(*ALL, ResultNotReady, ProcessingFailed)
    either: dict[int | str, dict[str, Any]] = {200: {"model": ImageResource, "content": PICTURES}, 206: BYTES[206]}
    either |= UNCHANGED | documented(*ALL, NotAcceptable, ResultNotReady, ProcessingFailed)
    add_read(router, IMAGE, read_image, responses=either, openapi_extra=WAITING)
    status = UNCHANGED | documented(*ALL, NotAcceptable)
    for path in (f"{IMAGE}/status", "/status/{id}"):
        add_read(router, path, read_status, response_model=StatusResource, responses=status, openapi_extra=WAITING)
    for path in (f"{IMAGE}/content", "/image/{id}"):
        add_read(router, path, read_content, response_class=Response, responses=content)
    add_read(router, f"{IMAGE}/original", read_original, response_class=Response, responses=BYTES | UNCHANGED | documented(*ALL))
    router.add_api_route(IMAGE, delete, methods=["DELETE"], response_model=Deleted, responses=documented(*ALL))
    return router


async def read_image(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """The image resource as JSON; or, where `Accept` ranks `image/*` above JSON, the processed picture."""
    image = await _awaited(caller, gateway, image_id, request)
    if wants_picture(request.headers, _content_type(image)):
        return await content_response(request, gateway, content_of(image))
    link = presigned(gateway, image)
    return resource_response(request, image, ImageResource.of(image, link), has_link=link is not None)


async def read_status(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """How far it is: `uploaded` → `queued` → `processing` → `completed` or `failed`."""
    image = await _awaited(caller, gateway, image_id, request)
    require_json(request.headers)
    return resource_response(request, image, StatusResource.of(image))


# What a client accepts is not looked at in these two: there is one form, and who asks for it by its address wants it.
async def read_content(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """The processed picture; `409` until there is one."""
    return await content_response(request, gateway, await find_content(gateway.ports, caller, image_id))


async def read_original(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """The bytes as uploaded."""
    return await content_response(request, gateway, await find_original(gateway.ports, caller, image_id))


async def delete(caller: Caller, gateway: InGateway, image_id: ImageId) -> Deleted:
    """Row, original, result and cache entry are gone, also when it is being processed at this moment."""
    await delete_image(gateway.ports, caller, image_id)
    return Deleted()


async def _awaited(caller: Principal, gateway: Gateway, image_id: UUID, request: Request) -> Image:
    """After the wait that was asked for, which ends early when the gateway stops."""
    seconds = wait_seconds(request.headers)
    if not seconds:
        return await get_image(gateway.ports, caller, image_id)
    waiting = asyncio.create_task(wait_until_final(gateway.ports, caller, image_id, seconds))
    stopping = asyncio.create_task(gateway.stopping.wait())
    try:
        await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else await get_image(gateway.ports, caller, image_id)
    finally:
        waiting.cancel()
        stopping.cancel()
        await asyncio.wait([waiting, stopping])


def _content_type(image: Image) -> str:
    """Of the result that there is or will be."""
    if image.result is not None:
        return image.result.content_type
    return processing.parse(image.processing).output_format(Format(image.content_type)).value
