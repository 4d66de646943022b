"""The definitions of what the components use beside Kubernetes' own kinds, as Go modules publish them."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

MODULES = {
    "github.com/kedacore/keda/v2@v2.18.0": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
}


@dataclass(frozen=True)
class CustomResources:
    """What an API server that is given `files` accepts."""

    files: Sequence[Path]

    def validate(self, document: dict[str, Any]) -> None:
        """Raises AssertionError where a field is wrong or unknown."""
        group, _, version = document["apiVersion"].partition("/")
        for path in self.files:
            definition = yaml.safe_load(path.read_text())["spec"]
            if (definition["group"], definition["names"]["kind"]) == (group, document["kind"]):
                schemas = [each["schema"]["openAPIV3Schema"] for each in definition["versions"] if each["name"] == version]
                schema = _closed({name: value for name, value in schemas[0]["properties"].items() if name == "spec"})
                errors = list(jsonschema.Draft202012Validator(schema).iter_errors({"spec": document["spec"]}))
                assert not errors, f"{document['kind']} {document['metadata']['name']}: {errors[0].message}"
                return
        raise AssertionError(f"no definition of {document['apiVersion']} {document['kind']}")


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    """An object that has no other properties, as a server that is told to be strict reads it."""
    return {
        "type": "object",
        "properties": {name: _strict(schema) for name, schema in properties.items()},
        "additionalProperties": False,
    }


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    if "properties" in schema:
        return {**schema, **_closed(schema["properties"])}
    if "items" in schema:
        return {**schema, "items": _strict(schema["items"])}
    return schema


def custom_resources() -> CustomResources:
    """Skips where Go is not there, or has not the modules."""
    if not shutil.which("go"):
        pytest.skip("no Go, which the definitions of custom resources are fetched with")
    files: list[Path] = []
    for module, paths in MODULES.items():
        fetched = subprocess.run(
            ["go", "mod", "download", "-json", module],
            capture_output=True,
            text=True,
            timeout=150,
            cwd="/",
            env=os.environ | {"GOWORK": "off", "GOFLAGS": "-mod=mod"},
        )
        if fetched.returncode:
            pytest.skip(f"{module} is not to be had: {fetched.stderr[-300:] or fetched.stdout[-300:]}")
        folder = Path(json.loads(fetched.stdout)["Dir"])
        files += [folder / path for path in paths]
    return CustomResources(files)
