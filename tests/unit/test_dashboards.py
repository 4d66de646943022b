"""The dashboards are what Grafana takes, ask what Prometheus understands, and tell a reader what to do."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability import FOLDER, dashboards, expressions, filled_in, panels, run_promtool
from tests.promql import read_query

PROVISIONING = FOLDER / "grafana" / "provisioning"
# Grafana's ids of those that are used. Another one is shown as a suffix, without an error.
UNITS = {"none", "s", "bytes", "Bps", "reqps", "ops", "percentunit"}
SCHEMA_VERSION = 41
DASHBOARDS = dashboards()


@pytest.fixture(params=DASHBOARDS)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return DASHBOARDS[str(request.param)]


def data_sources(value: Any) -> list[dict[str, str]]:
    """All that are named anywhere below."""
    if isinstance(value, list):
        return [found for each in value for found in data_sources(each)]
    if isinstance(value, dict):
        own = [value["datasource"]] if "datasource" in value else []
        return own + [found for each in value.values() for found in data_sources(each)]
    return []


def test_there_are_three() -> None:
    assert {each["uid"] for each in DASHBOARDS.values()} == {f"image-processor-{Path(name).stem}" for name in DASHBOARDS}
    assert set(DASHBOARDS) == {"service.json", "pipeline.json", "resources.json"}


def test_its_frame(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] == SCHEMA_VERSION
    assert dashboard["title"].startswith("Image processor / ")
    assert dashboard["description"]
    assert dashboard["tags"] == ["image-processor"]
    assert "id" not in dashboard


def test_every_question_goes_to_the_provisioned_data_source(dashboard: dict[str, Any]) -> None:
    provisioned = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    known = [{"type": source["type"], "uid": source["uid"]} for source in provisioned]

    assert all(source in known for source in data_sources(dashboard))
    for panel in panels(dashboard):
        assert panel["targets"]
        assert all("datasource" in asked for asked in [panel, *panel["targets"]])


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = set(itertools.product(columns, lines))
        assert cells
        assert columns.stop <= 24
        assert not cells & taken, panel["title"]
        taken |= cells

    assert len(ids) == len(set(ids))


def test_each_panel_says_what_it_shows_and_what_to_do(dashboard: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(titles) == len(set(titles))
    for panel in panels(dashboard):
        assert len(panel["description"]) >= 20, panel["title"]
        if panel["type"] != "table":
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert all("refId" in target and "legendFormat" in target for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_legends_and_variables_are_of_labels_and_variables_that_there_are(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            query = read_query(filled_in(target["expr"]))
            # What is not added up has all its labels.
            if query.groupings:
                assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= query.groupings, panel["title"]
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = {name for text in expressions(dashboard).values() for name in re.findall(r"\$(?!__)(\w+)", text)}

    assert used == variables


def test_what_is_the_same_from_every_worker_is_never_added_up(dashboard: dict[str, Any]) -> None:
    gauges = "backlog|oldest_seconds|dispatch_lag_seconds|queue_depth|rows_without_object"
    for place, text in expressions(dashboard).items():
        for around in re.findall(rf"(\w+)(?: by \([^)]*\))? ?\(image_processor_(?:{gauges})", text):
            assert around == "max", place
        assert len(re.findall(rf"image_processor_(?:{gauges})", text)) == len(
            re.findall(rf"max(?: by \([^)]*\))? ?\(image_processor_(?:{gauges})", text)
        ), place


def test_counters_are_asked_for_their_rates(dashboard: dict[str, Any]) -> None:
    for place, text in expressions(dashboard).items():
        if place.startswith("variable"):
            continue
        for name in re.findall(r"image_processor_\w+_total", text):
            assert re.search(rf"(rate|increase)\({name}[{{\[]", text), place


def test_prometheus_understands_every_question(tmp_path: Path) -> None:
    questions = [text for dashboard in DASHBOARDS.values() for text in expressions(dashboard).values()]
    rules = [{"record": f"question:{number}", "expr": filled_in(text)} for number, text in enumerate(questions)]
    file = tmp_path / "questions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "questions", "rules": rules}]}), encoding="utf-8")

    code, said = run_promtool("check", "rules", file)

    assert code == 0, said
    assert f"{len(questions)} rules found" in said
    assert "$" not in "".join(rule["expr"] for rule in rules)
