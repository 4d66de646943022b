"""Around every request: its id, its line in the log, its metrics, limits, and answers to what nobody planned."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from starlette.types import Message, Scope
from structlog.testing import capture_logs

from common.errors import PictureRefused, Unavailable
from common.images import FailureCode
from common.ports import Blob
from tests.gateway import ALICE, World, running, slug


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def broken(*_: Any) -> Any:
    raise ZeroDivisionError("secret")


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 128, "01936c2e-0000-7000-8000-000000000000"])
async def test_a_request_id_is_taken_over(world: World, given: str) -> None:
    for path in ("/health", "/nope"):
        assert (await world.http.get(path, headers={"X-Request-ID": given})).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", [[], [""], ["x" * 129], ["a b"], ["a\tb"], ["{}"], [b"\xe9"], ["one", "two"]])
async def test_or_else_made(world: World, given: list[str | bytes]) -> None:
    headers = [(b"X-Request-ID", value.encode() if isinstance(value, str) else value) for value in given]

    ids = [(await world.http.get("/health", headers=headers)).headers["X-Request-ID"] for _ in range(2)]

    assert [UUID(made).version for made in ids] == [7, 7]
    assert ids[0] != ids[1]


async def test_nosniff_everywhere(world: World) -> None:
    for path in ("/health", "/nope", "/docs", "/docs/assets/swagger-ui.css", "/status/seven"):
        answer = await world.http.get(path)
        assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/health/", "/api/v1/upload/", "/api/v2/images", "/docs/assets/nope", "/%00", "/ü?q=1"]
)
async def test_an_unknown_address(world: World, path: str) -> None:
    answer = await world.http.get(path)

    assert slug(answer) == (404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v1/upload", "POST"),
        ("PATCH", "/upload", "POST"),
        ("DELETE", "/status/seven", "GET, HEAD"),
        ("POST", "/image/seven", "GET, HEAD"),
        ("PUT", "/health", "GET, HEAD"),
        ("PROPFIND", "/metrics", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_method_that_an_address_does_not_take(world: World, method: str, path: str, allowed: str) -> None:
    answer = await world.http.request(method, path)

    assert slug(answer) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == allowed
    assert allowed in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [{f"X-{n}": "x" for n in range(101)}, {"X-Long": "x" * 33_000}, {"Authorization": f"Bearer {'x' * 33_000}"}],
    ids=["too many", "too long", "too long a token"],
)
async def test_too_many_header_bytes(world: World, headers: dict[str, str]) -> None:
    answer = await world.http.post("/upload", headers=headers)

    assert slug(answer) == (431, "headers-too-large")


async def test_a_bug_is_answered_and_logged_with_the_request_id(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = await world.uploaded()
    monkeypatch.setattr(world.cache, "get", broken)

    with capture_logs() as logs:
        answer = await world.http.get(f"/status/{image_id}", headers=ALICE)

    assert slug(answer) == (500, "internal")
    assert "secret" not in answer.text
    (line,) = [line for line in logs if line["event"] == "unhandled error"]
    assert isinstance(line["exc_info"], ZeroDivisionError)


async def test_an_error_that_no_request_can_cause_is_a_bug(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> Any:
        raise PictureRefused(FailureCode.CORRUPT_IMAGE, "secret")

    image_id = await world.uploaded()
    monkeypatch.setattr(world.cache, "get", refuse)

    with capture_logs() as logs:
        answer = await world.http.get(f"/status/{image_id}", headers=ALICE)

    assert slug(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert "unhandled error" in [line["event"] for line in logs]


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (Unavailable("object store", "gone"), "answer cut short"),
        (ZeroDivisionError(), "unhandled error in the middle of an answer"),
    ],
)
async def test_an_answer_that_breaks_off_has_no_end(
    world: World, error: Exception, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a store that fails in the middle of a blob
    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"
        raise error

    class Opening:
        async def __aenter__(self) -> Blob:
            return Blob(size_bytes=8, chunks=chunks())

        async def __aexit__(self, *_: object) -> None: ...

    image_id = await world.uploaded()
    monkeypatch.setattr(world.blobs, "open", lambda *_: Opening())
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "path": f"/api/v1/images/{image_id}/original",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer alice-token")],
    }

    # when
    with capture_logs() as logs:
        await world.app(scope, receive, send)

    # then
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"]
    assert event in [line["event"] for line in logs]


async def test_the_log_has_neither_tokens_nor_queries(world: World) -> None:
    with capture_logs() as logs:
        image_id = await world.uploaded()
        await world.http.get(f"/status/{image_id}?access_token=alice-token", headers=ALICE)
        await world.http.get("/status/seven", headers={"Authorization": "Bearer stolen-token"})

    said = repr(logs)
    assert "-token" not in said
    assert str(image_id) in said


async def test_a_line_in_the_log_and_a_count_by_route(world: World) -> None:
    def count(method: str, route: str, status: str) -> float:
        labels = {"method": method, "route": route, "status": status}
        return REGISTRY.get_sample_value("image_processor_http_requests_total", labels) or 0

    image_id = await world.uploaded()
    asked = [
        ("GET", f"/status/{image_id}", "GET", "/status/{id}", 200),
        ("GET", "/status/seven", "GET", "/status/{id}", 404),
        ("GET", "/nope/nope", "GET", "unmatched", 404),
        ("GET", "/docs/assets/swagger-ui.css", "GET", "/docs/assets", 200),
        ("BREW", "/health", "other", "/health", 405),
    ]
    for method, path, counted, route, status in asked:
        before = count(counted, route, str(status))

        with capture_logs() as logs:
            await world.http.request(method, path, headers=ALICE)

        assert count(counted, route, str(status)) == before + 1
        (line,) = [line for line in logs if line["event"] == "request"]
        assert (line["route"], line["path"], line["status"]) == (route, path, status)
