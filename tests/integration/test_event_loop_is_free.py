"""Nothing that a gateway or a worker does keeps its event loop from turning: they are used on real services under a watch.

A finding counts when it comes with every use. What comes less often is a first use, which may read a file or build a table.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.settings import Settings
from tests.e2e.conftest import migrate, own_services
from tests.e2e.stack import Stack
from tests.integration.watched import ROOT
from tests.pictures import photo_jpeg

ROUNDS = 3
PLANTED = """
import asyncio, hashlib, os, time
from pathlib import Path
from urllib.request import urlopen
from tests.integration import watched

BYTES = bytes(50_000_000)

async def culprit():
    {planted}

async def program():
    for _ in range({rounds}):
        await asyncio.create_task(culprit())

watched.watch(Path(os.environ["WATCHED"]))
import uvloop
uvloop.run(program())
"""


@pytest.fixture
def findings(tmp_path: Path) -> Path:
    return tmp_path / "findings"


def repeated(findings: Path) -> dict[str, int]:
    return {finding: count for finding, count in Counter(findings.read_text().splitlines()).items() if count >= ROUNDS}


@pytest.fixture
def stack(settings: Settings, tmp_path: Path, findings: Path) -> Iterator[Stack]:
    with own_services(settings) as environment:
        migrate(environment)
        environment |= {"WATCHED": str(findings), "PYTHONPATH": str(ROOT)}
        stack = Stack(tmp_path, environment, settings.issuer, (sys.executable, "-m", "tests.integration.watched"))
        try:
            stack.start()
            yield stack
        finally:
            stack.close()


def test_a_gateway_and_a_worker_in_use(stack: Stack, findings: Path) -> None:
    # given programs that have started, which may take its time
    user, picture = stack.as_user(), photo_jpeg(4000, 3000)
    findings.write_text("")

    for _ in range(ROUNDS):
        # when an image is uploaded and processed, read in every way, and deleted
        uploaded = stack.upload(user, picture)
        assert uploaded.status_code == 202, uploaded.text
        image_id = uploaded.json()["id"]
        address = f"/api/v1/images/{image_id}"
        assert stack.final(user, image_id)["status"] == "completed"
        waited = stack.http.get(f"{address}/status", headers=user | {"Prefer": "wait=5"})
        for path in (address, f"{address}/status", f"{address}/content", f"{address}/original", "/api/v1/images", "/health/ready"):
            assert stack.http.get(path, headers=user).status_code == 200
        assert stack.http.get(f"{address}/status", headers=user | {"If-None-Match": waited.headers["ETag"]}).status_code == 304
        assert stack.upload(user, b"no picture").status_code == 415
        assert stack.http.get(address).status_code == 401
        assert stack.http.delete(address, headers=user).status_code == 200
    assert stack.stop() == [0, 0], stack.log()

    # then
    assert not repeated(findings)


CULPRITS = {
    "sleeping": ("time.sleep(0.001)", "blocking time.sleep"),
    "reading a file": ("Path(os.__file__).read_bytes()", "blocking open"),
    "asking another with a client that blocks": ("urlopen(os.environ['ASKED']).read()", "blocking socket.connect"),
    "the hash of 50 MB, twice": ("hashlib.sha256(BYTES); hashlib.sha256(BYTES)", "computing culprit"),
}


@pytest.mark.parametrize(("planted", "found"), CULPRITS.values(), ids=CULPRITS.keys())
def test_the_watch_sees(tmp_path: Path, findings: Path, minio_endpoint: str, planted: str, found: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PLANTED.format(planted=planted, rounds=ROUNDS))
    environment = {"WATCHED": str(findings), "PYTHONPATH": str(ROOT), "ASKED": f"http://{minio_endpoint}/minio/health/live"}

    subprocess.run([sys.executable, str(program)], env=os.environ | environment, check=True, timeout=60)

    assert any(finding.startswith(found) for finding in repeated(findings)), repeated(findings)


def test_what_awaits_is_free(tmp_path: Path, findings: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PLANTED.format(planted="await asyncio.sleep(0.2); await asyncio.to_thread(time.sleep, 0.2)", rounds=ROUNDS))

    subprocess.run(
        [sys.executable, str(program)],
        env=os.environ | {"WATCHED": str(findings), "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=60,
    )

    assert not repeated(findings)
