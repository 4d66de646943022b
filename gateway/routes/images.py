"""One image: the resource, its status, its bytes, and its end."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from common import processing
from common.errors import (
    HeadersTooLarge,
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
from common.images import Image
from common.usecases.delete_image import delete_image
from common.usecases.fetch_content import content_of, find_content, find_original
from common.usecases.get_image import get_image
from gateway import headers
from gateway.dependencies import Caller, ImageId, InGateway
from gateway.negotiation import require_json, wants_picture
from gateway.problems import RANGE_NOT_SATISFIABLE, documented
from gateway.reading import KEPT, NEGOTIATED, add_read, content_response, json_response, presigned, resource_response
from gateway.routing import ImageRoute
from gateway.schemas import IMAGES, Deleted, ImageResource, StatusResource
from gateway.waiting import awaited

IMAGE = f"{IMAGES}/{{id}}"
ALWAYS = (Unauthorized, ImageNotFound, InvalidParameter, RateLimited, HeadersTooLarge, Unavailable)
NO_RESULT = (ResultNotReady, ProcessingFailed)

Answers = dict[int | str, dict[str, Any]]
PICTURE = {kind.value: {"schema": {"type": "string", "format": "binary"}} for kind in Format}
PART = {"description": "The bytes of one range", "content": PICTURE}
KNOWN = {"description": "What the client has, by If-None-Match"}
BYTES: Answers = {
    200: {"description": "The bytes, streamed", "content": PICTURE, "headers": headers.BYTES},
    206: PART | {"headers": headers.PART},
    304: KNOWN | {"headers": headers.UNCHANGED},
}
RESOURCE: Answers = {200: {"headers": headers.RESOURCE}, 304: KNOWN | {"headers": headers.RESOURCE}}
EITHER: Answers = {
    200: {"model": ImageResource, "content": PICTURE, "headers": headers.EITHER},
    206: PART | {"headers": headers.EITHER_PART},
    304: KNOWN | {"headers": headers.RESOURCE},
}


def images_router() -> APIRouter:
    router = APIRouter(tags=["Images"], route_class=ImageRoute)
    of_bytes = [headers.IF_NONE_MATCH, headers.RANGE, headers.IF_RANGE]

    problems = documented(*ALWAYS, NotAcceptable)
    for path in (f"{IMAGE}/status", "/status/{id}"):
        asked = [headers.PREFER, headers.IF_NONE_MATCH]
        _read(router, path, read_status, asked, response_model=StatusResource, responses=RESOURCE | problems)

    problems = documented(*ALWAYS, NotAcceptable, *NO_RESULT, RANGE_NOT_SATISFIABLE)
    _read(router, IMAGE, read_image, [headers.PREFER, *of_bytes], responses=EITHER | problems)

    problems = documented(*ALWAYS, *NO_RESULT, RANGE_NOT_SATISFIABLE)
    for path in (f"{IMAGE}/content", "/image/{id}"):
        _read(router, path, read_content, of_bytes, response_class=Response, responses=BYTES | problems)

    problems = documented(*ALWAYS, RANGE_NOT_SATISFIABLE)
    _read(router, f"{IMAGE}/original", read_original, of_bytes, response_class=Response, responses=BYTES | problems)

    router.add_api_route(IMAGE, delete, methods=["DELETE"], response_model=Deleted, responses=documented(*ALWAYS))
    return router


def _read(router: APIRouter, path: str, endpoint: Callable[..., Any], asked: list[dict[str, Any]], **documentation: Any) -> None:
    add_read(router, path, endpoint, openapi_extra={"parameters": asked}, **documentation)


async def read_image(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """The image resource as JSON; or, where `Accept` ranks `image/*` above JSON, the processed picture."""
    image = await get_image(gateway.ports, caller, image_id)
    as_picture = wants_picture(request.headers, _content_type(image))
    image, applied = await awaited(request, gateway, caller, image)
    if as_picture:
        return await content_response(request, gateway, content_of(image), NEGOTIATED | applied)
    link = presigned(gateway, image)
    return resource_response(request, image, ImageResource.of(image, link), applied, has_link=link is not None)


async def read_status(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """How far it is: `uploaded` → `queued` → `processing` → `completed` or `failed`."""
    image = await get_image(gateway.ports, caller, image_id)
    require_json(request.headers)
    image, applied = await awaited(request, gateway, caller, image)
    return resource_response(request, image, StatusResource.of(image), applied)


# These two disregard Accept: each has one form, and who asks for it by its own address wants that. A browser's <img> or a download
# program, whose Accept is seldom meant, gets the picture whatever its format.
async def read_content(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """The processed picture, whatever `Accept` says; `409` until there is one."""
    return await content_response(request, gateway, await find_content(gateway.ports, caller, image_id), KEPT)


async def read_original(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """The bytes as uploaded, whatever `Accept` says."""
    return await content_response(request, gateway, await find_original(gateway.ports, caller, image_id), KEPT)


async def delete(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """Row, original, result and cache entry are gone, also when it is being processed at this moment."""
    await delete_image(gateway.ports, caller, image_id)
    return json_response(Deleted(), {"Cache-Control": "no-store"})


def _content_type(image: Image) -> str:
    """Of the result that there is or will be."""
    if image.result is not None:
        return image.result.content_type
    return processing.parse(image.processing).output_format(Format(image.content_type)).value
