"""Whether a PNG holds its whole picture. Pillow fills up what is missing without a word; half a picture must never pass.

Raises Damaged, or whatever struct and zlib raise on bytes that make no sense. What says nothing of the pixels may be damaged.
"""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

# What a decoder must understand (ISO 646 capitals), and what has a say in pixels all the same.
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_WITH_A_SAY = (*_CRITICAL, b"tRNS", b"acTL", b"fcTL", b"fdAT")


class Damaged(Exception):
    """Part of the picture is missing or was changed on its way."""


def chunks_in(png: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """→ each chunk's kind, and the whole of it, up to and with IEND. Checks the checksum of all that has a say in the pixels:
    Pillow skips that of the pixels themselves. Nothing is inflated or copied."""
    view, position, kind = memoryview(png), 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", png, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", png, end)
        if kind[:1].isupper() and kind not in _CRITICAL:
            raise Damaged(f"an unknown chunk that must be understood: {kind!r}")
        if kind in _WITH_A_SAY and zlib.crc32(view[position + 4 : end]) != checksum:
            raise Damaged(f"wrong checksum in {kind!r}")
        yield kind, view[position : end + 4]
        position = end + 4


def contents_of(chunk: bytes | memoryview) -> memoryview:
    """Without length, kind and checksum."""
    return memoryview(chunk)[8:-4]


def chunk_of(kind: bytes, *contents: bytes | memoryview) -> bytes:
    body = b"".join((kind, *contents))
    return b"".join((struct.pack(">I", len(body) - 4), body, struct.pack(">I", zlib.crc32(body))))


def check_filled_png(picture: Image.Image, bits_per_pixel: int, pixels: list[memoryview]) -> None:
    """For pixels that end early: Pillow leaves the missing rows zero. Counting the bytes costs half as much as decoding, so only
    pictures are counted whose last row is zero, and interlaced ones, which lack pixels everywhere."""
    width, height = picture.size
    interlaced = bool(picture.info.get("interlace"))
    if interlaced or not any(picture.crop((0, height - 1, width, height)).tobytes()):
        check_inflates(picture.size, bits_per_pixel, pixels, interlaced=interlaced)


def check_inflates(size: tuple[int, int], bits_per_pixel: int, pixels: list[memoryview], *, interlaced: bool) -> None:
    """Whether there are as many bytes as a picture of that size has."""
    width, height = size
    sizes = [((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in _ADAM7] if interlaced else [size]
    wanted = sum(rows * ((columns * bits_per_pixel + 7) // 8 + 1) for columns, rows in sizes if columns > 0)
    if _inflated_bytes(pixels, wanted) < wanted:
        raise Damaged("the pixels end early")


# Passes of an interlaced PNG: first column and row, and steps. Source: PNG (third edition), section 8.2.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _inflated_bytes(pieces: list[memoryview], enough: int) -> int:
    inflater, count = zlib.decompressobj(), 0
    for piece in pieces:
        rest: bytes | memoryview = piece
        while rest and count < enough and not inflater.eof:
            count += len(inflater.decompress(rest, 1 << 16))
            rest = inflater.unconsumed_tail
    return count
