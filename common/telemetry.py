"""Logging and metrics. Logs carry the request id and never a token, a secret or a picture's bytes; metric labels carry no ids."""

import logging
import math
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, TextIO, TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram

from common import tracing
from common.images import FailureCode, Image, ImageStatus, Priority

NAME = "image_processor"
log: structlog.stdlib.BoundLogger = structlog.get_logger(NAME)

M = TypeVar("M", Counter, Gauge, Histogram)


def _from_zero(metric: M, *values: str) -> M:
    """So that every series of a closed set is there before its first event, and a rate over it is right from the first on."""
    for value in values:
        metric.labels(value)
    return metric


def _unknown(gauge: Gauge, *values: str) -> Gauge:
    """NaN until it is measured, which it never is in a gateway: 0 would be an answer."""
    for each in [gauge.labels(value) for value in values] or [gauge]:
        each.set(math.nan)
    return gauge


def _system_wide(name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
    """Of the whole system, the same from whoever has measured it. Where processes share their metrics, NaN stays NaN."""
    return Gauge(name, meaning, labels, multiprocess_mode="max")


FAILURES = tuple(FailureCode)
UNSETTLED = tuple(status for status in ImageStatus if not status.is_final)
# From what a picture takes on an idle system to a backlog that lasts the night.
LONG = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600)

HTTP_REQUESTS = Counter("image_processor_http_requests_total", "HTTP requests answered", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
    "image_processor_http_request_seconds",
    "Time from request to the end of the answer, without the wait that it asked for",
    ["method", "route"],
)
UPLOADS = Counter("image_processor_uploads_total", "Uploads accepted", ["content_type"])
UPLOAD_BYTES = Counter("image_processor_upload_bytes_total", "Bytes of accepted uploads")
PUBLISH_DEFERRED = Counter("image_processor_publish_deferred_total", "Uploads whose publish was left to the dispatcher")
CACHE_READS = _from_zero(
    Counter("image_processor_cache_reads_total", "Status reads by what the cache answered", ["result"]),
    "hit",
    "miss",
    "unavailable",
)
CACHE_LOST_INVALIDATIONS = Counter(
    "image_processor_cache_lost_invalidations_total",
    "Invalidations that the cache could not take; the entry's short life covers them",
)
LOST_NOTIFICATIONS = Counter("image_processor_lost_notifications_total", "Final states that waiting readers could not be told of")
WAITS = _from_zero(
    Counter("image_processor_waits_total", "Reads that waited for a final state, by how that ended", ["result"]),
    "woken",
    "over",
    "polled",
    "declined",
)
WAIT_SECONDS = Histogram("image_processor_wait_seconds", "Time that a read waited for a final state", buckets=LONG)
DELETED = Counter("image_processor_deleted_total", "Images deleted, with everything that belonged to them")
EXPIRED = Counter("image_processor_expired_total", "Images deleted because they were kept for long enough")
KEYS_EXPIRED = Counter("image_processor_expired_keys_total", "Idempotency keys dropped because their time was over")
SWEPT = _from_zero(
    Counter("image_processor_swept_objects_total", "Objects removed because no row names them", ["bucket"]),
    "raw-images",
    "processed-images",
)
SWEEPS = _from_zero(
    Counter("image_processor_sweeps_total", "Runs of the sweeper by how they ended", ["result"]), "done", "doubtful", "unavailable"
)
ROWS_WITHOUT_OBJECT = _system_wide("image_processor_rows_without_object", "Final images whose objects are gone, at the last sweep")
RATE_LIMITED = Counter("image_processor_rate_limited_total", "Requests over their caller's rate")
RATE_UNKNOWN = Counter("image_processor_rate_unknown_total", "Requests let through because the rate could not be looked up")
UPLOADS_SHED = Counter("image_processor_uploads_shed_total", "Uploads refused because too many were under way")
REPLAYED = Counter(
    "image_processor_replayed_uploads_total", "Uploads answered with an earlier one's image by their idempotency key"
)
PROCESSED = _from_zero(
    Counter("image_processor_processed_total", "Attempts by how they ended", ["outcome"]),
    "completed",
    "retried",
    "fenced",
    "not-claimed",
    *FAILURES,
)
PROCESS_SECONDS = _from_zero(
    Histogram("image_processor_process_seconds", "Time by stage of processing one image", ["stage"]),
    "fetch",
    "render",
    "put",
    "complete",
)
ATTEMPTS = _from_zero(
    Histogram(
        "image_processor_attempts",
        "Attempts that an image had when it became final",
        ["status"],
        buckets=(1, 2, 3, 4, 5, 10, 20, 50, 100, 200),
    ),
    "completed",
    "failed",
)
QUEUE_SECONDS = _from_zero(
    Histogram("image_processor_queue_seconds", "Time from an upload to its first attempt", ["priority"], buckets=LONG), *Priority
)
TURNAROUND_SECONDS = _from_zero(
    Histogram("image_processor_turnaround_seconds", "Time from an upload to its final state", ["status"], buckets=LONG),
    "completed",
    "failed",
)
RETRIES = _from_zero(
    Counter("image_processor_retries_total", "Attempts that will be repeated, by what ended them", ["reason"]),
    FailureCode.TIME_LIMIT,
    FailureCode.MEMORY_LIMIT,
    FailureCode.ATTEMPTS_EXHAUSTED,
    "object store",
    "database",
    "renderer",
)
LEASES_LOST = Counter("image_processor_leases_lost_total", "Leases that ended while their worker was still at work")
POOL_RESTARTS = Counter("image_processor_pool_restarts_total", "Render pools replaced because they had broken")
CHILDREN_LOST = _from_zero(
    Counter("image_processor_children_lost_total", "Render processes that ended with their picture", ["reason"]),
    "time-limit",
    "crashed",
)
CHILDREN_OUTGROWN = Counter(
    "image_processor_children_outgrown_total", "Render processes replaced between two pictures because they kept too much memory"
)
IN_PROGRESS = Gauge("image_processor_in_progress", "Images being processed now", multiprocess_mode="livesum")
DISPATCHED = _from_zero(
    Counter("image_processor_dispatched_total", "Due images by what the dispatcher did", ["outcome"]),
    "published",
    "put-off",
    "given-up",
    "dead-letter",
    "unavailable",
)
DELIVERIES = _from_zero(
    Counter("image_processor_deliveries_total", "Messages by how they were settled", ["outcome"]),
    "ack",
    "hand-back",
    "defer",
    "reject",
)
DEAD_LETTERS = _from_zero(
    Counter("image_processor_dead_letters_total", "Failed images put with the dead letters", ["code"]), *FAILURES
)
PUBLISHES = _from_zero(
    Counter("image_processor_publishes_total", "Messages sent to the broker, by its answer", ["result"]),
    "confirmed",
    "refused",
    "unroutable",
    "timed-out",
    "blocked",
    "unavailable",
)
PUBLISH_SECONDS = Histogram("image_processor_publish_seconds", "Time until the broker confirmed a message")
# Of the whole system, the same from every worker; NaN while what they are measured in is away.
BACKLOG = _unknown(_system_wide("image_processor_backlog", "Images that are not final yet", ["status"]), *UNSETTLED)
OLDEST_SECONDS = _unknown(
    _system_wide("image_processor_oldest_seconds", "Time since the upload of the oldest image that is not final", ["status"]),
    *UNSETTLED,
)
DISPATCH_LAG_SECONDS = _unknown(
    _system_wide("image_processor_dispatch_lag_seconds", "For how long the most overdue image has been due")
)
QUEUE_DEPTH = _unknown(_system_wide("image_processor_queue_depth", "Messages that wait in a queue", ["queue"]), *Priority, "dead")
JWKS_FETCHES = _from_zero(
    Counter("image_processor_jwks_fetches_total", "Fetches of the realm's keys by how they ended", ["result"]), "ok", "failed"
)
LOOP_LAG_SECONDS = Histogram(
    "image_processor_event_loop_lag_seconds",
    "By how much later the event loop did something than it was to",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

# Libraries that would repeat, with tracebacks, what the adapters say in one line, or would say what is in rows and pictures.
QUIETENED = {
    "aio_pika": logging.CRITICAL,
    "aiormq": logging.CRITICAL,
    "aiosqlite": logging.WARNING,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "opentelemetry": logging.WARNING,
    "PIL": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "urllib3": logging.ERROR,
    "uvicorn": logging.WARNING,
}


class _Lines:
    """Writes lines. As the standard library's handlers, it lets nobody's work fail because nobody takes them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = critical = msg


def about(image: Image) -> AbstractContextManager[None]:
    """What is logged while it is open is part of that image's life, whoever is at work: it names the image, and the request that
    brought it in."""
    return structlog.contextvars.bound_contextvars(request_id=image.request_id, image_id=str(image.id))


def _add_trace(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**event, **tracing.ids()}


def _add_own_name(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["logger"] = NAME
    return event


def configure_logging(level: str, form: Literal["auto", "json", "text"]) -> None:
    """One line an event on standard error: JSON, or text for a person; `auto` decides by whether it is a terminal.

    Our own events are written without a way through the standard library's logging, which would take longer than the rest of many a
    request; those of libraries come from there."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks with local variables, structlog's default, would have tokens and bytes of pictures in them.
    without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    final: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if text
        else [structlog.processors.ExceptionRenderer(without_locals), structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, _add_own_name, *final],
        logger_factory=lambda *_: _Lines(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in QUIETENED.items():
        logging.getLogger(name).setLevel(least)
    logging.getLogger("uvicorn.access").propagate = False
