"""What a reader has already, and which part it wants: If-None-Match (RFC 9110, section 13.1.2), Range and If-Range (section 14).

There are no dates to compare with, so conditions with dates hold as for a resource without them. If-Match is not looked at: no
version of an image replaces another, so there is nothing that one client could lose by another's write.
"""

import re

from fastapi import Request
from starlette.datastructures import Headers

from gateway.problems import range_not_satisfiable

_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,1000})-([0-9]{0,1000})[ \t]*", re.IGNORECASE)


def is_known(headers: Headers, tag: str) -> bool:
    """If-None-Match compares weakly."""
    given = ",".join(headers.getlist("If-None-Match"))
    return given.strip() == "*" or tag.removeprefix("W/") in _ENTITY_TAG.findall(given)


def part_asked(request: Request, tag: str, size: int) -> range | None:
    """None for the whole: no range, one in an unknown form, several, or one of other content than this (If-Range).
    Raises range_not_satisfiable."""
    given = _ONE_RANGE.fullmatch(",".join(request.headers.getlist("Range")))
    if request.method != "GET" or given is None or (request.headers.getlist("If-Range") or [tag]) != [tag]:
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
    return range(start, stop)
