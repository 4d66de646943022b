"""Which of its representations an image is asked for in (RFC 9110, section 12.5.1)."""

from starlette.datastructures import Headers
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from common.errors import NotAcceptable

JSON = "application/json"


def wants_picture(headers: Headers, content_type: str) -> bool:
    """Whether a picture of that type ranks above JSON. Raises NotAcceptable where neither will do."""
    json_quality, picture_quality = _quality(headers, JSON), _quality(headers, content_type)
    if picture_quality > json_quality:
        return True
    if json_quality > 0:
        return False
    raise NotAcceptable(f"There are {JSON} and {content_type}; accept one of them.")


def require_json(headers: Headers) -> None:
    """Raises NotAcceptable."""
    if _quality(headers, JSON) == 0:
        raise NotAcceptable(f"There is {JSON} only; accept it.")


def _quality(headers: Headers, content_type: str) -> float:
    """No Accept, or one that nothing can be made of, accepts everything."""
    accepted = parse_accept_header(",".join(headers.getlist("Accept")), MIMEAccept)
    return float(accepted.quality(content_type)) if accepted else 1.0
