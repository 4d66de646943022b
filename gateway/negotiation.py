"""Which of its representations an image is asked for in (RFC 9110, section 12.5.1).

Parameters of a media type are not looked at: neither JSON nor a picture is had in several variants. What is malformed in Accept
counts as not there, and an Accept of which nothing is left accepts everything, as none does.
"""

import re
from functools import lru_cache
from urllib.request import parse_http_list

from starlette.datastructures import Headers
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_options_header

from common.errors import NotAcceptable

JSON = "application/json"
_MEDIA_RANGE = re.compile(r"\*/\*|[\w!#$%&'+.^`|~-]+/(?:\*|[\w!#$%&'+.^`|~-]+)", re.ASCII)
# The grammar wants a digit before the point; well-known clients send none.
_WEIGHT = re.compile(r"[01](?:\.[0-9]*)?|\.[0-9]+")


def wants_picture(headers: Headers, content_type: str) -> bool:
    """Whether a picture of that type ranks above JSON. Raises NotAcceptable where neither will do."""
    accepted = _accepted(headers)
    json_quality, picture_quality = accepted.quality(JSON), accepted.quality(content_type)
    if picture_quality > json_quality:
        return True
    if json_quality > 0:
        return False
    raise NotAcceptable(f"There are {JSON} and {content_type}; accept one of them.")


def require_json(headers: Headers) -> None:
    """Raises NotAcceptable."""
    if _accepted(headers).quality(JSON) == 0:
        raise NotAcceptable(f"There is {JSON} only; accept it.")


def _accepted(headers: Headers) -> MIMEAccept:
    return _ranges(",".join(headers.getlist("Accept")))


@lru_cache(maxsize=256)
def _ranges(accept: str) -> MIMEAccept:
    """Clients send few different ones. (An Accept is bounded as all headers are.)"""
    ranges = []
    for element in parse_http_list(accept):
        media_range, parameters = parse_options_header(element)
        weight = parameters.get("q", "1")
        if _MEDIA_RANGE.fullmatch(media_range) and _WEIGHT.fullmatch(weight):
            ranges.append((media_range, min(1.0, float(weight))))
    return MIMEAccept(ranges or [("*/*", 1.0)])
