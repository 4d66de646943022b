"""The gateway on its real server and a real socket: what of HTTP only shows there."""

import asyncio
import json
import tempfile
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.ports import Blob
from gateway import multipart, protocol
from gateway.protocol import MAX_HEAD_BYTES
from tests.gateway import PICTURE
from tests.gateway_server import END, FORM, PART, TOKEN, Client, Server, client, serving, uploaded

LIMIT = 10_485_760


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with serving() as server:
        yield server
    assert list(tmp_path.iterdir()) == []


async def test_without_a_token_nobody_is_asked_for_the_body(server: Server) -> None:
    async with client(server) as http:
        http.head("POST", "/upload", FORM, "Content-Length: 1000000", "Expect: 100-continue")

        status, headers, _ = await http.answer()

    assert status == 401
    assert headers["www-authenticate"] == 'Bearer realm="ImageProcessor"'
    assert "server" not in headers


async def test_with_one_the_body_is_asked_for(server: Server) -> None:
    body = PART + PICTURE + END
    async with client(server) as http:
        http.head("POST", "/upload", FORM, TOKEN, f"Content-Length: {len(body)}", "Expect: 100-continue")
        assert (await http.answer())[0] == 100
        http.writer.write(body)

        assert (await http.answer())[0] == 202


@pytest.mark.parametrize("closing", [False, True], ids=["kept alive", "closed"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [([FORM], 401), ([FORM, TOKEN], 413), (["Content-Type: image/jpeg", TOKEN], 415)],
    ids=["401", "413", "415"],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_a_client_that_reads_only_after_it_has_sent_everything_gets_the_answer(
    server: Server, chunked: bool, headers: list[str], expected: int, closing: bool
) -> None:
    # given eleven megabytes
    size = 11 * 1024 * 1024
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(PART) + size + len(END)}"
    pieces = [PART, *(b"\xff" * 65536 for _ in range(size // 65536)), END]

    async with client(server) as http:
        # when
        http.head("POST", "/upload", *headers, length, *(["Connection: close"] if closing else []))
        for piece in pieces:
            http.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            await http.writer.drain()
        http.writer.write(b"0\r\n\r\n" if chunked else b"")

        # then
        assert (await http.answer())[0] == expected
        if closing:
            assert await http.is_closed()
        else:
            # and the connection is good for the next request
            http.head("GET", "/health")
            assert (await http.answer())[0] == 200


async def test_an_http_1_0_client_gets_the_answer_too(server: Server) -> None:
    async with client(server) as http:
        http.head("POST", "/upload", FORM, f"Content-Length: {LIMIT * 2}", version="1.0")
        for _ in range(LIMIT * 2 // 65536):
            http.writer.write(b"\xff" * 65536)
            await http.writer.drain()

        assert (await http.answer())[0] == 401
        assert await http.is_closed()


@pytest.mark.parametrize(("version", "headers"), [("1.0", []), ("1.1", ["Connection: close"])])
async def test_a_connection_that_is_not_kept_closes_after_the_answer(server: Server, version: str, headers: list[str]) -> None:
    async with client(server) as http:
        http.head("GET", "/health", *headers, version=version)

        assert (await http.answer())[0] == 200
        async with asyncio.timeout(1):
            assert await http.is_closed()


@pytest.mark.parametrize("megabytes", [9, 30])
async def test_memory_is_flat_while_a_body_is_read(server: Server, megabytes: int) -> None:
    # given
    async with client(server) as http:
        tracemalloc.start()
        try:
            http.head("POST", "/upload", FORM, TOKEN, "Transfer-Encoding: chunked")
            http.writer.write(b"%x\r\n%s\r\n" % (len(PART), PART))
            piece = b"10000\r\n" + b"\xff" * 65536 + b"\r\n"

            # when
            for _ in range(megabytes * 16):
                http.writer.write(piece)
                await http.writer.drain()
            http.writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(END), END))

            # then
            assert (await http.answer())[0] in (413, 415)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4_000_000


async def test_a_client_that_hangs_up_leaves_nothing(server: Server) -> None:
    async with client(server) as http:
        http.head("POST", "/upload", FORM, TOKEN, "Content-Length: 1000000")
        http.writer.write(PART + b"\xff" * 300_000)
        await http.writer.drain()

    assert server.world.images.rows == {}


async def test_a_client_that_hangs_up_in_the_middle_of_a_download_ends_the_reading_between_two_chunks(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a store whose second chunk takes long, and cannot be cancelled
    slow, read, closed = asyncio.Event(), [], asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(100):
            if number == 1:
                await slow.wait()
            read.append(number)
            yield bytes(65536)

    @asynccontextmanager
    async def open_blob(*_: Any) -> AsyncIterator[Blob]:
        try:
            yield Blob(size_bytes=100 * 65536, chunks=chunks())
        finally:
            closed.set()

    image_id = await uploaded(server)
    row = server.world.images.rows[image_id]
    row.image = replace(row.image, size_bytes=100 * 65536)
    monkeypatch.setattr(server.world.blobs, "open", open_blob)

    # when
    async with client(server) as leaving:
        leaving.head("GET", f"/api/v1/images/{image_id}/original", TOKEN)
        await leaving.answer(head_only=True)
    async with client(server) as another:
        another.head("GET", "/health")
        assert (await another.answer())[0] == 200

    # then
    assert not closed.is_set()
    slow.set()
    async with asyncio.timeout(10):
        await closed.wait()
    assert read == [0, 1]


async def test_head_has_no_body(server: Server) -> None:
    async with client(server) as http:
        http.head("HEAD", "/health")
        http.head("GET", "/health")

        _, headers, _ = await http.answer(head_only=True)
        _, _, body = await http.answer()

    assert body == b'{"status":"ok"}'
    assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize("endless", [b"x" * 65536, b"X: a\r\n" * 10_000], ids=["one header", "many headers"])
async def test_a_head_without_end_is_refused_before_it_costs_anything(server: Server, endless: bytes) -> None:
    async with client(server) as http:
        http.writer.write(b"GET /health HTTP/1.1\r\nHost: gateway\r\nX: ")
        for _ in range(6):
            http.writer.write(endless)

        status, headers, body = await http.answer()

    assert (status, headers["content-type"]) == (431, "application/problem+json")
    assert json.loads(body)["request_id"] == headers["x-request-id"]


async def test_the_trailers_of_a_body_have_an_end_too(server: Server) -> None:
    async with client(server) as http:
        http.head("POST", "/upload", FORM, TOKEN, "Transfer-Encoding: chunked", "Expect: 100-continue")
        assert (await http.answer())[0] == 100
        http.writer.write(b"3\r\n--x\r\n0\r\n" + b"X: a\r\n" * MAX_HEAD_BYTES)

        assert await _is_cut_off(http)


async def test_many_large_bodies_on_one_connection_are_no_head(server: Server) -> None:
    body = PART + PICTURE + END
    async with client(server) as http:
        for _ in range(2 * MAX_HEAD_BYTES // len(body) + 2):
            http.head("POST", "/upload", FORM, TOKEN, f"Content-Length: {len(body)}")
            http.writer.write(body)
            assert (await http.answer())[0] == 202


@pytest.mark.parametrize("beginning", [b"", b"GET /health HTTP/1.1\r\nHost: gate"], ids=["nothing", "half a head"])
async def test_a_client_that_never_asks_is_not_waited_for(
    server: Server, beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    async with client(server) as http:
        http.writer.write(beginning)

        assert await http.is_closed()


async def test_a_body_that_stops_coming_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "PATIENCE_SECONDS", 0.05)
    async with client(server) as http:
        http.head("POST", "/upload", FORM, TOKEN, "Content-Length: 1000")
        http.writer.write(PART)

        status, _, body = await http.answer()

    assert (status, json.loads(body)["type"]) == (400, "urn:image-processor:problem:bad-request")


@pytest.mark.parametrize(
    "request_line",
    [b"FOO / HTTP/1.1", b"GET /\xff HTTP/1.1", b"nonsense", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2"],
)
async def test_what_is_no_http_is_a_problem_too(server: Server, request_line: bytes) -> None:
    async with client(server) as http:
        http.writer.write(request_line + b"\r\n\r\n")

        status, headers, body = await http.answer()
        assert await http.is_closed()

    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body)["type"] == "urn:image-processor:problem:bad-request"


async def test_a_request_that_the_stop_cannot_wait_for_is_answered(server: Server) -> None:
    # given an upload of which nothing more comes
    async with client(server) as http:
        http.head("POST", "/upload", FORM, TOKEN, "Content-Length: 1000", "Expect: 100-continue")
        assert (await http.answer())[0] == 100

        # when
        server.stop.set()

        # then
        status, headers, body = await http.answer()
    assert (status, json.loads(body)["type"]) == (503, "urn:image-processor:problem:unavailable")
    assert "retry-after" in headers


async def _is_cut_off(http: Client) -> bool:
    try:
        return await http.is_closed()
    except ConnectionError:
        return True
