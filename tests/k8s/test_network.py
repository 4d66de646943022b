"""Who may speak with whom: everything that the service needs, and nothing else. Reckoned from the policies, as a network would."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.k8s.manifests import ALL, Pods, of_kind, pods_named, pods_of, rendered, selects

PROGRAMS = ("gateway", "worker")
SERVICES = {("postgres", 5432), ("redis", 6379), ("rabbitmq", 5672)}
FLOWS = {(program, *service) for program in PROGRAMS for service in SERVICES} | {
    ("migrate", "postgres", 5432),
    ("gateway", "keycloak", 8080),
}
EXPECTED = {"dev": FLOWS | {(program, "minio", 9000) for program in PROGRAMS}, "pvc": FLOWS}


def rules(name: str, pods: Pods, direction: str) -> Iterator[Any]:
    for policy in of_kind(rendered(name), "NetworkPolicy"):
        if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pods.labels):
            yield from policy["spec"].get(direction.lower(), [])


def peers(rule: Any, direction: str) -> list[Any]:
    found: list[Any] = rule.get("from" if direction == "Ingress" else "to", [{}])
    return found


def lets(rule: Any, direction: str, peer: Pods, port: int) -> bool:
    matches = [
        each for each in peers(rule, direction) if not each or ("podSelector" in each and selects(each["podSelector"], peer.labels))
    ]
    return bool(matches) and port in [each["port"] for each in rule["ports"]]


def flows(name: str) -> set[tuple[str, str, int]]:
    """Between two pods, on any port that one of them listens on: the one must be let out and the other let in."""
    everyone = pods_of(rendered(name))
    return {
        (source.name, target.name, port)
        for source in everyone
        for target in everyone
        for port in target.ports.values()
        if any(lets(rule, "Egress", target, port) for rule in rules(name, source, "Egress"))
        and any(lets(rule, "Ingress", source, port) for rule in rules(name, target, "Ingress"))
    }


@pytest.mark.parametrize("name", ["dev", "pvc"])
def test_pods_speak_with_those_they_need_and_with_no_other(name: str) -> None:
    assert flows(name) == EXPECTED[name]


@pytest.mark.parametrize("name", ALL)
def test_what_no_policy_names_is_refused_both_ways_for_every_pod(name: str) -> None:
    deny = next(policy["spec"] for policy in of_kind(rendered(name), "NetworkPolicy") if policy["metadata"]["name"] == "deny-all")

    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("name", ALL)
def test_every_pod_can_ask_for_names(name: str) -> None:
    for pods in pods_of(rendered(name)):
        asks = [rule for rule in rules(name, pods, "Egress") if {each["port"] for each in rule["ports"]} == {53}]
        assert [{each["protocol"] for each in rule["ports"]} for rule in asks] == [{"UDP", "TCP"}]
        assert "to" not in asks[0]


@pytest.mark.parametrize("name", ALL)
def test_metrics_are_let_out_to_the_monitoring_namespace(name: str) -> None:
    for program in PROGRAMS:
        pods = pods_named(rendered(name), program)
        scrapers = [
            rule
            for rule in rules(name, pods, "Ingress")
            for peer in rule.get("from", [])
            if peer.get("namespaceSelector") == {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
        ]
        assert len(scrapers) == 1
        assert set(pods.ports.values()) <= {each["port"] for each in scrapers[0]["ports"]}


@pytest.mark.parametrize("name", ALL)
def test_clients_reach_the_gateway_and_the_worker_is_reached_by_nobody_else(name: str) -> None:
    documents = rendered(name)
    gateway, worker = pods_named(documents, "gateway"), pods_named(documents, "worker")
    to_gateway, to_worker = list(rules(name, gateway, "Ingress")), list(rules(name, worker, "Ingress"))

    assert len(to_gateway) == 2
    assert len(to_worker) == 1
    clients = next(rule for rule in to_gateway if rule not in to_worker)
    assert 3000 in {each["port"] for each in clients["ports"]}
    if name.startswith("prod"):
        # through the ingress alone
        assert clients["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]
    else:
        # from any address, as node ports have it
        assert "from" not in clients


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("prod")])
def test_production_reaches_the_ports_of_its_services_and_no_other(name: str) -> None:
    documents = rendered(name)

    def reached(program: str) -> set[int]:
        return {each["port"] for rule in rules(name, pods_named(documents, program), "Egress") for each in rule["ports"]} - {53}

    # PostgreSQL, Redis and RabbitMQ over TLS, MinIO and Keycloak over HTTPS: the ports in secrets.example.yaml and the settings
    traces = {4318} if name == "prod with tracing" else set()
    assert reached("gateway") == reached("worker") == {5432, 6379, 5671, 443} | traces
    assert reached("migrate") == {5432}
