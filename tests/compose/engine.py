"""The production stack in containers, under a project name and on ports of its own, driven as an operator would."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.e2e.stack import free_port
from tests.polling import wait_until

ROOT = Path(__file__).resolve().parents[2]
FINAL = ("completed", "failed")


def docker(*arguments: str, seconds: float = 120, environment: dict[str, str] | None = None) -> str:
    """→ standard output. Raises AssertionError with standard error where it fails."""
    variables = os.environ | (environment or {})
    ended = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=seconds, cwd=ROOT, env=variables)
    assert ended.returncode == 0, f"docker {' '.join(arguments)}: {ended.stderr[-3000:]}"
    return ended.stdout


def engine_answers() -> bool:
    try:
        subprocess.run(["docker", "info"], capture_output=True, check=True, timeout=20)
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


class ProductionStack:
    def __init__(self) -> None:
        self.project = f"image-processor-test-{uuid4().hex[:8]}"
        self.ports = {
            name: free_port()
            for name in (
                "GATEWAY_PORT",
                "KEYCLOAK_PORT",
                "RABBITMQ_CONSOLE_PORT",
                "MINIO_CONSOLE_PORT",
                "PROMETHEUS_PORT",
                "GRAFANA_PORT",
            )
        }
        self.keycloak = f"http://localhost:{self.ports['KEYCLOAK_PORT']}"
        self.http = httpx.Client(base_url=f"http://localhost:{self.ports['GATEWAY_PORT']}", timeout=60)

    def compose(self, *arguments: str, seconds: float = 600) -> str:
        ports = {name: str(port) for name, port in self.ports.items()}
        return docker(
            "compose", "-p", self.project, "-f", "docker-compose.prod.yml", *arguments, seconds=seconds, environment=ports
        )

    def up(self, *arguments: str) -> None:
        self.compose("up", "-d", "--wait", *arguments)

    def close(self) -> None:
        self.http.close()
        self.compose("down", "--volumes", "--timeout", "20")

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def inspect(self, container: str) -> Any:
        return json.loads(docker("inspect", container))[0]

    def secret(self, name: str) -> str:
        return self.compose("run", "--rm", "-T", "secrets", "show", name).strip()

    def run_python(self, container: str, source: str) -> str:
        return docker("exec", container, "python", "-c", source)

    def completed_by(self, worker: str) -> float:
        """How many pictures this worker has done, by its own metrics."""
        metrics = self.run_python(
            worker, "import urllib.request as r; print(r.urlopen('http://127.0.0.1:3001/metrics').read().decode())"
        )
        name = 'image_processor_processed_total{outcome="completed"} '
        return sum(float(line.removeprefix(name)) for line in metrics.splitlines() if line.startswith(name))

    def cpu_seconds(self, container: str) -> float:
        """Of all processes in it so far, and of those that have ended."""
        source = (
            "import glob, os\n"
            "stats = [open(file).read().rpartition(')')[2].split() for file in glob.glob('/proc/[0-9]*/stat')]\n"
            "print(sum(int(field) for stat in stats for field in stat[11:15]) / os.sysconf('SC_CLK_TCK'))"
        )
        return float(self.run_python(container, source))

    def token(self, realm: str, client: str, user: str, password: str) -> str:
        form = {"grant_type": "password", "client_id": client, "username": user, "password": password}
        answer = httpx.post(f"{self.keycloak}/realms/{realm}/protocol/openid-connect/token", data=form, timeout=30)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def as_user(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token('ImageProcessor', 'api-gateway-client', 'user', 'password')}"}

    def upload(self, headers: dict[str, str], pictures: list[bytes], **form: str) -> list[str]:
        """→ the images' ids. Four at a time, so that the workers have several to choose from."""

        def one(picture: bytes) -> str:
            answer = self.http.post("/api/v1/upload", headers=headers, files={"image": ("a.jpg", picture)}, data=form)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

        with ThreadPoolExecutor(4) as threads:
            return list(threads.map(one, pictures))

    def wait_for(self, headers: dict[str, str], ids: list[str], seconds: float = 120) -> list[dict[str, Any]]:
        """→ the images, all of them completed or failed."""

        def final(image_id: str) -> dict[str, Any] | None:
            answer = self.http.get(f"/api/v1/images/{image_id}", headers=headers)
            assert answer.status_code == 200, answer.text
            image: dict[str, Any] = answer.json()
            return image if image["status"] in FINAL else None

        return [wait_until(partial(final, image_id), f"{image_id} to be final", seconds) for image_id in ids]

    def content(self, headers: dict[str, str], image_id: str) -> bytes:
        answer = self.http.get(f"/api/v1/images/{image_id}/content", headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.content
