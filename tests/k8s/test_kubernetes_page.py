"""What docs/kubernetes.md names and says in numbers is what the manifests have."""

import re

import pytest

from tests.k8s.manifests import K8S, ROOT, name_of, named, of_kind, pods_named, rendered, secrets_of
from tests.k8s.test_settings import SETTINGS
from tests.k8s.test_versions import VERSION

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
WORDS = " ".join(PAGE.split())


def test_every_folder_and_file_that_the_page_names_is_there() -> None:
    named_here = set(re.findall(r"(?:k8s|scripts|tests|components|overlays)/[\w./-]*\w", PAGE))

    assert len(named_here) > 12
    for path in named_here:
        assert (ROOT / path).exists() or (K8S / path).exists(), path


def test_every_setting_that_the_page_names_is_one() -> None:
    of_others = {"KC_HOSTNAME", "GATEWAY_PUBLIC_URL", "KEYCLOAK_ADMIN", "KEYCLOAK_ADMIN_PASSWORD", "KEYCLOAK_ADMIN_PASSWORD_FILE"}
    found = set(re.findall(r"(?:`|^ *|[ `])([A-Z]+_[A-Z_]+)[`=]", PAGE, re.MULTILINE)) - of_others

    assert {"POSTGRES_URL_FILE", "MINIO_ADMIN_SECRET_KEY_FILE", "RENDER_SECONDS", "KEYCLOAK_PUBLIC_URL"} <= found
    assert found <= SETTINGS


def test_the_commands_have_this_version_and_these_names() -> None:
    assert set(re.findall(r"image-processor-(?:api|worker):([\w.]+)", PAGE)) == {VERSION}
    assert set(re.findall(r"migrate-\d[\w-]*", PAGE)) == {f"migrate-{VERSION.replace('.', '-')}"}
    kinds = {"deployment": "Deployment", "statefulset": "StatefulSet", "job": "Job", "service": "Service"}
    objects = set(
        re.findall(
            r"\b(deployment|statefulset|job|service)[/ ]([a-z][\w-]*)", " ".join(re.findall(r"^(?:   )?kubectl .*$", PAGE, re.M))
        )
    )
    assert len(objects) > 5
    for kind, name in objects:
        named(rendered("dev"), kinds[kind], name)


def test_the_secrets_that_are_made_by_hand_have_every_key() -> None:
    made = {}
    for name, rest in re.findall(r"create secret generic (\S+) ((?:.*\\\n)*.*)", PAGE):
        made[name] = set(re.findall(r"--from-file=(\w+)", rest))

    assert made == {name: set(keys) for name, keys in secrets_of("prod").items()}
    [ingress] = of_kind(rendered("prod"), "Ingress")
    assert re.findall(r"create secret tls (\S+)", PAGE) == [tls["secretName"] for tls in ingress["spec"]["tls"]]


def test_no_command_of_the_page_makes_users_whose_password_is_known() -> None:
    commands = re.findall(r"^.*scripts/setup_keycloak\.sh.*$", PAGE, re.M)

    assert len(commands) == 2
    assert all(command.endswith("scripts/setup_keycloak.sh --without-demo-users") for command in commands)


def sentences() -> list[str]:
    worker = of_kind(rendered("prod"), "ScaledObject")[0]["spec"]
    gateway = named(rendered("prod"), "HorizontalPodAutoscaler", "gateway")["spec"]
    grace = {name: pods_named(rendered("prod"), name).spec["terminationGracePeriodSeconds"] for name in ("gateway", "worker")}
    waits = pods_named(rendered("prod"), "gateway").main["lifecycle"]["preStop"]["exec"]["command"][1]
    ports = [
        port["port"] for port in named(rendered("prod"), "NetworkPolicy", "programs-to-services")["spec"]["egress"][0]["ports"]
    ]
    node_ports = [named(rendered("dev"), "Service", name)["spec"]["ports"][0]["nodePort"] for name in ("gateway", "keycloak")]
    return [
        f"(`components/keda`, {worker['minReplicaCount']} to {worker['maxReplicaCount']}): "
        f"one worker for each {worker['triggers'][0]['metadata']['value']} messages",
        f"by CPU in `prod` ({gateway['minReplicas']} to {gateway['maxReplicas']})",
        f"{grace['gateway']} seconds for a gateway, of which the first {waits} pass",
        f"{grace['worker']} for a worker",
        f"{', '.join(map(str, ports[:-1]))} and {ports[-1]}",
        *(f"containerPort: {port}, hostPort: {port}, listenAddress: 127.0.0.1" for port in node_ports),
        "Only the namespace `ingress-nginx` reaches the gateway",
        f"-n {name_of(of_kind(rendered('dev'), 'Namespace')[0])} wait",
    ]


def test_its_numbers_are_those_of_the_manifests() -> None:
    missing = [sentence for sentence in sentences() if sentence not in WORDS]

    assert not missing


@pytest.mark.parametrize("name", ["dev", "pvc"])
def test_no_other_node_ports_are_taken(name: str) -> None:
    taken = [
        port["nodePort"]
        for service in of_kind(rendered(name), "Service")
        for port in service["spec"]["ports"]
        if "nodePort" in port
    ]

    assert taken == [30080, 30081]
