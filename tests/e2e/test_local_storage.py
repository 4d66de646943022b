"""STORAGE_TYPE=local over the real services, as pods that share a volume: what was stored outlives every process that stored it."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from common.settings import Settings
from tests.e2e.conftest import migrate, own_services
from tests.e2e.stack import Stack
from tests.pictures import photo_jpeg


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The folder that every gateway and worker has mounted. Nothing else of theirs outlives a pod."""
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def stack(settings: Settings, tmp_path: Path, volume: Path) -> Iterator[Stack]:
    """Services of its own: workers with another store would take its pictures."""
    # An object store that cannot be reached: nothing may ask for it.
    local = {"STORAGE_TYPE": "local", "STORAGE_PATH": str(volume / "blobs"), "MINIO_ENDPOINT": "127.0.0.1:9"}
    folder = tmp_path / "programs"
    folder.mkdir()
    with own_services(settings) as addresses:
        migrate(addresses)
        stack = Stack(folder, addresses | local, settings.issuer)
        try:
            yield stack
        finally:
            stack.close()


def files_in(volume: Path, bucket: str) -> list[Path]:
    return [path for path in (volume / "blobs" / bucket).rglob("*") if path.is_file()]


def test_uploaded_and_processed_files_outlive_the_pods(stack: Stack, volume: Path) -> None:
    # given a picture that was uploaded and rendered
    stack.start(workers=1)
    picture = photo_jpeg(1600, 1200)
    user = stack.as_user()
    rendered_id = stack.upload(user, picture).json()["id"]
    assert stack.final(user, rendered_id)["status"] == "completed"
    before = stack.http.get(f"/api/v1/images/{rendered_id}/content", headers=user).content
    # and one that no worker has seen
    stack.workers.pop().kill()
    waiting_id = stack.upload(user, picture).json()["id"]

    # when all are killed, as with their node, and others start
    stack.kill()
    stack.start(workers=1)

    # then both files are what they were
    user = stack.as_user()
    original = stack.http.get(f"/api/v1/images/{rendered_id}/original", headers=user)
    result = stack.http.get(f"/api/v1/images/{rendered_id}/content", headers=user)
    assert (original.status_code, hashlib.sha256(original.content).digest()) == (200, hashlib.sha256(picture).digest())
    assert (result.status_code, result.content) == (200, before)
    with Image.open(io.BytesIO(result.content)) as image:
        assert (image.mode, image.width) == ("L", 800)
    # and the one that waited is rendered from what another process had stored
    assert stack.final(user, waiting_id)["status"] == "completed"
    assert stack.http.get(f"/api/v1/images/{waiting_id}/content", headers=user).content == before
    # and all are on the volume, where no unfinished file was left
    assert [len(files_in(volume, bucket)) for bucket in ("raw-images", "processed-images", ".incoming")] == [2, 2, 0]
