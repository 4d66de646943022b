"""Every overlay and every choice is what Kubernetes accepts, by its published schemas; and the flat file is current."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it publishes no types
import pytest
import yaml

from tests.k8s.crds import CustomResources, custom_resources
from tests.k8s.manifests import ALL, K8S, RENDER, ROOT, name_of, rendered

# The oldest that the manifests are meant for, and a recent one.
VERSIONS = ("1.27", "1.34")


def built_in(document: dict[str, Any]) -> bool:
    group = document["apiVersion"].rpartition("/")[0]
    return "." not in group or group.endswith(".k8s.io")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ALL)
def test_every_document_is_valid_and_has_no_unknown_field(name: str, version: str) -> None:
    for document in rendered(name):
        if built_in(document):
            kubernetes_validate.validate(document, version, strict=True)


def test_an_unknown_field_would_be_found() -> None:
    document = rendered("dev")[-1]
    spec = document["spec"] | {"polcyTypes": ["Ingress"]}

    with pytest.raises(kubernetes_validate.ValidationError, match="polcyTypes"):
        kubernetes_validate.validate(document | {"spec": spec}, VERSIONS[0], strict=True)


@pytest.fixture(scope="module")
def definitions() -> CustomResources:
    return custom_resources()


@pytest.mark.parametrize("name", ALL)
def test_every_custom_resource_is_what_its_definition_says(name: str, definitions: CustomResources) -> None:
    for document in rendered(name):
        if not built_in(document):
            definitions.validate(document)


def test_an_unknown_field_of_a_custom_resource_would_be_found(definitions: CustomResources) -> None:
    scaled = next(document for document in rendered("prod") if document["kind"] == "ScaledObject")
    spec = scaled["spec"] | {"minReplicas": 1}

    with pytest.raises(AssertionError, match="minReplicas"):
        definitions.validate(scaled | {"spec": spec})


def test_the_flat_file_is_what_the_overlay_makes() -> None:
    rendered("dev")  # skips where nothing can render

    checked = subprocess.run([RENDER, "--check"], capture_output=True, text=True, timeout=60)

    assert checked.returncode == 0, checked.stderr
    assert list(yaml.safe_load_all((K8S / "dev.yaml").read_text())) == rendered("dev")


def test_a_flat_file_that_is_not_current_is_said_to_be_so(tmp_path: Path) -> None:
    # given a checkout where an overlay was changed after the flat file was written
    rendered("dev")
    for folder in ("k8s", "keycloak", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    gateway = tmp_path / "k8s" / "base" / "gateway.yaml"
    gateway.write_text(gateway.read_text().replace("cpu: 500m", "cpu: 501m"))

    # when
    checked = subprocess.run([tmp_path / "scripts" / "render_k8s", "--check"], capture_output=True, text=True, timeout=60)

    # then
    assert checked.returncode != 0
    assert "+            cpu: 501m" in checked.stderr
    assert "run scripts/render_k8s" in checked.stderr


@pytest.mark.parametrize("name", ALL)
def test_no_two_documents_are_the_same_object(name: str) -> None:
    objects = [(document["kind"], name_of(document)) for document in rendered(name)]

    assert len(objects) == len(set(objects))
