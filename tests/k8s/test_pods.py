"""Each pod has no rights that it does not need, what it refers to is there, and what refers to it finds it."""

import re
from itertools import chain
from typing import Any

import httpx
import pytest

from common.settings import Settings
from gateway.app import create_app
from tests.gateway import World
from tests.k8s.manifests import (
    ALL,
    OURS,
    ROOT,
    Pods,
    config_maps_of,
    files_of,
    name_of,
    named,
    of_kind,
    pods_named,
    pods_of,
    rendered,
    secrets_of,
    selects,
    variables_of,
)
from worker.health import create_health_app

ALLOWED_VOLUMES = {"emptyDir", "secret", "configMap", "persistentVolumeClaim"}


@pytest.fixture(scope="module")
async def answered() -> dict[str, set[str]]:
    """The paths that each program answers with 200, of those that anything in the manifests asks for."""
    world = World()
    apps: dict[str, Any] = {"gateway": create_app(world.settings, world.ports), "worker": create_health_app(world.ports)}
    asked = {path for name in ALL for path in re.findall(r"'path': '(/[^']*)'", str(pods_of(rendered(name))))} | {"/metrics"}
    found = {}
    for program, app in apps.items():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pod") as client:
            found[program] = {path for path in asked if (await client.get(path)).status_code == 200}
    return found


def exposed(dockerfile: str) -> set[int]:
    return {int(port) for port in re.findall(r"^EXPOSE (\d+)$", (ROOT / dockerfile).read_text(), re.MULTILINE)}


@pytest.mark.parametrize("name", ALL)
def test_every_pod_meets_the_restricted_standard_and_can_write_to_its_volumes_alone(name: str) -> None:
    for pods in pods_of(rendered(name)):
        spec, context = pods.spec, pods.spec["securityContext"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), pods.name
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["fsGroup"] == context["runAsGroup"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(set(volume) - {"name"} <= ALLOWED_VOLUMES for volume in spec.get("volumes", [])), pods.name
        for container in pods.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{pods.name}: {container['name']}"
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert not [port for port in container.get("ports", []) if "hostPort" in port]


@pytest.mark.parametrize("name", ALL)
def test_the_namespace_refuses_what_is_not_restricted(name: str) -> None:
    documents = rendered(name)
    namespace = of_kind(documents, "Namespace")[0]

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {document["metadata"]["namespace"] for document in documents if document is not namespace} == {name_of(namespace)}


@pytest.mark.parametrize("name", ALL)
def test_no_pod_has_a_token_of_the_cluster_or_variables_of_its_services(name: str) -> None:
    documents = rendered(name)
    accounts = {name_of(account): account for account in of_kind(documents, "ServiceAccount")}

    for pods in pods_of(documents):
        assert pods.spec["automountServiceAccountToken"] is False
        # A Service "gateway" would set GATEWAY_PORT=tcp://…
        assert pods.spec["enableServiceLinks"] is False
        # each has an account of its own, so that a right given to one is given to no other
        assert pods.spec["serviceAccountName"] == pods.name
        assert accounts[pods.name]["automountServiceAccountToken"] is False


def test_our_user_is_the_one_of_our_images() -> None:
    for dockerfile in ("Dockerfile.api", "Dockerfile.worker"):
        assert "\nUSER 10001:10001\n" in (ROOT / dockerfile).read_text()
    for name in ALL:
        for pods in pods_of(rendered(name)):
            if pods.name in OURS:
                assert (pods.spec["securityContext"]["runAsUser"], pods.spec["securityContext"]["runAsGroup"]) == (10001, 10001)


@pytest.mark.parametrize("name", ALL)
def test_every_probe_of_our_programs_asks_a_route_on_the_right_port(name: str, answered: dict[str, set[str]]) -> None:
    ports = {"gateway": Settings.model_fields["gateway_port"].default, "worker": Settings.model_fields["worker_port"].default}
    for program, dockerfile in (("gateway", "Dockerfile.api"), ("worker", "Dockerfile.worker")):
        pods = pods_named(rendered(name), program)
        assert exposed(dockerfile) == set(pods.ports.values()) == {ports[program]}
        probes = {probe: pods.main[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert {probe: get["path"] for probe, get in probes.items()} == {
            "startupProbe": "/health",
            "livenessProbe": "/health",
            "readinessProbe": "/health/ready",
        }
        assert {get["path"] for get in probes.values()} <= answered[program]
        assert {pods.port(get["port"]) for get in probes.values()} == {ports[program]}


@pytest.mark.parametrize("name", ALL)
def test_what_is_scraped_is_a_route_on_the_right_port(name: str, answered: dict[str, set[str]]) -> None:
    documents = rendered(name)
    for program in ("gateway", "worker"):
        pods = pods_named(documents, program)
        monitors = [
            monitor["spec"] for monitor in of_kind(documents, "PodMonitor") if selects(monitor["spec"]["selector"], pods.labels)
        ]
        scraped = [(end["path"], pods.port(end["port"])) for monitor in monitors for end in monitor["podMetricsEndpoints"]]
        annotations = pods.metadata.get("annotations", {})
        if annotations.get("prometheus.io/scrape") == "true":
            scraped.append((annotations["prometheus.io/path"], int(annotations["prometheus.io/port"])))
        # once, and not twice
        assert [port for _, port in scraped] == list(pods.ports.values())
        assert {path for path, _ in scraped} <= answered[program]


@pytest.mark.parametrize("name", ALL)
def test_probes_of_the_infrastructure_ask_ports_that_are_there(name: str) -> None:
    for pods in pods_of(rendered(name)):
        if pods.kind == "Job":
            continue
        assert "readinessProbe" in pods.main, pods.name
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = pods.main.get(probe, {})
            if port := (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port"):
                pods.port(port)


@pytest.mark.parametrize("name", ALL)
def test_every_service_finds_pods_and_a_port_of_theirs(name: str) -> None:
    documents = rendered(name)
    for service in of_kind(documents, "Service"):
        found = [pods for pods in pods_of(documents) if selects({"matchLabels": service["spec"]["selector"]}, pods.labels)]
        assert [pods.name for pods in found] == [name_of(service)]
        for port in service["spec"]["ports"]:
            found[0].port(port["targetPort"])
    for ingress in of_kind(documents, "Ingress"):
        for path in chain.from_iterable(rule["http"]["paths"] for rule in ingress["spec"]["rules"]):
            backend = path["backend"]["service"]
            ports = named(documents, "Service", backend["name"])["spec"]["ports"]
            assert backend["port"]["name"] in [port["name"] for port in ports]


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("prod")])
def test_every_address_in_a_setting_is_a_service_with_that_port(name: str) -> None:
    documents = rendered(name)
    gateway = pods_named(documents, "gateway")
    texts = [*variables_of(name, gateway.main).values(), *files_of(name, gateway).values()]
    addresses = {found for text in texts for found in re.findall(r"(?:^|//|@)([a-z]+):(\d+)(?:/|$)", text)} - {
        ("localhost", "30081")
    }

    assert {host for host, _ in addresses} == {name_of(service) for service in of_kind(documents, "Service")} - {"gateway"}
    for host, port in addresses:
        assert int(port) in [each["port"] for each in named(documents, "Service", host)["spec"]["ports"]]


@pytest.mark.parametrize("name", ALL)
def test_every_controller_and_budget_selects_its_own_pods(name: str) -> None:
    documents = rendered(name)
    for controller in of_kind(documents, "Deployment", "StatefulSet"):
        assert selects(controller["spec"]["selector"], controller["spec"]["template"]["metadata"]["labels"])
        if controller["kind"] == "StatefulSet":
            named(documents, "Service", controller["spec"]["serviceName"])
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        for document in of_kind(documents, kind):
            found = [pods.name for pods in pods_of(documents) if selects(document["spec"]["selector"], pods.labels)]
            assert found == [name_of(document)]
    budgets = {name_of(budget) for budget in of_kind(documents, "PodDisruptionBudget")}
    assert budgets == {name_of(deployment) for deployment in of_kind(documents, "Deployment")}
    for pods in pods_of(documents):
        for constraint in pods.spec.get("topologySpreadConstraints", []):
            assert selects(constraint["labelSelector"], pods.labels)


@pytest.mark.parametrize("name", ALL)
def test_every_volume_config_map_secret_and_key_that_a_pod_names_is_there(name: str) -> None:
    documents = rendered(name)
    claims = {name_of(claim) for claim in of_kind(documents, "PersistentVolumeClaim")}
    for pods in pods_of(documents):
        volumes = {volume["name"]: volume for volume in pods.spec.get("volumes", [])}
        mountable = set(volumes) | {name_of(claim) for claim in pods.claims}
        for volume in volumes.values():
            if "secret" in volume:
                assert volume["secret"]["secretName"] in secrets_of(name)
            if "configMap" in volume:
                assert volume["configMap"]["name"] in config_maps_of(name)
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
        for container in pods.containers:
            variables_of(name, container)  # a KeyError where a key is not there
            for mount in container.get("volumeMounts", []):
                assert mount["name"] in mountable, f"{pods.name}: {mount['name']}"
                if "subPath" in mount:
                    assert mount["subPath"] in config_maps_of(name)[volumes[mount["name"]]["configMap"]["name"]]
    for authentication in of_kind(documents, "TriggerAuthentication"):
        for reference in authentication["spec"]["secretTargetRef"]:
            assert reference["key"] in secrets_of(name)[reference["name"]]
        for reference in authentication["spec"].get("configMapTargetRef", []):
            assert reference["key"] in config_maps_of(name)[reference["name"]]


@pytest.mark.parametrize("name", ["pvc", "prod with volume"])
def test_gateways_and_workers_share_a_volume_that_their_user_may_write_to(name: str) -> None:
    documents = rendered(name)

    def shared(pods: Pods) -> tuple[str, str, int]:
        claim = next(v["persistentVolumeClaim"]["claimName"] for v in pods.spec["volumes"] if "persistentVolumeClaim" in v)
        path: str = next(mount["mountPath"] for mount in pods.main["volumeMounts"] if mount["name"] == "data")
        assert variables_of(name, pods.main)["STORAGE_PATH"].startswith(f"{path}/")
        assert variables_of(name, pods.main)["STORAGE_TYPE"] == "local"
        # One node at a time may use a ReadWriteOnce volume: all go where the first is.
        term = pods.spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert [each.name for each in pods_of(documents) if selects(term["labelSelector"], each.labels)] == ["gateway", "worker"]
        return claim, path, pods.spec["securityContext"]["fsGroup"]

    assert shared(pods_named(documents, "gateway")) == shared(pods_named(documents, "worker")) == ("blobs", "/data", 10001)
    assert "minio" not in {pods.name for pods in pods_of(documents)}
    assert not [text for settings in config_maps_of(name).values() for text in settings if text.startswith("MINIO_")]
