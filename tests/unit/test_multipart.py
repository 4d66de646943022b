"""The body of an upload, however it is cut into chunks: one picture to a file, in flat memory, and nothing left behind."""

import contextlib
import hashlib
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import BadMultipart, InvalidParameter, TooLarge, Unavailable, UnsupportedMedia
from gateway.multipart import FORM_ALLOWANCE_BYTES, MAX_TEXT_BYTES, Form, receive_form

BOUNDARY = b"3f1c0a52-7d0c-4a55-9a0e-3b1f6c2d0001"
TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"
END = b"--" + BOUNDARY + b"--\r\n"
LIMIT = 1000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go, and are gone from afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: form-data; {disposition}", *headers, "", ""])
    return b"--" + BOUNDARY + b"\r\n" + head.encode() + content + b"\r\n"


def image(content: bytes = b"pixels") -> bytes:
    return part('name="image"; filename="a.jpg"', content)


async def chunked(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def receive(*parts: bytes, size: int = 65536, content_type: str = TYPE, length: int | None = None) -> tuple[Form, bytes]:
    async with receive_form(chunked(b"".join(parts), size), content_type, length, LIMIT, 60) as form:
        return form, form.path.read_bytes()


TRICKY = [b"\r\n--", b"\r\n--" + BOUNDARY[:-1], END, b"\r\n" * 100, b"--" + BOUNDARY, b"-"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=LIMIT) | st.sampled_from(TRICKY), size=st.integers(1, 300))
async def test_the_picture_comes_out_as_it_went_in_however_it_is_cut(content: bytes, size: int) -> None:
    form, stored = await receive(part('name="priority"', b"low"), image(content), END, size=size)

    assert stored == content
    assert (form.size_bytes, form.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (form.filename, form.texts) == ("a.jpg", {"priority": "low"})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), at=st.integers(0, 400), size=st.integers(1, 300))
async def test_any_body_is_taken_or_refused(body: bytes, at: int, size: int) -> None:
    whole = part('name="priority"', b"low") + image() + END

    with contextlib.suppress(BadMultipart, InvalidParameter, TooLarge):
        await receive(whole[:at] + body + whole[at:], size=size)


@pytest.mark.parametrize(("disposition", "filename"), [('name="file"', None), ("name=document; filename=b.png", "b.png")])
async def test_other_names_of_the_picture(disposition: str, filename: str | None) -> None:
    form, stored = await receive(part(disposition, b"pixels"), END)

    assert (form.filename, stored) == (filename, b"pixels")


async def test_what_stands_before_and_after_the_form_is_not_part_of_it() -> None:
    _, stored = await receive(b"a preamble\r\n", image(), END, b"an epilogue")

    assert stored == b"pixels"


@pytest.mark.parametrize(
    ("content_type", "error"),
    [
        ("", UnsupportedMedia),
        ("text/plain; boundary=x", UnsupportedMedia),
        ("multipart/form-data", UnsupportedMedia),
        ('multipart/form-data; boundary=""', UnsupportedMedia),
        (f"multipart/form-data; boundary={'x' * 71}", BadMultipart),
    ],
)
async def test_the_content_type(content_type: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await receive(image(), END, content_type=content_type)


async def test_a_quoted_boundary_and_capitals() -> None:
    await receive(image(), END, content_type=f'Multipart/Form-Data; charset=utf-8; BOUNDARY="{BOUNDARY.decode()}"')


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([image(b"x" * (LIMIT + 1)), END], TooLarge),
        ([b"preamble " * FORM_ALLOWANCE_BYTES], TooLarge),
        ([image(), END, b"epilogue " * FORM_ALLOWANCE_BYTES], TooLarge),
        ([part('name="processing"', b"x" * (MAX_TEXT_BYTES + 1)), END], InvalidParameter),
        ([part('name="processing"', b"\xff"), image(), END], InvalidParameter),
        ([part('name="processing"', b""), part('name="processing"', b""), END], InvalidParameter),
        ([part('name="what"', b""), image(), END], InvalidParameter),
        ([image(), part('name="what"', b""), END], InvalidParameter),
        ([part('filename="nameless"', b""), image(), END], InvalidParameter),
        ([part('name="what"', b""), END], BadMultipart),
        ([part('name="what"', b"x" * (LIMIT + FORM_ALLOWANCE_BYTES)), image(), END], TooLarge),
        ([image(), image(), END], BadMultipart),
        ([image(), part('name="file"', b""), END], BadMultipart),
        ([END], BadMultipart),
        ([], BadMultipart),
        ([part('name="processing"', b""), END], BadMultipart),
        ([image()], BadMultipart),
        ([image(), END[:-4]], BadMultipart),
        ([part('name="image"', b"", f"X-Long: {'x' * 5000}"), END], BadMultipart),
        ([part('name="image"', b"", *(f"X-{n}: x" for n in range(20))), END], BadMultipart),
        ([part('name="image"', b"", "Content-Length: 5"), END], BadMultipart),
        ([part('name="image"', b"").replace(b"form-data", b"attachment"), END], BadMultipart),
    ],
)
async def test_what_is_refused(parts: list[bytes], error: type[Exception]) -> None:
    with pytest.raises(error):
        await receive(*parts)


async def test_a_name_is_not_repeated_at_any_length() -> None:
    with pytest.raises(InvalidParameter) as refused:
        await receive(part(f'name="\x1b[31m{"x" * 3000}"', b""), image(), END)

    assert "\x1b" not in refused.value.field
    assert len(refused.value.field) <= 100


async def test_the_limit_itself_is_allowed() -> None:
    form, _ = await receive(image(b"x" * LIMIT), END)

    assert form.size_bytes == LIMIT


async def test_a_length_over_the_limit_is_refused_before_the_body_is_read() -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    with pytest.raises(TooLarge):
        async with receive_form(body(), TYPE, LIMIT + FORM_ALLOWANCE_BYTES + 1, LIMIT, 60):
            pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
async def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> IO[bytes]:
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)

    with pytest.raises(Unavailable):
        await receive(image(), END)


async def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")

    with pytest.raises(Unavailable):
        await receive(image(), END)


async def test_memory_is_flat() -> None:
    # given fifty megabytes, made as they are read
    async def body() -> AsyncIterator[bytes]:
        yield image()[: -len(b"pixels\r\n")]
        for _ in range(800):
            yield bytes(65536)
        yield b"\r\n" + END

    tracemalloc.start()
    try:
        async with receive_form(body(), TYPE, None, 100_000_000, 60) as form:
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert form.size_bytes == 800 * 65536
    assert peak < 3_000_000
