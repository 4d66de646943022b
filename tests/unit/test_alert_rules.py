"""Each alert fires when it should and is silent when it should be, says what to do, and is in the documentation."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import app
from common.settings import Settings
from tests.observability import FOLDER, ROOT, alerts, rules, run_promtool
from tests.unit.test_operations_page import command_exists

TESTS = sorted((FOLDER / "tests").glob("*.test.yml"))
FIRING = re.compile(r'ALERTS\{alertname="(\w+)",alertstate="firing"\}')
SEVERITIES = {"critical", "warning", "info"}
NEVER, ALWAYS = "vector(1) < 0", "vector(1)"


def cases() -> dict[str, set[bool]]:
    """For each alert whether there are cases in which it fires, and in which it does not."""
    found: dict[str, set[bool]] = {}
    for path in TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for check in test["promql_expr_test"]:
                if alert := FIRING.fullmatch(check["expr"]):
                    found.setdefault(alert[1], set()).add(bool(check["exp_samples"]))
    return found


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    code, said = run_promtool("check", "config", "observability/prometheus.yml")

    assert code == 0, said
    assert f"{len(list((FOLDER / 'rules').glob('*.yml')))} rule files found" in said


def test_each_alert_fires_and_is_silent_as_its_cases_say() -> None:
    code, said = run_promtool("test", "rules", *TESTS)

    assert code == 0, said


def test_each_alert_has_both_cases() -> None:
    assert cases() == {name: {True, False} for name in alerts()}


@pytest.mark.parametrize(("expression", "caught"), [(NEVER, "never fires"), (ALWAYS, "always fires")])
def test_the_cases_notice_an_alert_that(expression: str, caught: str, tmp_path: Path) -> None:
    # given
    shutil.copytree(FOLDER, tmp_path / "observability")
    for path in (tmp_path / "observability" / "rules").glob("*.yml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in content["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    rule["expr"] = expression
        path.write_text(yaml.safe_dump(content), encoding="utf-8")

    # when
    code, said = run_promtool("test", "rules", *(tmp_path / "observability" / "tests" / path.name for path in TESTS))

    # then
    assert code == 1, f"{caught}: {said}"
    assert {name.replace("\\", "") for name in re.findall(r'alertname=\\"(\w+)\\"', said)} == set(alerts())


@pytest.mark.parametrize("name", alerts())
def test_each_alert_says_what_to_do(name: str) -> None:
    alert: dict[str, Any] = alerts()[name].content

    assert alert["labels"]["severity"] in SEVERITIES
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert 10 < len(alert["annotations"]["summary"]) < 120
    assert len(alert["annotations"]["description"]) > 40
    settings = {field.upper() for field in Settings.model_fields} | {"WORKER_MEMORY"}
    assert set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", alert["annotations"]["description"])) <= settings
    for command in re.findall(r"`image-processor ([^`]*)`", alert["annotations"]["description"]):
        assert command_exists(app, command), command


@pytest.mark.parametrize("name", alerts())
def test_each_runbook_is_there(name: str) -> None:
    page, _, anchor = alerts()[name].content["annotations"]["runbook"].partition("#")

    assert anchor in headings(page)


def headings(page: str) -> set[str]:
    """Their anchors, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_no_name_is_there_twice() -> None:
    names = [(rule.name, str(rule.content.get("labels"))) for rule in rules()]

    assert len(names) == len(set(names))


def test_the_page_has_each_alert_with_its_severity_and_patience() -> None:
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    explained = {
        name: (severity, patience) for name, severity, patience in re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \|", page, re.M)
    }

    assert explained == {name: (rule.content["labels"]["severity"], rule.content["for"]) for name, rule in alerts().items()}


def test_the_page_has_the_queries_of_the_objectives() -> None:
    """With the budgets that the rules reckon with."""
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    budgets = {rule.content["labels"]["slo"]: rule.expression for rule in rules() if rule.name == "slo:error_budget:ratio"}
    objectives = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| ([0-9.]+) % \|", page, re.M))

    assert {slo: f"vector({round(1 - float(percent) / 100, 6):g})" for slo, percent in objectives.items()} == budgets
