"""What MinioBlobStore promises beyond the port: bounded outages, no lost connection, few calls, no needless rights."""

import asyncio
import hashlib
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from common.adapters.minio import MinioBlobStore
from common.errors import BlobNotFound, Unavailable, WrongConfiguration
from common.ports import BlobStore, Bucket
from common.settings import Settings
from tests.contract.sockets import Handler, ScriptedHttp, Server, free_port, http_answer, proxy_to, request_line, silence
from tests.polling import wait_until

LIMIT_SECONDS = 1.0
# What the machine may add when it is busy.
SLACK_SECONDS = 0.8
DONE = http_answer("200 OK")

Operation = Callable[[BlobStore, Path], Awaitable[None]]


def s3_error(status: str, code: str) -> bytes:
    return http_answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())


@asynccontextmanager
async def store_at(endpoint: str, concurrency: int = 4) -> AsyncIterator[MinioBlobStore]:
    store = MinioBlobStore(endpoint, "access", "secret-key", "us-east-1", LIMIT_SECONDS, concurrency)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(b"content")
    return tmp_path


def asked(script: ScriptedHttp) -> list[str]:
    """Without the signatures."""
    return [request.partition("?")[0] for request in script.requests]


async def put(store: BlobStore, folder: Path) -> None:
    await store.put(Bucket.RAW, "key", folder / "source", "image/png")


async def fetch(store: BlobStore, folder: Path) -> None:
    await store.fetch(Bucket.RAW, "key", folder / "target")


async def stream(store: BlobStore, folder: Path) -> None:
    async with store.open(Bucket.RAW, "key") as blob:
        async for _ in blob.chunks:
            pass


async def delete(store: BlobStore, folder: Path) -> None:
    await store.delete(Bucket.RAW, "key")


async def check(store: BlobStore, folder: Path) -> None:
    await store.check()


async def keys(store: BlobStore, folder: Path) -> None:
    async for _ in store.keys(Bucket.RAW):
        pass


every_operation = pytest.mark.parametrize("operation", [put, fetch, stream, delete, check, keys])
every_read = pytest.mark.parametrize("read", [fetch, stream])


async def unavailable_in_time(call: Awaitable[None]) -> None:
    start = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        await call
    assert time.monotonic() - start < LIMIT_SECONDS + SLACK_SECONDS
    assert raised.value.service == "object store"


@every_operation
async def test_a_store_that_is_not_there_is_unavailable(operation: Operation, folder: Path) -> None:
    async with store_at(f"127.0.0.1:{free_port()}") as store:
        await unavailable_in_time(operation(store, folder))


@every_operation
async def test_a_store_that_never_answers_is_unavailable_in_time(operation: Operation, folder: Path) -> None:
    async with Server(silence) as server, store_at(server.address) as store:
        await unavailable_in_time(operation(store, folder))


async def test_many_callers_of_a_silent_store_all_learn_it_in_time(folder: Path) -> None:
    async with Server(silence) as server, store_at(server.address, concurrency=2) as store:
        await asyncio.gather(*(unavailable_in_time(fetch(store, folder)) for _ in range(20)))


@every_operation
@pytest.mark.parametrize(
    "answer",
    [
        s3_error("503 Slow Down", "SlowDown"),
        s3_error("500 Internal Server Error", "InternalError"),
        s3_error("403 Forbidden", "AccessDenied"),
        http_answer("502 Bad Gateway", b"<html>", "text/html"),
        http_answer("500 Internal Server Error", b"<Error><Code", "application/xml"),
        http_answer("500 Internal Server Error", b"\xff\xfe", "application/xml"),
        http_answer("500 Internal Server Error", b"\xff\xfe", "text/plain"),
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
    ids=["slow-down", "internal", "denied", "html", "half-an-xml", "no-text", "no-plain-text", "no-http", "hang-up"],
)
async def test_an_answer_that_is_of_no_use_is_unavailable(operation: Operation, folder: Path, answer: bytes) -> None:
    async with Server(ScriptedHttp(answer)) as server, store_at(server.address) as store:
        await unavailable_in_time(operation(store, folder))


def sends_half(then: Handler) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_line(reader)
        writer.write(http_answer("200 OK", bytes(500_000), "image/png", length=1_000_000))
        await writer.drain()
        await then(reader, writer)

    return handle


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@every_read
@pytest.mark.parametrize("then", [hang_up, silence])
async def test_a_download_that_breaks_off_is_never_taken_for_the_whole(read: Operation, then: Handler, folder: Path) -> None:
    async with Server(sends_half(then)) as server, store_at(server.address) as store:
        await unavailable_in_time(read(store, folder))


@every_read
async def test_a_download_whose_end_cannot_be_told_is_refused(read: Operation, folder: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nperhaps not all of it"
    async with Server(ScriptedHttp(answer)) as server, store_at(server.address) as store:
        await unavailable_in_time(read(store, folder))


async def test_a_store_that_sends_more_than_the_part_is_unavailable() -> None:
    answer = http_answer("200 OK", b"the whole content", "image/png")
    async with Server(ScriptedHttp(answer)) as server, store_at(server.address) as store:
        with pytest.raises(Unavailable):
            async with store.open(Bucket.RAW, "key", range(3, 5)):
                pytest.fail("opened")


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        (put, DONE),
        (fetch, http_answer("200 OK", b"content", "image/png")),
        (stream, http_answer("200 OK", b"content", "image/png")),
        (delete, http_answer("204 No Content")),
    ],
    ids=["put", "fetch", "stream", "delete"],
)
async def test_an_operation_is_one_call(operation: Operation, answer: bytes, folder: Path) -> None:
    script = ScriptedHttp(answer)
    async with Server(script) as server, store_at(server.address) as store:
        await operation(store, folder)

    assert len(script.requests) == 1


async def test_a_large_object_is_one_call_too(folder: Path) -> None:
    (folder / "source").write_bytes(bytes(11 * 1024 * 1024))
    script = ScriptedHttp(DONE)
    async with Server(script) as server, store_at(server.address) as store:
        await put(store, folder)

    assert asked(script) == ["PUT /raw-images/key"]


@pytest.mark.parametrize(
    "made", [DONE, s3_error("409 Conflict", "BucketAlreadyOwnedByYou")], ids=["by us", "by somebody meanwhile"]
)
async def test_a_put_makes_the_bucket_that_it_misses(made: bytes, folder: Path) -> None:
    script = ScriptedHttp(s3_error("404 Not Found", "NoSuchBucket"), made, DONE)
    async with Server(script) as server, store_at(server.address) as store:
        await put(store, folder)

    assert asked(script) == ["PUT /raw-images/key", "PUT /raw-images", "PUT /raw-images/key"]


async def test_a_put_says_so_where_the_bucket_may_not_be_made(folder: Path) -> None:
    script = ScriptedHttp(s3_error("404 Not Found", "NoSuchBucket"), s3_error("403 Forbidden", "AccessDenied"))
    async with Server(script) as server, store_at(server.address) as store:
        await unavailable_in_time(put(store, folder))


async def test_the_check_makes_only_buckets_that_are_missing(folder: Path) -> None:
    script = ScriptedHttp(DONE, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", DONE)
    async with Server(script) as server, store_at(server.address) as store:
        await store.check()

    assert script.requests == ["HEAD /raw-images", "HEAD /processed-images", "PUT /processed-images"]


def listing(*keys: str, goes_on: bool = False) -> bytes:
    contents = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    state = f"<IsTruncated>{str(goes_on).lower()}</IsTruncated>" + "<NextContinuationToken>next</NextContinuationToken>" * goes_on
    return http_answer("200 OK", f"<ListBucketResult><Name>raw-images</Name>{state}{contents}</ListBucketResult>".encode())


async def test_keys_are_asked_for_as_they_are_used() -> None:
    script = ScriptedHttp(listing("a", "b", goes_on=True), listing("c"))
    async with Server(script) as server, store_at(server.address) as store:
        found = [key async for key in store.keys(Bucket.RAW)]

    assert found == ["a", "b", "c"]
    assert len(script.requests) == 2
    assert "continuation-token=next" in script.requests[1]
    # and none by folder, of which an object's key may have any number
    assert all("delimiter=&" in request for request in script.requests)


@pytest.mark.parametrize(
    "second",
    [b"", s3_error("503 Slow Down", "SlowDown"), s3_error("404 Not Found", "NoSuchBucket"), http_answer("200 OK", b"<html/>")],
    ids=["hang-up", "slow-down", "bucket-gone", "html"],
)
async def test_keys_that_break_off_are_never_taken_for_all(second: bytes) -> None:
    script = ScriptedHttp(listing("a", goes_on=True), second)
    async with Server(script) as server, store_at(server.address) as store:
        with pytest.raises(Unavailable):
            _ = [key async for key in store.keys(Bucket.RAW)]


@pytest.mark.parametrize("read", [fetch, stream, keys])
async def test_a_read_without_the_bucket_does_not_take_the_object_for_lost(read: Operation, folder: Path) -> None:
    async with Server(ScriptedHttp(s3_error("404 Not Found", "NoSuchBucket"))) as server, store_at(server.address) as store:
        await unavailable_in_time(read(store, folder))


@pytest.mark.parametrize("code", ["NoSuchBucket", "NoSuchKey"])
async def test_deleting_what_cannot_be_there_is_no_error(code: str, folder: Path) -> None:
    async with Server(ScriptedHttp(s3_error("404 Not Found", code))) as server, store_at(server.address) as store:
        await delete(store, folder)


async def test_a_missing_object_is_not_an_outage(folder: Path) -> None:
    async with Server(ScriptedHttp(s3_error("404 Not Found", "NoSuchKey"))) as server, store_at(server.address) as store:
        with pytest.raises(BlobNotFound):
            await fetch(store, folder)


async def eventually(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what, 10)


async def test_abandoned_reads_give_their_connections_back(minio_endpoint: str, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(10 * 1024 * 1024))
    key = f"contract-{uuid4()}"
    parts = urlsplit(minio_endpoint if "://" in minio_endpoint else f"//{minio_endpoint}")
    async with Server(proxy_to(parts.hostname or "localhost", parts.port or 9000)) as server:
        store = MinioBlobStore(
            server.address,
            settings.minio_access_key.get_secret_value(),
            settings.minio_secret_key.get_secret_value(),
            settings.minio_region,
            10,
            2,
        )
        try:
            await store.put(Bucket.RAW, key, tmp_path / "source", "image/png")

            async def read_a_little() -> None:
                async with store.open(Bucket.RAW, key) as blob:
                    await anext(blob.chunks)
                    raise ConnectionAbortedError

            abandoned = []
            for _ in range(5):
                # Kept, and with them all they refer to, so that no garbage collector does the store's work.
                abandoned += await asyncio.gather(*(read_a_little() for _ in range(6)), return_exceptions=True)

            assert {type(error) for error in abandoned} == {ConnectionAbortedError}
            await eventually(lambda: server.connections <= 2, "the abandoned connections to be closed")
            await store.fetch(Bucket.RAW, key, tmp_path / "target")
            await store.fetch(Bucket.RAW, key, tmp_path / "target")
            assert server.connections <= 2
        finally:
            await store.delete(Bucket.RAW, key)
            await store.close()


async def test_a_connection_is_used_again(folder: Path) -> None:
    script = ScriptedHttp(DONE, http_answer("200 OK", b"content", "image/png"), http_answer("204 No Content"))
    served: list[Handler] = []

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(script)
        await script(reader, writer)

    async with Server(counted) as server, store_at(server.address) as store:
        await put(store, folder)
        await stream(store, folder)
        await delete(store, folder)

    assert len(served) == 1


async def test_a_caller_that_leaves_while_it_is_opened_leaves_no_connection(folder: Path) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_line(reader)
        asked.set()
        await answer.wait()
        writer.write(http_answer("200 OK", bytes(100), "image/png", length=10_000_000))
        await reader.read()

    async with Server(slow) as server, store_at(server.address) as store:
        reading = asyncio.create_task(stream(store, folder))
        await asked.wait()
        reading.cancel()
        answer.set()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await eventually(lambda: server.connections == 0, "the connection to be closed")


@pytest.mark.parametrize("scheme", ["", "http://"])
async def test_the_endpoint_may_name_its_scheme(scheme: str, folder: Path) -> None:
    async with Server(ScriptedHttp(DONE)) as server, store_at(scheme + server.address) as store:
        await put(store, folder)


async def test_https_is_spoken_where_it_is_asked_for(folder: Path) -> None:
    first: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.append(await reader.readexactly(1))

    async with Server(listen) as server, store_at(f"https://{server.address}") as store:
        await unavailable_in_time(put(store, folder))

    tls_handshake = b"\x16"
    assert first == [tls_handshake]


@pytest.mark.parametrize("endpoint", ["host:9000/path", "user@host"])
def test_an_endpoint_that_is_none_is_named(endpoint: str) -> None:
    with pytest.raises(WrongConfiguration, match="MINIO_ENDPOINT"):
        MinioBlobStore(endpoint, "access", "secret-key", "us-east-1", LIMIT_SECONDS)


async def test_a_put_holds_little_of_the_object_in_memory(minio_endpoint: str, folder: Path) -> None:
    source, key = folder / "source", f"test-{uuid4()}"
    source.write_bytes(bytes(64 << 20))
    store = MinioBlobStore(minio_endpoint, "minioadmin", "minioadmin", "us-east-1", 20)
    tracemalloc.start()
    try:
        await store.put(Bucket.RAW, key, source, "image/png")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await store.delete(Bucket.RAW, key)
        await store.close()

    assert peak < 4 << 20


async def test_an_object_that_was_changed_on_its_way_is_not_kept(
    minio_endpoint: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"test-{uuid4()}"
    store = MinioBlobStore(minio_endpoint, "minioadmin", "minioadmin", "us-east-1", 10)
    try:
        with monkeypatch.context() as changed:
            changed.setattr("common.adapters.minio.store._md5", lambda: hashlib.md5(b"other bytes before", usedforsecurity=False))
            with pytest.raises(Unavailable) as refused:
                await store.put(Bucket.RAW, key, folder / "source", "image/png")
        assert "BadDigest" in refused.value.reason
        with pytest.raises(BlobNotFound):
            async with store.open(Bucket.RAW, key):
                pass
    finally:
        await store.close()


@asynccontextmanager
async def _linking(endpoint: str, public: str | None) -> AsyncIterator[MinioBlobStore]:
    store = MinioBlobStore(endpoint, "minioadmin", "minioadmin", "us-east-1", 10, public_endpoint=public)
    try:
        yield store
    finally:
        await store.close()


async def test_a_link_works_for_whoever_has_it_and_for_nothing_else(minio_endpoint: str, folder: Path) -> None:
    # given
    key = f"test-{uuid4()}"
    async with _linking(minio_endpoint, f"http://{minio_endpoint}") as store, httpx.AsyncClient(trust_env=False) as anybody:
        await store.put(Bucket.PROCESSED, key, folder / "source", "image/png")
        try:
            # when
            link = store.link(Bucket.PROCESSED, key, "image/png", 'inline; filename="cat.png"')
            assert link is not None
            answer = await anybody.get(link)

            # then
            assert (answer.status_code, answer.content) == (200, b"content")
            assert answer.headers["Content-Type"] == "image/png"
            assert answer.headers["Content-Disposition"] == 'inline; filename="cat.png"'
            assert "X-Amz-Expires=900&" in link
            assert (await anybody.get(link.replace("cat.png", "dog.png"))).status_code == 403
            assert (await anybody.get(link.replace(key, "another"))).status_code == 403
            assert (await anybody.get(link.partition("?")[0])).status_code == 403
            assert (await anybody.delete(link)).status_code == 403
        finally:
            await store.delete(Bucket.PROCESSED, key)


async def test_signing_asks_nobody() -> None:
    async with _linking("127.0.0.1:1", "https://images.example.com:8443") as store:
        link = store.link(Bucket.PROCESSED, "key", "image/png", "inline")

    assert link is not None
    assert link.startswith("https://images.example.com:8443/processed-images/key?")


async def test_without_a_public_address_there_are_no_links() -> None:
    async with _linking("127.0.0.1:1", None) as store:
        assert store.link(Bucket.PROCESSED, "key", "image/png", "inline") is None


async def test_a_wrong_public_address_is_named() -> None:
    with pytest.raises(WrongConfiguration, match="MINIO_PUBLIC_ENDPOINT"):
        MinioBlobStore("127.0.0.1:1", "a", "secret-key", "us-east-1", 1, public_endpoint="http://host/with/path")
