"""One autoscaler a Deployment, that knows what it counts, and to which nobody else objects."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from common.adapters.rabbitmq.topology import DEAD_QUEUE, DEAD_WALK, queue_name
from common.images import ImageStatus, Priority
from common.telemetry import BACKLOG
from tests.k8s.manifests import ALL, CHOICES, K8S, Document, chosen, config_maps_of, name_of, of_kind, rendered, shown

PROMETHEUS_ADAPTER = K8S / "components" / "backlog-hpa" / "prometheus-adapter-values.yaml"


def autoscalers(name: str) -> dict[str, list[Document]]:
    """By the Deployment that they scale."""
    found: dict[str, list[Document]] = {}
    for document in of_kind(rendered(name), "HorizontalPodAutoscaler", "ScaledObject"):
        found.setdefault(document["spec"]["scaleTargetRef"]["name"], []).append(document)
    return found


@pytest.mark.parametrize("name", ALL)
def test_the_number_of_pods_is_left_to_whoever_scales(name: str) -> None:
    deployments = of_kind(rendered(name), "Deployment")

    assert not [name_of(deployment) for deployment in deployments if "replicas" in deployment["spec"]]
    assert set(autoscalers(name)) <= {name_of(deployment) for deployment in deployments}


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("prod")])
def test_in_production_gateway_and_worker_have_one_autoscaler_each(name: str) -> None:
    found = autoscalers(name)

    assert {target: len(each) for target, each in found.items()} == {"gateway": 1, "worker": 1}
    gateway, worker = found["gateway"][0]["spec"], found["worker"][0]["spec"]
    assert 2 <= gateway["minReplicas"] < gateway["maxReplicas"]
    least, most = ("minReplicas", "maxReplicas") if "minReplicas" in worker else ("minReplicaCount", "maxReplicaCount")
    assert 1 == worker[least] < worker[most]


def test_the_two_ways_to_scale_workers_agree_and_shut_each_other_out() -> None:
    keda, plain = autoscalers("prod")["worker"][0], autoscalers("prod with backlog-hpa")["worker"][0]
    made = keda["spec"]["advanced"]["horizontalPodAutoscalerConfig"]

    # of two objects with one name there is only one
    assert made["name"] == name_of(plain)
    assert made["behavior"] == plain["spec"]["behavior"]
    assert keda["spec"]["maxReplicaCount"] == plain["spec"]["maxReplicas"]
    assert keda["spec"]["triggers"][0]["metadata"]["value"] == plain["spec"]["metrics"][0]["external"]["target"]["averageValue"]
    assert not [name for name in CHOICES if len(autoscalers(name)["worker"]) > 1]


def test_the_queues_that_keda_counts_are_those_that_workers_consume() -> None:
    trigger = autoscalers("prod")["worker"][0]["spec"]["triggers"][0]["metadata"]
    counted = re.compile(trigger["queueName"])
    queues = {queue_name(priority) for priority in Priority}

    # The broker looks for the pattern anywhere in a name.
    assert {
        name for name in (*queues, DEAD_QUEUE, DEAD_WALK, "images.highest", "other.images.high") if counted.search(name)
    } == queues
    assert (trigger["protocol"], trigger["useRegex"], trigger["operation"]) == ("http", "true", "sum")
    assert "excludeUnacknowledged" not in trigger


def test_the_backlog_that_the_plain_autoscaler_reads_is_the_one_that_workers_export() -> None:
    external = autoscalers("prod with backlog-hpa")["worker"][0]["spec"]["metrics"][0]["external"]
    rule = yaml.safe_load(PROMETHEUS_ADAPTER.read_text())["rules"]["external"][0]

    assert external["metric"]["name"] == rule["name"]["as"] == BACKLOG._name
    assert rule["seriesQuery"].partition("{")[0] == BACKLOG._name
    # the same from every worker, so the maximum, a state; and each state is work
    assert rule["metricsQuery"] == f"sum(max by (status) ({BACKLOG._name}{{<<.LabelMatchers>>}}))"
    assert BACKLOG._labelnames == ("status",)
    measured = {labels[0] for labels in BACKLOG._metrics}
    assert measured == {status for status in ImageStatus if not status.is_final}


def test_the_script_that_reads_what_keda_reads_asks_for_the_same() -> None:
    scaled = autoscalers("prod")["worker"][0]["spec"]
    trigger = scaled["triggers"][0]["metadata"]
    script = runpy.run_path(str(K8S.parent / "scripts" / "lib" / "queue_length.py"), run_name="read")

    assert (script["QUEUES"], script["VALUE"]) == (trigger["queueName"], int(trigger["value"]))
    assert (script["LEAST"], script["MOST"]) == (scaled["minReplicaCount"], scaled["maxReplicaCount"])


def test_keda_believes_the_ca_that_the_programs_believe() -> None:
    [authentication] = of_kind(rendered("prod with private-ca"), "TriggerAuthentication")

    # Its scaler reads `ca` only where `tls` says so.
    references = {each["parameter"]: each for each in authentication["spec"]["configMapTargetRef"]}
    assert references["ca"]["name"] == "service-ca"
    assert config_maps_of("prod with private-ca")[references["tls"]["name"]][references["tls"]["key"]] == "enable"


def test_a_ca_that_keda_would_not_be_told_of_is_refused(tmp_path: Path) -> None:
    # given the two components in the order in which the patch of the one would not find the other
    kustomization = chosen("prod with private-ca", tmp_path) / "kustomization.yaml"
    document = yaml.safe_load(kustomization.read_text())
    document["components"].reverse()
    kustomization.write_text(yaml.safe_dump(document))

    # when
    ran = shown(kustomization.parent)

    # then
    assert ran.returncode
    assert "private-ca-comes-after-keda" in ran.stderr
