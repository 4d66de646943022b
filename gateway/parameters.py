"""What is asked beside the path: query parameters, of which no unknown one passes in silence, and preferences."""

import re
from collections import Counter

from fastapi import Request
from starlette.datastructures import Headers

from common.errors import InvalidParameter
from gateway.dependencies import Caller

LONGEST_WAIT_SECONDS = 30
# RFC 7240, section 2, and 4.3 for `wait`.
_WAIT = re.compile(r'\s*wait\s*=\s*(?:"([0-9]{1,9})"|([0-9]{1,9}))\s*(?:;.*)?', re.IGNORECASE | re.ASCII)


async def only_known_parameters(request: Request, caller: Caller) -> None:
    """Each parameter of the operation once at most, and no other. After the token was judged, and before anything is looked up."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            there_are = f"there are {', '.join(sorted(known))}" if known else "this address takes none"
            raise InvalidParameter(readable(name), f"there is no such parameter; {there_are}")
        if count > 1:
            raise InvalidParameter(name, "may be given once")


def readable(name: str) -> str:
    """A name that somebody sent, as it may stand in an answer: printable, and not as long as its sender likes."""
    return "".join(char if char.isprintable() else "?" for char in name[:100]) or "(without a name)"


def wait_seconds(headers: Headers) -> int | None:
    """`Prefer: wait=N`, at most LONGEST_WAIT_SECONDS. The first one counts; what is malformed counts as not there."""
    for preference in ",".join(headers.getlist("Prefer")).split(","):
        if found := _WAIT.fullmatch(preference):
            return min(LONGEST_WAIT_SECONDS, int(found[1] or found[2]))
    return None
