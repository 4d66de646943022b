"""What is accepted, what is refused and why, and that nothing is left of a refusal."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.types import Message

from common.images import Image, ImageStatus, Priority
from common.processing import DEFAULT
from tests.gateway import ALICE, PICTURE, World, away, running, slug
from tests.pictures import huge_header_png, photo_png

LIMIT = 10_485_760
FORM = {"Content-Type": "multipart/form-data; boundary=x", **ALICE}


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Its temporary files are in a folder of its own, and none is there afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with running() as world:
        yield world
    assert list(tmp_path.iterdir()) == []


def stored(world: World) -> Image:
    (row,) = world.images.rows.values()
    return row.image


def is_empty(world: World) -> bool:
    return all(row.image.deleted for row in world.images.rows.values()) and not world.blobs.objects


async def test_an_accepted_upload(world: World) -> None:
    answer = await world.upload(name="Öl & Wasser.jpg")

    assert answer.status_code == 202
    image = answer.json()
    own = f"/api/v1/images/{image['id']}"
    assert answer.headers["Location"] == own
    assert datetime.fromisoformat(image["created_at"]).tzinfo is UTC
    assert image["created_at"].endswith("Z")
    assert image == {
        "id": image["id"],
        "status": "uploaded",
        "filename": "Öl & Wasser.jpg",
        "content_type": "image/jpeg",
        "size_bytes": len(PICTURE),
        "sha256": hashlib.sha256(PICTURE).hexdigest(),
        "width": 64,
        "height": 48,
        "processing": DEFAULT,
        "priority": "normal",
        "attempts": 0,
        "error": None,
        "result": None,
        "created_at": image["created_at"],
        "updated_at": image["created_at"],
        "completed_at": None,
        "links": {"self": own, "status": f"{own}/status", "content": f"{own}/content", "original": f"{own}/original"},
    }
    assert (stored(world).owner, stored(world).request_id) == ("alice", answer.headers["X-Request-ID"])
    assert list(world.blobs.objects.values()) == [PICTURE]


@pytest.mark.parametrize("path", ["/api/v1/upload", "/api/v1/images", "/upload"])
@pytest.mark.parametrize("field", ["image", "file", "document"])
async def test_every_path_and_field_name(world: World, path: str, field: str) -> None:
    answer = await world.http.post(path, headers=ALICE, files={field: ("a.png", photo_png(8, 8))})

    assert answer.status_code == 202
    assert stored(world).content_type == "image/png"


async def test_form_fields_before_and_after_the_picture(world: World) -> None:
    parts = [("priority", (None, b"high")), ("image", ("a.jpg", PICTURE)), ("processing", (None, b"grayscale|resize:32"))]

    answer = await world.http.post("/upload", headers=ALICE, files=parts)

    assert answer.status_code == 202, answer.text
    assert (stored(world).priority, stored(world).processing) == (Priority.HIGH, "grayscale|resize:32")


async def test_an_empty_processing_is_the_default(world: World) -> None:
    await world.uploaded(processing="")

    assert stored(world).processing == DEFAULT


async def test_what_the_bytes_are_counts_not_what_they_are_called(world: World) -> None:
    await world.http.post("/upload", headers=ALICE, files={"image": ("cat.png", PICTURE, "image/png")})

    assert (stored(world).content_type, stored(world).filename) == ("image/jpeg", "cat.png")


@pytest.mark.parametrize(
    ("content", "form", "expected", "said"),
    [
        (b"just text", {}, (415, "unsupported-media-type"), "JPEG"),
        (b"", {}, (415, "unsupported-media-type"), "empty"),
        (b"GIF89a" + b"\0" * 50, {}, (415, "unsupported-media-type"), "GIF"),
        (PICTURE[: len(PICTURE) // 2], {}, (415, "unsupported-media-type"), "cut off"),
        (huge_header_png(30_000, 30_000), {}, (413, "too-large"), "30000"),
        (b"\xff" * (LIMIT + 1), {}, (413, "too-large"), "10485760"),
        (PICTURE, {"processing": "explode:1"}, (422, "invalid-processing"), "explode"),
        (PICTURE, {"processing": "resize:0"}, (422, "invalid-processing"), "resize:0"),
        (PICTURE, {"processing": "resize:16384"}, (422, "invalid-processing"), "resize:16384"),
        (PICTURE, {"priority": "urgent"}, (422, "validation"), "priority"),
        (PICTURE, {"priority": ""}, (422, "validation"), "priority"),
        (PICTURE, {"colour": "blue"}, (422, "validation"), "colour"),
        (PICTURE, {"processing": "x" * 9000}, (422, "validation"), "processing"),
    ],
    ids=[
        *("text", "empty", "gif", "half", "30000x30000", "over 10 MiB", "unknown step", "no width", "too large an output"),
        *("unknown priority", "no priority", "unknown field", "long field"),
    ],
)
async def test_what_cannot_be_taken(
    world: World, content: bytes, form: dict[str, str], expected: tuple[int, str], said: str
) -> None:
    answer = await world.upload(content, **form)

    assert slug(answer) == expected
    assert said in answer.json()["detail"]
    assert is_empty(world)


async def test_a_field_at_fault_is_named_by_itself(world: World) -> None:
    answer = await world.upload(colour="blue")

    (error,) = answer.json()["errors"]
    assert error["field"] == "colour"
    assert "processing" in error["message"]


async def test_exactly_the_limit_is_not_over_it(world: World) -> None:
    # a picture may have anything behind its end
    answer = await world.upload(PICTURE + b"\0" * (LIMIT - len(PICTURE)))

    assert answer.status_code == 202
    assert answer.json()["size_bytes"] == LIMIT


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], (400, "bad-multipart")),
        (["image", "image"], (400, "bad-multipart")),
        (["image", "document"], (400, "bad-multipart")),
        (["picture"], (400, "bad-multipart")),
        (["picture", "image"], (422, "validation")),
        (["image", "colour"], (422, "validation")),
        (["image", "processing", "processing"], (422, "validation")),
    ],
)
async def test_fields_missing_or_given_twice(world: World, names: list[str], expected: tuple[int, str]) -> None:
    body = b"".join(b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n\r\n' % name.encode() for name in names)

    answer = await world.http.post("/upload", headers=FORM, content=body + b"--x--\r\n")

    assert slug(answer) == expected
    assert is_empty(world)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"this is no multipart body",
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + PICTURE,
        b"--x\r\n\r\nno header at all\r\n--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="im\xffage"\r\n\r\n\r\n--x--\r\n',
    ],
    ids=["nothing", "other", "no end", "no name", "not UTF-8"],
)
async def test_a_malformed_body(world: World, body: bytes) -> None:
    answer = await world.http.post("/upload", headers=FORM, content=body)

    assert slug(answer) == (400, "bad-multipart")
    assert is_empty(world)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "image/jpeg",
        "application/json",
        "multipart/mixed; boundary=x",
        "multipart/form-data",
        "multipart/form-data; boundary=",
    ],
)
async def test_a_body_that_is_no_form(world: World, content_type: str | None) -> None:
    headers = ALICE | ({} if content_type is None else {"Content-Type": content_type})

    answer = await world.http.post("/upload", headers=headers, content=PICTURE)

    assert slug(answer) == (415, "unsupported-media-type")


@pytest.mark.parametrize("declared", [True, False], ids=["with Content-Length", "without"])
async def test_a_body_over_the_limit_is_not_read_to_its_end(world: World, declared: bool) -> None:
    # given a body without end, of which the sender knows how much was taken
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        while True:
            sent += 65536
            yield b"\xff" * 65536

    # when
    headers = FORM | ({"Content-Length": str(LIMIT * 100)} if declared else {})
    answer = await world.http.post("/upload", headers=headers, content=body())

    # then
    assert slug(answer) == (413, "too-large")
    assert sent <= (0 if declared else LIMIT + 65536)
    assert is_empty(world)


@pytest.mark.parametrize(("port", "call"), [("blobs", "put"), ("images", "add")])
async def test_without_the_object_store_or_the_database_nothing_is_accepted(
    world: World, port: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getattr(world, port), call, away)

    answer = await world.upload()

    assert slug(answer) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "10.0.0.7" not in answer.text
    assert is_empty(world)


async def test_without_room_on_the_disk_nothing_is_accepted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")

    answer = await world.upload()

    assert slug(answer) == (503, "unavailable")
    assert is_empty(world)


async def test_without_the_queue_and_the_cache_uploads_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.queue, "publish", away)
    for call in ("get", "put", "invalidate"):
        monkeypatch.setattr(world.cache, call, away)

    answer = await world.upload()

    assert answer.status_code == 202
    assert stored(world).status is ImageStatus.UPLOADED


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(world: World) -> None:
    # given a server whose client hangs up after half of the picture
    half = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + b"\xff" * 1_000_000
    incoming: list[Message] = [{"type": "http.request", "body": half, "more_body": True}, {"type": "http.disconnect"}]
    answered: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/upload",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in FORM.items()],
    }

    # when
    await world.app(scope, receive, send)

    # then
    assert answered == []
    assert is_empty(world)


async def test_an_upload_cut_off_by_a_stop_leaves_nothing(world: World) -> None:
    # given an upload that waits for more of its body
    waiting = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + b"\xff" * 1_000_000
        waiting.set()
        await asyncio.Event().wait()

    uploading = asyncio.create_task(world.http.post("/upload", headers=FORM, content=body()))
    await waiting.wait()

    # when
    uploading.cancel()
    await asyncio.wait([uploading])

    # then
    assert is_empty(world)
