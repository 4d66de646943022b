"""Around every request: its id, its line in the log, its metrics, CORS, limits on its headers, an answer whatever happens inside.

Pure ASGI, so that bodies stream through. Neither the log nor a metric's label has a token, a query or a body.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from http import HTTPStatus
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid6 import uuid7

from common.errors import HeadersTooLarge, ImageProcessorError, Unavailable
from common.telemetry import HTTP_REQUESTS, HTTP_SECONDS, log
from common.tracing import NO_SPAN, Span, mark_failed, span
from gateway.cors import Cors
from gateway.problems import METHODS, internal_problem, problem_of

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
LINGER_SECONDS = 10.0
PROBES = ("/health", "/health/ready", "/metrics")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# What is that long is no id: a token, perhaps, in the wrong place.
_LONG_SEGMENT = re.compile(r"[^/]{65,}")


def middleware(cors_origins: Sequence[str]) -> list[Middleware]:
    """The outermost first. CORS is around all that answers, and has an id and a line in the log for what it answers itself."""
    cors = [Middleware(Cors, cors_origins)] if cors_origins else []
    return [Middleware(LingeringClose), Middleware(RequestRecord), *cors, Middleware(LastAnswer), Middleware(HeaderLimits)]


class RequestRecord:
    """The request's id, log line and metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id), _span(scope, request_id) as traced:
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                _record(scope, traced, status, time.perf_counter() - started)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).getlist("X-Request-ID")
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else str(uuid7())


def _span(scope: Scope, request_id: str) -> AbstractContextManager[Span]:
    """Goes on with the client's trace, where there is one. Probes have none."""
    if scope["path"] in PROBES:
        return NO_SPAN
    return span(scope["method"], "server", Headers(scope=scope).get("traceparent"), request_id=request_id)


def _record(scope: Scope, traced: Span, status: int | None, seconds: float) -> None:
    """By route template, as paths have ids in them. No status: the client went away before there was one."""
    # What is mounted has no route, and is known by where.
    route = getattr(scope.get("route"), "path", None) or scope.get("root_path") or "unmatched"
    method = scope["method"] if scope["method"] in METHODS else "other"
    HTTP_REQUESTS.labels(method, route, str(status or "none")).inc()
    HTTP_SECONDS.labels(method, route).observe(seconds - scope["state"].get("waited_seconds", 0.0))
    level = log.debug if route in PROBES and status == 200 else log.info
    path = quote(_LONG_SEGMENT.sub("...", scope["path"])[:500])
    if traced.is_recording():
        _describe(traced, method, route, path, status)
    level("request", method=method, route=route, path=path, status=status, milliseconds=round(seconds * 1000, 1))


def _describe(traced: Span, method: str, route: str, path: str, status: int | None) -> None:
    """By OpenTelemetry's conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/)."""
    traced.update_name(f"{method} {route}")
    traced.set_attributes({"http.request.method": method, "http.route": route, "url.path": path})
    if status is not None:
        traced.set_attribute("http.response.status_code", status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            mark_failed(traced)


class LastAnswer:
    """An error that nobody inside knows becomes a 500, its traceback logged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def watched_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            log.info("client went away")
        except asyncio.CancelledError:
            # The gateway stops, and this request did not end in time. Whoever cancelled waits for this task to end, no more.
            if not has_begun:
                stopping = Unavailable("gateway", "it is stopping")
                await problem_of(scope, stopping)(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - the last place where anything can be answered and logged with the id
            if has_begun:
                # The server sees that the answer has no end, and breaks the connection off, so that the client sees it too.
                _log_cut_answer(error)
            else:
                log.error("unhandled error", exc_info=error)
                await internal_problem(scope)(scope, receive, send)


def _log_cut_answer(error: Exception) -> None:
    if isinstance(error.__cause__, ImageProcessorError):
        log.warning("answer cut short", reason=repr(error.__cause__))
    else:
        log.error("unhandled error in the middle of an answer", exc_info=error)


class HeaderLimits:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = scope["headers"]
            if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
                error = HeadersTooLarge(f"A request may have {MAX_HEADERS} headers, with {MAX_HEADER_BYTES} bytes in all.")
                await problem_of(scope, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class LingeringClose:
    """Lets a client that is still sending read an early answer (401, 413 …) where the connection closes after it.

    Closing with bytes unread makes the system reset the connection, and the answer is lost. So the answer is sent, and ends only
    when the rest of the body has been read and dropped. Connections that are kept alive need none of it: the server drops the rest.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _closes(scope):
            await self._app(scope, receive, send)
            return
        more_body = True

        async def watched_receive() -> Message:
            nonlocal more_body
            message = await receive()
            more_body = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def lingering_send(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False) and more_body:
                await send({**message, "more_body": True})
                await drop_rest()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        async def drop_rest() -> None:
            try:
                async with asyncio.timeout(LINGER_SECONDS):
                    while more_body:
                        await watched_receive()
            except TimeoutError:
                pass

        await self._app(scope, watched_receive, lingering_send)


def _closes(scope: Scope) -> bool:
    """And the client sends its body without being asked to."""
    headers = Headers(scope=scope)
    closing = scope["http_version"] == "1.0" or "close" in headers.get("Connection", "").lower()
    return closing and "Expect" not in headers
