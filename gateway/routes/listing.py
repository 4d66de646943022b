"""The caller's images, a page at a time."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BeforeValidator, StringConstraints

from common.errors import Forbidden, HeadersTooLarge, InvalidParameter, NotAcceptable, RateLimited, Unauthorized, Unavailable
from common.images import ImageStatus
from common.usecases.list_images import list_images
from gateway import headers
from gateway.cursors import cursor_of, position_in
from gateway.dependencies import Caller, InGateway
from gateway.negotiation import require_json
from gateway.problems import documented
from gateway.reading import NEGOTIATED, add_read, json_response, presigned
from gateway.schemas import IMAGES, ImagePage, ImageResource


def _plain_number(value: Any) -> Any:
    """Digits alone; the framework would take signs and blanks as well."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError("must be a number from 1 to 100")
    return value


Status = Annotated[ImageStatus | None, Query(description="only those in this state")]
Limit = Annotated[int, Query(ge=1, le=100, description="how many a page"), BeforeValidator(_plain_number)]
# Without control characters: no subject has any, and PostgreSQL takes no NUL.
Owner = Annotated[
    str | None,
    StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Query(description="only this subject's; of somebody else for the role admin alone"),
]
Cursor = Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before")]


# A page has no validator to ask by, so nothing is gained by keeping one.
NOT_KEPT = NEGOTIATED | {"Cache-Control": "private, no-store"}


def listing_router() -> APIRouter:
    router = APIRouter(tags=["Images"])
    problems = documented(Unauthorized, Forbidden, NotAcceptable, InvalidParameter, RateLimited, HeadersTooLarge, Unavailable)
    add_read(router, IMAGES, list_page, response_model=ImagePage, responses={200: {"headers": headers.LIST}} | problems)
    return router


async def list_page(
    caller: Caller,
    gateway: InGateway,
    request: Request,
    status: Status = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    owner: Owner = None,
) -> Response:
    """Images, the newest first: the caller's own, or with the role `admin` everybody's."""
    require_json(request.headers)
    query = (caller.subject, owner, status)
    after = None if cursor is None else position_in(cursor, *query)
    page = await list_images(gateway.ports, caller, owner=owner, status=status, after=after, limit=limit)
    content = ImagePage(
        items=[ImageResource.of(image, presigned(gateway, image)) for image in page.items],
        next_cursor=cursor_of(page.last, *query) if page.last else None,
    )
    return json_response(content, NOT_KEPT)
