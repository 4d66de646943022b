"""docs/operations.md names every metric with its labels, and no other; and all series of a closed set are there from the start."""

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from cli.main import app
from common import telemetry
from common.images import FailureCode, ImageStatus, Priority
from common.ports import Bucket
from common.settings import Settings
from gateway.routes.system import READY_SECONDS
from worker.outcome import Outcome

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
# Name, labels, meaning, and what to do, which may be nothing.
ROW = re.compile(r"^\| `(image_processor_\w+)` \|([^|]*)\| ([^|]{10,}) \|([^|]*)\|$", re.MULTILINE)
NAMES = re.compile(r"`(\w+)`")
EXPORTED = "import common.telemetry, prometheus_client as p; print(p.generate_latest().decode())"


def exported() -> dict[str, tuple[str, ...]]:
    """The labels of every metric, by the name that a query uses."""
    metrics = [metric for metric in vars(telemetry).values() if isinstance(metric, Counter | Gauge | Histogram)]
    return {metric._name + ("_total" if isinstance(metric, Counter) else ""): tuple(metric._labelnames) for metric in metrics}


def series_at_the_start() -> dict[str, dict[str, float]]:
    """Of a process in which nothing has happened: for each metric of one label, its values."""
    ran = subprocess.run([sys.executable, "-c", EXPORTED], capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(ran.stdout):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            found.setdefault(sample.name, {})["".join(labels.values())] = sample.value
    return found


def test_every_metric_is_explained_with_its_labels_and_no_other() -> None:
    explained = {name: tuple(NAMES.findall(labels)) for name, labels, *_ in ROW.findall(PAGE)}

    assert explained == exported()


def test_what_the_page_speaks_of_exists() -> None:
    spoken = set(re.findall(r"image_processor_\w+", PAGE))

    assert spoken == set(exported())
    settings = {name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGE)) <= settings


def command_exists(program: Any, line: str) -> bool:
    """With these options; the only argument that anybody is told to give is a reason."""
    command: Any = get_command(program)
    words = [word for word in line.split() if not word[0].isdigit()]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    given = [word for word in words if word.startswith("--")]
    others = [word for word in words if word not in given]
    return not hasattr(command, "commands") and set(given) <= options and others in ([], ["attempts-exhausted"])


@pytest.mark.parametrize("line", sorted(set(re.findall(r"`image-processor ([^`]*)`", PAGE))))
def test_every_command_of_the_page_is_one(line: str) -> None:
    assert command_exists(app, line)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("processed_total", {"completed", "retried", "fenced", "not-claimed", *FailureCode}),
        ("dead_letters_total", set(FailureCode)),
        ("deliveries_total", set(Outcome)),
        ("process_seconds_count", {"fetch", "render", "put", "complete"}),
        ("attempts_count", {status for status in ImageStatus if status.is_final}),
        ("cache_reads_total", {"hit", "miss", "unavailable"}),
        ("publishes_total", {"confirmed", "refused", "unroutable", "timed-out", "blocked", "unavailable"}),
        ("swept_objects_total", set(Bucket)),
        ("jwks_fetches_total", {"ok", "failed"}),
        ("leases_lost_total", {""}),
    ],
)
def test_the_series_of_a_closed_set_begin_with_0(name: str, values: set[str]) -> None:
    assert series_at_the_start()[f"image_processor_{name}"] == dict.fromkeys(values, 0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("backlog", {status for status in ImageStatus if not status.is_final}),
        ("oldest_seconds", {status for status in ImageStatus if not status.is_final}),
        ("queue_depth", {*Priority, "dead"}),
        ("dispatch_lag_seconds", {""}),
    ],
)
def test_what_was_not_measured_is_not_0(name: str, values: set[str]) -> None:
    found = series_at_the_start()[f"image_processor_{name}"]

    assert set(found) == values
    assert all(math.isnan(value) for value in found.values())


def test_what_the_page_says_in_numbers() -> None:
    text = " ".join(PAGE.split())
    assert f"within {READY_SECONDS:g} seconds" in text
    assert f"`MEASURE_INTERVAL_SECONDS`, {Settings(_env_file=None).measure_interval_seconds:g} seconds" in text
