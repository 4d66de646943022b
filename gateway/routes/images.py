"""Reading an image: the resource, its status, its bytes."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from common.errors import ImageNotFound, ProcessingFailed, ResultNotReady, Unauthorized, Unavailable
from common.usecases.fetch_content import Content, open_content, open_original
from common.usecases.get_image import get_image
from gateway.dependencies import Caller, ImageId, InGateway
from gateway.problems import documented
from gateway.reading import add_read, content_response, resource_response
from gateway.schemas import IMAGES, ImageResource, StatusResource

IMAGE = f"{IMAGES}/{{id}}"
UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "Unchanged since the version in If-None-Match"}}
READ = UNCHANGED | documented(Unauthorized, ImageNotFound, Unavailable)
BYTES: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
    for status, description in ((200, "The bytes, streamed"), (206, "The bytes of one range"))
}


def images_router() -> APIRouter:
    router = APIRouter(tags=["Images"])
    content = BYTES | UNCHANGED | documented(Unauthorized, ImageNotFound, ResultNotReady, ProcessingFailed, Unavailable)
    add_read(router, IMAGE, read_image, response_model=ImageResource, responses=READ)
    for path in (f"{IMAGE}/status", "/status/{id}"):
        add_read(router, path, read_status, response_model=StatusResource, responses=READ)
    for path in (f"{IMAGE}/content", "/image/{id}"):
        add_read(router, path, read_content, response_class=Response, responses=content)
    add_read(router, f"{IMAGE}/original", read_original, response_class=Response, responses=BYTES | READ)
    return router


async def read_image(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """The image resource."""
    image = await get_image(gateway.ports, caller, image_id)
    return resource_response(request, image, ImageResource.of(image))


async def read_status(caller: Caller, gateway: InGateway, image_id: ImageId, request: Request) -> Response:
    """How far it is: `uploaded` → `queued` → `processing` → `completed` or `failed`."""
    image = await get_image(gateway.ports, caller, image_id)
    return resource_response(request, image, StatusResource.of(image))


# Generators, because the blob has to stay open until the answer is sent.
async def _content(caller: Caller, gateway: InGateway, image_id: ImageId) -> AsyncIterator[Content]:
    async with open_content(gateway.ports, caller, image_id) as content:
        yield content


async def _original(caller: Caller, gateway: InGateway, image_id: ImageId) -> AsyncIterator[Content]:
    async with open_original(gateway.ports, caller, image_id) as content:
        yield content


async def read_content(content: Annotated[Content, Depends(_content)], request: Request) -> Response:
    """The processed picture; `409` until there is one."""
    return content_response(request, content)


async def read_original(content: Annotated[Content, Depends(_original)], request: Request) -> Response:
    """The bytes as uploaded."""
    return content_response(request, content)
