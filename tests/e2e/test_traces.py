"""Real processes send their spans to a collector, as one tree; and go on without one."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from common.settings import Settings
from tests.e2e.conftest import migrate, own_services
from tests.e2e.stack import Stack, free_port
from tests.pictures import photo_jpeg
from tests.polling import wait_until
from tests.spans import Seen, Tree, tree

PICTURE = photo_jpeg(640, 480)
# Of which three at most are for a collector that does not answer.
STOP_SECONDS = 15


class Collector:
    """Takes OTLP over HTTP, on a port of its own. `services`: by the trace, which programs have sent spans of it."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.services: dict[str, set[str]] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for group in request.resource_spans:
            (service,) = (it.value.string_value for it in group.resource.attributes if it.key == "service.name")
            for span in (span for scope in group.scope_spans for span in scope.spans):
                self.services.setdefault(span.trace_id.hex(), set()).add(service)
                self.spans.append(
                    Seen(
                        name=span.name,
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex() or None,
                        since=span.start_time_unix_nano,
                        until=span.end_time_unix_nano,
                    )
                )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(params=["embedded", "services"])
def traced(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Stack]:
    """Services of its own: nobody else's worker takes its pictures."""
    if request.param == "embedded":
        stack = Stack(tmp_path, {}, None)
        yield stack
        stack.close()
        return
    with own_services(settings) as addresses:
        migrate(addresses)
        stack = Stack(tmp_path, addresses, settings.issuer)
        yield stack
        stack.close()


def test_programs_send_one_tree_to_a_collector(traced: Stack, collector: Collector) -> None:
    # given
    traced.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    traced.start()
    user = traced.as_user()

    # when
    image_id = traced.upload(user, PICTURE).json()["id"]
    traced.final(user, image_id)
    assert traced.http.get("/health/ready").is_success
    traced.stop()

    # then all has arrived by the time that they have ended
    (trace,) = {span.trace for span in collector.spans if span.name == "POST /api/v1/upload"}
    process: Tree = {"claim": {}, "fetch": {}, "render": {"decode": {}, "change": {}, "encode": {}}, "put": {}, "complete": {}}
    assert tree(span for span in collector.spans if span.trace == trace) == {
        "POST /api/v1/upload": {"store original": {}, "commit row": {}, "publish": {"wait in queue": {}, "process": process}}
    }
    programs = {"image-processor-standalone"} if traced.embedded else {"image-processor-gateway", "image-processor-worker"}
    assert collector.services[trace] == programs
    # and probes are in no trace
    assert not [span.name for span in collector.spans if "health" in span.name]
    # and lines in the log can be found by it
    lines = [json.loads(line) for line in traced.log().splitlines() if image_id in line]
    assert {line["trace_id"] for line in lines if line["event"] in ("upload accepted", "image completed")} == {trace}


def test_a_collector_that_is_away_holds_up_nobody(traced: Stack) -> None:
    # given
    port = free_port()
    traced.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    traced.start()
    user = traced.as_user()

    # when
    image_id = traced.upload(user, PICTURE).json()["id"]
    final = traced.final(user, image_id)
    wait_until(lambda: "opentelemetry" in traced.log(), "the log to tell of it")
    began = time.monotonic()
    codes = traced.stop()

    # then
    assert final["status"] == "completed"
    assert (set(codes), time.monotonic() - began < STOP_SECONDS) == ({0}, True)
    # and it is told in lines of the log's own form
    told = [json.loads(line) for line in traced.log().splitlines() if "opentelemetry" in line]
    assert {line["level"] for line in told} == {"warning", "error"}
    assert [line for line in told if f"port={port}" in line["event"] and "refused" in line["event"]]
    assert not [line for line in told if "exception" in line]
