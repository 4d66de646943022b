"""What every answer carries, whatever its status: no guessing of types, no shared copies of what is private, no banner."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from common.errors import RateLimited
from common.serving import listen, serve
from gateway.protocol import LimitedProtocol
from tests.gateway import ADMIN, ALICE, BOB, PICTURE, World, away, running

COMPLETED = "/api/v1/images/{completed}"
PICTURES = {"Accept": "image/*"}
# By status: what is asked, and by whom.
PRIVATE: list[tuple[int, str, str, dict[str, Any]]] = [
    (200, "GET", "/api/v1/images", {"headers": ALICE}),
    (200, "GET", COMPLETED, {"headers": ALICE}),
    (200, "GET", COMPLETED, {"headers": ALICE | PICTURES}),
    (200, "HEAD", COMPLETED, {"headers": ALICE | PICTURES}),
    (200, "GET", f"{COMPLETED}/status", {"headers": ALICE}),
    (200, "GET", f"{COMPLETED}/original", {"headers": ADMIN}),
    (200, "GET", "/image/{completed}", {"headers": ALICE}),
    (206, "GET", f"{COMPLETED}/content", {"headers": ALICE | {"Range": "bytes=0-9"}}),
    (304, "GET", COMPLETED, {"headers": ALICE | {"If-None-Match": "*"}}),
    (304, "GET", COMPLETED, {"headers": ALICE | PICTURES | {"If-None-Match": "*"}}),
    (304, "GET", f"{COMPLETED}/original", {"headers": ALICE | {"If-None-Match": "*"}}),
    (202, "POST", "/upload", {"headers": ALICE, "files": {"image": ("a.jpg", PICTURE)}}),
    (400, "POST", "/upload", {"headers": ALICE, "files": {"note": ("a.jpg", PICTURE)}}),
    (401, "GET", COMPLETED, {}),
    (403, "GET", "/api/v1/images", {"headers": BOB, "params": {"owner": "alice"}}),
    (404, "GET", COMPLETED, {"headers": BOB}),
    (405, "PUT", COMPLETED, {"headers": ALICE}),
    (406, "GET", COMPLETED, {"headers": ALICE | {"Accept": "text/html"}}),
    (409, "GET", "/image/{failed}", {"headers": ALICE}),
    (413, "POST", "/upload", {"headers": ALICE, "files": {"image": ("a.jpg", PICTURE * 10_000)}}),
    (415, "POST", "/upload", {"headers": ALICE, "files": {"image": ("a.jpg", b"nothing")}}),
    (416, "GET", "/image/{completed}", {"headers": ALICE | {"Range": "bytes=99999999-"}}),
    (422, "GET", "/api/v1/images", {"headers": ALICE, "params": {"limit": "0"}}),
    (431, "GET", COMPLETED, {"headers": ALICE | {"X-Long": "x" * 40_000}}),
    (200, "DELETE", COMPLETED, {"headers": ALICE}),
]
PUBLIC = [
    (200, "GET", "/health"),
    (200, "GET", "/health/ready"),
    (200, "GET", "/metrics"),
    (200, "GET", "/docs"),
    (200, "GET", "/openapi.json"),
    (200, "GET", "/docs/assets/swagger-ui-bundle.js"),
    (404, "GET", "/docs/assets/nothing"),
    (404, "GET", "/nowhere"),
    (405, "POST", "/health"),
]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def asked(world: World, method: str, path: str, how: dict[str, Any]) -> httpx.Response:
    completed = await world.completed() if "{completed}" in path else ""
    failed = await world.failed() if "{failed}" in path else ""
    return await world.http.request(method, path.format(completed=completed, failed=failed), **how)


def assert_not_sniffed(answer: httpx.Response) -> None:
    assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]


def assert_kept_by_nobody_else(answer: httpx.Response) -> None:
    """RFC 9111, section 5.2.2: a shared cache keeps neither of these."""
    (control,) = answer.headers.get_list("Cache-Control")
    assert "no-store" in control or (control == "private, no-cache" and "Authorization" in answer.headers["Vary"])


@pytest.mark.parametrize(("status", "method", "path", "how"), PRIVATE)
async def test_what_is_private_stays_so_and_is_what_it_says(
    world: World, status: int, method: str, path: str, how: dict[str, Any]
) -> None:
    answer = await asked(world, method, path, how)

    assert answer.status_code == status, answer.text
    assert_not_sniffed(answer)
    assert_kept_by_nobody_else(answer)


@pytest.mark.parametrize(("status", "method", "path"), PUBLIC)
async def test_what_is_public_is_what_it_says(world: World, status: int, method: str, path: str) -> None:
    answer = await world.http.request(method, path)

    assert answer.status_code == status
    assert_not_sniffed(answer)


@pytest.mark.parametrize(
    ("status", "error"), [(429, RateLimited(1, 60, 30)), (503, None), (500, ZeroDivisionError())], ids=["429", "503", "500"]
)
async def test_the_same_when_it_goes_wrong(
    world: World, status: int, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(**_: Any) -> Any:
        if error is not None:
            raise error
        await away()

    monkeypatch.setattr(world.images, "page", fail)

    with capture_logs():
        answer = await world.http.get("/api/v1/images", headers=ALICE)

    assert answer.status_code == status
    assert_not_sniffed(answer)
    assert_kept_by_nobody_else(answer)


async def test_both_forms_of_a_resource_and_their_304_say_what_they_depend_on(world: World) -> None:
    address = f"/api/v1/images/{await world.completed()}"

    for form in ({}, PICTURES):
        whole = await world.http.get(address, headers=ALICE | form)
        known = await world.http.get(address, headers=ALICE | form | {"If-None-Match": whole.headers["ETag"]})
        assert (whole.status_code, known.status_code) == (200, 304)
        assert whole.headers["Vary"] == known.headers["Vary"] == "Accept, Authorization"


@pytest.mark.parametrize("request_head", ["GET /health HTTP/1.1", "GET /status/seven HTTP/1.1", "no request at all"])
async def test_the_server_does_not_say_what_it_is(world: World, request_head: str) -> None:
    # given the gateway on its real server
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0, "PORT")
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve(world.app, listener, stop, 1, LimitedProtocol))

    # when
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{request_head}\r\nHost: gateway\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head, _, _ = (await reader.read()).decode().lower().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    stop.set()
    await serving

    # then
    names = [line.partition(":")[0] for line in head.split("\r\n")[1:]]
    assert "x-content-type-options" in names
    assert not {"server", "x-powered-by", "via"} & set(names)
    assert "uvicorn" not in head
