"""The only place that knows statuses: what each error of the tree, and each of the framework's, is called over HTTP.

Promises `application/problem+json` (RFC 9457) for everything, with what each status needs beside it: the challenge of a 401 or 403
(RFC 6750), the `Retry-After` of what can be tried again. What is our own fault says nothing about itself but the request id.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from common.errors import (
    BadMultipart,
    BadRequest,
    BlobNotFound,
    Forbidden,
    Full,
    HeadersTooLarge,
    IdempotencyMismatch,
    ImageNotFound,
    ImageProcessorError,
    InvalidParameter,
    InvalidProcessing,
    LaterMessage,
    NotAcceptable,
    NotMigrated,
    PictureRefused,
    ProcessingFailed,
    RateLimited,
    RenderInterrupted,
    ResultNotReady,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnreadableMessage,
    UnsupportedMedia,
    WrongConfiguration,
)
from common.telemetry import log
from gateway.headers import OF_PROBLEMS
from gateway.schemas import FieldError, Problem

MEDIA_TYPE = "application/problem+json"
UNAVAILABLE_SECONDS = "5"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
# RFC 6750, section 3: what an error_description may be made of. Nothing else fits into a quoted string as it is.
_NOT_QUOTED = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


@dataclass(frozen=True, slots=True)
class Kind:
    status: int
    slug: str
    title: str

    @property
    def urn(self) -> str:
        return f"urn:image-processor:problem:{self.slug}"


BAD_REQUEST = Kind(400, "bad-request", "Bad request")
VALIDATION = Kind(422, "validation", "Invalid parameter")
UNAVAILABLE = Kind(503, "unavailable", "Temporarily unavailable")
INTERNAL = Kind(500, "internal", "Internal error")
HEADERS_TOO_LARGE = Kind(431, "headers-too-large", "Headers too large")
RANGE_NOT_SATISFIABLE = Kind(416, "range-not-satisfiable", "Range not satisfiable")

ERRORS: dict[type[ImageProcessorError], Kind] = {
    BadRequest: BAD_REQUEST,
    BadMultipart: Kind(400, "bad-multipart", "Malformed upload"),
    InvalidParameter: VALIDATION,
    InvalidProcessing: Kind(422, "invalid-processing", "Invalid processing"),
    UnsupportedMedia: Kind(415, "unsupported-media-type", "Unsupported media type"),
    TooLarge: Kind(413, "too-large", "Too large"),
    HeadersTooLarge: HEADERS_TOO_LARGE,
    Unauthorized: Kind(401, "unauthorized", "Unauthorized"),
    Forbidden: Kind(403, "forbidden", "Forbidden"),
    ImageNotFound: Kind(404, "not-found", "Not found"),
    RateLimited: Kind(429, "rate-limited", "Too many requests"),
    NotAcceptable: Kind(406, "not-acceptable", "Not acceptable"),
    IdempotencyMismatch: Kind(409, "idempotency-mismatch", "Idempotency key used already"),
    ResultNotReady: Kind(409, "not-ready", "Not ready"),
    ProcessingFailed: Kind(409, "processing-failed", "Processing failed"),
    Unavailable: UNAVAILABLE,
    Full: UNAVAILABLE,
    # What a request cannot cause: seen here, it is a bug.
    BlobNotFound: INTERNAL,
    UnreadableMessage: INTERNAL,
    LaterMessage: INTERNAL,
    PictureRefused: INTERNAL,
    RenderInterrupted: INTERNAL,
    NotMigrated: INTERNAL,
    WrongConfiguration: INTERNAL,
}

# What the framework raises by status alone.
STATUSES: dict[int, Kind] = {
    404: ERRORS[ImageNotFound],
    405: Kind(405, "method-not-allowed", "Method not allowed"),
    416: RANGE_NOT_SATISFIABLE,
}


def range_not_satisfiable(size_bytes: int) -> HTTPException:
    """RFC 9110, section 15.5.17."""
    return HTTPException(
        416,
        f"The content has {size_bytes} bytes; ask for a part that begins before its end.",
        {"Content-Range": f"bytes */{size_bytes}"},
    )


def kind_of(error: ImageProcessorError) -> Kind:
    return next((ERRORS[type_] for type_ in type(error).__mro__ if type_ in ERRORS), INTERNAL)


def problem(
    scope: Scope, kind: Kind, detail: str, headers: Mapping[str, str] | None = None, errors: Sequence[FieldError] | None = None
) -> Response:
    content = Problem(
        type=kind.urn,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=quote(scope["path"], safe="/:@!$&'()*+,;=~"),
        request_id=scope["state"]["request_id"],
        errors=list(errors) if errors else None,
    )
    return Response(
        content.model_dump_json(exclude_none=True),
        kind.status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def internal_problem(scope: Scope) -> Response:
    return problem(scope, INTERNAL, "Something went wrong on our side. Our log has it under this request id.")


def problem_of(scope: Scope, error: ImageProcessorError) -> Response:
    kind = kind_of(error)
    errors = [FieldError(field=error.field, message=error.message)] if isinstance(error, InvalidParameter) else None
    return problem(scope, kind, error.detail, _headers(scope, error), errors)


def _headers(scope: Scope, error: ImageProcessorError) -> dict[str, str]:
    match error:
        case Unauthorized(token_given=False):
            return {"WWW-Authenticate": _challenge(scope)}
        case Unauthorized():
            return {"WWW-Authenticate": _challenge(scope, error="invalid_token", error_description=error.detail)}
        case Forbidden():
            return {"WWW-Authenticate": _challenge(scope, error="insufficient_scope", error_description=error.detail)}
        case ResultNotReady():
            return {"Retry-After": "1"}
        case NotAcceptable():
            return {"Vary": "Accept, Authorization"}
        case RateLimited():
            # draft-ietf-httpapi-ratelimit-headers-06
            return {
                "Retry-After": str(error.reset_seconds),
                "RateLimit-Limit": str(error.limit),
                "RateLimit-Remaining": "0",
                "RateLimit-Reset": str(error.reset_seconds),
                "RateLimit-Policy": f"{error.limit};w={error.window_seconds}",
            }
        case Unavailable():
            return {"Retry-After": UNAVAILABLE_SECONDS}
        case _:
            return {}


def _challenge(scope: Scope, **parameters: str) -> str:
    realm = scope["app"].state.gateway.settings.keycloak_realm
    quoted = (f'{name}="{_NOT_QUOTED.sub("?", value)}"' for name, value in {"realm": realm, **parameters}.items())
    return f"Bearer {', '.join(quoted)}"


def install_problems(app: FastAPI) -> None:
    """Anything else that is raised is answered by the middleware, which has its traceback."""

    async def on_error(request: Request, error: ImageProcessorError) -> Response:
        if kind_of(error) is INTERNAL:
            raise error
        if isinstance(error, Unavailable):
            log.warning("answered as unavailable", service=error.service, reason=error.reason)
        return problem_of(request.scope, error)

    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        detail = str(error.detail)
        if error.status_code == 404:
            detail = "There is nothing at this address; /docs has those that there are."
        elif error.status_code == 405:
            # What is mounted takes these, and does not say so.
            headers["Allow"] = allowed = ", ".join(_allowed_methods(app, request.scope)) or "GET, HEAD"
            detail = f"This address takes {allowed}."
        return problem(request.scope, STATUSES.get(error.status_code, BAD_REQUEST), detail, headers)

    async def on_validation(request: Request, error: RequestValidationError) -> Response:
        errors = [
            FieldError(field=_field(found["loc"]), message=found["msg"].removeprefix("Value error, ")) for found in error.errors()
        ]
        detail = "; ".join(f"{found.field}: {found.message}" for found in errors)
        return problem(request.scope, VALIDATION, detail, errors=errors)

    app.exception_handler(ImageProcessorError)(on_error)
    app.exception_handler(HTTPException)(on_http_exception)
    app.exception_handler(RequestValidationError)(on_validation)


def _field(location: Sequence[Any]) -> str:
    """Without where it was (path, query, header), which the caller knows."""
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _allowed_methods(app: FastAPI, scope: Scope) -> list[str]:
    """Of all routes at this address; the framework would name the first one's only."""
    return [
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.router.routes)
    ]


def documented(*problems: type[ImageProcessorError] | Kind) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI description of an operation: these problems, and that any other answer is one too."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    slugs: dict[int, list[str]] = {}
    for given in problems:
        kind = given if isinstance(given, Kind) else ERRORS[given]
        slugs.setdefault(kind.status, []).append(f"`{kind.slug}`")
    answers: dict[int | str, dict[str, Any]] = {
        status: {"description": ", ".join(names), "content": content, "headers": OF_PROBLEMS.get(status, {})}
        for status, names in slugs.items()
    }
    return answers | {"default": {"description": "Any other problem", "content": content}}
