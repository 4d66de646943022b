"""STORAGE_TYPE=local over the real services, as pods that share a volume: what was stored outlives every process that stored it."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from common.settings import Settings
from tests.e2e.stack import Stack
from tests.pictures import photo_jpeg
from tests.polling import wait_until


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The folder that every gateway and worker has mounted. Nothing else of theirs outlives a pod."""
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def stack(migrated_environment: dict[str, str], settings: Settings, tmp_path: Path, volume: Path) -> Iterator[Stack]:
    # An object store that cannot be reached: nothing may ask for it.
    local = {"STORAGE_TYPE": "local", "STORAGE_PATH": str(volume / "blobs"), "MINIO_ENDPOINT": "127.0.0.1:9"}
    folder = tmp_path / "programs"
    folder.mkdir()
    stack = Stack(folder, migrated_environment | local, settings.issuer)
    try:
        yield stack
    finally:
        stack.close()


def files_in(volume: Path, bucket: str) -> list[Path]:
    return [path for path in (volume / "blobs" / bucket).rglob("*") if path.is_file()]


def test_uploaded_and_processed_files_outlive_the_pods(stack: Stack, volume: Path) -> None:
    # given a picture that was uploaded through one gateway and rendered by one of two workers
    stack.start(workers=2)
    picture = photo_jpeg(1600, 1200)
    user = stack.as_user()
    image_id = stack.upload(user, picture).json()["id"]
    assert stack.final(user, image_id)["status"] == "completed"
    before = stack.http.get(f"/api/v1/images/{image_id}/content", headers=user).content

    # when all of them are killed, as nodes are, and others start
    stack.kill()
    stack.start(workers=2)

    # then both files are what they were
    user = stack.as_user()
    original = stack.http.get(f"/api/v1/images/{image_id}/original", headers=user)
    result = stack.http.get(f"/api/v1/images/{image_id}/content", headers=user)
    assert (original.status_code, hashlib.sha256(original.content).digest()) == (200, hashlib.sha256(picture).digest())
    assert (result.status_code, result.content) == (200, before)
    with Image.open(io.BytesIO(result.content)) as rendered:
        assert (rendered.mode, rendered.width) == ("L", 800)
    # and they are on the volume, where no unfinished file was left
    assert len(files_in(volume, "raw-images")) == len(files_in(volume, "processed-images")) == 1
    assert files_in(volume, ".incoming") == []


def test_an_upload_that_no_worker_has_seen_is_rendered_by_the_pods_that_come_after(stack: Stack) -> None:
    # given an upload without a worker
    stack.start(workers=0)
    user = stack.as_user()
    image_id = stack.upload(user, photo_jpeg(1600, 1200)).json()["id"]

    # when its gateway is killed, and others start
    stack.kill()
    stack.start(workers=1)

    # then
    user = stack.as_user()
    assert stack.final(user, image_id)["status"] == "completed"
    assert stack.http.get(f"/api/v1/images/{image_id}/content", headers=user).status_code == 200


def test_a_volume_that_is_not_mounted_is_said_to_be_away(stack: Stack, volume: Path) -> None:
    # given a gateway that is ready
    stack.start(workers=0)
    wait_until(lambda: stack.http.get("/health/ready").status_code == 200, "the gateway to be ready")

    # when its volume is gone, and what is in its place takes nothing
    (volume / "blobs").rename(volume / "elsewhere")
    (volume / "blobs").write_text("no folder")

    # then it is not ready, until the volume is back
    wait_until(lambda: stack.http.get("/health/ready").status_code == 503, "the gateway to say so")
    (volume / "blobs").unlink()
    (volume / "elsewhere").rename(volume / "blobs")
    wait_until(lambda: stack.http.get("/health/ready").status_code == 200, "the gateway to be ready again")
