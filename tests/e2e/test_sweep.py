"""`image-processor sweep` as an operator types it, beside a service that runs."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from uuid6 import uuid7

from tests.e2e.stack import PROGRAM, Stack, free_port
from tests.pictures import photo_jpeg


def sweep(*arguments: str, **environment: str) -> tuple[int, list[str], str]:
    """→ the exit status, the lines it printed, and what it said beside them."""
    ended = subprocess.run(
        [PROGRAM, "sweep", *arguments], env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, {}, None)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


def litter(stack: Stack, key: str) -> Path:
    path = stack.folder / "data/blobs" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nobody's")
    return path


def test_what_no_image_has_is_removed_and_what_one_has_is_served_on(embedded: Stack) -> None:
    user, data = embedded.as_user(), str(embedded.folder / "data")
    image_id = embedded.upload(user, photo_jpeg(64, 48)).json()["id"]
    embedded.final(user, image_id)
    strays = [litter(embedded, f"raw-images/{uuid7()}"), litter(embedded, f"processed-images/{image_id}/7")]
    note = litter(embedded, "raw-images/notes.txt")
    keys = {str(path.relative_to(embedded.folder / "data/blobs")) for path in strays}

    # when it is only asked what it would do
    status, lines, _ = sweep("--data", data, "--dry-run")
    assert status == 0
    assert set(lines[:-1]) == {f"would be removed: {key}" for key in keys}
    assert all(path.exists() for path in strays)

    # when it does it, after its grace
    status, lines, said = sweep("--data", data, "--grace", "0.2")
    assert status == 0
    assert set(lines[:-1]) == {f"removed: {key}" for key in keys}
    assert lines[-1].startswith("5 objects: 2 removed, 1 not of this service and left.")
    assert "0.2 s" in said
    assert not any(path.exists() for path in strays)
    assert note.exists()
    assert embedded.http.get(f"/api/v1/images/{image_id}/content", headers=user).status_code == 200

    # and again
    _, [line], _ = sweep("--data", data, "--grace", "0")
    assert line.startswith("3 objects: 0 removed, ")
    assert line.endswith(" 0 final images without an object. 0 expired idempotency keys removed.")


def test_an_image_whose_object_is_gone_is_named(embedded: Stack) -> None:
    user = embedded.as_user()
    image_id = embedded.upload(user, photo_jpeg(64, 48)).json()["id"]
    embedded.final(user, image_id)
    (embedded.folder / "data/blobs/raw-images" / image_id).unlink()

    status, lines, _ = sweep("--data", str(embedded.folder / "data"), "--grace", "0")

    assert (status, lines[0]) == (0, f"without its object: image {image_id}")
    assert embedded.http.get(f"/api/v1/images/{image_id}", headers=user).status_code == 200


def test_a_database_that_knows_little_of_what_is_stored_is_doubted(embedded: Stack) -> None:
    strays = [
        litter(embedded, f"{bucket}/{uuid7()}{end}")
        for bucket, end in (("raw-images", ""), ("processed-images", "/1"))
        for _ in range(60)
    ]
    data = str(embedded.folder / "data")

    status, lines, said = sweep("--data", data, "--grace", "0")
    assert (status, lines) == (1, [])
    assert said.startswith("image-processor: The database knows nothing of 120 of 120 objects")
    assert "--however-many" in said
    # and whoever wants to look sees them
    status, lines, again = sweep("--data", data, "--dry-run")
    assert (status, len(lines), again) == (1, 121, said)
    assert all(path.exists() for path in strays)

    status, lines, _ = sweep("--data", data, "--grace", "0", "--however-many")
    assert (status, len(lines)) == (0, 121)
    assert not any(path.exists() for path in strays)


def test_a_database_that_is_not_migrated_is_refused(service_environment: dict[str, str]) -> None:
    postgres = service_environment["POSTGRES_URL"].rpartition("/")[0] + "/postgres"
    status, lines, said = sweep("--dry-run", **service_environment | {"POSTGRES_URL": postgres})
    assert (status, lines) == (1, [])
    assert "run: image-processor migrate" in said


def test_an_object_store_that_is_away_is_said_in_a_line(migrated_environment: dict[str, str]) -> None:
    away = {"MINIO_ENDPOINT": f"127.0.0.1:{free_port()}", "SERVICE_TIMEOUT_SECONDS": "2"}
    status, lines, said = sweep("--dry-run", **migrated_environment | away)
    assert (status, lines) == (1, [])
    assert said.startswith("image-processor: ")
    assert len(said.splitlines()) == 1


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    status, lines, said = sweep("--data", str(tmp_path))
    assert (status, lines) == (2, [])
    assert said == f"image-processor: --data: {tmp_path} holds no data of the embedded mode\n"
