"""The embedded mode, killed at its work or without room on its disk: what it accepted ends, and nothing is half done."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.e2e.stack import PROGRAM, Stack
from tests.pictures import photo_jpeg
from tests.polling import wait_until

PICTURE = photo_jpeg(2400, 1600)
# A render takes longer than an upload or a look at the status.
SLOW = "|".join(["blur:5"] * 8 + ["resize:800", "grayscale"])
# With more room than it must have to be ready.
DISK_BYTES = 64 * 1024 * 1024
# No test waits for a lease to end: the next start has to see to what a killed process held.
QUICK = {"DISPATCH_INTERVAL_SECONDS": "0.2", "WORKER_PROCESSES": "1", "LEASE_SECONDS": "600", "STALE_SECONDS": "600"}


@dataclass
class Embedded:
    stack: Stack
    accepted: list[str] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.stack.folder / "data"

    def upload(self, processing: str = "") -> httpx.Response:
        return self.stack.upload(self.stack.as_user(), PICTURE, processing=processing)

    def accept(self, processing: str = "") -> None:
        answer = self.upload(processing)
        assert answer.status_code == 202, answer.text
        self.accepted.append(answer.json()["id"])

    def is_at_work(self) -> bool:
        answer = self.stack.http.get("/api/v1/images", headers=self.stack.as_user(), params={"status": "processing"})
        return bool(answer.json()["items"])

    def uploads(self) -> set[str]:
        return {path.name for path in (self.data / "blobs" / "raw-images").rglob("*") if path.is_file()}

    def half_written(self) -> list[Path]:
        return [*(self.data / "blobs" / ".incoming").iterdir()]

    def audit(self) -> None:
        """All that was accepted is completed and right; after a sweep there is an upload and a result of each, and nothing else."""
        user = self.stack.as_user()
        for image_id in self.accepted:
            image = self.stack.final(user, image_id)
            assert image["status"] == "completed", image
            content = self.stack.http.get(f"/api/v1/images/{image_id}/content", headers=user).content
            assert sha256(content).hexdigest() == image["result"]["sha256"]
            with Image.open(BytesIO(content)) as result:
                result.load()
                assert (result.size, result.mode) == ((800, 533), "L")
            assert self.stack.http.get(f"/api/v1/images/{image_id}/original", headers=user).content == PICTURE
        self.stack.stop()
        command = [PROGRAM, "sweep", "--data", str(self.data), "--grace", "0", "--however-many"]
        subprocess.run(command, cwd=self.stack.folder, check=True, timeout=60)
        objects = [path for path in (self.data / "blobs").rglob("*") if path.is_file()]
        assert len(objects) == 2 * len(self.accepted), objects


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    stack = Stack(tmp_path, QUICK, None)
    try:
        stack.start()
        yield Embedded(stack)
    finally:
        stack.close()


def test_killed_again_and_again_in_the_middle_of_its_work(embedded: Embedded) -> None:
    stack = embedded.stack
    for _ in range(3):
        for _ in range(3):
            embedded.accept(SLOW)
        wait_until(embedded.is_at_work, "work to begin")

        # when, with uploads under way
        user = stack.as_user()
        with ThreadPoolExecutor() as clients:
            sent = [clients.submit(stack.upload, user, PICTURE) for _ in range(2)]
            stack.kill()
        embedded.accepted += [
            upload.result().json()["id"] for upload in sent if not upload.exception() and upload.result().status_code == 202
        ]
        stack.start()

    # then: uploads without an answer may be there or not, but whole
    user = stack.as_user()
    there = stack.http.get("/api/v1/images", headers=user, params={"limit": 100}).json()["items"]
    assert set(embedded.accepted) <= {image["id"] for image in there}
    embedded.accepted = [image["id"] for image in there]
    embedded.audit()


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(f"no small disk to be had: {mounted.stderr}")
        pytest.skip("only root can mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Iterator[Embedded]:
    with small_disk(tmp_path / "data"):
        # Where the disk was too full even for writing down that an attempt had ended, its lease has to.
        stack = Stack(tmp_path, QUICK | {"LEASE_SECONDS": "3"}, None)
        try:
            stack.start()
            yield Embedded(stack)
        finally:
            stack.close()


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """→ the file that takes the room."""
    filler = disk / "filler"
    status = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - leave_bytes)
    return filler


def assert_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:image-processor:problem:unavailable"), answer.text
    assert int(answer.headers["Retry-After"]) > 0


# Room for half an upload; for nothing at all, a row included.
@pytest.mark.parametrize("leave_bytes", [len(PICTURE) // 2, 0], ids=["half an upload", "nothing"])
def test_a_full_disk_refuses_uploads_and_finishes_what_was_accepted_when_there_is_room(
    on_a_small_disk: Embedded, leave_bytes: int
) -> None:
    embedded = on_a_small_disk
    stack = embedded.stack
    # given images that wait for their turn
    for _ in range(3):
        embedded.accept()

    # when
    filler = fill(embedded.data, leave_bytes)

    # then
    before = embedded.uploads()
    for _ in range(3):
        assert_refused(embedded.upload())
    assert embedded.uploads() == before
    # the worker may be trying just now
    wait_until(lambda: not embedded.half_written(), "half-written files to be removed")
    ready = stack.http.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["object_store"]) == (503, "full"), ready.text
    # reads go on
    assert stack.http.get(f"/api/v1/images/{embedded.accepted[0]}", headers=stack.as_user()).status_code == 200
    assert stack.gateway is not None
    assert stack.gateway.is_running()

    # when there is room again
    filler.unlink()

    # then
    wait_until(lambda: stack.http.get("/health/ready").status_code == 200, "room to be seen")
    embedded.accept()
    embedded.audit()
