"""What FileBlobStore promises beyond the port: nothing half-written, nothing left behind, nothing outside its folder."""

import fcntl
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.adapters.files import FileBlobStore
from common.errors import Unavailable
from common.ports import Bucket


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return path


def files_under(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """The system refuses to write more into one file, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_an_object_is_a_file_in_its_buckets_folder(root: Path, source: Path) -> None:
    store = FileBlobStore(root)

    await store.put(Bucket.PROCESSED, "some/key", source, "image/png")

    assert files_under(root) == {"processed-images/some/key"}


async def test_a_write_that_fails_half_way_leaves_nothing(root: Path, source: Path) -> None:
    store = FileBlobStore(root)
    await store.put(Bucket.RAW, "old", source, "image/png")
    source.write_bytes(bytes(2_000_000))

    with largest_file(1_000_000):
        for key in ("old", "new"):
            with pytest.raises(Unavailable) as raised:
                await store.put(Bucket.RAW, key, source, "image/png")
            assert raised.value.service == "object store"

    assert files_under(root) == {"raw-images/old"}
    assert (root / "raw-images/old").read_bytes() == b"content"


async def test_deleting_takes_empty_folders_along_but_not_the_bucket(root: Path, source: Path) -> None:
    store = FileBlobStore(root)
    for key in ("a/b/1", "a/2"):
        await store.put(Bucket.RAW, key, source, "image/png")

    await store.delete(Bucket.RAW, "a/b/1")
    assert not (root / "raw-images/a/b").exists()
    assert (root / "raw-images/a/2").exists()

    await store.delete(Bucket.RAW, "a/2")
    assert list((root / "raw-images").iterdir()) == []


@pytest.mark.parametrize(
    "key", ["../outside", "a/../../outside", "..", "/etc/passwd", "//etc/passwd", "", ".", "/", "a/..", "nul\0"], ids=repr
)
async def test_a_key_that_leaves_its_bucket_is_refused(root: Path, source: Path, tmp_path: Path, key: str) -> None:
    store = FileBlobStore(root)
    (root / "raw-images").mkdir(parents=True)

    with pytest.raises(ValueError, match="not a key"):
        await store.put(Bucket.RAW, key, source, "image/png")
    with pytest.raises(ValueError, match="not a key"):
        await store.fetch(Bucket.RAW, key, tmp_path / "target")
    with pytest.raises(ValueError, match="not a key"):
        async with store.open(Bucket.RAW, key):
            pytest.fail("opened")
    with pytest.raises(ValueError, match="not a key"):
        await store.delete(Bucket.RAW, key)

    assert files_under(tmp_path) == {"source"}


KILLED_HALF_WAY = """
import asyncio, os, signal, sys
from pathlib import Path
from common.adapters import files
from common.ports import Bucket

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

files.os.fsync = killed
asyncio.run(files.FileBlobStore(Path(sys.argv[1])).put(Bucket.RAW, "key", Path(sys.argv[2]), "image/png"))
"""


def test_what_a_killed_process_left_is_removed_at_the_next_start(root: Path, source: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, root, source], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(files_under(root)) == 1

    FileBlobStore(root)

    assert files_under(root) == set()


async def test_what_another_process_is_writing_is_left_alone(root: Path) -> None:
    incoming = root / ".incoming"
    incoming.mkdir(parents=True)
    with (incoming / "in-the-making").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        FileBlobStore(root)
        assert files_under(root) == {".incoming/in-the-making"}


async def test_nothing_but_leftovers_is_removed_at_the_start(root: Path, source: Path, tmp_path: Path) -> None:
    await FileBlobStore(root).put(Bucket.RAW, "key", source, "image/png")
    (root / "somebody-elses").write_text("notes")

    FileBlobStore(root)

    assert files_under(root) == {"raw-images/key", "somebody-elses"}


async def test_a_folder_that_cannot_be_used_is_unavailable(root: Path, source: Path, tmp_path: Path) -> None:
    root.write_text("a file, where the folder should be")
    store = FileBlobStore(root)

    with pytest.raises(Unavailable):
        await store.check()
    with pytest.raises(Unavailable):
        await store.put(Bucket.RAW, "key", source, "image/png")
    # Not "not found": the objects are not lost for that.
    with pytest.raises(Unavailable):
        await store.fetch(Bucket.RAW, "key", tmp_path / "target")
    with pytest.raises(Unavailable):
        async with store.open(Bucket.RAW, "key"):
            pytest.fail("opened")


async def test_keys_are_of_what_is_in_the_buckets_folder_alone(root: Path, source: Path, tmp_path: Path) -> None:
    store = FileBlobStore(root)
    for key in ("b/1", "a", "c/d/e"):
        await store.put(Bucket.RAW, key, source, "image/png")
    await store.put(Bucket.PROCESSED, "processed", source, "image/png")
    (root / ".incoming/being-written").write_text("")
    (root / "somebody-elses").write_text("")
    (root / "raw-images/empty/folders").mkdir(parents=True)
    # links that lead out of it and back: themselves, and nothing behind them
    (root / "raw-images/out").symlink_to(tmp_path)
    (root / "raw-images/round").symlink_to(root / "raw-images")

    assert [key async for key in store.keys(Bucket.RAW)] == ["a", "b/1", "c/d/e", "out", "round"]


async def test_keys_of_a_folder_that_is_not_there_are_not_none(root: Path, tmp_path: Path) -> None:
    store = FileBlobStore(root)
    with pytest.raises(Unavailable):
        await anext(store.keys(Bucket.RAW))
    # and none are
    await store.check()
    assert [key async for key in store.keys(Bucket.RAW)] == []


async def test_a_disk_that_is_almost_full_fails_the_check(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))

    with pytest.raises(Unavailable):
        await FileBlobStore(root).check()


async def test_the_check_leaves_nothing_but_the_buckets(root: Path) -> None:
    await FileBlobStore(root).check()

    assert files_under(root) == set()
    assert {path.name for path in root.iterdir()} == {*Bucket, ".incoming"}


async def test_a_file_that_somebody_shortens_is_never_taken_for_the_whole(root: Path, source: Path) -> None:
    source.write_bytes(bytes(200_000))
    store = FileBlobStore(root)
    await store.put(Bucket.RAW, "key", source, "image/png")

    async with store.open(Bucket.RAW, "key") as blob:
        await anext(blob.chunks)
        with (root / "raw-images/key").open("r+b") as file:
            file.truncate(100)
        with pytest.raises(Unavailable):
            await anext(blob.chunks)
