"""The service as real processes, embedded or over real services, driven over HTTP as a client would."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.polling import wait_until

PROGRAM = str(Path(sys.executable).parent / "image-processor")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One program with its log in a file. Stopped by the id that was started, never by name."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path, program: Sequence[str] = (PROGRAM,)) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*program, *arguments],
                env=os.environ | environment,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        return self._process.wait(seconds)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> int:
        if self.is_running():
            self.send(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        if self.is_running():
            self.send(signal.SIGKILL)
        self.wait()


class Stack:
    """`start_gateway` and `start_worker` are one program in the embedded mode, and several over real services."""

    def __init__(self, folder: Path, environment: dict[str, str], issuer: str | None, program: Sequence[str] = (PROGRAM,)) -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.embedded = issuer is None
        self.issuer = issuer or f"{self.url}/realms/ImageProcessor"
        self.environment = environment | {"LOG_FORMAT": "json", "LOG_LEVEL": "info"}
        self.gateway: Process | None = None
        self.workers: list[Process] = []
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def start(self, workers: int = 1) -> None:
        self.start_gateway()
        if not self.embedded:
            for _ in range(workers):
                self.start_worker()

    def start_gateway(self) -> None:
        if self.embedded:
            arguments = ["standalone", "--port", str(self.port), "--data", str(self.folder / "data")]
            self.gateway = Process(arguments, self.environment, self.folder / "standalone.log", self.program)
        else:
            environment = self.environment | {"GATEWAY_PORT": str(self.port)}
            self.gateway = Process(["gateway"], environment, self.folder / "gateway.log", self.program)
        wait_until(self._answers, f"the gateway; its log: {self.gateway.log}", 60)

    def start_worker(self) -> Process:
        environment = self.environment | {"WORKER_PORT": "0"}
        worker = Process(["worker"], environment, self.folder / f"worker-{len(self.workers)}.log", self.program)
        self.workers.append(worker)
        return worker

    def processes(self) -> list[Process]:
        return [*([self.gateway] if self.gateway else []), *self.workers]

    def kill(self) -> None:
        """`kill -9` of everything."""
        for process in self.processes():
            process.kill()
        self.gateway, self.workers = None, []

    def stop(self) -> list[int]:
        """→ the exit codes."""
        codes = [process.stop() for process in self.processes()]
        self.gateway, self.workers = None, []
        return codes

    def close(self) -> None:
        self.kill()
        self.http.close()

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def _answers(self) -> bool:
        assert self.gateway is not None
        assert self.gateway.is_running(), self.gateway.log.read_text()
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def token(self, user: str = "user") -> str:
        form = {"grant_type": "password", "client_id": "api-gateway-client", "username": user, "password": "password"}
        answer = httpx.post(f"{self.issuer}/protocol/openid-connect/token", data=form, timeout=30)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def as_user(self, user: str = "user") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user)}"}

    def upload(
        self, headers: dict[str, str], content: bytes, name: str = "cat.jpg", field: str = "image", **form: str
    ) -> httpx.Response:
        return self.http.post("/api/v1/upload", headers=headers, files={field: (name, content)}, data=form)

    def final(self, headers: dict[str, str], image_id: str, seconds: float = 60) -> dict[str, Any]:
        """The image resource once it is completed or failed."""

        def ask() -> dict[str, Any] | None:
            answer = self.http.get(f"/api/v1/images/{image_id}", headers=headers)
            assert answer.status_code == 200, answer.text
            image: dict[str, Any] = answer.json()
            return image if image["status"] in ("completed", "failed") else None

        return wait_until(ask, f"{image_id} to be final; logs in {self.folder}", seconds)
