"""What docs/observability.md says is to be typed on a cluster gives it the rules and dashboards of this repository."""

import json
import os
import re
import shutil
import stat
import subprocess
from typing import Any

import pytest
import yaml

from tests.k8s.crds import custom_resources
from tests.k8s.manifests import of_kind, pods_named, rendered
from tests.observability import ROOT, dashboards, rules

# `apply` keeps what it is given, in place of a cluster; all else is done without one.
KUBECTL = """#!/bin/sh
case $1 in
  apply) cat > "$(mktemp "$APPLIED/XXXXXX.yml")" ;;
  *) exec "$REAL" "$@" ;;
esac
"""


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The documents that the page's commands apply."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("no kubectl")
    folder = tmp_path_factory.mktemp("applied")
    program = folder / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    commands = next(block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "PrometheusRule" in block)
    path = f"{program.parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "REAL": kubectl, "APPLIED": str(folder)}
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands], check=True, timeout=60, cwd=ROOT, env=environment)
    return [each for file in folder.glob("*.yml") for each in yaml.safe_load_all(file.read_text(encoding="utf-8")) if each]


def test_the_rules_are_all_there_and_what_their_definition_says(applied: list[dict[str, Any]]) -> None:
    documents = of_kind(applied, "PrometheusRule")
    names = [
        rule.get("alert") or rule["record"] for each in documents for group in each["spec"]["groups"] for rule in group["rules"]
    ]

    assert sorted(names) == sorted(rule.name for rule in rules())
    definitions = custom_resources()
    for document in documents:
        definitions.validate(document)


def test_the_dashboards_are_where_grafana_looks(applied: list[dict[str, Any]]) -> None:
    [found] = of_kind(applied, "ConfigMap")

    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert {name: json.loads(text) for name, text in found["data"].items()} == dashboards()


def test_the_rules_find_gateways_and_workers_by_their_job() -> None:
    documents = rendered("prod with monitoring")

    jobs = [
        pods_named(documents, monitor["metadata"]["name"]).labels[monitor["spec"]["jobLabel"]]
        for monitor in of_kind(documents, "PodMonitor")
    ]

    assert jobs == ["gateway", "worker"]
