"""The promises of BlobStore, over every adapter."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import pytest

from common.adapters.files import FileBlobStore
from common.adapters.minio import MinioBlobStore
from common.errors import BlobNotFound
from common.ports import BlobStore, Bucket
from common.settings import Settings
from tests.fakes import FakeBlobStore

MIB = 1024 * 1024
TIMEOUT_SECONDS = 20.0


def minio(settings: Settings, endpoint: str, concurrency: int = 16) -> MinioBlobStore:
    return MinioBlobStore(
        endpoint,
        settings.minio_access_key.get_secret_value(),
        settings.minio_secret_key.get_secret_value(),
        settings.minio_region,
        TIMEOUT_SECONDS,
        concurrency,
    )


@pytest.fixture(params=["fake", "files", "minio"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path, settings: Settings) -> AsyncIterator[BlobStore]:
    if request.param == "fake":
        yield FakeBlobStore()
        return
    if request.param == "files":
        files = FileBlobStore(tmp_path / "blobs")
        await files.check()
        yield files
        return
    store = minio(settings, request.getfixturevalue("minio_endpoint"))
    await store.check()
    yield store
    await store.close()


@pytest.fixture
async def new_key(blobs: BlobStore) -> AsyncIterator[Callable[[], str]]:
    """Keys nobody else uses, whose objects are removed afterwards."""
    keys: list[str] = []

    def make() -> str:
        keys.append(f"contract-{uuid4()}/1")
        return keys[-1]

    yield make
    await asyncio.gather(*(blobs.delete(bucket, key) for bucket in Bucket for key in keys))


@pytest.fixture
def key(new_key: Callable[[], str]) -> str:
    return new_key()


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / f"source-{uuid4()}"
        path.write_bytes(content)
        return path

    return write


async def fetched(blobs: BlobStore, key: str, tmp_path: Path, bucket: Bucket = Bucket.RAW) -> bytes:
    target = tmp_path / f"target-{uuid4()}"
    await blobs.fetch(bucket, key, target)
    return target.read_bytes()


async def streamed(blobs: BlobStore, key: str, part: range | None = None) -> bytes:
    async with blobs.open(Bucket.RAW, key, part) as blob:
        chunks = [chunk async for chunk in blob.chunks]
    assert all(0 < len(chunk) <= 64 * 1024 for chunk in chunks)
    content = b"".join(chunks)
    assert blob.size_bytes == len(content)
    return content


async def is_there(blobs: BlobStore, key: str) -> bool:
    try:
        async with blobs.open(Bucket.RAW, key):
            return True
    except BlobNotFound:
        return False


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 10 * MIB], ids=str)
async def test_what_was_put_is_fetched_and_streamed(
    blobs: BlobStore, key: str, file: Callable[[bytes], Path], tmp_path: Path, size: int
) -> None:
    content = (bytes(range(256)) * (size // 256 + 1))[:size]

    await blobs.put(Bucket.RAW, key, file(content), "image/png")

    assert await fetched(blobs, key, tmp_path) == content
    assert await streamed(blobs, key) == content


@pytest.mark.parametrize(
    "part",
    [range(1), range(5, 6), range(65_530, 65_545), range(100, 200_000), range(262_143, 262_144), range(262_144)],
    ids=lambda part: f"{part.start}-{part.stop}",
)
async def test_a_part_is_those_bytes_and_no_others(blobs: BlobStore, key: str, file: Callable[[bytes], Path], part: range) -> None:
    content = bytes(range(256)) * 1024
    await blobs.put(Bucket.RAW, key, file(content), "image/png")

    assert await streamed(blobs, key, part) == content[part.start : part.stop]


async def test_a_part_of_what_is_not_there_is_not_found(blobs: BlobStore, key: str) -> None:
    with pytest.raises(BlobNotFound):
        await streamed(blobs, key, range(3, 5))


async def test_a_second_put_replaces_the_first(blobs: BlobStore, key: str, file: Callable[[bytes], Path], tmp_path: Path) -> None:
    await blobs.put(Bucket.RAW, key, file(b"the first, which is longer"), "image/png")
    await blobs.put(Bucket.RAW, key, file(b"the second"), "image/jpeg")

    assert await fetched(blobs, key, tmp_path) == b"the second"


async def test_fetching_replaces_what_the_target_held(blobs: BlobStore, key: str, file: Callable[[bytes], Path]) -> None:
    target = file(b"something longer that was here before")
    await blobs.put(Bucket.RAW, key, file(b"short"), "image/png")

    await blobs.fetch(Bucket.RAW, key, target)

    assert target.read_bytes() == b"short"


async def test_buckets_are_apart(blobs: BlobStore, key: str, file: Callable[[bytes], Path], tmp_path: Path) -> None:
    await blobs.put(Bucket.RAW, key, file(b"raw"), "image/png")
    await blobs.put(Bucket.PROCESSED, key, file(b"processed"), "image/png")
    await blobs.delete(Bucket.RAW, key)

    assert not await is_there(blobs, key)
    assert await fetched(blobs, key, tmp_path, Bucket.PROCESSED) == b"processed"


async def test_what_is_not_there_is_not_found(blobs: BlobStore, key: str, tmp_path: Path) -> None:
    with pytest.raises(BlobNotFound):
        await blobs.fetch(Bucket.RAW, key, tmp_path / "target")
    with pytest.raises(BlobNotFound):
        async with blobs.open(Bucket.RAW, key):
            pytest.fail("opened what is not there")


async def test_deleting_is_for_good_and_may_be_repeated(blobs: BlobStore, key: str, file: Callable[[bytes], Path]) -> None:
    await blobs.put(Bucket.RAW, key, file(b"content"), "image/png")

    await blobs.delete(Bucket.RAW, key)
    await blobs.delete(Bucket.RAW, key)

    assert not await is_there(blobs, key)


async def test_deleting_one_object_leaves_its_neighbour(
    blobs: BlobStore, key: str, new_key: Callable[[], str], file: Callable[[bytes], Path]
) -> None:
    neighbour = new_key()
    await blobs.put(Bucket.RAW, key, file(b"one"), "image/png")
    await blobs.put(Bucket.RAW, neighbour, file(b"two"), "image/png")

    await blobs.delete(Bucket.RAW, key)

    assert await is_there(blobs, neighbour)


@pytest.mark.parametrize("content_type", ["image/jpeg; name=猫.jpg", "image/jpeg\r\nX-Injected: 1", ""], ids=repr)
async def test_any_content_type_is_taken(
    blobs: BlobStore, key: str, file: Callable[[bytes], Path], tmp_path: Path, content_type: str
) -> None:
    await blobs.put(Bucket.RAW, key, file(b"content"), content_type)

    assert await fetched(blobs, key, tmp_path) == b"content"


async def test_fifty_at_once_do_not_mix(
    blobs: BlobStore, new_key: Callable[[], str], file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    async def there_and_back(number: int) -> None:
        key, content = new_key(), bytes([number]) * 200_000
        await blobs.put(Bucket.RAW, key, file(content), "image/png")
        assert await streamed(blobs, key) == content
        assert await fetched(blobs, key, tmp_path) == content
        await blobs.delete(Bucket.RAW, key)
        assert not await is_there(blobs, key)

    await asyncio.gather(*(there_and_back(number) for number in range(50)))


async def test_readers_see_one_whole_version_while_it_is_replaced(
    blobs: BlobStore, key: str, file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    versions = [bytes([number]) * 300_000 for number in range(10)]
    await blobs.put(Bucket.RAW, key, file(versions[0]), "image/png")

    async def read() -> None:
        assert await streamed(blobs, key) in versions
        assert await fetched(blobs, key, tmp_path) in versions

    await asyncio.gather(
        *(blobs.put(Bucket.RAW, key, file(version), "image/png") for version in versions), *(read() for _ in range(20))
    )


async def test_putting_and_deleting_in_one_folder_do_not_get_in_each_others_way(
    blobs: BlobStore, key: str, file: Callable[[bytes], Path]
) -> None:
    source = file(b"content")

    async def come_and_go(name: str) -> None:
        for _ in range(20):
            await blobs.put(Bucket.RAW, f"{key}-{name}", source, "image/png")
            await blobs.delete(Bucket.RAW, f"{key}-{name}")

    await asyncio.gather(*(come_and_go(name) for name in "abcdef"))


async def test_streaming_and_fetching_hold_little_in_memory(
    blobs: BlobStore, key: str, file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    await blobs.put(Bucket.RAW, key, file(bytes(10 * MIB)), "image/png")
    tracemalloc.start()
    try:
        async with blobs.open(Bucket.RAW, key) as blob:
            async for _ in blob.chunks:
                pass
        await blobs.fetch(Bucket.RAW, key, tmp_path / "target")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2 * MIB


async def test_a_reader_that_goes_away_leaves_the_store_usable(
    blobs: BlobStore, key: str, file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    await blobs.put(Bucket.RAW, key, file(bytes(10 * MIB)), "image/png")

    for _ in range(40):
        async with blobs.open(Bucket.RAW, key) as blob:
            await anext(blob.chunks)
    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            async with blobs.open(Bucket.RAW, key) as blob:
                raise ZeroDivisionError

    await blobs.put(Bucket.RAW, key, file(b"content"), "image/png")
    assert await fetched(blobs, key, tmp_path) == b"content"


async def keys_of(blobs: BlobStore, bucket: Bucket, beginning: str) -> list[str]:
    """Others' objects may be in the same store."""
    return [key async for key in blobs.keys(bucket) if key.startswith(beginning)]


async def test_keys_come_in_the_order_of_their_bytes(
    blobs: BlobStore, new_key: Callable[[], str], file: Callable[[bytes], Path]
) -> None:
    beginning = new_key().removesuffix("1")
    # given keys that a file system, or an alphabet, would have in another order
    endings = [
        "1",
        "10",
        "2",
        "9/1",
        "9/10",
        "9/2",
        "9/3/x",
        "9-",
        "9.",
        "90",
        "9/3/y",
        "A",
        "a",
        "aa/b",
        "~",
        "é",
        "a b",
        "a+b",
        "a%2Fb",
    ]
    source = file(b"content")
    await asyncio.gather(*(blobs.put(Bucket.RAW, beginning + ending, source, "image/png") for ending in endings))
    await blobs.put(Bucket.PROCESSED, f"{beginning}of another bucket", source, "image/png")
    try:
        found = await keys_of(blobs, Bucket.RAW, beginning)
    finally:
        await asyncio.gather(*(blobs.delete(Bucket.RAW, beginning + ending) for ending in endings))
        await blobs.delete(Bucket.PROCESSED, f"{beginning}of another bucket")

    assert found == sorted((beginning + ending for ending in endings), key=str.encode)
    assert await keys_of(blobs, Bucket.RAW, beginning) == []


async def test_keys_are_all_of_more_than_a_store_tells_at_a_time(
    blobs: BlobStore, new_key: Callable[[], str], file: Callable[[bytes], Path]
) -> None:
    beginning = new_key().removesuffix("1")
    source = file(b"content")
    wanted = [f"{beginning}{number:04}/{number % 3}" for number in range(1_200)]
    await asyncio.gather(*(blobs.put(Bucket.PROCESSED, key, source, "image/png") for key in wanted))
    try:
        assert await keys_of(blobs, Bucket.PROCESSED, beginning) == wanted
    finally:
        await asyncio.gather(*(blobs.delete(Bucket.PROCESSED, key) for key in wanted))


async def test_keys_that_come_and_go_meanwhile_hide_no_other(
    blobs: BlobStore, new_key: Callable[[], str], file: Callable[[bytes], Path]
) -> None:
    beginning = new_key().removesuffix("1")
    source = file(b"content")
    wanted = [f"{beginning}{number:03}/1" for number in range(60)]
    going = [f"{beginning}{number:03}/2" for number in range(0, 60, 3)] + [f"{beginning}{number:03}x/1" for number in range(60)]
    await asyncio.gather(*(blobs.put(Bucket.RAW, key, source, "image/png") for key in wanted + going))
    try:
        found: list[str] = []
        async for key in blobs.keys(Bucket.RAW):
            if not found and key.startswith(beginning):
                await asyncio.gather(*(blobs.delete(Bucket.RAW, key) for key in going))
                await blobs.put(Bucket.RAW, f"{beginning}new", source, "image/png")
            if key.startswith(beginning):
                found.append(key)
    finally:
        await asyncio.gather(*(blobs.delete(Bucket.RAW, key) for key in [*wanted, *going, f"{beginning}new"]))

    assert set(wanted) <= set(found) <= {*wanted, *going, f"{beginning}new"}
    assert found == sorted(set(found))


async def test_a_walk_through_the_keys_that_is_broken_off_leaves_the_store_usable(
    blobs: BlobStore, key: str, file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    await blobs.put(Bucket.RAW, key, file(b"content"), "image/png")
    for _ in range(40):
        async with aclosing(blobs.keys(Bucket.RAW)) as keys:
            await anext(keys)
    assert await fetched(blobs, key, tmp_path) == b"content"


async def test_it_says_that_it_can_work(blobs: BlobStore) -> None:
    await blobs.check()
    await blobs.check()
