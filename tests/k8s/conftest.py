"""A Kubernetes API server, where kubectl is configured for one on this machine. Without one these tests are skipped, in CI too.

Never one elsewhere, and never a namespace or a definition that somebody else made: what the tests need they make, and take away
again.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.k8s.crds import custom_resources
from tests.k8s.manifests import OVERLAYS, Document, name_of, of_kind, rendered
from tests.polling import wait_until

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MADE_HERE = {"app.kubernetes.io/managed-by": "image-processor-tests"}


class ApiServer:
    def kubectl(self, *arguments: str, document: Document | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", "--request-timeout=30s", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            input=json.dumps(document) if document else "",
        )

    def must(self, *arguments: str, document: Document | None = None) -> str:
        ended = self.kubectl(*arguments, document=document)
        assert ended.returncode == 0, f"kubectl {' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def get(self, kind: str, name: str, namespace: str = "default") -> Any:
        """None where there is none."""
        found = self.must("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(found) if found else None

    def runs_pods(self) -> bool:
        return bool(self.must("get", "nodes", "-o", "name"))

    def make_namespace(self, document: Document) -> None:
        name = name_of(document)
        if there := self.get("namespace", name):
            if MADE_HERE.items() - there["metadata"].get("labels", {}).items():
                pytest.skip(f"there is a namespace {name}, which is not of these tests")
            self.remove_namespace(name)
        self.must("apply", "-f", "-", document=document)
        # Not as a part of what is applied: the next apply would take it away.
        self.must("label", "namespace", name, *(f"{key}={value}" for key, value in MADE_HERE.items()))

    def remove_namespace(self, name: str) -> None:
        self.must("delete", "namespace", name, "--wait=false")
        # A server without controllers has nobody who would see that it is empty.
        if not self.runs_pods() and (left := self.get("namespace", name)):
            left["spec"]["finalizers"] = []
            self.must("replace", "--raw", f"/api/v1/namespaces/{name}/finalize", "-f", "-", document=left)
        wait_until(lambda: not self.get("namespace", name), f"namespace {name} to be gone", 90)


def _address() -> str | None:
    """Of the server that kubectl would ask."""
    asked = subprocess.run(["kubectl", "config", "view", "--minify", "-o", "json"], capture_output=True, text=True, timeout=30)
    clusters = json.loads(asked.stdout)["clusters"] if asked.returncode == 0 else None
    return clusters[0]["cluster"]["server"] if clusters else None


@pytest.fixture(scope="session")
def any_api_server() -> ApiServer:
    if not shutil.which("kubectl") or not (address := _address()):
        pytest.skip("no kubectl, or no server that it would ask")
    if urlsplit(address).hostname not in LOOPBACK:
        pytest.skip(f"{address} is not on this machine, and so is left alone")
    server = ApiServer()
    if server.kubectl("get", "--raw", "/readyz").returncode:
        pytest.skip(f"no Kubernetes API server answers at {address}")
    return server


@pytest.fixture(scope="session")
def definitions_applied(any_api_server: ApiServer) -> Iterator[None]:
    """Of the custom resources; a dry run knows only those that are really there."""
    made: list[Path] = []
    try:
        for path in custom_resources().files:
            created = any_api_server.kubectl("create", "-f", str(path))
            if "AlreadyExists" not in created.stderr:
                assert created.returncode == 0, created.stderr
                made.append(path)
        for path in made:
            any_api_server.must("wait", "--for=condition=Established", "--timeout=60s", "-f", str(path))
        yield
    finally:
        for path in made:
            any_api_server.must("delete", "--ignore-not-found", "-f", str(path))


@pytest.fixture(scope="session")
def api_server(any_api_server: ApiServer) -> Iterator[ApiServer]:
    """With the overlays' namespaces; a dry run finds only those that are really there."""
    namespaces = [of_kind(rendered(name), "Namespace")[0] for name in OVERLAYS]
    made: list[str] = []
    try:
        for namespace in namespaces:
            any_api_server.make_namespace(namespace)
            made.append(name_of(namespace))
        yield any_api_server
    finally:
        for name in made:
            any_api_server.remove_namespace(name)
