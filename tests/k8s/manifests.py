"""The manifests as kustomize makes them, and what they say, as tests ask for it."""

import os
import re
import shutil
import subprocess
import tempfile
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
RENDER = ROOT / "scripts" / "render_k8s"
# What the comments in overlays/prod offer: another component instead of KEDA's, or beside it.
KEDA = "../../components/keda"
CHOICES = {
    "prod with backlog-hpa": ("../../components/backlog-hpa",),
    "prod with monitoring": (KEDA, "../../components/monitoring"),
    "prod with volume": (KEDA, "../../components/volume"),
    "prod with tracing": (KEDA, "../../components/tracing"),
    "prod with private-ca": (KEDA, "../../components/private-ca"),
    "prod with backlog-hpa and private-ca": ("../../components/backlog-hpa", "../../components/private-ca"),
}
OVERLAYS = ("dev", "pvc", "prod")
ALL = (*OVERLAYS, *CHOICES)
OURS = ("gateway", "worker", "migrate")

Document = dict[str, Any]


def shown(folder: Path) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run([RENDER, "--show", folder], capture_output=True, text=True, timeout=170)
    if ran.returncode and "needs kubectl or kustomize" in ran.stderr and not os.environ.get("CI"):
        pytest.skip(ran.stderr.strip())
    return ran


def _render(folder: Path) -> list[Document]:
    ran = shown(folder)
    assert ran.returncode == 0, ran.stderr
    return list(yaml.safe_load_all(ran.stdout))


@cache
def rendered(name: str) -> list[Document]:
    """By an overlay's name, or by that of a choice."""
    if name in OVERLAYS:
        return _render(K8S / "overlays" / name)
    with tempfile.TemporaryDirectory() as temporary:
        return _render(chosen(name, Path(temporary)))


def chosen(name: str, folder: Path) -> Path:
    """→ the production overlay in a copy of the manifests, with the components that its operator chose."""
    shutil.copytree(K8S, folder / "k8s")
    shutil.copytree(ROOT / "keycloak", folder / "keycloak")
    overlay = folder / "k8s" / "overlays" / "prod"
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    assert kustomization["components"] == [KEDA]
    kustomization["components"] = list(CHOICES[name])
    if "../../components/volume" in CHOICES[name]:
        settings = kustomization["configMapGenerator"][0]
        settings["literals"] = [literal for literal in settings["literals"] if not literal.startswith("MINIO_")]
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return overlay


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def name_of(document: Document) -> str:
    return str(document["metadata"]["name"])


def named(documents: list[Document], kind: str, name: str) -> Document:
    return next(document for document in of_kind(documents, kind) if name_of(document) == name)


@dataclass(frozen=True)
class Pods:
    """What a Deployment, a StatefulSet or a Job makes."""

    name: str
    kind: str
    metadata: Document
    spec: Document
    claims: tuple[Document, ...]

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.metadata["labels"]
        return labels

    @property
    def containers(self) -> list[Document]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def main(self) -> Document:
        container: Document = self.spec["containers"][0]
        return container

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for container in self.containers for port in container.get("ports", [])}

    def port(self, name_or_number: str | int) -> int:
        """A KeyError for a name that no container has."""
        return self.ports[name_or_number] if isinstance(name_or_number, str) else name_or_number


def pods_of(documents: list[Document]) -> list[Pods]:
    return [
        Pods(
            name=document["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"],
            kind=document["kind"],
            metadata=document["spec"]["template"]["metadata"],
            spec=document["spec"]["template"]["spec"],
            claims=tuple(document["spec"].get("volumeClaimTemplates", ())),
        )
        for document in of_kind(documents, "Deployment", "StatefulSet", "Job", "DaemonSet", "CronJob")
    ]


def pods_named(documents: list[Document], name: str) -> Pods:
    return next(pods for pods in pods_of(documents) if pods.name == name)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A Kubernetes label selector: an empty one selects everything."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def secrets_of(name: str) -> dict[str, dict[str, str]]:
    """Every Secret by its name: those that are rendered, and in production those that its example tells the operator to make."""
    documents = of_kind(rendered(name), "Secret")
    if name.startswith("prod"):
        documents = documents + list(yaml.safe_load_all((K8S / "overlays" / "prod" / "secrets.example.yaml").read_text()))
    found = {}
    for document in documents:
        plain = {key: b64decode(value).decode() for key, value in document.get("data", {}).items()}
        found[name_of(document)] = plain | document.get("stringData", {})
    return found


def config_maps_of(name: str) -> dict[str, dict[str, str]]:
    """Every ConfigMap by its name: those that are rendered, and the one that the operator makes."""
    made = {"service-ca": {"ca.crt": _authority()}} if "private-ca" in name else {}
    return made | {name_of(document): document["data"] for document in of_kind(rendered(name), "ConfigMap")}


@cache
def _authority() -> str:
    return trustme.CA().cert_pem.bytes().decode()


def variables_of(name: str, container: Document) -> dict[str, str]:
    """The container's environment, with what it refers to."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= config_maps_of(name)[source["configMapRef"]["name"]]
    for variable in container.get("env", []):
        if "value" in variable:
            variables[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            variables[variable["name"]] = secrets_of(name)[reference["name"]][reference["key"]]
    return variables


def files_of(name: str, pods: Pods) -> dict[str, str]:
    """What Secrets and ConfigMaps are mounted as, by the paths in the main container."""
    contents = {}
    for volume in pods.spec.get("volumes", []):
        if "secret" in volume:
            contents[volume["name"]] = secrets_of(name)[volume["secret"]["secretName"]]
        if "configMap" in volume:
            contents[volume["name"]] = config_maps_of(name)[volume["configMap"]["name"]]
    return {
        f"{mount['mountPath']}/{key}": value
        for mount in pods.main.get("volumeMounts", [])
        for key, value in contents.get(mount["name"], {}).items()
    }


def is_ours(image: str) -> bool:
    return re.search(r"(?:^|/)image-processor-(?:api|worker)(?::|$)", image) is not None


def composed(*files: str) -> Iterator[tuple[str, Document]]:
    """→ the services of compose files with their names."""
    for file in files or sorted(path.name for path in ROOT.glob("docker-compose*.yml")):
        yield from yaml.safe_load((ROOT / file).read_text())["services"].items()
