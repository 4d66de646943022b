"""The files in `observability/`, read, and Prometheus' own programs to judge them."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "observability"
# In place of Grafana's variables, as it would put them.
VARIABLES = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "6h", "$instance": ".*", "$route": ".*", "$job": ".*"}


@dataclass(frozen=True)
class Rule:
    file: str
    content: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.content.get("alert") or self.content["record"])

    @property
    def expression(self) -> str:
        return str(self.content["expr"])


def rules() -> list[Rule]:
    return [
        Rule(path.name, rule)
        for path in sorted((FOLDER / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def alerts() -> dict[str, Rule]:
    return {rule.name: rule for rule in rules() if "alert" in rule.content}


def dashboards() -> dict[str, dict[str, Any]]:
    """By the file's name."""
    paths = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any]) -> dict[str, str]:
    """Each query of a dashboard, by where it is."""
    found = {f"{panel['title']}, {target['refId']}": target["expr"] for panel in panels(dashboard) for target in panel["targets"]}
    found |= {f"annotation {each['name']}": each["expr"] for each in dashboard["annotations"]["list"]}
    for variable in dashboard["templating"]["list"]:
        values = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
        assert values, variable["query"]
        found[f"variable {variable['name']}"] = values[1]
    return found


def filled_in(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def run_promtool(*arguments: str | Path, cwd: Path = ROOT) -> tuple[int, str]:
    """→ its exit code, and all that it said. Where it cannot be had the test skips, and in CI fails."""
    ended = subprocess.run(
        [ROOT / "scripts" / "promtool", *arguments], capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )
    if ended.returncode == 127:
        if os.environ.get("CI"):
            pytest.fail(ended.stderr)
        pytest.skip(ended.stderr)
    return ended.returncode, ended.stdout + ended.stderr
