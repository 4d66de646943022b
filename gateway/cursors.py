"""Where the next page of a list begins, as opaque text. It belongs to one caller's one query, and a changed one is noticed.

That is against mistakes: a cursor gives no more than its caller may see anyway, so there is no secret in it.
"""

import base64
import hashlib
import json
from uuid import UUID

from common.errors import InvalidParameter

DIGEST_BYTES = 17  # with the id's 16 a multiple of three, so that base64 has no spare bits


def cursor_of(position: UUID, *query: str | None) -> str:
    return base64.urlsafe_b64encode(position.bytes + _digest(position, query)).decode()


def position_in(cursor: str, *query: str | None) -> UUID:
    """Raises InvalidParameter for what `cursor_of` has not made for this query."""
    try:
        position = UUID(bytes=base64.urlsafe_b64decode(cursor.encode("ascii"))[:16])
    except ValueError:
        position = None
    if position is None or cursor_of(position, *query) != cursor:
        raise InvalidParameter("cursor", "is none that this list has given out; begin again without one")
    return position


def _digest(position: UUID, query: tuple[str | None, ...]) -> bytes:
    return hashlib.sha256(json.dumps([str(position), *query]).encode()).digest()[:DIGEST_BYTES]
