"""Spans that were recorded, as trees by their names."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.tracing import recording


@dataclass(frozen=True)
class Seen:
    """`parent` is None for a root. Ids in hex, times in nanoseconds since 1970."""

    name: str
    trace: str
    id: str
    parent: str | None
    since: int
    until: int


Tree = dict[str, "Tree"]


def tree(spans: Iterable[Seen]) -> Tree:
    """Of one trace, whose spans all have other names but where their parents differ. Fails where there is more than one root, or a
    span whose parent was never recorded."""
    spans = sorted(spans, key=lambda span: span.since)
    known = {span.id for span in spans}
    roots = [span for span in spans if span.parent is None]
    assert len(roots) == 1, [span.name for span in roots]
    assert {span.parent for span in spans if span.parent} <= known, "a parent that nobody recorded"

    def below(parent: Seen) -> Tree:
        children = [span for span in spans if span.parent == parent.id]
        assert len({child.name for child in children}) == len(children), [child.name for child in children]
        return {child.name: below(child) for child in children}

    return {roots[0].name: below(roots[0])}


class Recorder:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def spans(self) -> list[Seen]:
        """Those that have ended."""
        return [
            Seen(
                name=span.name,
                trace=f"{span.context.trace_id:032x}",
                id=f"{span.context.span_id:016x}",
                parent=f"{span.parent.span_id:016x}" if span.parent else None,
                since=span.start_time or 0,
                until=span.end_time or 0,
            )
            for span in self.exporter.get_finished_spans()
        ]

    def of(self, name: str) -> list[Seen]:
        """All spans of the one trace that has a span of that name."""
        spans = self.spans()
        traces = {span.trace for span in spans if span.name == name}
        assert len(traces) == 1, [span.name for span in spans]
        return [span for span in spans if span.trace in traces]


@contextmanager
def recorded() -> Iterator[Recorder]:
    recorder = Recorder()
    with recording(recorder.provider):
        yield recorder
