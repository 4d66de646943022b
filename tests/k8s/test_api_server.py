"""A real API server takes every overlay, each choice of components and the flat file; it stores the development overlay."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.k8s.conftest import ApiServer
from tests.k8s.manifests import ALL, CHOICES, K8S, OVERLAYS, ROOT, Document, Pods, chosen, name_of, pods_of, rendered

DRY = ("apply", "--dry-run=server", "--validate=strict")


def folder_of(name: str, temporary: Path) -> Path:
    return chosen(name, temporary) if name in CHOICES else K8S / "overlays" / name


@pytest.mark.usefixtures("definitions_applied")
@pytest.mark.parametrize("name", ALL)
def test_the_server_takes_all_of_it_without_a_warning(name: str, api_server: ApiServer, tmp_path: Path) -> None:
    dry_run = api_server.kubectl(*DRY, "-k", str(folder_of(name, tmp_path)))

    # A pod that the namespace would refuse is a warning here.
    assert (dry_run.returncode, dry_run.stderr) == (0, "")
    lines = dry_run.stdout.splitlines()
    assert len(lines) == len(rendered(name))
    assert all(line.endswith("(server dry run)") for line in lines)


def test_the_server_takes_the_flat_file(api_server: ApiServer) -> None:
    dry_run = api_server.kubectl(*DRY, "-f", str(K8S / "dev.yaml"))

    assert (dry_run.returncode, dry_run.stderr) == (0, "")
    assert len(dry_run.stdout.splitlines()) == len(rendered("dev"))


def test_the_server_would_refuse_an_unknown_field(api_server: ApiServer, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((K8S / "dev.yaml").read_text().replace("runAsNonRoot:", "runAsNonroot:"))

    dry_run = api_server.kubectl(*DRY, "-f", str(wrong))

    assert dry_run.returncode != 0
    assert "runAsNonroot" in dry_run.stderr


def as_pod(pods: Pods, namespace: str) -> Document:
    # The account is not there in a dry run.
    spec = {name: value for name, value in pods.spec.items() if name != "serviceAccountName"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pods.name, "namespace": namespace, "labels": pods.labels},
        "spec": spec,
    }


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_namespace_admits_each_pod(name: str, api_server: ApiServer) -> None:
    namespace = rendered(name)[0]["metadata"]["name"]
    for pods in pods_of(rendered(name)):
        volumes = [*pods.spec.get("volumes", []), *({"name": name_of(claim), "emptyDir": {}} for claim in pods.claims)]
        pod = as_pod(pods, namespace)
        pod["spec"]["volumes"] = volumes

        admitted = api_server.kubectl("create", "--dry-run=server", "-f", "-", document=pod)

        assert admitted.returncode == 0, admitted.stderr


def test_the_namespace_would_refuse_a_pod_of_root(api_server: ApiServer) -> None:
    pods = pods_of(rendered("dev"))[0]
    pod = as_pod(pods, rendered("dev")[0]["metadata"]["name"])
    pod["spec"] = pod["spec"] | {"securityContext": {"runAsUser": 0}}

    refused = api_server.kubectl("create", "--dry-run=server", "-f", "-", document=pod)

    assert refused.returncode != 0
    assert "violates PodSecurity" in refused.stderr


@pytest.fixture
def stored(api_server: ApiServer) -> Iterator[ApiServer]:
    """The server with the flat file in it, for real."""
    if api_server.runs_pods():
        pytest.skip("this server has nodes: it would run all of it")
    try:
        api_server.must("apply", "--validate=strict", "-f", str(K8S / "dev.yaml"))
        yield api_server
    finally:
        left = [document for document in rendered("dev") if document["kind"] != "Namespace"]
        listed = {"apiVersion": "v1", "kind": "List", "items": left}
        api_server.must("delete", "--ignore-not-found", "--wait=false", "-f", "-", document=listed)


def versions(server: ApiServer) -> dict[tuple[str, str], str]:
    """Of each object that the flat file names, what the server counts its changes by."""
    found = json.loads(server.must("get", "-f", str(K8S / "dev.yaml"), "-o", "json"))["items"]
    return {(each["kind"], each["metadata"]["name"]): each["metadata"]["resourceVersion"] for each in found}


def test_all_objects_are_stored_and_the_overlay_changes_none_of_them(stored: ApiServer) -> None:
    # given
    before = versions(stored)
    assert set(before) == {(each["kind"], name_of(each)) for each in rendered("dev")}

    # when
    stored.must("apply", "--validate=strict", "-k", str(K8S / "overlays" / "dev"))

    # then
    assert versions(stored) == before


def test_scaling_by_hand_outlives_the_next_apply(stored: ApiServer) -> None:
    stored.must("-n", "image-processor-dev", "scale", "deployment", "worker", "--replicas=3")

    stored.must("apply", "--validate=strict", "-f", str(K8S / "dev.yaml"))

    assert stored.get("deployment", "worker", "image-processor-dev")["spec"]["replicas"] == 3


def test_a_changed_setting_replaces_the_pods_and_leaves_the_migration_job(stored: ApiServer, tmp_path: Path) -> None:
    # given the same checkout with another setting
    for folder in ("k8s", "keycloak"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    kustomization = tmp_path / "k8s" / "base" / "kustomization.yaml"
    kustomization.write_text(
        kustomization.read_text().replace("- ENVIRONMENT=production", "- ENVIRONMENT=production\n      - RATE_LIMIT=off")
    )

    before = versions(stored)

    # when
    applied = stored.must("apply", "--validate=strict", "-k", str(tmp_path / "k8s" / "overlays" / "dev")).splitlines()

    # then
    made = [line.removesuffix(" created") for line in applied if line.endswith(" created")]
    stored.must("-n", "image-processor-dev", "delete", *made)
    assert [name.startswith("configmap/settings-") for name in made] == [True]
    after = versions(stored)
    assert {each for each in before if before[each] != after[each]} == {("Deployment", "gateway"), ("Deployment", "worker")}
