"""The header check: what an upload is and how large, before anything is promised for it.

Promises that only headers are read, by hand and without a codec, whatever the file claims, in bounded time and memory, and that
nothing but UnsupportedMedia and TooLarge comes out. The size and the frames are those that the worker's decoders see. Does not
promise that the pixels can be decoded: most cut files are found, the worker finds the rest. Blocks: the caller puts it in a thread.

A new format is a module with a reader, and a line in READERS.
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UnsupportedMedia
from common.formats import ALLOWED, SNIFFED_BYTES, Format, Limits, sniff, upright_size
from gateway.inspection.bmp import read_bmp
from gateway.inspection.gif import read_gif
from gateway.inspection.header import Header, HeaderBytes
from gateway.inspection.jpeg import read_jpeg
from gateway.inspection.png import read_png
from gateway.inspection.tiff import read_tiff
from gateway.inspection.webp import read_webp

READERS: dict[Format, Callable[[HeaderBytes], Header]] = {
    Format.JPEG: read_jpeg,
    Format.PNG: read_png,
    Format.WEBP: read_webp,
    Format.GIF: read_gif,
    Format.TIFF: read_tiff,
    Format.BMP: read_bmp,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """Pixels are those of the upright picture; a still one has one frame."""

    content_type: str
    width: int
    height: int
    frames: int


def inspect(path: Path, limits: Limits) -> Inspected:
    """Raises UnsupportedMedia or TooLarge."""
    with path.open("rb") as file:
        kind = sniff(file.read(SNIFFED_BYTES))
        if kind is None:
            raise UnsupportedMedia(_why_unknown(path))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = READERS[kind](HeaderBytes(kind, data, limits))
    width, height = upright_size(header.width, header.height, header.orientation)
    return Inspected(content_type=kind.value, width=width, height=height, frames=header.frames)


def _why_unknown(path: Path) -> str:
    if path.stat().st_size == 0:
        return f"The file is empty; allowed: {ALLOWED}."
    return f"The file is not an image of an allowed format, whatever its name or declared type says; allowed: {ALLOWED}."
