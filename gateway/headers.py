"""Headers as the description (OpenAPI) has them: those a reader may send, and those that answers carry.

What may be sent has no pattern: what is malformed in it is ignored, as RFC 7240 and RFC 9110 want it, and not refused. Accept has
no place in a description; the types of the answers say what it can ask for.
"""

from typing import Any


def _asked(name: str, example: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string"}, "example": example, "description": description}


PREFER = _asked(
    "Prefer", "wait=30", "`wait=N`: answer as soon as the state is final, or after N seconds (at most 30). May be declined."
)
IF_NONE_MATCH = _asked("If-None-Match", 'W/"3"', "`ETag` of what the client has: answered with `304` while nothing has changed")
RANGE = _asked("Range", "bytes=0-65535", "One range, answered with `206`; of several the whole is sent")
IF_RANGE = _asked("If-Range", '"9f86d081884c7d65"', "The range is of the content with this `ETag`; of any other the whole is sent")


def _answered(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string"} | schema}


_TAG = {"ETag": _answered("Which version this is; for `If-None-Match`, and of bytes for `If-Range`")}
_CACHING = {"Cache-Control": _answered("For the caller alone"), "Vary": _answered("What the answer depends on")}
_FILE = {
    "Accept-Ranges": _answered("`bytes`", enum=["bytes"]),
    "Content-Disposition": _answered("The name to save it under (RFC 6266)"),
}
_RETRY_AFTER = _answered("Seconds after which to ask again", type="integer", minimum=0)
_UNTIL_FINAL = {
    "Retry-After": _RETRY_AFTER | {"required": False, "description": "Seconds after which to ask again, until the state is final"}
}
_WAITED = {"Preference-Applied": _answered("The wait that was kept to", required=False)}
_CHALLENGE = {"WWW-Authenticate": _answered("What is wrong with the token (RFC 6750)")}

LIST = _CACHING
ACCEPTED = {"Location": _answered("The image's address")}
UNCHANGED = _TAG | _CACHING
RESOURCE = UNCHANGED | _UNTIL_FINAL | _WAITED
BYTES = UNCHANGED | _FILE
PART = BYTES | {"Content-Range": _answered("Which bytes of how many")}
# Where the answer is JSON or bytes, and may have been waited for.
EITHER = RESOURCE | {name: header | {"required": False} for name, header in _FILE.items()}
EITHER_PART = PART | _WAITED

# By status, of problems.
OF_PROBLEMS: dict[int, dict[str, Any]] = {
    401: _CHALLENGE,
    403: _CHALLENGE,
    409: {"Retry-After": _RETRY_AFTER | {"required": False}},
    416: {"Content-Range": _answered("How many bytes there are, as in `bytes */40211`")},
    429: {
        "Retry-After": _RETRY_AFTER,
        "RateLimit-Limit": _answered("Requests allowed in the window", type="integer"),
        "RateLimit-Remaining": _answered("How many of them are left", type="integer"),
        "RateLimit-Reset": _answered("Seconds until there is room again", type="integer"),
        "RateLimit-Policy": _answered("The limit and its window in seconds, as in `6000;w=60`"),
    },
    503: {"Retry-After": _RETRY_AFTER},
}
