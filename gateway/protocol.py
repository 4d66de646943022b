"""What holds before there is a request: limits on the size and the time of its head, and problems for what is no HTTP.

Uvicorn's own protocol collects a head of any size, for any time. Does not judge a head that is complete: middleware.py does.
"""

import asyncio
from typing import Any

from uuid6 import uuid7
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.telemetry import HTTP_REQUESTS, log
from gateway.problems import BAD_REQUEST, HEADERS_TOO_LARGE, MEDIA_TYPE, Kind
from gateway.schemas import Problem

# Above the limit of the middleware, which says more. What one read of the socket brings comes on top.
MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0


class LimitedProtocol(HttpToolsProtocol):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Bytes received since the parser last made something of them: of a head, or of the trailers of a chunked body.
        self._unparsed_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HEADERS_TOO_LARGE, f"The head of a request may have {MAX_HEAD_BYTES} bytes.")

    def send_400_response(self, msg: str) -> None:
        self._refuse(BAD_REQUEST, "This is not a request as HTTP/1.1 has it (RFC 9112).")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_head_timer()

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        self._unparsed_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed_bytes = 0
        super().on_message_complete()

    def _start_head_timer(self) -> None:
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, kind: Kind, detail: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # An answer is on its way already; another in the middle of it would be taken for its content.
            self.transport.abort()
            return
        request_id = str(uuid7())
        problem = Problem(type=kind.urn, title=kind.title, status=kind.status, detail=detail, instance="/", request_id=request_id)
        body = problem.model_dump_json(exclude_none=True).encode()
        head = (
            f"HTTP/1.1 {kind.status} {kind.title}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            f"X-Request-ID: {request_id}",
            "X-Content-Type-Options: nosniff",
        )
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()
        HTTP_REQUESTS.labels("other", "unparsed", str(kind.status)).inc()
        log.info("request refused", status=kind.status, request_id=request_id)
