"""PNG and APNG: from chunk to chunk to the end. Nothing is inflated: text and profiles may be as large as they like.

Source: PNG (third edition), section 5 (chunks), 11 (their contents), 11.3.2 (animation).
"""

import zlib
from collections.abc import Iterator

from common.formats import LONGEST_EXIF, orientation_in
from gateway.inspection.header import Header, HeaderBytes

# The depths of each colour type. Source: table 11.
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3
_PIXELS = (b"IDAT", b"fdAT")
_PIECE = 1 << 20


def read_png(data: HeaderBytes) -> Header:
    chunks = _chunks(data)
    chunk, at, length = next(chunks)
    if chunk != b"IHDR" or length != 13:
        raise data.damaged("it does not begin with IHDR")
    width, height, depth, colour_type, compression, filtering, interlace = data.unpack(">IIBBBBB", at)
    if depth not in _DEPTHS.get(colour_type, ()) or compression or filtering or interlace > 1:
        raise data.damaged("its depth, colour type or coding does not exist")
    data.check_size(width, height)
    animation, found, exif = _Animation(data, width, height), set(), b""
    for chunk, at, length in chunks:
        found.add(chunk)
        if chunk == b"PLTE" and b"IDAT" in found:
            raise data.damaged("its palette comes after its pixels")
        if chunk == b"eXIf":
            exif = b"Exif\0\0" + data.take(at, min(length, LONGEST_EXIF))
        animation.follow(chunk, at, length)
    if b"IDAT" not in found:
        raise data.damaged("there are no pixels")
    if colour_type == _PALETTE and b"PLTE" not in found:
        raise data.damaged("its palette is missing")
    return Header(width=width, height=height, frames=animation.frames(), orientation=orientation_in(exif))


def _chunks(data: HeaderBytes) -> Iterator[tuple[bytes, int, int]]:
    """→ each chunk up to IEND: its type, where its contents begin, and their length. Checks what is no pixels for damage."""
    at, chunk = 8, b""
    while chunk != b"IEND":
        length, chunk = data.unpack(">I4s", at)
        if not chunk.isalpha():
            raise data.damaged("the name of a chunk is none")
        (checksum,) = data.unpack(">I", at + 8 + length)
        if chunk not in _PIXELS and checksum != _checksum(data, at + 4, length + 4):
            raise data.damaged(f"the checksum of {chunk.decode()} is wrong")
        yield chunk, at + 8, length
        at += 12 + length


def _checksum(data: HeaderBytes, at: int, length: int) -> int:
    value = 0
    for start in range(at, at + length, _PIECE):
        value = zlib.crc32(data.take(start, min(_PIECE, at + length - start)), value)
    return value


class _Animation:
    """What the chunks say about frames. A picture with none, or more than one, acTL is still."""

    def __init__(self, data: HeaderBytes, width: int, height: int) -> None:
        self._data = data
        self._width, self._height = width, height
        self._claims: list[int] = []
        self._controls = 0
        self._sequence = 0
        self._pixels_begun = False
        self._has_default_image = False

    def follow(self, chunk: bytes, at: int, length: int) -> None:
        if chunk == b"IDAT" and not self._pixels_begun:
            self._pixels_begun, self._has_default_image = True, not self._controls
        elif chunk == b"acTL" and not self._pixels_begun:
            self._claims += self._data.unpack(">I", at)
        elif len(self._claims) != 1:
            return
        elif chunk == b"fdAT":
            self._take_number(at)
        elif chunk == b"fcTL":
            self._take_number(at)
            width, height, x, y = self._data.unpack(">IIII", at + 4)
            if length != 26 or not 0 < width <= self._width - x or not 0 < height <= self._height - y:
                raise self._data.damaged("a frame reaches beyond the picture")
            self._controls += 1
            self._data.check_frames(self._width, self._height, self._controls)

    def frames(self) -> int:
        if len(self._claims) != 1 or not self._claims[0]:
            return 1
        if self._controls != self._claims[0]:
            raise self._data.damaged(f"it promises {self._claims[0]} frames and has {self._controls}")
        # The image that a program shows which knows no animations may be none of the frames; it is decoded all the same.
        frames = self._controls + self._has_default_image
        self._data.check_frames(self._width, self._height, frames)
        return frames

    def _take_number(self, at: int) -> None:
        if self._data.unpack(">I", at) != (self._sequence,):
            raise self._data.damaged("its frames are out of order")
        self._sequence += 1
