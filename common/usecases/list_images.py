"""List images a page at a time, the newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from common.errors import Forbidden
from common.images import Image, ImageStatus, Principal
from common.ports import Ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`last`: the id after which the next page begins; None where this is the end."""

    items: Sequence[Image]
    last: UUID | None


async def list_images(
    ports: Ports, principal: Principal, *, owner: str | None, status: ImageStatus | None, after: UUID | None, limit: int
) -> Page:
    """The caller's own images; an admin's view is of all, or of one owner's. Raises Forbidden for somebody else's owner."""
    if not principal.is_admin:
        if owner not in (None, principal.subject):
            raise Forbidden("Only the role admin may list the images of somebody else; leave owner away for your own.")
        owner = principal.subject
    found = await ports.images.page(owner=owner, status=status, before=after, limit=limit + 1)
    items = found[:limit]
    return Page(items=items, last=items[-1].id if len(found) > limit else None)
