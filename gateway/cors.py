"""Lets the pages of some web origins call the API. Tokens are sent by the page itself, so browsers need not add credentials."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.problems import BAD_REQUEST, problem

METHODS = ("DELETE", "GET", "HEAD", "POST")
REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "If-Range",
    "Prefer",
    "Range",
    "X-Request-ID",
)
EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Location",
    "Preference-Applied",
    "RateLimit-Limit",
    "RateLimit-Policy",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)


class Cors(CORSMiddleware):
    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        return answer if answer.status_code == 200 else RefusedPreflight(answer)


class RefusedPreflight(Response):
    """The framework's plain text as a problem."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"{bytes(self._answer.body).decode()}: pages from there may not ask this way."
        headers = {name: value for name, value in self._answer.headers.items() if not name.startswith("content-")}
        await problem(scope, BAD_REQUEST, detail, headers)(scope, receive, send)
