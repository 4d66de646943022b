"""The header check: what an upload is and how large, before anything is promised for it.

Promises that only headers are read, whatever the file claims, in bounded time and memory, and that nothing but UnsupportedMedia
and TooLarge comes out. Does not promise that the pixels can be decoded: most cut files are found, the worker finds the rest.
Blocks: the caller puts it in a thread.
"""

import io
import mmap
import struct
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from common.errors import TooLarge, UnsupportedMedia
from common.formats import ALLOWED, SNIFFED_BYTES, Format, Limits, orientation_in, sniff, upright_size

# An honest header takes about a millisecond; one of a million tiny segments would take seconds.
HEADER_CPU_SECONDS = 0.5
LONGEST_EXIF = 65536
# Filters of warnings belong to the whole process, so one header at a time; reading one is Python code that holds the GIL anyway.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """Pixels are those of the upright picture."""

    content_type: str
    width: int
    height: int
    frames: int


def inspect(path: Path, limits: Limits) -> Inspected:
    """Raises UnsupportedMedia or TooLarge."""
    with _Metered(path) as file:
        kind = sniff(file.read(SNIFFED_BYTES))
        if kind not in (Format.JPEG, Format.PNG):
            raise UnsupportedMedia(_why_unknown(path))
        file.seek(0)
        with _one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            width, height, is_whole = _read_header(kind, file, limits.pixels)
    if not is_whole:
        raise UnsupportedMedia(f"The {kind.name} file is cut off: its end is missing. Send the whole file.")
    return Inspected(content_type=kind.value, width=width, height=height, frames=1)


def _why_unknown(path: Path) -> str:
    if path.stat().st_size == 0:
        return f"The file is empty; allowed: {ALLOWED}."
    return f"The file is not an image of an allowed format, whatever its name or declared type says; allowed: {ALLOWED}."


class _Metered(io.BufferedReader):
    """A file that ends reading when this thread has spent its time on it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._deadline = time.thread_time() + HEADER_CPU_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._deadline:
            raise OSError("the header takes too long to read")
        return super().read(size)


class _JpegHeader(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Pillow would parse all of the EXIF for the resolution, and a hostile block costs gigabytes."""


def _read_header(kind: Format, file: _Metered, max_pixels: int) -> tuple[int, int, bool]:
    """→ upright width and height, and whether the file's end is there."""
    try:
        header: ImageFile = _JpegHeader(file) if kind is Format.JPEG else PngImageFile(file)
        width, height = header.size
        if width * height <= max_pixels:
            exif, is_whole = _rest_of_jpeg(header, file) if kind is Format.JPEG else _rest_of_png(header, file)
            return *upright_size(width, height, orientation_in(exif)), is_whole
    except Exception:  # noqa: BLE001 - Pillow raises almost anything on a malformed header, and each means the same
        raise UnsupportedMedia(f"The header of the {kind.name} file is damaged; allowed: {ALLOWED}.") from None
    raise TooLarge(f"The picture has {width} × {height} pixels; {max_pixels} in all are allowed.")


def _rest_of_jpeg(header: ImageFile, file: _Metered) -> tuple[object, bool]:
    """→ EXIF, and whether an end-of-image marker is anywhere after the header: real files have all sorts of things behind it."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return header.info.get("exif"), data.rfind(b"\xff\xd9", file.tell()) != -1


def _rest_of_png(header: ImageFile, file: _Metered) -> tuple[object, bool]:
    """→ EXIF, which may stand behind the pixels, and whether IEND is there. Hops from chunk to chunk."""
    exif = header.info.get("exif")
    position = header.tile[0].offset - 8
    while True:
        file.seek(position)
        length, chunk = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        if chunk == b"eXIf":
            exif = file.read(min(length, LONGEST_EXIF))
        elif chunk in (b"IEND", b"\0\0\0\0"):
            return exif, chunk == b"IEND"
        position += 12 + length
