"""Spans: off by default, trees by the calls or by `traceparent`, whatever that says; and the log names the one that is open."""

import json
import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import tracing
from common.settings import load
from common.telemetry import configure_logging, log
from tests.e2e.stack import PROGRAM
from tests.gateway import running
from tests.spans import recorded, tree

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


def test_without_a_collector_there_are_none() -> None:
    assert load().otel_exporter_otlp_endpoint is None
    with tracing.exporting(None, "gateway"), tracing.span("work", "server", "nonsense", size=1) as span:
        tracing.record("before", MOMENT, MOMENT)
        assert not span.is_recording()
        assert tracing.traceparent() is None
        assert tracing.ids() == {}


def test_what_goes_on_by_a_traceparent_is_in_the_same_tree() -> None:
    with recorded() as recorder:
        with tracing.span("request", "server"), tracing.span("publish", "producer"):
            parent = tracing.traceparent()
        # a worker, elsewhere and later
        tracing.record("wait", MOMENT, MOMENT + timedelta(milliseconds=1.5), parent)
        with tracing.span("other", "consumer"), tracing.span("process", "consumer", parent), tracing.span("claim"):
            pass

    spans = recorder.of("request")
    assert tree(spans) == {"request": {"publish": {"wait": {}, "process": {"claim": {}}}}}
    wait = next(span for span in spans if span.name == "wait")
    assert (wait.since, wait.until - wait.since) == (1_767_323_045_678_901_000, 1_500_000)
    # and what was only open at the time is not
    assert [span.name for span in recorder.of("other")] == ["other"]


@given(st.text())
def test_what_is_no_traceparent_begins_a_trace(text: str) -> None:
    with recorded() as recorder, tracing.span("process", "consumer", text):
        pass
    assert tree(recorder.spans()) == {"process": {}}


def test_an_error_is_in_a_span_by_its_type_alone() -> None:
    with recorded() as recorder, pytest.raises(ValueError, match="private"), tracing.span("commit row"):
        raise ValueError("Failing row contains (private.jpg)")

    (span,) = recorder.exporter.get_finished_spans()
    assert "private" not in span.to_json()
    assert (span.status.is_ok, span.attributes and span.attributes["error.type"]) == (False, "ValueError")


def test_a_time_that_nobody_can_have_meant_loses_no_other_span() -> None:
    with recorded() as recorder:
        tracing.record("wait", datetime(1, 1, 1, tzinfo=UTC), MOMENT)

    (span,) = recorder.spans()
    assert span.since == 0


def last_words(folder: Path, **variables: str) -> tuple[int, str]:
    """Of a gateway that cannot start: its exit code, and all that it says."""
    ended = subprocess.run(
        [PROGRAM, "gateway"], env=os.environ | variables, capture_output=True, text=True, timeout=60, cwd=folder, check=False
    )
    return ended.returncode, ended.stderr


def test_propagators_that_others_want_and_are_not_installed_hinder_no_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = last_words(tmp_path, OTEL_PROPAGATORS="b3,others", GATEWAY_PORT=str(port))

    # it came as far as to listen
    assert (code, said) == (2, f"image-processor: GATEWAY_PORT: cannot listen on 127.0.0.1:{port}: Address already in use\n")


def test_a_variable_that_the_sdk_refuses_is_told_in_a_line(tmp_path: Path) -> None:
    collector = "http://127.0.0.1:9"
    code, said = last_words(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector, OTEL_BSP_MAX_QUEUE_SIZE="10")

    assert code == 2
    assert said.startswith("image-processor: OTEL_")
    assert said.count("\n") == 1


def test_lines_in_the_log_name_the_open_span(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    with recorded() as recorder:
        with tracing.span("process"):
            log.info("inside")
        log.info("outside")

    inside, outside = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    (span,) = recorder.spans()
    assert (inside["trace_id"], inside["span_id"]) == (span.trace, span.id)
    assert "trace_id" not in outside


async def test_a_request_is_a_span_by_its_route() -> None:
    with recorded() as recorder:
        async with running() as world:
            await world.get("/api/v1/images/{}", "01936c2e-0000-7000-8000-000000000000")
            await world.http.get("/nowhere")
            await world.get("/health")

    assert [span.name for span in recorder.spans()] == ["GET /api/v1/images/{id}", "GET unmatched"]
