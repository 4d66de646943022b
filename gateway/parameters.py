"""Query parameters, of which no unknown one passes in silence."""

from collections import Counter

from fastapi import Request

from common.errors import InvalidParameter
from gateway.dependencies import Caller


async def only_known_parameters(request: Request, caller: Caller) -> None:
    """Each parameter of the operation once at most, and no other. After the token was judged, and before anything is looked up."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            there_are = f"there are {', '.join(sorted(known))}" if known else "this address takes none"
            raise InvalidParameter(_readable(name), f"there is no such parameter; {there_are}")
        if count > 1:
            raise InvalidParameter(name, "may be given once")


def _readable(name: str) -> str:
    """A name that somebody sent, as it may stand in an answer: printable, and not as long as its sender likes."""
    return "".join(char if char.isprintable() else "?" for char in name[:100]) or "(without a name)"
