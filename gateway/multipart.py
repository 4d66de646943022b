"""The body of an upload, read as a stream: its one picture into a temporary file, its few text fields into memory.

Promises flat memory whatever the body's size, a refusal as soon as it is clear, and that the temporary file is gone when the caller
leaves, however it leaves. Does not look into the picture. Reads the body to its end where it is good.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from multipart import (  # type: ignore[import-untyped] # it ships no types
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from common.errors import BadMultipart, BadRequest, InvalidParameter, TooLarge, Unavailable, UnsupportedMedia

IMAGE_FIELDS = ("image", "file", "document")
TEXT_FIELDS = ("processing", "priority")
MAX_TEXT_BYTES = 8 * 1024
# RFC 2046, section 5.1.1.
LONGEST_BOUNDARY = 70
# What a form may have beside the picture: boundaries, part headers, text fields.
FORM_ALLOWANCE_BYTES = 64 * 1024
# A client that sends nothing for this long has most likely gone without a word.
PATIENCE_SECONDS = 30.0
BATCH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """`path` is there until the caller leaves. `filename` is as the client sent it."""

    path: Path
    filename: str | None
    size_bytes: int
    sha256: str
    texts: dict[str, str]


@asynccontextmanager
async def receive_form(
    body: AsyncIterable[bytes], content_type: str, content_length: int | None, max_image_bytes: int, seconds: float
) -> AsyncIterator[Form]:
    """`seconds`: for the whole body.

    Raises UnsupportedMedia, TooLarge, BadMultipart, BadRequest, InvalidParameter; Unavailable where the disk has no room."""
    boundary = _boundary(content_type)
    limit = max_image_bytes + FORM_ALLOWANCE_BYTES
    if content_length is not None and content_length > limit:
        raise _too_large(max_image_bytes)
    with _disk_errors():
        file = tempfile.NamedTemporaryFile(prefix="upload-")  # noqa: SIM115 - closed below; the caller's errors are not the disk's
    try:
        reader = _FormReader(boundary, _Spool(file), max_image_bytes)
        received = 0
        async for chunk in _patiently(body, seconds):
            received += len(chunk)
            if received > limit:
                raise _too_large(max_image_bytes)
            await reader.feed(chunk)
        yield await reader.finish()
    finally:
        # Closing writes what a full disk did not take; the file is gone all the same.
        with suppress(OSError):
            file.close()


async def _patiently(body: AsyncIterable[bytes], seconds: float) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    chunks, deadline = aiter(body), clock() + seconds
    while True:
        try:
            async with asyncio.timeout_at(min(deadline, clock() + PATIENCE_SECONDS)):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            if clock() >= deadline:
                raise BadRequest(f"The body did not come within {seconds:g} seconds; send it faster, or less of it.") from None
            raise BadRequest(f"Nothing more of the body came for {PATIENCE_SECONDS:g} seconds; send it again.") from None
        yield chunk


def _boundary(content_type: str) -> str:
    media_type, options = parse_options_header(content_type)
    boundary: str = options.get("boundary", "")
    if media_type != "multipart/form-data" or not boundary:
        raise UnsupportedMedia("Send the image as multipart/form-data, in the field image, with the boundary in Content-Type.")
    if len(boundary) > LONGEST_BOUNDARY:
        raise BadMultipart(f"The boundary may have {LONGEST_BOUNDARY} characters.")
    return boundary


def _too_large(max_image_bytes: int) -> TooLarge:
    return TooLarge(f"The image may have {max_image_bytes} bytes.")


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable("disk of the gateway", f"{type(error).__name__}: {error}") from error


class _Spool:
    """Writes and hashes in threads, a batch at a time, so that neither the disk nor the hash holds up other requests."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._batch = bytearray()
        self.size_bytes = 0

    async def write(self, chunk: bytes) -> None:
        self.size_bytes += len(chunk)
        self._batch += chunk
        if len(self._batch) >= BATCH_BYTES:
            await self._flush()

    async def finish(self) -> tuple[Path, str]:
        """→ where it is, and its SHA-256."""
        await self._flush()
        return Path(self._file.name), self._hash.hexdigest()

    async def _flush(self) -> None:
        batch, self._batch = self._batch, bytearray()
        await asyncio.to_thread(self._store, batch)

    def _store(self, batch: bytearray) -> None:
        self._hash.update(batch)
        with _disk_errors():
            self._file.write(batch)
            self._file.flush()


class _FormReader:
    def __init__(self, boundary: str, spool: _Spool, max_image_bytes: int) -> None:
        self._parser = PushMultipartParser(boundary)
        self._spool = spool
        self._max_image_bytes = max_image_bytes
        self._image: MultipartSegment | None = None
        self._texts: dict[str, bytearray] = {}
        self._unknown: str | None = None
        # The text field being read; None while it is the picture.
        self._text: tuple[str, bytearray] | None = None

    async def feed(self, chunk: bytes) -> None:
        with _malformed():
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is not None:
                    await self._take(event)

    async def finish(self) -> Form:
        with _malformed():
            self._parser.close()
        if self._image is None:
            raise BadMultipart("There is no image in the form: send one in the field image (or file, or document).")
        if self._unknown is not None:
            known = ", ".join((*IMAGE_FIELDS, *TEXT_FIELDS))
            raise InvalidParameter(_shown(self._unknown), f"there is no such field; there are {known}")
        path, sha256 = await self._spool.finish()
        return Form(
            path=path,
            filename=self._image.filename,
            size_bytes=self._spool.size_bytes,
            sha256=sha256,
            texts={name: _decoded(name, content) for name, content in self._texts.items()},
        )

    def _begin(self, segment: MultipartSegment) -> None:
        name = segment.name or ""
        if name in IMAGE_FIELDS:
            if self._image is not None:
                raise BadMultipart("There are several images in the form: send one image in one upload.")
            self._image, self._text = segment, None
        elif name not in TEXT_FIELDS:
            # Judged at the end: where it stands for the image, that there is no image says more.
            self._unknown, self._text = name, None
        elif name in self._texts:
            raise InvalidParameter(name, "may be given once")
        else:
            self._texts[name] = bytearray()
            self._text = name, self._texts[name]

    async def _take(self, content: bytes) -> None:
        if self._unknown is not None:
            return
        if self._text is None:
            if self._spool.size_bytes + len(content) > self._max_image_bytes:
                raise _too_large(self._max_image_bytes)
            await self._spool.write(content)
            return
        name, text = self._text
        text += content
        if len(text) > MAX_TEXT_BYTES:
            raise InvalidParameter(name, f"may have {MAX_TEXT_BYTES} bytes")


@contextmanager
def _malformed() -> Iterator[None]:
    """The parser's errors, its limits on parts and their headers among them."""
    try:
        yield
    except MultipartError as error:
        raise BadMultipart(f"The body is no well-formed multipart form: {error.args[0]}.") from None


def _decoded(name: str, content: bytearray) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidParameter(name, "must be text in UTF-8") from None


def _shown(name: str) -> str:
    """A field's name in an answer: readable, and not as long as its sender likes."""
    return "".join(char if char.isprintable() else "?" for char in name[:100]) or "(a field without a name)"
