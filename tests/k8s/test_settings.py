"""What manifests and compose files set is what the programs read: no variable nobody knows, no value that would stop a start."""

import os
import re
from pathlib import Path

import pytest

from common.administration import Administration
from common.settings import SECRETS, Settings, load
from gateway.waiting import LONGEST_WAIT_SECONDS
from tests.k8s.manifests import (
    ALL,
    OURS,
    ROOT,
    composed,
    files_of,
    is_ours,
    name_of,
    named,
    of_kind,
    pods_named,
    pods_of,
    rendered,
    variables_of,
)
from tests.unit.test_access_matrix import GUARDED, OPEN

# What the images of others document, of that what we use.
KNOWN = {
    "postgres": {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE", "POSTGRES_INITDB_ARGS", "PGDATA"},
    "redis": set(),
    "rabbitmq": {"RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS", "RABBITMQ_CONFIG_FILE"},
    "quay.io/minio/minio": {"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_ROOT_PASSWORD_FILE", "MINIO_PROMETHEUS_AUTH_TYPE"},
    "prom/prometheus": set(),
    "grafana/grafana": {
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
        "GF_ANALYTICS_CHECK_FOR_UPDATES",
        "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_AUTH_ANONYMOUS_ENABLED",
        "GF_LOG_MODE",
        "GF_NEWS_NEWS_FEED_ENABLED",
        "GF_PLUGINS_PREINSTALL_DISABLED",
        "GF_SECURITY_ADMIN_PASSWORD__FILE",
        "GF_SECURITY_DISABLE_GRAVATAR",
        "GF_USERS_ALLOW_SIGN_UP",
    },
    "quay.io/keycloak/keycloak": {
        "KC_BOOTSTRAP_ADMIN_USERNAME",
        "KC_BOOTSTRAP_ADMIN_PASSWORD",
        "KC_HOSTNAME",
        "KC_HEALTH_ENABLED",
        "KC_HTTP_ENABLED",
        "KC_CACHE",
        "KC_DB",
        "KC_DB_URL",
        "KC_DB_USERNAME",
        "KC_DB_POOL_MAX_SIZE",
        "JAVA_OPTS_KC_HEAP",
    },
}
SETTINGS = {name.upper() for name in (*Settings.model_fields, *Administration.model_fields)} | {
    f"{name.upper()}_FILE" for name in (*SECRETS, *Administration.model_fields)
}


def known(image: str) -> set[str]:
    return SETTINGS if is_ours(image) else KNOWN[re.sub(r"(:[^:/]+)?$", "", image)]


def unknown(image: str, variables: set[str]) -> set[str]:
    return variables - known(image)


@pytest.mark.parametrize("name", ALL)
def test_every_variable_of_a_manifest_is_one_that_its_program_reads(name: str) -> None:
    for pods in pods_of(rendered(name)):
        for container in pods.containers:
            assert not unknown(container["image"], set(variables_of(name, container))), f"{pods.name}: {container['name']}"


def test_every_variable_of_a_compose_file_is_one_that_its_program_reads() -> None:
    looked_at = 0
    for name, service in composed():
        variables = service.get("environment", {})
        assert isinstance(variables, dict), f"{name}: as NAME: VALUE, like the others"
        looked_at += len(variables)
        assert not unknown(service["image"], set(variables)), name
    assert looked_at > 50


def test_a_variable_that_nobody_reads_would_be_found() -> None:
    assert unknown("image-processor-api:0.1.0", {"LOG_LEVEL", "LOG_LEVEl", "MINIO_ENDPOINT_FILE"}) == {
        "LOG_LEVEl",
        "MINIO_ENDPOINT_FILE",
    }
    assert unknown("registry:5000/image-processor-worker", {"KC_DB"}) == {"KC_DB"}


def settings_in(name: str, program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the program reads them in its container, with its secrets' files."""
    pods = pods_named(rendered(name), program)
    paths = {}
    for path, value in files_of(name, pods).items():
        paths[path] = folder / path.removeprefix("/")
        paths[path].parent.mkdir(parents=True, exist_ok=True)
        paths[path].write_text(value)
    for variable in set(os.environ) & SETTINGS:
        monkeypatch.delenv(variable)
    for variable, value in variables_of(name, pods.main).items():
        # A path that no volume holds stays, and cannot be read.
        monkeypatch.setenv(variable, str(paths.get(value, value)))
    return load(_env_file=None)


@pytest.mark.parametrize("program", OURS)
@pytest.mark.parametrize("name", ALL)
def test_a_program_starts_with_what_it_is_given(name: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(name, program, tmp_path, monkeypatch)

    # every secret that it uses comes from a file, and so from a Secret
    given = set(variables_of(name, pods_named(rendered(name), program).main))
    used = {"postgres_url"} if program == "migrate" else {s for s in SECRETS if settings.storage_type == "s3" or "minio" not in s}
    assert {f"{secret.upper()}_FILE" for secret in used} == {
        variable for variable in given if variable.endswith("_FILE") and variable != "TLS_CA_FILE"
    }
    assert (settings.tls_ca_file is not None) == ("private-ca" in name)
    # The migrations need a database alone, and so no other password.
    assert settings.environment == ("production" if name.startswith("prod") and program != "migrate" else "development")


@pytest.mark.parametrize("program", ["gateway", "worker"])
@pytest.mark.parametrize("name", ALL)
def test_a_pod_has_longer_to_end_than_its_program_takes(
    name: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(name, program, tmp_path, monkeypatch)
    pods = pods_named(rendered(name), program)
    before = pods.main.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])

    assert before[0] == "sleep"
    takes = int(before[1]) + settings.shutdown_seconds + (settings.render_seconds if program == "worker" else 0)
    assert takes + 5 <= pods.spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("program", ["gateway", "worker"])
@pytest.mark.parametrize("name", ALL)
def test_memory_and_disk_are_enough_for_what_the_settings_allow(
    name: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(name, program, tmp_path, monkeypatch)
    pods = pods_named(rendered(name), program)
    volume = next(volume for volume in pods.spec["volumes"] if volume["name"] == "tmp")

    if program == "gateway":
        assert settings.max_concurrent_uploads * settings.max_upload_bytes < quantity(volume["emptyDir"]["sizeLimit"])
    else:
        assert "WORKER_PROCESSES" in variables_of(name, pods.main)  # else one a core of the node
        rendering = settings.worker_processes * settings.render_memory_bytes
        assert rendering + quantity("512Mi") <= quantity(pods.main["resources"]["limits"]["memory"])


def quantity(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]  # a None would fail the test as it should
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("prod")])
def test_in_production_every_service_is_spoken_to_over_tls(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(name, "gateway", tmp_path, monkeypatch)
    migrations = settings_in(name, "migrate", tmp_path, monkeypatch)

    for each in (settings, migrations):
        assert each.postgres_url.get_secret_value().endswith("?sslmode=verify-full")
    assert settings.postgres_url != migrations.postgres_url
    assert settings.redis_url.get_secret_value().startswith("rediss://")
    assert settings.rabbitmq_url.get_secret_value().startswith("amqps://")
    if settings.storage_type == "s3":
        assert settings.minio_endpoint.startswith("https://")
    assert settings.keycloak_url.startswith("https://")
    assert settings.issuer.startswith("https://")


@pytest.mark.parametrize("name", ["dev", "pvc"])
def test_the_issuer_is_where_clients_outside_reach_keycloak(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(name, "gateway", tmp_path, monkeypatch)
    documents = rendered(name)
    keycloak = named(documents, "Service", "keycloak")["spec"]
    node_port = keycloak["ports"][0]["nodePort"]

    assert keycloak["type"] == "NodePort"
    assert settings.keycloak_public_url == f"http://localhost:{node_port}"
    assert variables_of(name, pods_named(documents, "keycloak").main)["KC_HOSTNAME"] == settings.keycloak_public_url
    # and the API's documentation can log in from where it is reached
    gateway = named(documents, "Service", "gateway")["spec"]["ports"][0]["nodePort"]
    realm = next(document for document in of_kind(documents, "ConfigMap") if name_of(document).startswith("keycloak-realm"))
    assert f'"http://localhost:{gateway}/*"' in realm["data"]["ImageProcessor-realm.json"]
    assert realm["data"]["ImageProcessor-realm.json"] == (ROOT / "keycloak" / "ImageProcessor-realm.json").read_text()


def test_the_ingress_lets_through_what_the_gateway_takes_and_waits_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in("prod", "gateway", tmp_path, monkeypatch)
    annotations = of_kind(rendered("prod"), "Ingress")[0]["metadata"]["annotations"]
    nginx = {name.removeprefix("nginx.ingress.kubernetes.io/"): value for name, value in annotations.items()}

    assert int(nginx["proxy-body-size"].removesuffix("m")) << 20 > settings.max_upload_bytes + (1 << 20)
    for timeout in ("proxy-read-timeout", "proxy-send-timeout"):
        assert int(nginx[timeout]) > LONGEST_WAIT_SECONDS


def test_the_ingress_has_every_path_of_the_api_and_nothing_of_its_operators() -> None:
    paths = of_kind(rendered("prod"), "Ingress")[0]["spec"]["rules"][0]["http"]["paths"]

    def leads(route: str) -> bool:
        """By whole elements of the path, as Kubernetes has it."""
        return any(
            route == each["path"] or (each["pathType"] == "Prefix" and route.startswith(f"{each['path']}/")) for each in paths
        )

    routes = {path for _, path in GUARDED} | {path for path in OPEN if not path.startswith("/realms/")}
    assert {route for route in routes if not leads(route)} == {"/metrics", "/health/ready"}
