"""Traces, by OpenTelemetry: one tree of spans from the request that brings a picture in to the row that is completed.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set; then a span costs next to nothing, and no SDK is loaded. What happens later or
elsewhere goes on with the trace of whoever caused it by its `traceparent`, which the row and the message carry
(https://www.w3.org/TR/trace-context/). Spans hold ids, sizes and times, never a token, a secret or anything out of a picture. Does
not promise that a span arrives: a collector that is away costs spans, and nobody's work.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.errors import WrongConfiguration

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

NAME = "image_processor"
# For what was recorded and not sent when the program stops.
FLUSH_SECONDS = 3
Kind = Literal["internal", "server", "producer", "consumer"]
Attribute = str | int | float | bool
__all__ = [
    "NO_SPAN",
    "Span",
    "exporting",
    "ids",
    "mark_failed",
    "propagate_w3c_alone",
    "record",
    "recording",
    "span",
    "traceparent",
]

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_W3C = TraceContextTextMapPropagator()
NO_SPAN = nullcontext(trace.INVALID_SPAN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_tracer: Tracer | None = None


def propagate_w3c_alone() -> None:
    """FastAPI loads whatever propagators OTEL_PROPAGATORS names, traces or not, and would not start where one is not installed.
    For before that; the processes that this one starts have it as well."""
    os.environ["OTEL_PROPAGATORS"] = "tracecontext"


@contextmanager
def exporting(endpoint: str | None, program: str) -> Iterator[None]:
    """While it is open, spans go to the collector at `endpoint` (OTLP over HTTP, in batches, from a thread of its own); None: there
    are none. The SDK's own variables hold: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and so on.
    Raises WrongConfiguration where it refuses one of them."""
    if endpoint is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: f"image-processor-{program}"}
    try:
        resource = Resource.create({**named, SERVICE_VERSION: version("image-processor")})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=FLUSH_SECONDS)))
    except ValueError as error:
        raise WrongConfiguration("OTEL_…", f"one of these variables is refused by OpenTelemetry's SDK: {error}") from None
    try:
        with recording(provider):
            yield
    finally:
        # In a thread that is left alone past the limit: to a collector that is away it sends each batch until that times out.
        sending = threading.Thread(target=provider.shutdown, daemon=True)
        sending.start()
        sending.join(FLUSH_SECONDS)


@contextmanager
def recording(provider: "TracerProvider") -> Iterator[None]:
    """While it is open, spans are the provider's."""
    global _tracer  # as the logger and the metrics, one for the process
    before, _tracer = _tracer, provider.get_tracer(NAME)
    try:
        yield
    finally:
        _tracer = before


def span(name: str, kind: Kind = "internal", parent: str | None = None, **attributes: Attribute) -> AbstractContextManager[Span]:
    """What happens while it is open; of an error that ends it, it has the type. `parent`: a `traceparent`; without one the span
    that is open already, or else it begins a trace."""
    return NO_SPAN if _tracer is None else _opened(_tracer, name, kind, parent, attributes)


@contextmanager
def _opened(tracer: Tracer, name: str, kind: Kind, parent: str | None, attributes: dict[str, Attribute]) -> Iterator[Span]:
    # The SDK would record an exception's text and traceback, where a database puts whole rows.
    with tracer.start_as_current_span(
        name, _continued(parent), _KINDS[kind], attributes, record_exception=False, set_status_on_exception=False
    ) as opened:
        try:
            yield opened
        except BaseException as error:
            opened.set_attribute("error.type", type(error).__name__)
            opened.set_status(StatusCode.ERROR)
            raise


def record(name: str, since: datetime, until: datetime, parent: str | None = None, **attributes: Attribute) -> None:
    """A span that is over, as nobody was there to open it."""
    if _tracer is not None:
        _tracer.start_span(name, _continued(parent), attributes=attributes, start_time=_nanoseconds(since)).end(_nanoseconds(until))


def mark_failed(span: Span) -> None:
    """Where no exception passes through it that says so."""
    span.set_status(StatusCode.ERROR)


def traceparent() -> str | None:
    """Of the span that is open; None where there is none."""
    if _tracer is None:
        return None
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent")


def ids() -> dict[str, str]:
    """Of the span that is open, for lines in the log."""
    if _tracer is None:
        return {}
    opened = trace.get_current_span().get_span_context()
    if not opened.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(opened.trace_id), "span_id": trace.format_span_id(opened.span_id)}


def _continued(parent: str | None) -> Context | None:
    """What is no `traceparent` is none."""
    return None if parent is None else _W3C.extract({"traceparent": parent}, Context())


def _nanoseconds(time: datetime) -> int:
    """What anybody wrote into a message may be before 1970, which the format does not have."""
    since = max(time, _EPOCH) - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
